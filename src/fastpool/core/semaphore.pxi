# WeightedSemaphore: a third use of the block, which lends parts of a number.

cdef extern from *:
    """
    /* The most units that one of those in the queue waits for.  Under the lock. */
    static uint64_t fp_most_wanted(fp_core *c) {
        uint64_t most = 0;
        for (fp_waiter *w = c->getters.first; w != NULL; w = w->next)
            if (w->weight > most) most = w->weight;
        return most;
    }
    """
    uint64_t fp_most_wanted(fp_core *)

cdef tuple HOLD_STATES = ("not entered", "held", "released")
cdef str HELD_ONCE = "enter: a hold is entered once; call hold() again"
cdef uint64_t MOST = <uint64_t>1 << 62


@cython.no_gc_clear
cdef class WeightedSemaphore(Owner):
    """WeightedSemaphore(size, *, max_waiting=None, name=None)\n--\n
    ``size`` units, of which callers take any number at a time: bytes in flight, database
    connections, seats.

    First come, first served, for threads and the tasks of any event loops in one queue.  A request
    that is too big for what is free keeps smaller ones behind it waiting, so it is never starved.
    Any thread or task may give back what another has taken.

    ``max_waiting``: one more in the queue than this is PoolOverloaded at once; None: any number.
    ``name``: in errors; "semaphore-N" if not given.  In a forked child all of it is free.
    """

    def __init__(self, size=None, *others, max_waiting=None, name=None, **options):
        if others:
            refuse_extra(self, "size", (size, *others))
        if options:
            refuse_option(self, next(iter(options)))
        units_init(self, size, max_waiting, name)
        if enlist is not None:
            enlist(self)

    def acquire(self, n=1, timeout=None):
        """Takes ``n`` units, waiting for them in the queue.  Some 15 ns if they are free.

        ``timeout``: seconds to wait; None: for ever, 0: not at all.  ValueError at once if ``n`` is
        more than there is; PoolTimeout, PoolClosed, PoolOverloaded.
        """
        cdef fp_core *c = self.c
        cdef int64_t timeout_ns = FP_NEVER
        cdef uint64_t units = units_of(self, n)
        if timeout is not None:
            timeout_ns = ns_of_timeout(c, timeout)
        if not fp_weighted_hit(c, units):
            weighted_slow(self, units, timeout_ns)

    def try_acquire(self, n=1):
        """Takes ``n`` units if they are free and nobody waits; says whether it did."""
        cdef uint64_t units = units_of(self, n)
        if fp_weighted_hit(self.c, units):
            return True
        return fp_weighted_join(self.c, NULL, units) == FP_GRANTED

    def release(self, n=1):
        """Gives ``n`` units back, which wakes as many at the head of the queue as fit.  ValueError,
        and nothing is changed, if that is more than is taken.  Never waits; may be called by a
        finaliser or a signal handler."""
        cdef uint64_t units = units_of(self, n)
        if not fp_weighted_give(self.c, units):
            too_many_released(self, units)

    def hold(self, n=1, timeout=None):
        """``with semaphore.hold(n):`` or ``async with semaphore.hold(n):`` - entering takes ``n``
        units, the end gives them back.  Takes nothing yet; entered once."""
        cdef uint64_t units = units_of(self, n)
        cdef int64_t timeout_ns = FP_NEVER if timeout is None else ns_of_timeout(self.c, timeout)
        return units_hold(self, units, timeout_ns)

    def resize(self, size):
        """A new number of units.  Growing serves those who wait at once; when shrinking, what is taken
        stays taken, and nobody gets any until enough has come back.  ValueError, and nothing is
        changed, while somebody waits for more units than that."""
        cdef fp_core *c = self.c
        fresh = whole("size", size, 1)
        cdef uint64_t wanted, units = fresh
        fp_defer_begin()
        fp_lock_take(&c.lock)
        wanted = fp_most_wanted(c)
        if wanted <= units:
            fp_weights_set(&c.weights, units, c.allowance)
            fp_dispatch(c)
        fp_lock_drop(&c.lock)
        fp_defer_end()
        if wanted > units:
            raise ValueError(
                f"{self.label}: resize({fresh}): somebody waits for {wanted} units, who could never "
                "have them"
            )

    def close(self):
        """Wakes everybody in the queue with PoolClosed, which later calls raise too, but for
        ``try_acquire``, which says no.  What is taken may still be given back.  Idempotent, from any
        thread."""
        self.core.close()

    @property
    def closed(self):
        """Whether ``close`` was called."""
        return (fp_gate(self.c) & FP_CLOSED) != 0

    @property
    def size(self):
        """Units in all."""
        return self.c.weights.size

    @property
    def in_use(self):
        """Units taken at this moment."""
        return fp_weights_taken(self.c)

    @property
    def waiting(self):
        """Callers in the queue at this moment."""
        return locked_size(self.c, &self.c.getters.count)

    @property
    def max_waiting(self):
        """Most callers in the queue; None: any number."""
        return None if self.c.max_waiting == <size_t>-1 else self.c.max_waiting

    @property
    def name(self):
        """The name in errors."""
        return self.label

    def __repr__(self):
        closed = ", closed" if fp_gate(self.c) & FP_CLOSED else ""
        return (
            f"<WeightedSemaphore {self.label!r}: {self.in_use} of {self.c.weights.size} in use, "
            f"{self.waiting} waiting{closed}>"
        )


cdef object units_init(WeightedSemaphore self, size, max_waiting, name):
    cdef fp_core *c = self.c
    if c.use == FP_WEIGHTED:
        raise RuntimeError("a WeightedSemaphore is initialised once")
    refuse_if_gevent_patched(self)
    self.size = whole("size", size, 1)
    self.label = f"semaphore-{semaphore_number()}" if name is None else str(name)
    c.max_waiting = size_of(INFINITY if max_waiting is None
                            else whole("max_waiting", max_waiting, 0))
    c.use, c.fair = FP_WEIGHTED, True
    fp_weights_set(&c.weights, self.size, c.allowance)


def part_semaphore(size, max_waiting=None, name=None):
    """A WeightedSemaphore that is part of something else: ``fastpool.pools()`` does not list it."""
    semaphore = <WeightedSemaphore>WeightedSemaphore.__new__(WeightedSemaphore)
    units_init(semaphore, size, max_waiting, name)
    return semaphore


# ---- What it is given ------------------------------------------------------------------------------

cdef object ONE = 1
cdef object semaphore_number = itertools.count(1).__next__


cdef object whole(str what, object value, int least):
    """A number of things, as an int."""
    given = value
    if type(value) is not int:
        try:
            if isinstance(value, bool):
                raise TypeError
            value = value.__index__()
        except (AttributeError, TypeError):
            raise TypeError(f"{what} must be a whole number, not {given!r}") from None
    if not least <= value <= MOST:
        raise ValueError(f"{what} must be a whole number from {least} to 2**62, not {given!r}")
    return value


cdef inline uint64_t units_of(WeightedSemaphore self, object n) except? <uint64_t>-1:
    cdef int64_t units
    if type(n) is int:
        if n is ONE:
            return 1
        try:
            units = n
        except OverflowError:
            return wrong_units(self, n)
        if 0 <= units and <uint64_t>units <= self.c.weights.size:
            return units
    return wrong_units(self, n)


cdef uint64_t wrong_units(WeightedSemaphore self, object n) except? <uint64_t>-1:
    """Of another type, or too many."""
    if type(n) is not int:
        n = whole("n", n, 0)
    if n > self.c.weights.size:
        raise ValueError(
            f"{self.label}: n is {n}, and there are only {self.c.weights.size} units in all: "
            f"nobody can ever have so many"
        )
    return whole("n", n, 0)


cdef object too_many_released(WeightedSemaphore self, uint64_t units):
    raise ValueError(
        f"{self.label}: release({units}) gives back more than is taken, which is {self.in_use}: "
        f"each acquire is released once, and with the same number"
    )


# ---- Waiting ---------------------------------------------------------------------------------------

cdef int weighted_slow(WeightedSemaphore self, uint64_t units, int64_t timeout_ns) except -1:
    cdef int interrupted
    cdef int64_t since = fp_clock_precise()
    cdef int state = fp_weighted_wait(self.c, units, timeout_ns, &interrupted)
    if interrupted:
        fp_pending()
    if state != FP_GRANTED:
        try:
            raise_weighted(self, state, units, fp_clock_precise() - since)
        except TimeoutError as error:
            if timeout_ns != 0:
                note_wait(self.c, error)
            raise
    return 0


cdef object raise_weighted(WeightedSemaphore self, int state, uint64_t units, int64_t waited):
    from fastpool.errors import PoolClosed, PoolOverloaded, PoolTimeout
    if state == FP_REFUSED:
        raise PoolClosed(self.label, "this semaphore is closed")
    if state == FP_OVERLOADED:
        raise PoolOverloaded(
            self.label, f"{self.waiting} wait in the queue already, and max_waiting is {self.max_waiting}"
        )
    if state == FP_MEMORY:
        raise MemoryError
    if state == FP_DEADLOCK:
        wrong_units(self, units)
    raise PoolTimeout(self.label, "wait", waited * 1e-9, {
        "wanted": units, "size": self.c.weights.size, "in_use": self.in_use, "waiting": self.waiting,
    })


# ---- Holds -----------------------------------------------------------------------------------------

@cython.freelist(64)
@cython.no_gc_clear
cdef class SemaphoreHold:
    """SemaphoreHold()\n--\n
    Units of a semaphore for the length of a block: made by ``WeightedSemaphore.hold``.

    They are given back once, whoever does it.  Collected while it holds them, it gives them back and
    warns once (ResourceWarning).  In a forked child it does nothing: what it holds is the parent's.
    """
    cdef fp_hold of
    cdef WeightedSemaphore semaphore
    cdef bint quiet
    cdef object __weakref__

    def __enter__(self):
        cdef fp_hold *h = &self.of
        if fp_hold_state(h) != FP_HOLD_FRESH:
            units_again(self)
        if not fp_weighted_hit(self.semaphore.c, h.n):
            weighted_slow(self.semaphore, h.n, h.timeout_ns)
        units_begin(self)
        return self

    def __exit__(self, kind, error, trace):
        units_end(self)

    def __aexit__(self, kind, error, trace):
        """``__exit__`` for a task; nothing in it waits."""
        units_end(self)
        return DONE

    def release(self):
        """Gives the units back before the end of the block, which then does nothing more.  Once."""
        if not units_end(self):
            raise_units(self, "release: this hold " + (
                "was not entered yet" if fp_hold_state(&self.of) == FP_HOLD_FRESH
                else "has been released"
            ))

    @property
    def n(self):
        """How many units."""
        return self.of.n

    def __reduce__(self):
        return refuse_copy(self, self.semaphore.label)

    def __dealloc__(self):
        if fp_hold_state(&self.of) == FP_HOLD_HELD and units_end(self):
            if not self.quiet and not is_finalizing():
                units_lost(self.semaphore.label, self.of.n)

    def __repr__(self):
        of = f"{self.of.n} of {self.semaphore.label!r}"
        return f"<SemaphoreHold of {of}: {HOLD_STATES[fp_hold_state(&self.of)]}>"


cdef SemaphoreHold units_hold(WeightedSemaphore semaphore, uint64_t units, int64_t timeout_ns):
    cdef SemaphoreHold hold = SemaphoreHold.__new__(SemaphoreHold)
    hold.semaphore = semaphore
    hold.of.n, hold.of.timeout_ns = units, timeout_ns
    hold.of.forks = fp_forks
    return hold


cdef int units_begin(SemaphoreHold self) except -1:
    """Its units have been taken."""
    if self.of.forks != fp_forks:  # made by the parent, and entered here
        self.of.forks = fp_forks
    if not fp_hold_move(&self.of, FP_HOLD_FRESH, FP_HOLD_HELD):
        fp_weighted_give(self.semaphore.c, self.of.n)  # two have waited with the same hold
        units_again(self)
    return 0


cdef bint units_end(SemaphoreHold self) noexcept:
    """0: it holds nothing."""
    if not fp_hold_move(&self.of, FP_HOLD_HELD, FP_HOLD_RELEASED):
        return False
    if self.of.forks == fp_forks:
        fp_weighted_give(self.semaphore.c, self.of.n)
    return True


cdef int units_again(SemaphoreHold self) except -1:
    raise_units(self, HELD_ONCE)


cdef object raise_units(SemaphoreHold self, str text):
    from fastpool.errors import PoolError
    raise PoolError(self.semaphore.label, text)


cdef object units_lost(str label, uint64_t units):
    import warnings
    from fastpool.errors import WARNINGS_PAGE, with_page
    warnings.warn(
        with_page(
            f"{label}: a hold of {units} was collected unreleased; its units went back",
            WARNINGS_PAGE,
        ),
        ResourceWarning,
    )


# ---- For tasks, and for limits of calls ------------------------------------------------------------

def units_taken(WeightedSemaphore semaphore not None, n):
    """Whether so many were free, and are the caller's now."""
    return bool(fp_weighted_hit(semaphore.c, units_of(semaphore, n)))


def units_hit(SemaphoreHold hold not None):
    """Whether it could be entered at once."""
    if fp_hold_state(&hold.of) != FP_HOLD_FRESH:
        units_again(hold)
    if not fp_weighted_hit(hold.semaphore.c, hold.of.n):
        return False
    units_begin(hold)
    return True


def units_later(SemaphoreHold hold not None):
    """What a task awaits to enter it."""
    cdef Wait wait = Wait.__new__(Wait, hold.semaphore.core, running_mailbox())
    wait.hold = hold
    wait.queue = &hold.semaphore.c.getters
    wait.timeout_ns = hold.of.timeout_ns
    return wait


def units_keep(SemaphoreHold hold not None):
    """Its units are the caller's from here on, to be released by number."""
    fp_hold_move(&hold.of, FP_HOLD_HELD, FP_HOLD_RELEASED)


def units_join(WeightedSemaphore semaphore not None, share):
    """From here on its units are permits of a budget, one for each caller, and there are none yet.
    ``share.ask`` is called, on the scheduler's thread, when more are wanted than the budget knows of;
    None: the semaphore is used no more."""
    cdef fp_core *c = semaphore.c
    if share is None:
        semaphore.core.drop_manager()
        return
    Py_INCREF(share)
    fp_lock_take(&c.lock)
    c.allowance = 0
    fp_weights_set(&c.weights, c.weights.size, 0)
    c.manager = <void *>share
    fp_lock_drop(&c.lock)


def units_allow(WeightedSemaphore semaphore not None, size_t n):
    """So many may be taken by its budget; how many are.  What is taken stays so; from here on the
    number of those that are taken only falls, until it is no more than allowed."""
    cdef fp_core *c = semaphore.c
    cdef uint64_t taken
    fp_defer_begin()
    fp_lock_take(&c.lock)
    c.allowance = n
    fp_weights_set(&c.weights, c.weights.size, n)
    fp_dispatch(c)
    taken = fp_weights_taken(c)
    fp_lock_drop(&c.lock)
    fp_defer_end()
    return taken


def units_look(WeightedSemaphore semaphore not None):
    """For its budget: units that are taken, and those that are wanted, them included."""
    cdef fp_core *c = semaphore.c
    fp_lock_take(&c.lock)
    cdef uint64_t wanted = fp_units_look(c)
    cdef uint64_t taken = fp_weights_taken(c)
    fp_lock_drop(&c.lock)
    return taken, wanted


def units_short(WeightedSemaphore semaphore not None):
    """Whether it is for want of a permit of the budget, and for nothing else, that none is free."""
    cdef fp_core *c = semaphore.c
    return fp_weights_taken(c) < c.weights.size and c.weights.most < c.weights.size


cdef void ask_budget(fp_core *c) noexcept:
    share = fp_manager(c, 0)
    if share is not None:
        call_soon((0.0, share.ask, ()))


def units_quiet(WeightedSemaphore semaphore not None, timeout):
    """A hold of one unit that does not warn when it is dropped; entered by whoever gets it."""
    cdef SemaphoreHold hold = units_hold(semaphore, 1, ns_of_timeout(semaphore.c, timeout))
    hold.quiet = True
    return hold


def add_semaphore_async_methods(dict semaphore_methods, dict hold_methods):
    """The coroutine functions; see ``add_async_methods``."""
    fp_add_methods(<PyTypeObject *>WeightedSemaphore, semaphore_methods)
    fp_add_methods(<PyTypeObject *>SemaphoreHold, hold_methods)

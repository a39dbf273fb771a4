# What callers change in the state of a KeyedPool: each step one call in C under the pool's lock, so that
# no signal handler runs half-way.  All else is done by the scheduler; see keyed/_manager.py and
# keyed/_capacity.py.

def pin(Core core, Core whole):
    """The pool of a key, for a caller on its way to its queue; ``unpin`` it.  None: the key was
    forgotten meanwhile.  ``whole``: the core of the pool, whose gate this one's follows."""
    if core.forgotten or core.c.manager == NULL:
        return None
    follow_gate(core, whole)
    core.pins += 1
    return <object>core.c.manager


def unpin(Core core):
    """True if nobody has it any more: it may be of no interest."""
    core.pins -= 1
    return core.pins == 0 and core.open == 0


def replace_core(dict cores, key, Core old, Core new):
    """A key that has changed since it was forgotten is still there."""
    if cores.get(key) is old:
        cores[key] = new


cdef void follow_gate(Core core, Core whole):
    cdef uint32_t gate = fp_gate(whole.c)
    if gate & FP_SUSPENDED and not fp_gate(core.c) & FP_SUSPENDED:
        core.suspend()
    if gate & FP_CLOSED and not fp_gate(core.c) & FP_CLOSED:
        core.close()
    if whole.c.listened != core.c.listened:
        core.listen(whole.c.listened)


def listen_all(Core whole, dict cores, dict listeners, key, listener):
    """One more listener, by this key; None: one less.  Returns the one that had it before."""
    before = listeners.pop(key, None)
    if listener is not None:
        listeners[key] = listener
    cdef bint on = len(listeners) > 0
    whole.listen(on)
    for core in PyDict_Values(cores):
        (<Core?>core).listen(on)
    return before


def suspend_all(Core whole, dict cores):
    whole.suspend()
    for core in PyDict_Values(cores):
        (<Core?>core).suspend()


def resume_all(Core whole, dict cores):
    whole.resume()
    for core in PyDict_Values(cores):
        (<Core?>core).resume()


def close_all(Core whole, dict cores):
    """True for the call that did it."""
    first = whole.close()
    for core in PyDict_Values(cores):
        (<Core?>core).close()
    return first


cdef size_t promised_slots(dict promised):
    """How many slots are about to be free for others; see ``CapacityArbiter.promised``."""
    cdef size_t n = 0
    cdef double now
    if promised:
        now = fp_clock_precise() * 1e-9
        for slots in promised.values():
            for until in (<dict?>slots).values():
                n += <double>until > now
    return n


def promised_capacity(dict promised):
    return promised_slots(promised)


def announce_for_capacity(arbiter, Core core, SlotGuard guard, uintptr_t me):
    """A caller for whom nothing is idle is on its way to the queue of its key; or why it may not wait.
    ``arbiter``: the CapacityArbiter of the pool; ``me``: the thread, or the task, that it is."""
    cdef size_t callers = 0, idle
    cdef double most = arbiter.max_waiting
    if arbiter.opened >= arbiter.max_total:
        if all_held_by(arbiter.cores, me) == arbiter.opened:
            return "deadlock at total"
        if most != INFINITY and core.waiting >= most:
            idle = oldest_idle(arbiter.cores, 0)[0]
            for other in (*arbiter.starved, *arbiter.underserved):
                callers += fp_demand_of(<Core?>other.core)
            if callers >= idle + promised_slots(arbiter.promised):
                return "overloaded"
    core.announce_waiter(guard)
    return None


cdef size_t fp_demand_of(Core core):
    fp_lock_take(&core.c.lock)
    cdef size_t n = fp_demand(core.c)
    fp_lock_drop(&core.c.lock)
    return n


def must_yield(arbiter, key_pool, index, double spare_after):
    """Whether this key has to give up the slot of what it gets back; see
    ``CapacityArbiter.must_yield``."""
    cdef Core core = key_pool.core
    cdef dict starved = arbiter.starved, promised = arbiter.promised
    cdef double now, since, own
    slots = promised.get(key_pool)
    if slots is not None and index in <dict?>slots:  # it has been said before
        return True
    if not starved or not core.waiting or <size_t>len(starved) <= promised_slots(promised):
        return False
    now = fp_clock_precise() * 1e-9
    since = INFINITY
    for other in starved:
        since = (<Core?>other.core).waits_since(0)
        if since != INFINITY:  # else nobody waits there any more
            break
    if now - since < spare_after:
        return False
    own = core.waits_since(0)
    if core.open == 1 and own <= since:
        return False
    promise(arbiter, key_pool, index)
    return True


def promise(arbiter, key_pool, index):
    """This slot is being closed for others, who count upon that for as long as a hook may take."""
    cdef double until = fp_clock_precise() * 1e-9 + <double>arbiter.hook_timeout
    (<dict?>(<dict?>arbiter.promised).setdefault(key_pool, {}))[index] = until
    if until != INFINITY and not arbiter.watching:
        arbiter.watching = True
        call_soon((until, arbiter.look, ()))


def recycle_on_loops(dict cores, Core core, uint64_t index, double most_idle, bint suspect):
    """As ``Core.recycle``, of all these cores together.  Under the lock that they share."""
    if most_idle != INFINITY and <double>oldest_idle(cores, 0)[0] >= most_idle + core.callers:
        return "surplus"
    return None if core.publish(index, suspect=suspect) else "unfit"


cdef class Credit:
    """How many more times something may happen before somebody has to look."""
    cdef fp_lock lock
    cdef int64_t left, missed  # since the look began

    def __cinit__(self):
        fp_lock_init(&self.lock)

    def begin(self):
        """Somebody looks."""
        fp_lock_take(&self.lock)
        self.left = self.missed = 0
        fp_lock_drop(&self.lock)

    def grant(self, int64_t n):
        """What the look has found; less what has happened meanwhile."""
        fp_lock_take(&self.lock)
        self.left = max(<int64_t>0, n - self.missed)
        fp_lock_drop(&self.lock)

    def spend(self):
        """It happens once more; False: somebody has to look."""
        fp_lock_take(&self.lock)
        cdef bint enough = self.left > 0
        if enough:
            self.left -= 1
        else:
            self.missed += 1
        fp_lock_drop(&self.lock)
        return enough

# FastPool: a queue, or a pool of resources with a manager behind it; and Lease.

cdef str ENTERED = "this lease was entered before; call lease() for each block"


cdef object manager_of(fp_core *c, str act):
    if c.manager == NULL:
        if c.use == FP_QUEUE:
            raise TypeError(
                f"{act}() needs a resource pool, and this FastPool is used as a queue: give it a "
                "factory or items="
            )
        from fastpool.errors import PoolClosed
        raise PoolClosed("a pool", f"{act}(): it is gone")
    return <object>c.manager


cdef inline object seconds_or_none(int64_t span):
    return None if span == FP_NEVER else span * 1e-9


# A lease by the slow path: waits here when the pool is full, asks the manager for everything else.
cdef fp_slot *pool_lend(
    fp_core *c, int64_t span, fp_slot *due, uint64_t *ticket=NULL
) except NULL:
    cdef fp_slot *slot = due
    cdef int64_t start = fp_clock_precise()
    cdef int state = FP_GRANTED
    if slot == NULL and not fp_gate(c) & FP_ASK_GET:
        state = pool_wait(c, span, False, False, &slot)
        if slot != NULL:
            if not fp_begin(c, slot):
                return slot
            due = slot
    reason = "due" if due != NULL else REASONS.get(state)
    cdef Hand hand = hand_of(c, due)
    try:
        manager_of(c, "get").borrow(
            hand, reason, seconds_or_none(span), (fp_clock_precise() - start) * 1e-9
        )
        if ticket == NULL and hand.ticket != 0:
            manager_of(c, "get").taken_without_lease(hand.ticket)
    except BaseException as error:
        hand_drop(hand)
        from fastpool.errors import PoolTimeout
        if span != 0 and isinstance(error, PoolTimeout):
            note_wait(c, error)
        raise
    slot, hand.slot = hand.slot, NULL
    if ticket != NULL:
        ticket[0] = hand.ticket
    return slot


# A return by the slow path: with the exception that left the block, or to discard.
cdef object pool_settle(fp_core *c, fp_slot *slot, object error, bint discard):
    manager = manager_of(c, "put")
    cdef uint64_t generation
    if not fp_slot_move(slot, FP_LEASED, FP_CHECKING):
        return False
    generation = fp_slot_generation(slot)
    if slot.sampled > 0:
        fp_pool_sampled(c, slot)
    try:
        manager.settle(slot.index, error, discard)
    except BaseException:  # of a signal handler, or a reset hook
        leave(c, slot, generation, "interrupted")
        raise
    return True


cdef object pool_take_back(fp_core *c, fp_slot *slot, int held, object resource, str act):
    if held != 0 or not pool_settle(c, slot, None, act == "discard"):
        manager_of(c, act).misused(act, resource)


@cython.no_gc_clear
cdef class FastPool(Store):
    """FastPool(maxsize=..., *, factory=None, items=None, close=None, check=None, reset=None,
        min_idle=0, max_idle=None, order="lifo", timeout=..., create_timeout=30.0, hook_timeout=5.0,
        max_creating=..., check_after=0.5, keepalive=None, idle_timeout=..., max_lifetime=...,
        max_uses=None, max_waiting=None, fairness=..., leak_after=None, discard_on=..., name=None,
        clock=None)\n--\n
    A pool for threads and tasks: a queue of ready items, or resources made by a factory.

    Without ``factory`` and ``items`` it is a compiled ``queue.LifoQueue`` (``order="fifo"``:
    ``queue.Queue``).  With one it is a resource pool under the hard cap ``maxsize``; use
    ``with pool.lease() as resource:``.  All options:
    docs/reference/fastpool.md.
    """

    def __init__(self, maxsize=..., *others, **options):
        if others:
            refuse_extra(self, "maxsize", (maxsize, *others))
        if self.c.manager != NULL:
            raise RuntimeError("a FastPool is initialised once")
        mind_gevent(self)
        self.size, self.label = configure(self.core, maxsize, options)

    def __del__(self):
        if self.c.manager != NULL and not is_finalizing():
            (<object>self.c.manager).abandoned()

    # -- the hot path --

    def get(self, block=True, timeout=...):
        """Queue use: removes and returns the next item (Empty, ShutDown).

        Pool use: an idle resource, or a new one while fewer than ``maxsize`` are open, else waits;
        at most ``timeout`` seconds for all of it (default: the pool's).  PoolTimeout, PoolClosed,
        PoolOverloaded, PoolDeadlock, or the factory's own exception.  Give it back with ``put`` or
        ``discard``.  Thread-safe; one C call when something is idle.
        """
        cdef fp_core *c = self.c
        cdef fp_slot *slot
        cdef fp_slot *due = NULL
        cdef void *item
        if timeout is not UNSET:
            wait_span(c, block, timeout)
        if c.use == FP_QUEUE:
            item = fp_queue_get(c, c.lifo)
            if item != NULL:
                return fp_steal(item)
            return queue_get_slow(c, wait_span(c, block, timeout))
        slot = fp_pool_hit(c, &due)
        if slot == NULL:
            slot = pool_lend(c, wait_span(c, block, timeout), due)
        return fp_resource(slot)

    @cython.always_allow_keywords(False)
    def get_nowait(self):
        """``get(timeout=0)``: what is idle, or an exception at once."""
        cdef fp_core *c = self.c
        cdef fp_slot *slot
        cdef fp_slot *due = NULL
        cdef void *item
        if c.use == FP_QUEUE:
            item = fp_queue_get(c, c.lifo)
            if item != NULL:
                return fp_steal(item)
            return queue_get_slow(c, 0)
        slot = fp_pool_hit(c, &due)
        if slot == NULL:
            slot = pool_lend(c, 0, due)
        return fp_resource(slot)

    def put(self, item, block=True, timeout=...):
        """Queue use: adds an item (Full, ShutDown).  Pool use: gives a resource back; ValueError if
        it is not the pool's or not lent out."""
        cdef fp_core *c = self.c
        if c.use == FP_QUEUE:
            if timeout is not UNSET:
                wait_span(c, block, timeout)
            if not fp_queue_put_new(c, <void *>item):
                queue_put_slow(c, item, wait_span(c, block, timeout))
            return None
        return pool_put(c, item)

    @cython.always_allow_keywords(False)
    def put_nowait(self, item, /):
        """``put(item, block=False)``; the same as ``put`` in pool use."""
        cdef fp_core *c = self.c
        if c.use == FP_QUEUE:
            if not fp_queue_put_new(c, <void *>item):
                queue_put_slow(c, item, 0)
            return None
        return pool_put(c, item)

    def lease(self, timeout=...):
        """``with pool.lease() as resource:`` - entering takes, the end gives back.

        ``timeout``: seconds, default the pool's.  A block left with an exception that ``discard_on``
        matches closes the resource.  Entered once.
        """
        cdef Lease lease = Lease.__new__(Lease)
        cdef fp_core *c = self.c
        if c.use == FP_QUEUE:
            manager_of(c, "lease")
        lease.of.c = c
        lease.of.id = fp_id_of(c)
        lease.of.span = c.span if timeout is UNSET else span_of(c, timeout)
        return lease

    def acquire(self, timeout=...):
        """Takes a resource at once and returns its Lease, for holds that no block can express.
        ``lease.resource``, ``lease.release()``, ``lease.discard()``."""
        cdef Lease lease = self.lease(timeout)
        lease_take(&lease.of)
        return lease

    # -- the rest asks the manager --

    def _resize(self, value):
        if self.c.use == FP_POOL:
            self.size = manager_of(self.c, "resize").resize(value)
        else:
            Store._resize(self, value)

    def discard(self, resource):
        """Closes a resource that is lent out, in place of ``put``; its place is free again once it
        is really closed."""
        manager_of(self.c, "discard")
        cdef fp_core *c = holder(self.c, resource)
        cdef fp_slot *slot = fp_pool_find(c, <void *>resource)
        pool_take_back(c, slot, -1 if slot == NULL else 0, resource, "discard")

    def resize(self, maxsize):
        """A new cap.  Growing serves waiters at once; when shrinking, surplus idle resources are
        closed now and leased ones when they come back."""
        self._resize(maxsize)

    def flush(self):
        """Retires every open resource: idle ones now, leased ones on return."""
        manager_of(self.c, "flush").flush()

    def suspend(self):
        """Gets wait until ``resume``; returns work as ever."""
        manager_of(self.c, "suspend").suspend()

    def resume(self):
        """Ends ``suspend``."""
        manager_of(self.c, "resume").resume()

    def warm(self, n, timeout=...):
        """Opens resources until ``n`` are open (``maxsize`` at most) and waits for them; returns how
        many are open.  Raises the factory's exception if one fails."""
        return manager_of(self.c, "warm").warm(n, None if timeout is UNSET else timeout,
                                               timeout is UNSET)

    def leases(self):
        """Who holds what: a list of ``Holder`` (resource, age in seconds, thread, stack if
        ``leak_after`` is on)."""
        return manager_of(self.c, "leases").leases()

    def stats(self):
        """An immutable ``PoolStats`` snapshot; see ``fastpool.stats``."""
        return manager_of(self.c, "stats").stats()

    def close(self, timeout=5.0):
        """Refuses new work, wakes every waiter, closes what is idle, waits up to ``timeout`` seconds
        for what is lent, but not to blocks of the calling thread; True when all is closed.  What is
        still leased is closed when it comes back.  Idempotent, from any thread."""
        if self.c.use == FP_QUEUE:
            self.shutdown(immediate=True)
            return True
        return manager_of(self.c, "close").close(timeout)

    def shutdown(self, immediate=False):
        """Queue use: as ``queue.Queue.shutdown``.  Pool use: ``close(0)``."""
        if self.c.use == FP_QUEUE:
            Store.shutdown(self, immediate)
        else:
            manager_of(self.c, "shutdown").close(0)

    @property
    def name(self):
        """The name in errors, logs and metrics."""
        return self.label

    @property
    def closed(self):
        """Whether ``close`` was called."""
        return self.is_shutdown

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close() if error is None else self.close(0)

    def __repr__(self):
        if self.c.use == FP_QUEUE:
            return f"<FastPool {self.label!r} as a queue: {self.qsize()} of {self.maxsize or 'unbounded'}>"
        n = manager_of(self.c, "repr").sizes()
        return (
            f"<FastPool {self.name!r}: {n['idle']} idle, {n['leased']} leased, {n['open']} open of "
            f"{self.maxsize or 'unbounded'}{', closed' if self.closed else ''}>"
        )


cdef inline object pool_put(fp_core *c, object resource):
    c = holder(c, resource)
    cdef fp_slot *slot = fp_pool_find(c, <void *>resource)
    cdef int told = 0, held = -1
    if slot != NULL:
        held = fp_pool_return(c, slot, 0, &told)
        if held > 0:
            if told:
                tell(c)
            return None
    return pool_take_back(c, slot, held, resource, "put")


cdef object tell(fp_core *c):
    """The pool was closed while something was being returned, or that may be wanted elsewhere."""
    manager_of(c, "put").returned()


cdef object lend_due(fp_core *c, fp_slot *due):
    """For the door of ``get``: it has taken a slot that the manager has to look at."""
    return fp_resource(pool_lend(c, c.span, due))


cdef int lease_take(fp_lease *l) except -1:
    cdef fp_slot *slot
    cdef fp_slot *due = NULL
    if fp_lease_enter(l, &due):
        return 0
    if l.state == FP_LEASE_HELD:  # the block went to another pool at that very moment
        slot, l.slot, l.state = l.slot, NULL, FP_LEASE_RELEASED
        slot_drop(l.c, slot)
    if fp_id_of(l.c) != l.id:
        from fastpool.errors import PoolClosed
        raise PoolClosed("a pool", "the pool of this lease is gone")
    return lease_lend(l, due)


cdef int lease_lend(fp_lease *l, fp_slot *due) except -1:
    """The rest of it: waits, or asks the manager."""
    cdef fp_slot *slot = pool_lend(l.c, l.span, due)
    if l.state != FP_LEASE_FRESH:  # two threads have waited with the same lease
        slot_drop(l.c, slot)
        from fastpool.errors import PoolError
        raise PoolError("a pool", ENTERED)
    l.slot = slot
    l.generation = fp_slot_generation(slot)
    l.state = FP_LEASE_HELD
    return 0


@cython.freelist(64)
cdef class Lease:
    """Lease()\n--\n
    The right to one resource: made by ``FastPool.lease`` and ``FastPool.acquire``.

    Holds no Python object, so making one costs some 15 ns and it is never part of a cycle.  It keeps
    the pool's memory block alive, not the pool.  Collected unreleased, it closes its resource and
    warns once (ResourceWarning).
    """
    cdef fp_lease of

    def __init__(self):
        raise TypeError("leases are made by FastPool.lease() and FastPool.acquire()")

    def __enter__(self):
        if self.of.state != FP_LEASE_FRESH:
            return lease_again(self, fp_thread_token())
        lease_take(&self.of)
        fp_slot_own(self.of.slot, fp_thread_token() | 1)
        return fp_resource(self.of.slot)

    def __exit__(self, kind, error, trace):
        cdef fp_lease *l = &self.of
        cdef fp_slot *slot
        if error is None and fp_lease_exit(l):
            return None
        slot, l.slot, l.state = l.slot, NULL, FP_LEASE_RELEASED
        if fp_id_of(l.c) != l.id:
            return None
        if slot == NULL:  # given back by another way, or while the pool was being closed
            if fp_gate(l.c) & (FP_CLOSED | FP_TELL | FP_ASK_PUT) and l.c.manager != NULL:
                (<object>l.c.manager).returned()
        elif fp_slot_holds(slot, l.generation):
            pool_settle(l.c, slot, error, False)

    @cython.always_allow_keywords(False)
    def _hit(self):
        """``lease_hit`` for a block."""
        return lease_hit(self, True)

    def __aexit__(self, kind, error, trace):
        """``__exit__`` for a task: an awaitable, done unless hooks run; those run on a worker."""
        return lease_aexit(self, error)

    @property
    def resource(self):
        """The resource, while the lease is held."""
        lease_held(self, "resource")
        return fp_resource(self.of.slot)

    def release(self):
        """Gives the resource back; once."""
        lease_held(self, "release")
        self.__exit__(None, None, None)

    def discard(self):
        """Closes the resource instead of giving it back; once.  A ``with`` block's end does nothing
        more."""
        cdef fp_lease *l = &self.of
        cdef fp_slot *slot = l.slot
        lease_held(self, "discard")
        l.slot, l.state = NULL, FP_LEASE_DISCARDED
        if fp_id_of(l.c) == l.id and fp_slot_holds(slot, l.generation):
            pool_settle(l.c, slot, None, True)

    def __dealloc__(self):
        cdef fp_lease *l = &self.of
        if l.slot != NULL and fp_id_of(l.c) == l.id and fp_slot_holds(l.slot, l.generation):
            if l.c.manager != NULL and not is_finalizing():
                lease_lost(l.c, l.slot)

    def __reduce__(self):
        return refuse_copy(self, lease_pool(self))

    def __repr__(self):
        return handle_shown(self, lease_name(self), self.of.state, lease_holds(self))


cdef object lease_lost(fp_core *c, fp_slot *slot):
    """It was collected unreleased.  Its slot is the pool's in one step, which is done whatever a signal
    handler raises while that is looked for which only a warning wants."""
    manager = <object>c.manager
    place = None
    try:
        place = manager.taken_at(slot.index)
    finally:
        if fp_slot_move(slot, FP_LEASED, FP_CHECKING):
            rescue(c, slot.index, "lost")
        else:
            manager = None
    if manager is not None:
        manager.warn_lost(place)


cdef object lease_again(Lease self, uintptr_t me):
    if self.of.state == FP_LEASE_HELD and self.of.slot != NULL:
        if not fp_slot_owner(self.of.slot) & 1:  # acquire()d, and now used as a block
            fp_slot_own(self.of.slot, me | 1)
            return fp_resource(self.of.slot)
    from fastpool.errors import PoolError
    raise PoolError(lease_pool(self), ENTERED)


cdef int lease_held(Lease self, str act) except -1:
    cdef fp_lease *l = &self.of
    if l.slot != NULL:
        if fp_id_of(l.c) != l.id or fp_slot_holds(l.slot, l.generation):
            return 0
    from fastpool.errors import PoolError
    why = "was not entered yet" if l.state == FP_LEASE_FRESH else "has been released or discarded"
    raise PoolError(lease_pool(self), f"{act}: this lease {why}")


cdef str lease_name(Lease self):
    """The name of its pool for a text: in quotes, if it is known."""
    name = lease_pool(self)
    return name if name == "a pool" else repr(name)


cdef object lease_holds(Lease self):
    """Its resource while it is held, or None."""
    cdef fp_slot *slot = self.of.slot
    if slot == NULL or fp_id_of(self.of.c) != self.of.id:
        return None
    return fp_resource(slot) if fp_slot_holds(slot, self.of.generation) else None


cdef object lease_pool(Lease self):
    if fp_id_of(self.of.c) == self.of.id and self.of.c.manager != NULL:
        return (<object>self.of.c.manager).name
    return "a pool"

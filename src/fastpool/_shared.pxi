# SharedPool: several leases of one resource; and SharedLease.


# Gives a lease back.  False: nobody has one.
cdef object share_give(fp_core *c, fp_slot *slot):
    cdef int told = 0
    cdef int given = fp_sharing_return(c, slot, &told)
    if given < 0:
        return False
    if given == 0 or told:
        share_ended(c, slot, given)
    return True


cdef object share_ended(fp_core *c, fp_slot *slot, int given):
    """A lease was given back, and there is something to be done about it: it was the last one of a
    resource that takes no more (0), or the manager has to know that one came back."""
    if given != 0:
        return None if c.manager == NULL else (<object>c.manager).returned()
    cdef uint64_t generation = fp_slot_generation(slot)
    manager = manager_of(c, "release")  # kept: with it goes the block, once all is closed
    try:
        manager.last_out(slot.index)
    except BaseException:  # of a signal handler
        leave(c, slot, generation, "interrupted")
        raise


cdef object share_drop(fp_core *c, fp_slot *slot):
    """As ``slot_drop``, of one lease, or of a resource that was taken alone."""
    cdef int told = 0
    cdef int given
    if fp_slot_state(slot) == FP_IDLE:
        given = fp_sharing_return(c, slot, &told)
        if given > 0 and told and c.manager != NULL:
            poke((0.0, (<object>c.manager).returned, (True,)))
        if given == 0:
            rescue(c, slot.index, "closed")
        return
    if fp_slot_state(slot) == FP_LEASED:
        fp_slot_move(slot, FP_LEASED, FP_CHECKING)
        if share_lend(c, slot, 0):
            return
    rescue(c, slot.index, "interrupted")


cdef bint share_lend(fp_core *c, fp_slot *slot, uint32_t leases) noexcept:
    """A CHECKING slot; whether it is lent from here on, and takes more leases."""
    fp_here_begin()
    fp_lock_take(&c.lock)
    cdef bint lent = fp_sharing_lend(c, slot, FP_CHECKING, leases)
    fp_check(c)
    fp_lock_drop(&c.lock)
    fp_here_end()
    return lent


cdef bint share_bar(fp_core *c, fp_slot *slot) noexcept:
    """It takes no more leases; whether it has none, and is CHECKING now and the caller's."""
    fp_lock_take(&c.lock)
    cdef bint mine = fp_sharing_bar(c, slot)
    fp_lock_drop(&c.lock)
    return mine


@cython.no_gc_clear
cdef class SharedPool(Owner):
    """SharedPool(factory, *, items=(1, 8), slots=50, shrink_after=60.0, penalty=10,
        penalty_time=5.0, penalize_on=..., drain_timeout=None, abort=None, close=None, check=None,
        timeout=30.0, create_timeout=30.0, hook_timeout=5.0, max_creating=4, check_after=0.5,
        keepalive=None, idle_timeout=600.0, max_lifetime=1800.0, max_uses=None, max_waiting=None,
        fairness="fair", leak_after=None, discard_on=..., name=None, clock=None)\n--\n
    A pool of resources that many callers use at once: HTTP/2 connections, channels, sessions that
    pipeline.

    Each resource carries up to ``slots`` leases.  A lease is counted when it is given and goes to the
    resource that carries least; when all are full one more is opened, up to the second number of
    ``items``, and then callers wait in line.  All options: docs/reference/shared.md.
    """

    def __init__(self, factory=None, *others, **options):
        if others:
            refuse_extra(self, "factory", (factory, *others))
        if self.c.manager != NULL:
            raise RuntimeError("a SharedPool is initialised once")
        mind_gevent(self)
        self.size, self.label = configure_shared(self.core, factory, options)

    def __del__(self):
        if self.c.manager != NULL and not is_finalizing():
            (<object>self.c.manager).abandoned()

    # -- the hot path --

    def lease(self, timeout=...):
        """``with pool.lease() as resource:`` - entering takes one slot of the least loaded resource,
        the end gives it back.

        ``timeout``: seconds for all of it, default the pool's.  A block left with an exception that
        ``discard_on`` matches takes the resource out of service: it gets no more leases, and is
        closed when the last one ends.  Entered once.  Thread-safe; PoolTimeout, PoolClosed,
        PoolOverloaded, or the factory's own exception.
        """
        cdef SharedLease lease = SharedLease.__new__(SharedLease)
        cdef fp_core *c = self.c
        lease.of.c = c
        lease.of.id = fp_id_of(c)
        lease.of.span = c.span if timeout is UNSET else span_of(c, timeout)
        return lease

    def acquire(self, timeout=...):
        """Takes a slot at once and returns its SharedLease, for holds that no block can express:
        ``lease.resource``, ``lease.release()``, ``lease.discard()``."""
        cdef SharedLease lease = self.lease(timeout)
        share_take(&lease.of)
        return lease

    def get(self, timeout=...):
        """The least loaded resource, with one slot of it taken; give the slot back with ``put``, once.
        A lease cannot be given back twice, so prefer ``lease()``."""
        cdef fp_core *c = self.c
        cdef fp_slot *due = NULL
        cdef int64_t span = c.span if timeout is UNSET else span_of(c, timeout)
        cdef fp_slot *slot = fp_sharing_hit(c, &due)
        if slot == NULL:
            slot = pool_lend(c, span, due)
        return fp_resource(slot)

    @cython.always_allow_keywords(False)
    def put(self, resource, /):
        """Gives back one slot taken by ``get``; ValueError if the resource is not the pool's or no
        slot of it is taken."""
        cdef fp_core *c = holder(self.c, resource)
        cdef fp_slot *slot = fp_pool_find(c, <void *>resource)
        if slot != NULL and fp_gate(c) & FP_ASK_PUT:
            manager_of(c, "put").forget_oldest(slot.index)
        if slot == NULL or not share_give(c, slot):
            manager_of(c, "put").misused("put", resource)

    # -- the rest asks the manager --

    def add(self, resource):
        """Takes in a resource that was made elsewhere, by an event loop for instance, as if the factory
        had made it.  False: there is no room for it, or the pool is closed, and it stays the caller's.
        Does not wait."""
        return manager_of(self.c, "add").add(resource)

    def drain(self, resource):
        """Takes a resource out of service: no more leases, and it is closed when the last one ends.
        ValueError if it is not the pool's."""
        manager_of(self.c, "drain").drain_resource(resource)

    def replace(self, resource=None):
        """As ``drain``, but first another one is opened in its place; None: for every resource, one
        after the other.  Does not wait."""
        manager_of(self.c, "replace").replace(resource)

    def penalize(self, resource):
        """Something went wrong on this resource: for ``penalty_time`` seconds it counts as loaded
        with ``penalty`` more leases, so that one which fails fast does not attract calls."""
        manager_of(self.c, "penalize").penalize(resource)

    def avoid(self, resource, on=True):
        """Gives no more leases of this resource until ``avoid(resource, False)``.  It stays open and
        counts under the cap; those who hold a lease go on."""
        manager_of(self.c, "avoid").avoid(resource, bool(on))

    def ended(self, resource):
        """How many leases of this resource have ended so far.  ValueError if it is not the pool's."""
        return manager_of(self.c, "ended").ended(resource)

    def resize(self, items):
        """New numbers of resources: (least, most), or one number for both.  Growing serves waiters at
        once; surplus resources are drained, the least loaded first."""
        self.size = manager_of(self.c, "resize").resize(items)

    def flush(self):
        """Drains every open resource: those not in use are closed now."""
        manager_of(self.c, "flush").flush()

    def suspend(self):
        """Leases wait until ``resume``; returns work as ever."""
        manager_of(self.c, "suspend").suspend()

    def resume(self):
        """Ends ``suspend``."""
        manager_of(self.c, "resume").resume()

    def warm(self, n, timeout=...):
        """Opens resources until ``n`` are open (the most of ``items``) and waits for them; returns how
        many are open.  Raises the factory's exception if one fails."""
        return manager_of(self.c, "warm").warm(n, None if timeout is UNSET else timeout,
                                               timeout is UNSET)

    def leases(self):
        """Who holds what: a list of ``Holder``, one a lease; without ``leak_after`` its age is the
        time since the resource was last given back, and thread and stack are not known."""
        return manager_of(self.c, "leases").leases()

    def stats(self):
        """An immutable ``SharedStats`` snapshot; see ``fastpool.stats``."""
        return manager_of(self.c, "stats").stats()

    def close(self, timeout=5.0):
        """Refuses new work, wakes every waiter, closes what is not in use, waits up to ``timeout``
        seconds for the leases that are under way, the caller's own too; True when all is closed.  A
        resource still in use is closed when its last lease ends.  Idempotent, from any thread."""
        return manager_of(self.c, "close").close(timeout)

    @property
    def items(self):
        """(least, most) resources; the most is None where there is no cap."""
        return self.size

    @property
    def slots(self):
        """Leases of one resource at most."""
        return self.c.loads.slots

    @property
    def name(self):
        """The name in errors, logs and metrics."""
        return self.label

    @property
    def closed(self):
        """Whether ``close`` was called."""
        return (fp_gate(self.c) & FP_CLOSED) != 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close() if error is None else self.close(0)

    def __repr__(self):
        n = manager_of(self.c, "repr").sizes()
        least, most = self.size
        return (
            f"<SharedPool {self.label!r}: {n['leases']} leases on {n['open']} of "
            f"{least} to {most or 'any number of'} resources, {self.slots} slots each"
            f"{', closed' if self.closed else ''}>"
        )


cdef int share_take(fp_share *l) except -1:
    cdef fp_slot *due = NULL
    cdef fp_slot *slot
    cdef uint64_t ticket = 0
    if fp_share_enter(l, &due):
        return 0
    share_miss(l, due)
    slot = pool_lend(l.c, l.span, due, &ticket)
    if l.state == FP_LEASE_FRESH:
        l.ticket = ticket
        fp_share_hold(l, slot)
        return 0
    share_drop(l.c, slot)  # two threads have waited with the same lease
    if ticket != 0:
        poke((0.0, manager_of(l.c, "lease").forget, (ticket,)))
    from fastpool.errors import PoolError
    raise PoolError("a pool", ENTERED)


cdef int share_miss(fp_share *l, fp_slot *due) except -1:
    """``fp_share_enter`` did not succeed: undoes what it may have done on a pool that is gone."""
    cdef fp_slot *slot
    if fp_id_of(l.c) == l.id:
        return 0
    slot = fp_share_slot(l)
    if slot != NULL:  # the block went to another pool at that very moment
        l.id = fp_id_of(l.c)
        slot = fp_share_end(l, FP_LEASE_RELEASED)
    if due != NULL or slot != NULL:
        share_drop(l.c, due if slot == NULL else slot)
    from fastpool.errors import PoolClosed
    raise PoolClosed("a pool", "the pool of this lease is gone")


@cython.freelist(64)
cdef class SharedLease:
    """SharedLease()\n--\n
    The right to one slot of a resource: made by ``SharedPool.lease`` and ``SharedPool.acquire``.

    Its slot is given back once, whoever ends it.  Keeps the pool's memory block alive, not the pool.
    Collected unreleased, it gives its slot back and warns once (ResourceWarning).
    """
    cdef fp_share of

    def __init__(self):
        raise TypeError("leases are made by SharedPool.lease() and SharedPool.acquire()")

    def __enter__(self):
        if self.of.state != FP_LEASE_FRESH:
            return share_again(self)
        share_take(&self.of)
        self.of.block = True
        return fp_resource(fp_share_slot(&self.of))

    def __exit__(self, kind, error, trace):
        share_close(self, error, FP_LEASE_RELEASED)

    @cython.always_allow_keywords(False)
    def _hit(self):
        """``share_lease_hit`` for a block."""
        return share_lease_hit(self, True)

    def __aexit__(self, kind, error, trace):
        """``__exit__`` for a task; nothing in it waits."""
        share_close(self, error, FP_LEASE_RELEASED)
        return DONE

    @property
    def resource(self):
        """The resource, while the lease is held."""
        return fp_resource(share_held(self, "resource"))

    def release(self):
        """Gives the slot back; once."""
        share_held(self, "release")
        share_close(self, None, FP_LEASE_RELEASED)

    def discard(self):
        """Gives the slot back and takes the resource out of service: it is closed when its last lease
        ends; once.  A ``with`` block's end does nothing more."""
        share_held(self, "discard")
        share_close(self, None, FP_LEASE_DISCARDED)

    def penalize(self):
        """``SharedPool.penalize`` of its resource."""
        cdef fp_slot *slot = share_held(self, "penalize")
        manager_of(self.of.c, "penalize").shun(slot.index)

    def __dealloc__(self):
        cdef fp_share *l = &self.of
        cdef uint64_t ticket = l.ticket
        cdef fp_slot *slot = fp_share_end(l, FP_LEASE_RELEASED)
        if slot != NULL and not is_finalizing():
            share_drop(l.c, slot)
            if l.c.manager != NULL:
                share_lost(l.c, ticket)

    def __reduce__(self):
        return refuse_copy(self, share_pool(self))

    def __repr__(self):
        cdef fp_slot *slot = fp_share_slot(&self.of)
        name = share_pool(self)
        held = None if slot == NULL or fp_id_of(self.of.c) != self.of.id else fp_resource(slot)
        return handle_shown(self, name if name == "a pool" else repr(name), self.of.state, held)


cdef object share_lost(fp_core *c, uint64_t ticket):
    try:
        (<object>c.manager).lost(ticket)
    except BaseException:  # of a signal handler: nobody has it, whatever is noted
        if ticket != 0:
            poke((0.0, (<object>c.manager).forget, (ticket,)))
        raise


# The end of a lease: of a block that ``error`` left, or to discard.
cdef object share_close(SharedLease self, object error, int state):
    cdef fp_share *l = &self.of
    cdef uint64_t ticket = l.ticket
    cdef fp_slot *slot = fp_share_end(l, state)
    if slot == NULL:
        return
    if error is None and ticket == 0 and state == FP_LEASE_RELEASED:
        share_give(l.c, slot)
        return
    try:
        manager_of(l.c, "release").judge(slot.index, ticket, error, state == FP_LEASE_DISCARDED)
    except BaseException:  # of a signal handler: nobody has it, whatever is noted
        if ticket != 0 and l.c.manager != NULL:
            poke((0.0, (<object>l.c.manager).forget, (ticket,)))
        raise
    finally:
        share_give(l.c, slot)


cdef object share_hold(SharedLease lease, Hand hand, bint block):
    """Moves the slot from the hand to the lease."""
    cdef fp_share *l = &lease.of
    cdef fp_slot *slot
    if l.state != FP_LEASE_FRESH:  # entered twice, at once, by two tasks
        hand_drop(hand)
        return share_again(lease)
    slot, hand.slot = hand.slot, NULL
    l.ticket, hand.ticket = hand.ticket, 0
    l.block = block
    fp_share_hold(l, slot)
    return fp_resource(slot)


cdef object share_again(SharedLease self):
    cdef fp_slot *slot = fp_share_slot(&self.of)
    if slot != NULL and not self.of.block:  # acquire()d, and now used as a block
        share_held(self, "enter")  # in a forked child it is the parent's
        self.of.block = True
        return fp_resource(slot)
    from fastpool.errors import PoolError
    raise PoolError(share_pool(self), ENTERED)


cdef fp_slot *share_held(SharedLease self, str act) except NULL:
    cdef fp_share *l = &self.of
    cdef fp_slot *slot = fp_share_slot(l)
    if slot != NULL and fp_id_of(l.c) == l.id:
        return slot
    from fastpool.errors import PoolError
    why = "was not entered yet" if l.state == FP_LEASE_FRESH else "has been released or discarded"
    raise PoolError(share_pool(self), f"{act}: this lease {why}")


cdef object share_pool(SharedLease self):
    if fp_id_of(self.of.c) == self.of.id and self.of.c.manager != NULL:
        return (<object>self.of.c.manager).name
    return "a pool"


cpdef object share_lease_hit(SharedLease lease, bint block):
    """``__aenter__`` at once: the resource, or a Hand to go on with."""
    cdef fp_share *l = &lease.of
    cdef fp_slot *due = NULL
    if l.state != FP_LEASE_FRESH:
        return share_again(lease)
    if l.c.sharded and fp_id_of(l.c) == l.id:
        l.c = home(l.c)
        l.id = fp_id_of(l.c)
    if fp_share_enter(l, &due):
        l.block = block
        return fp_resource(fp_share_slot(l))
    share_miss(l, due)
    return hand_of(l.c, due)


def let_go(SharedPool pool):
    """Closes it as if it had been collected, with no warning: nothing new begins, what is in use goes on
    and is closed at its end.  Never blocks, so it may be called by a finaliser."""
    if pool.c.manager != NULL:
        (<object>pool.c.manager).orphan()


def shared_hit(SharedPool pool):
    """What ``get`` returns at once; a Hand with a slot that is due; or MISS."""
    cdef fp_core *c = home(pool.c)
    cdef fp_slot *due = NULL
    cdef fp_slot *slot = fp_sharing_hit(c, &due)
    if slot != NULL:
        return fp_resource(slot)
    return MISS if due == NULL else hand_of(c, due)

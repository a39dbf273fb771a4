# SharedPool: several leases of one resource; and SharedLease.


# Gives a lease back.  False: nobody has one in this generation.
cdef object share_give(fp_core *c, fp_slot *slot, uint64_t generation):
    cdef int notify = 0
    cdef int given = -1
    if fp_slot_generation(slot) == generation:
        given = fp_sharing_return(c, slot, &notify)
    if given < 0:
        return False
    if given == 0 or notify:
        share_ended(c, slot, given)
    return True


cdef object share_ended(fp_core *c, fp_slot *slot, int given):
    """A lease was given back, and there is something to be done about it: it was the last one of a
    resource that takes no more (0), or the manager has to know that one came back."""
    if given != 0:
        return notify_manager(c)
    cdef uint64_t id = fp_id_of(c)
    cdef uint64_t generation = fp_slot_generation(slot)
    manager = manager_of(c, "release")  # kept: with it goes the block, once all is closed
    try:
        manager.on_drained(number_of(slot))
    except BaseException as failure:  # of a signal handler
        give_back_failed(c, id, slot, generation, failure)


cdef object share_drop(fp_core *c, fp_slot *slot, uint64_t generation):
    """As ``slot_drop``, of one lease, or of a resource that was taken alone."""
    cdef int notify = 0
    cdef int given
    manager = fp_manager(c, 0)  # kept, as there
    if fp_slot_generation(slot) != generation:
        return
    if fp_slot_state(slot) == FP_IDLE:
        given = fp_sharing_return(c, slot, &notify)
        if given > 0 and notify:
            notify_manager_soon(c)
        if given == 0:
            rescue(c, slot, "closed")
        return
    if fp_slot_state(slot) == FP_LEASED:
        fp_slot_move_own(slot, generation, FP_LEASED, FP_CHECKING)
        if share_lend(c, slot, 0):
            return
    rescue(c, slot, "interrupted")


cdef bint share_lend(fp_core *c, fp_slot *slot, uint32_t leases) noexcept:
    """A CHECKING slot; whether it is lent from here on, and takes more leases."""
    fp_defer_begin()
    fp_lock_take(&c.lock)
    cdef bint lent = fp_sharing_lend(c, slot, FP_CHECKING, leases)
    fp_check(c)
    fp_lock_drop(&c.lock)
    fp_defer_end()
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
        fairness="fair", leak_after=None, discard_on=..., on_create_error="raise", open=True,
        warn_unclosed=True, budget=None, units="resources", name=None, clock=None)\n--\n
    A pool of resources that many callers use at once: HTTP/2 connections, channels, sessions that
    pipeline.

    Each resource carries up to ``slots`` leases.  A lease is counted when it is given and goes to the
    resource that carries least; when all are full one more is opened, up to the second number of
    ``items``, and then callers wait in the queue.  All options: docs/reference/shared.md.
    """

    def __init__(self, factory=None, *others, **options):
        if others:
            refuse_extra(self, "factory", (factory, *others))
        if self.c.manager != NULL:
            raise RuntimeError("a SharedPool is initialised once")
        refuse_if_gevent_patched(self)
        self.size, self.label = configure_shared(self.core, factory, options)
        enlist(self)

    def __del__(self):
        if self.c.manager != NULL and not is_finalizing():
            manager_of(self.c, "close").on_collected()

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
        fp_lease_init(&lease.of.of, c, fp_span(c) if timeout is UNSET else ns_of_timeout(c, timeout))
        return lease

    def acquire(self, timeout=...):
        """Takes a slot at once and returns its SharedLease, for holds that no block can express:
        ``lease.resource``, ``lease.release()``, ``lease.discard()``."""
        cdef SharedLease lease = self.lease(timeout)
        share_enter(lease, False)
        return lease

    def get(self, timeout=...):
        """The least loaded resource, with one slot of it taken; give the slot back with ``put``, once.
        A lease cannot be given back twice, so prefer ``lease()``."""
        cdef fp_core *c = self.c
        cdef fp_slot *due = NULL
        cdef int64_t timeout_ns = fp_span(c) if timeout is UNSET else ns_of_timeout(c, timeout)
        cdef fp_slot *slot = fp_sharing_hit(c, &due)
        if slot == NULL:
            slot = pool_lend(c, fp_id_of(c), timeout_ns, due)
        return fp_resource(slot)

    @cython.always_allow_keywords(False)
    def put(self, resource, /):
        """Gives back one slot taken by ``get``; ValueError if the resource is not the pool's or no
        slot of it is taken."""
        cdef fp_core *c = holder(self.c, resource)
        cdef fp_slot *slot = fp_pool_find(c, <void *>resource)
        cdef uint64_t generation = 0 if slot == NULL else fp_slot_generation(slot)
        if slot != NULL and fp_gate(c) & FP_ASK_PUT:
            manager_of(c, "put").forget_oldest(number_of(slot))
        if slot == NULL or not share_give(c, slot, generation):
            manager_of(c, "put").raise_misuse("put", resource)

    # -- the rest asks the manager --

    def add(self, resource):
        """Takes in a resource that was made elsewhere, by an event loop for instance, as if the factory
        had made it.  False: there is no free capacity for it, or the pool is closed, and it stays the
        caller's.  Does not wait."""
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

    def info(self, resource):
        """A ``ResourceInfo``: the age of a resource, how often it was lent, and for how long no lease
        of it has ended.  ValueError if it is not the pool's."""
        cdef fp_core *c = holder(self.c, resource)
        manager = manager_of(c, "info")
        found = resource_info(c, resource)
        return manager.raise_misuse("info", resource) if found is None else found

    def ended(self, resource):
        """How many leases of this resource have ended so far.  ValueError if it is not the pool's."""
        return manager_of(self.c, "ended").ended(resource)

    def resize(self, items):
        """New numbers of resources: (least, most), or one number for both.  Growing serves waiters at
        once; surplus resources are drained, the least loaded first."""
        size_write(self, manager_of(self.c, "resize").resize(items))

    def flush(self, *, idle_only=False, fail_waiters=False):
        """Drains every open resource: those not in use are closed now.  ``idle_only``: those in use
        stay in service.  ``fail_waiters``: who waits now gets PoolInterrupted."""
        manager_of(self.c, "flush").flush(bool(idle_only), bool(fail_waiters))

    def check_idle(self):
        """Checks everything that is idle now, and waits for that; returns how many were closed, for
        the check or their age.  TypeError without a check hook; PoolClosed."""
        return manager_of(self.c, "check_idle").check_idle()

    def configure(self, **options):
        """Changes options at run time: those that need not be fixed, see docs/reference/shared.md.  A TypeError or
        ValueError as of the constructor, and nothing is changed.  What is idle or leased keeps the
        ``max_lifetime`` with which it was opened."""
        manager_of(self.c, "configure").configure(options)

    @property
    def options(self):
        """The options by name, as the constructor would take them: a copy."""
        return manager_of(self.c, "options").readable()

    def add_listener(self, listener):
        """Has this object told what goes on in the pool, by those of the methods ``created(pool, seconds)``,
        ``closed(pool, reason)``, ``acquired_after_wait(pool, seconds)``, ``timed_out(pool, phase,
        seconds)``, ``create_failed(pool, exc)`` and ``used(pool, seconds)`` that it has."""
        manager_of(self.c, "add_listener").add_listener(self, listener)

    def remove_listener(self, listener):
        """Ends that; ValueError if it was not added."""
        manager_of(self.c, "remove_listener").remove_listener(listener)

    def suspend(self, *, fail_waiters=False):
        """Leases wait until ``resume``; returns work as ever.  ``fail_waiters``: who waits already
        gets PoolInterrupted."""
        manager_of(self.c, "suspend").suspend(bool(fail_waiters))

    def resume(self):
        """Ends ``suspend``."""
        manager_of(self.c, "resume").resume()

    def open(self, wait=False, timeout=30.0):
        """Opens a pool that was made with ``open=False``: starts its threads, and opens in the background
        the least of ``items``.  ``wait``: until they are open, at most ``timeout``
        seconds; PoolTimeout, or the factory's exception if one fails.  Idempotent, from any thread;
        PoolClosed after ``close``.  The first use opens it too."""
        manager_of(self.c, "open").open(bool(wait), timeout)

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
        return size_read(self)

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
        least, most = size_read(self)
        return (
            f"<SharedPool {self.label!r}: {n['leases']} leases on {n['open']} of "
            f"{least} to {most or 'any number of'} resources, {self.slots} slots each"
            f"{', closed' if self.closed else ''}>"
        )


# ``__enter__`` of a block, or ``acquire``: the resource.
cdef inline object share_enter(SharedLease self, bint block):
    cdef fp_lease *l = &self.of.of
    cdef fp_slot *due = NULL
    cdef fp_slot *slot = NULL
    cdef uint64_t ticket = 0
    if fp_lease_state(l) != FP_LEASE_FRESH:
        return share_again(self)
    cdef fp_core *c = fp_lease_core(l)
    cdef uint64_t id = fp_lease_id(l)
    if fp_id_of(c) == id:
        slot = fp_sharing_hit(c, &due)
    if slot == NULL or (FP_ATOMIC and fp_id_of(c) != id):
        share_stays(self, c, id, slot, due)
        slot = pool_lend(c, id, l.timeout_ns, due, &ticket)
    return share_hold(self, c, id, slot, ticket, block)


# As lease_stays.
cdef int share_stays(
    SharedLease self, fp_core *c, uint64_t id, fp_slot *slot, fp_slot *due
) except -1:
    if fp_id_of(c) == id:
        return 0
    if due != NULL:
        slot = due
    if slot != NULL:
        share_drop(c, slot, fp_slot_generation(slot))
    if not fp_lease_is_fresh(&self.of.of):
        share_entered(self)
    from fastpool.errors import PoolClosed
    raise PoolClosed("a pool", "the pool of this lease is gone")


# As lease_hold.
cdef inline object share_hold(
    SharedLease self, fp_core *c, uint64_t id, fp_slot *slot, uint64_t ticket, bint block
):
    resource = fp_resource(slot)  # before it is held: then another thread may end it
    cdef uint64_t generation = fp_slot_generation(slot)
    if not fp_share_hold(
        &self.of, c, id, slot, ticket, FP_LEASE_BLOCK if block else FP_LEASE_HELD
    ):
        share_drop(c, slot, generation)  # two threads or tasks have waited with the same lease
        forget(c, ticket)
        share_entered(self)
    return resource


@cython.freelist(64)
cdef class SharedLease:
    """SharedLease()\n--\n
    The right to one slot of a resource: made by ``SharedPool.lease`` and ``SharedPool.acquire``.

    Its slot is given back once, whoever ends it.  Keeps the pool's memory block alive, not the pool.
    Collected unreleased, it gives its slot back and warns once (ResourceWarning).
    """
    cdef fp_share of

    def __enter__(self):
        return share_enter(self, True)

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
        cdef PyObject *item = fp_lease_resource(&self.of.of)
        if item == NULL:
            share_not_held(self, "resource")
        return fp_steal(item)

    def release(self):
        """Gives the slot back; once."""
        if not share_close(self, None, FP_LEASE_RELEASED):
            share_not_held(self, "release")

    def discard(self):
        """Gives the slot back and takes the resource out of service: it is closed when its last lease
        ends; once.  A ``with`` block's end does nothing more."""
        if not share_close(self, None, FP_LEASE_DISCARDED):
            share_not_held(self, "discard")

    def penalize(self):
        """``SharedPool.penalize`` of its resource."""
        cdef PyObject *item = fp_lease_resource(&self.of.of)
        if item == NULL:
            share_not_held(self, "penalize")
        manager_at(
            fp_lease_core(&self.of.of), fp_lease_id(&self.of.of), "penalize"
        ).penalize(fp_steal(item))

    def retire(self):
        """``SharedPool.drain`` of its resource: no more leases, and closed when the last one ends."""
        cdef PyObject *item = fp_lease_resource(&self.of.of)
        if item == NULL:
            share_not_held(self, "retire")
        manager_at(
            fp_lease_core(&self.of.of), fp_lease_id(&self.of.of), "retire"
        ).drain_resource(fp_steal(item))

    def info(self):
        """A ``ResourceInfo``: the age of the resource, how often it was lent, and for how long no
        lease of it has ended."""
        if not lease_is_held(&self.of.of):
            share_not_held(self, "info")
        return info_of(fp_lease_core(&self.of.of), self.of.of.slot)

    def __dealloc__(self):
        cdef fp_core *c
        if fp_share_end(&self.of, FP_LEASE_RELEASED) > 0 and not is_finalizing():
            c = fp_lease_core(&self.of.of)
            manager = fp_manager(c, fp_lease_id(&self.of.of))
            share_drop(c, self.of.of.slot, self.of.of.generation)
            if manager is not None:
                share_lost(manager, self.of.ticket)

    def __reduce__(self):
        return refuse_copy(self, lease_pool(&self.of.of))

    def __repr__(self):
        return handle_shown(self, lease_name(&self.of.of), &self.of.of)


cdef object share_lost(object manager, uint64_t ticket):
    try:
        manager.lost(ticket)
    except BaseException:  # of a signal handler: nobody has it, whatever is noted
        if ticket != 0:
            call_soon((0.0, manager.forget, (ticket,)))
        raise


# The end of a lease: of a block that ``error`` left, or to discard.  False: it was not held.
cdef bint share_close(SharedLease self, object error, int state) except -1:
    cdef fp_lease *l = &self.of.of
    cdef int ended = fp_share_end(&self.of, state)
    if ended <= 0:
        return ended == 0 and not fp_lease_is_live(l)
    cdef fp_core *c = fp_lease_core(l)
    cdef uint64_t id = fp_lease_id(l)
    cdef uint64_t ticket = self.of.ticket
    if error is None and ticket == 0 and state == FP_LEASE_RELEASED:
        share_give(c, l.slot, l.generation)
        return True
    manager = fp_manager(c, id)  # kept: with it go the block and its slots
    try:
        if manager is not None:
            manager.on_lease_end(number_of(l.slot), ticket, error, state == FP_LEASE_DISCARDED)
    except BaseException:  # of a signal handler: nobody has it, whatever is noted
        if ticket != 0:
            call_soon((0.0, manager.forget, (ticket,)))
        raise
    finally:
        if fp_id_of(c) == id:
            share_give(c, l.slot, l.generation)
    return True


cdef object share_keep(SharedLease lease, SlotGuard guard, bint block):
    """Moves the slot from the guard to the lease."""
    cdef fp_slot *slot
    cdef uint64_t ticket = guard.ticket
    if not fp_lease_is_fresh(&lease.of.of):  # entered twice, at once, by two tasks
        slot_guard_drop(guard)
        return share_again(lease)
    slot = slot_guard_take_out(guard)
    guard.ticket = 0
    return share_hold(lease, guard.c, fp_id_of(guard.c), slot, ticket, block)


cdef object share_again(SharedLease self):
    """It is not fresh: ``acquire``d and now used as a block, or an error."""
    cdef PyObject *item = fp_lease_resource(&self.of.of)  # in a forked child it is the parent's
    if item == NULL:
        share_entered(self)
    resource = fp_steal(item)
    if not fp_lease_move(&self.of.of, FP_LEASE_HELD, FP_LEASE_BLOCK):
        share_entered(self)
    return resource


cdef object share_entered(SharedLease self):
    from fastpool.errors import PoolError
    raise PoolError(lease_pool(&self.of.of), ENTERED)


cdef object share_not_held(SharedLease self, str act):
    from fastpool.errors import PoolError
    raise PoolError(lease_pool(&self.of.of), not_held(&self.of.of, act))


cpdef object share_lease_hit(SharedLease lease, bint block):
    """``__aenter__`` at once: the resource, or a SlotGuard to go on with."""
    cdef fp_lease *l = &lease.of.of
    cdef fp_slot *due = NULL
    cdef fp_slot *slot = NULL
    if fp_lease_state(l) != FP_LEASE_FRESH:
        return share_again(lease)
    cdef fp_core *c = fp_lease_core(l)
    cdef uint64_t id = fp_lease_id(l)
    if fp_id_of(c) == id:
        if c.sharded:
            c = core_of_loop(c)
            id = fp_id_of(c)
        slot = fp_sharing_hit(c, &due)
    if slot == NULL or (FP_ATOMIC and fp_id_of(c) != id):
        share_stays(lease, c, id, slot, due)
        return slot_guard_of(c, due)
    return share_hold(lease, c, id, slot, 0, block)


def close_nowait(SharedPool pool not None):
    """Closes it as if it had been collected, with no warning: nothing new begins, what is in use goes on
    and is closed at its end.  Never blocks, so it may be called by a finaliser."""
    manager = fp_manager(pool.c, 0)
    if manager is not None:
        manager.orphan()


def order_by_deadline(SharedPool pool not None):
    """Has its queue serve first whose timeout is over first, from here on; who has none stands as with
    one of 10 s.  Of several alike the first that came.  To join costs a step for each that is
    overtaken.  For a pool that nobody waits for yet."""
    fp_lock_take(&pool.c.lock)
    pool.c.by_deadline = 1
    fp_lock_drop(&pool.c.lock)


cdef fp_slot *share_take_of(fp_core *c, resource):
    """One lease of this resource, taken at once; NULL: it has no room, or is to be spared."""
    cdef fp_slot *slot = NULL if c.sharded else fp_sharing_hit_of(c, <void *>resource)
    if slot != NULL and fp_resource(slot) is not resource:  # closed meanwhile, and this is another
        share_give(c, slot, fp_slot_generation(slot))
        return NULL
    return slot


def acquire_of(SharedPool pool not None, resource):
    """A SharedLease of this one resource at once, or None: it has no room, somebody waits, it counts as
    more loaded than it is, the pool has a check or counts leases one by one, or each takes a permit of
    its budget."""
    cdef SharedLease lease = SharedLease.__new__(SharedLease)
    cdef fp_core *c = pool.c
    cdef uint64_t id = fp_id_of(c)
    fp_lease_init(&lease.of.of, c, 0)
    cdef fp_slot *slot = share_take_of(c, resource)
    if slot == NULL:
        return None
    share_hold(lease, c, id, slot, 0, False)
    return lease


def shared_hit(SharedPool pool not None):
    """What ``get`` returns at once; a SlotGuard with a slot that is due; or MISS."""
    cdef fp_core *c = core_of_loop(pool.c)
    cdef fp_slot *due = NULL
    cdef fp_slot *slot = fp_sharing_hit(c, &due)
    if slot != NULL:
        return fp_resource(slot)
    return MISS if due == NULL else slot_guard_of(c, due)

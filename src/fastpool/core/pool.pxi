# FastPool: a queue, or a pool of resources with a manager behind it; and Lease.

cdef str ENTERED = "this lease was entered before; call lease() for each block"


cdef object manager_of(fp_core *c, str act):
    return manager_at(c, 0, act)


# While the block has this id; 0: any.
cdef object manager_at(fp_core *c, uint64_t id, str act):
    manager = fp_manager(c, id)
    if manager is not None:
        return manager
    if c.use == FP_QUEUE and (id == 0 or fp_id_of(c) == id):
        raise TypeError(
            f"{act}() needs a resource pool, and this FastPool is used as a queue: give it a "
            "factory or items="
        )
    from fastpool.errors import PoolClosed
    raise PoolClosed("a pool", f"{act}(): it is gone")


cdef inline object seconds_or_none(int64_t timeout_ns):
    return None if timeout_ns == FP_NEVER else timeout_ns * 1e-9


# A lease by the slow path: waits here when the pool is full, asks the manager for everything else.
# ``id``: of the block, as the caller has seen it.  No Python runs between the last look at the slot,
# which is lent to the caller, and the caller.
cdef fp_slot *pool_lend(
    fp_core *c, uint64_t id, int64_t timeout_ns, fp_slot *due, uint64_t *ticket=NULL
) except NULL:
    cdef fp_slot *slot = due
    cdef uint64_t generation = 0 if due == NULL else fp_slot_generation(due)
    cdef int64_t start = fp_clock_precise()
    cdef int state
    cdef object permit
    cdef SlotGuard guard = slot_guard_of(c, due)
    try:
        manager = manager_at(c, id, "get")  # kept: with it go the block and its slots
        while True:
            permit = None
            reason = "due" if slot != NULL else None
            if slot == NULL and not fp_gate(c) & FP_ASK_GET:
                try:
                    state = pool_wait(c, remaining_ns(timeout_ns, start), False, False, &slot, &generation)
                except Permit as granted:
                    permit, state = granted.args[0], FP_MAY_OPEN_AT_HEAD
                if slot != NULL:
                    if fp_begin(c, slot):
                        reason = "due"
                    elif not c.listened:
                        return slot
                    else:
                        reason = "fresh"
                    slot_guard_set(guard, slot, generation)
                else:
                    reason = REASONS.get(state)
            manager.acquire_slow(
                guard, reason, seconds_or_none(timeout_ns), (fp_clock_precise() - start) * 1e-9, permit
            )
            if ticket == NULL and guard.ticket != 0:
                manager.taken_without_lease(guard.ticket)
            if slot_guard_leased(guard):
                break
            # somebody has given it back who did not hold it, or this is a child of the process
            slot = NULL
            slot_guard_drop(guard)
            id = fp_id_of(c)
            guard = slot_guard_of(c, NULL)
    except BaseException as error:
        slot_guard_drop(guard)
        from fastpool.errors import PoolTimeout
        if timeout_ns != 0 and isinstance(error, PoolTimeout):
            note_wait(c, error)
        raise
    slot, guard.slot = guard.slot, NULL
    if ticket != NULL:
        ticket[0] = guard.ticket
    return slot


# Of a span that began then.
cdef int64_t remaining_ns(int64_t timeout_ns, int64_t start) noexcept:
    if timeout_ns == 0 or timeout_ns == FP_NEVER:
        return timeout_ns
    return max(<int64_t>0, start + timeout_ns - fp_clock_precise())


# A return by the slow path: with the exception that left the block, or to discard.  False: the slot is
# lent no more as it was in this generation.
cdef object pool_give_back(
    fp_core *c, fp_slot *slot, uint64_t generation, object error, bint discard
):
    cdef uint64_t id = fp_id_of(c)
    manager = pool_claim(c, slot, generation)
    if manager is None:
        return False
    try:
        if error is not None or discard or not reset_quickly(c, id, manager, slot):
            manager.give_back(number_of(slot), error, discard)
    except BaseException as failure:  # of a signal handler, or a reset hook
        return give_back_failed(c, id, slot, generation, failure)
    if fp_gate(c) & FP_USED:
        notify_manager(c)
    return True


# LEASED -> CHECKING; the manager, which is kept meanwhile, or None: it was not lent in this generation.
cdef object pool_claim(fp_core *c, fp_slot *slot, uint64_t generation):
    manager = fp_manager(c, 0)
    if manager is None or not fp_slot_move_own(slot, generation, FP_LEASED, FP_CHECKING):
        return None
    if slot.sampled > 0:
        fp_pool_sampled(c, slot)
    return manager


# The manager has raised on the way: others do the rest.  True: nothing has to be done, see is_childs.
cdef object give_back_failed(
    fp_core *c, uint64_t id, fp_slot *slot, uint64_t generation, object failure
):
    leave(c, id, slot, generation, "interrupted")
    if is_childs(c, id, failure):
        return True
    raise failure


cdef object pool_take_back(
    fp_core *c, fp_slot *slot, uint64_t generation, object resource, str act
):
    if slot == NULL or not pool_give_back(c, slot, generation, None, act == "discard"):
        manager_of(c, act).raise_misuse(act, resource)


@cython.no_gc_clear
cdef class FastPool(Store):
    """FastPool(maxsize=..., *, factory=None, items=None, close=None, check=None, reset=None,
        min_idle=0, min_size=0, max_idle=None, order="lifo", timeout=..., create_timeout=30.0,
        hook_timeout=5.0, max_creating=..., create_in="worker", on_create_error="raise", open=True,
        check_after=0.5, keepalive=None, idle_timeout=..., max_lifetime=..., max_uses=None,
        max_waiting=None, fairness=..., leak_after=None, discard_on=..., warn_unclosed=True,
        budget=None, name=None, clock=None)\n--\n
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
        refuse_if_gevent_patched(self)
        first = self.label is None
        self.size, self.label = configure(self.core, maxsize, options)
        if first:
            enlist(self)

    def __del__(self):
        if self.c.manager != NULL and not is_finalizing():
            manager_of(self.c, "close").on_collected()

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
            wait_ns(c, block, timeout)
        if c.use == FP_QUEUE:
            item = fp_queue_get(c, c.lifo)
            if item != NULL:
                return fp_steal(item)
            return queue_get_slow(c, wait_ns(c, block, timeout))
        slot = fp_pool_hit(c, &due)
        if slot == NULL:
            slot = pool_lend(c, fp_id_of(c), wait_ns(c, block, timeout), due)
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
            slot = pool_lend(c, fp_id_of(c), 0, due)
        return fp_resource(slot)

    def put(self, item, block=True, timeout=...):
        """Queue use: adds an item (Full, ShutDown).  Pool use: gives a resource back; ValueError if
        it is not the pool's or not lent out."""
        cdef fp_core *c = self.c
        if c.use == FP_QUEUE:
            if timeout is not UNSET:
                wait_ns(c, block, timeout)
            if not fp_queue_put_new(c, <void *>item):
                queue_put_slow(c, item, wait_ns(c, block, timeout))
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
        fp_lease_init(&lease.of, c, fp_span(c) if timeout is UNSET else ns_of_timeout(c, timeout))
        return lease

    def acquire(self, timeout=...):
        """Takes a resource at once and returns its Lease, for holds that no block can express.
        ``lease.resource``, ``lease.release()``, ``lease.discard()``."""
        cdef Lease lease = self.lease(timeout)
        lease_enter(lease, fp_thread_token(), False)
        return lease

    # -- the rest asks the manager --

    def _resize(self, value):
        if self.c.use == FP_POOL:
            size_write(self, manager_of(self.c, "resize").resize(value))
        else:
            Store._resize(self, value)

    def discard(self, resource):
        """Closes a resource that is lent out, in place of ``put``; its slot is free again once it
        is really closed."""
        manager_of(self.c, "discard")
        cdef fp_core *c = holder(self.c, resource)
        cdef fp_slot *slot = fp_pool_find(c, <void *>resource)
        pool_take_back(
            c, slot, 0 if slot == NULL else fp_slot_generation(slot), resource, "discard"
        )

    def retire(self, resource):
        """Has a resource closed and not lent again: now if it is idle, else when it comes back.
        ValueError if it is not the pool's."""
        manager_of(self.c, "retire")
        manager_of(holder(self.c, resource), "retire").retire(resource)

    def info(self, resource):
        """A ``ResourceInfo``: the age of a resource, how often it was lent, and since when it was not
        given back.  ValueError if it is not the pool's."""
        manager = manager_of(self.c, "info")
        found = resource_info(holder(self.c, resource), resource)
        return manager.raise_misuse("info", resource) if found is None else found

    def resize(self, maxsize):
        """A new cap.  Growing serves waiters at once; when shrinking, surplus idle resources are
        closed now and leased ones when they come back."""
        self._resize(maxsize)

    def flush(self, *, idle_only=False, fail_waiters=False):
        """Retires every open resource: idle ones now, leased ones on return.  ``idle_only``: those
        that are leased stay.  ``fail_waiters``: who waits now gets PoolInterrupted."""
        manager_of(self.c, "flush").flush(bool(idle_only), bool(fail_waiters))

    def check_idle(self):
        """Checks everything that is idle now, and waits for that; returns how many were closed, for
        the check or their age.  TypeError without a check hook; PoolClosed."""
        return manager_of(self.c, "check_idle").check_idle()

    def configure(self, **options):
        """Changes options at run time: those that need not be fixed, see docs/reference/fastpool.md.  A TypeError or
        ValueError as of the constructor, and nothing is changed.  What is idle or leased keeps the
        ``max_lifetime`` with which it was opened."""
        manager_of(self.c, "configure").configure(options)

    @property
    def options(self):
        """The options by name, as the constructor would take them: a copy."""
        if self.c.use == FP_QUEUE:
            return queue_options(self)
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
        """Gets wait until ``resume``; returns work as ever.  ``fail_waiters``: who waits already gets
        PoolInterrupted."""
        manager_of(self.c, "suspend").suspend(bool(fail_waiters))

    def resume(self):
        """Ends ``suspend``."""
        manager_of(self.c, "resume").resume()

    def open(self, wait=False, timeout=30.0):
        """Opens a pool that was made with ``open=False``: starts its threads, and opens in the background
        what ``min_idle`` and ``min_size`` want.  ``wait``: until they are open, at most ``timeout``
        seconds; PoolTimeout, or the factory's exception if one fails.  Idempotent, from any thread;
        PoolClosed after ``close``.  The first use opens it too."""
        manager_of(self.c, "open").open(bool(wait), timeout)

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


cdef dict queue_options(FastPool self):
    cdef fp_core *c = self.c
    return {
        "maxsize": self.maxsize, "order": "lifo" if c.lifo else "fifo",
        "fairness": "fair" if c.fair else "throughput", "timeout": seconds_or_none(fp_span(c)),
        "max_waiting": None if c.max_waiting == <size_t>-1 else c.max_waiting, "name": self.label,
    }


cdef inline object pool_put(fp_core *c, object resource):
    c = holder(c, resource)
    cdef fp_slot *slot = fp_pool_find(c, <void *>resource)
    cdef uint64_t generation = 0
    cdef int notify = 0
    if slot != NULL:
        generation = fp_slot_generation(slot)
        if fp_pool_return(c, slot, generation, &notify) > 0:
            if notify:
                notify_manager(c)
            return None
    return pool_take_back(c, slot, generation, resource, "put")


cdef object notify_manager(fp_core *c):
    return notify_manager_how(c, False)


cdef object notify_manager_how(fp_core *c, bint later):
    """The pool was closed while something was being returned, or that may be wanted elsewhere, or there
    are listeners.  It may be gone by now, or be another in the same block: that one looks in vain."""
    cdef int64_t used
    manager = fp_manager(c, 0)
    if manager is None:
        return
    try:
        if fp_gate(c) & FP_USED:
            used = fp_used_take(c)
            if used >= 0:
                manager.was_used(used * 1e-9)
            if c.use == FP_POOL and not fp_gate(c) & (FP_CLOSED | FP_NOTIFY | FP_ASK_PUT):
                return
        if later:
            manager.on_return(True)
        else:
            manager.on_return()
    except BaseException:  # a signal handler's: others may wait for what this was about
        notify_manager_soon(c)
        raise


cdef object lend_due(fp_core *c, fp_slot *due):
    """For the fast method of ``get``: it has taken a slot that the manager has to look at."""
    return fp_resource(pool_lend(c, fp_id_of(c), fp_span(c), due))


cdef object lease_ended(fp_core *c, fp_slot *slot, uint64_t generation, int given):
    """For the fast method of ``__exit__``."""
    if given > 0:
        notify_manager(c)
    elif given == 0:
        pool_give_back(c, slot, generation, None, False)


# ``__enter__`` of a block, or ``acquire``, by this thread or task: the resource.
cdef inline object lease_enter(Lease self, uintptr_t me, bint block):
    cdef fp_lease *l = &self.of
    cdef fp_slot *due = NULL
    cdef fp_slot *slot = NULL
    if fp_lease_state(l) != FP_LEASE_FRESH:
        return lease_again(self, me)
    cdef fp_core *c = fp_lease_core(l)
    cdef uint64_t id = fp_lease_id(l)
    if fp_id_of(c) == id:
        slot = fp_pool_hit(c, &due)
    if slot == NULL or (FP_ATOMIC and fp_id_of(c) != id):
        slot = lease_miss(self, c, id, slot, due)
    return lease_hold(self, c, id, slot, me, block)


cdef fp_slot *lease_miss(
    Lease self, fp_core *c, uint64_t id, fp_slot *slot, fp_slot *due
) except NULL:
    """Not at once: waits, or asks the manager."""
    lease_stays(self, c, id, slot, due)
    return pool_lend(c, id, self.of.timeout_ns, due)


cdef int lease_stays(
    Lease self, fp_core *c, uint64_t id, fp_slot *slot, fp_slot *due
) except -1:
    """PoolClosed if its pool is gone.  The block may have gone to another pool while a slot was being
    taken there, which that one gets back."""
    if fp_id_of(c) == id:
        return 0
    if due != NULL:
        slot = due
    if slot != NULL:
        slot_drop(c, slot, fp_slot_generation(slot))
    if not fp_lease_is_fresh(&self.of):
        lease_entered(self)  # by another thread: the core was that one's
    from fastpool.errors import PoolClosed
    raise PoolClosed("a pool", "the pool of this lease is gone")


# Gives it the slot, which is the caller's: the resource.
cdef inline object lease_hold(
    Lease self, fp_core *c, uint64_t id, fp_slot *slot, uintptr_t me, bint block
):
    cdef uint64_t generation = fp_slot_generation(slot)
    fp_slot_own(slot, me | block)
    resource = fp_resource(slot)  # these before it is held: then another thread may end it
    if not fp_lease_hold(
        &self.of, c, id, slot, generation, FP_LEASE_BLOCK if block else FP_LEASE_HELD
    ):
        slot_drop(c, slot, generation)  # two threads or tasks have waited with the same lease
        lease_entered(self)
    return resource


@cython.freelist(64)
cdef class Lease:
    """Lease()\n--\n
    The right to one resource: made by ``FastPool.lease`` and ``FastPool.acquire``.

    Holds no Python object, so making one costs some 15 ns and it is never part of a cycle.  It keeps
    the pool's memory block alive, not the pool.  Collected unreleased, it closes its resource and
    warns once (ResourceWarning).
    """
    cdef fp_lease of

    def __enter__(self):
        return lease_enter(self, fp_thread_token(), True)

    def __exit__(self, kind, error, trace):
        if fp_lease_end(&self.of, FP_LEASE_RELEASED):
            lease_give(&self.of, error, False)

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
        cdef PyObject *item = fp_lease_resource(&self.of)
        if item == NULL:
            lease_not_held(self, "resource")
        return fp_steal(item)

    def release(self):
        """Gives the resource back; once."""
        if not (fp_lease_end(&self.of, FP_LEASE_RELEASED) and lease_give(&self.of, None, False)):
            lease_not_held(self, "release")

    def discard(self):
        """Closes the resource instead of giving it back; once.  A ``with`` block's end does nothing
        more."""
        if not (fp_lease_end(&self.of, FP_LEASE_DISCARDED) and lease_give(&self.of, None, True)):
            lease_not_held(self, "discard")

    def retire(self):
        """Has the resource closed when it comes back, and not lent again."""
        if not lease_is_held(&self.of):
            lease_not_held(self, "retire")
        fp_slot_retire_own(self.of.slot, self.of.generation)

    def info(self):
        """A ``ResourceInfo``: the age of the resource, how often it was lent, and for how long it was
        not given back; asked when the lease begins, for how long it lay idle before."""
        if not lease_is_held(&self.of):
            lease_not_held(self, "info")
        return info_of(fp_lease_core(&self.of), self.of.slot)

    def __dealloc__(self):
        if fp_lease_end(&self.of, FP_LEASE_RELEASED) and not is_finalizing():
            lease_lost(&self.of)

    def __reduce__(self):
        return refuse_copy(self, lease_pool(&self.of))

    def __repr__(self):
        return handle_shown(self, lease_name(&self.of), &self.of)


# The end of a lease, which the caller has ended; with the exception that left the block, or to discard.
# False: its resource was given back before, by another way.
cdef bint lease_give(fp_lease *l, object error, bint discard) except -1:
    cdef fp_core *c = fp_lease_core(l)
    cdef int notify = 0
    cdef int given = 0
    if not fp_lease_is_live(l):  # gone, or the parent's
        return True
    if error is None and not discard:
        given = fp_pool_return(c, l.slot, l.generation, &notify)
        if notify:
            notify_manager(c)
        if given != 0:
            return given > 0
    return pool_give_back(c, l.slot, l.generation, error, discard)


cdef object lease_lost(fp_lease *l):
    """It was collected unreleased.  Its slot is the pool's in one step, which is done whatever a signal
    handler raises while that is looked for which only a warning wants."""
    cdef fp_core *c = fp_lease_core(l)
    cdef uint64_t id = fp_lease_id(l)
    manager = fp_manager(c, id)
    if manager is None or not fp_slot_lent(c, l.slot, l.generation):
        return
    where = None
    try:
        where = manager.taken_at(number_of(l.slot))
    finally:
        if fp_id_of(c) == id and fp_slot_move_own(l.slot, l.generation, FP_LEASED, FP_CHECKING):
            rescue(c, l.slot, "lost")
        else:
            manager = None
    if manager is not None:
        manager.warn_lost(where)


cdef object lease_again(Lease self, uintptr_t me):
    """It is not fresh: ``acquire``d and now used as a block, or an error."""
    cdef fp_lease *l = &self.of
    cdef PyObject *item = fp_lease_resource(l)
    if item == NULL:
        lease_entered(self)
    resource = fp_steal(item)
    if not fp_lease_move(l, FP_LEASE_HELD, FP_LEASE_BLOCK):
        lease_entered(self)
    cdef fp_core *c = fp_lease_core(l)
    fp_lock_take(&c.lock)  # under which a slot becomes free: then that word says another thing
    if fp_lease_is_live(l) and fp_slot_lent(c, l.slot, l.generation):
        fp_slot_own(l.slot, me | 1)
    fp_lock_drop(&c.lock)
    return resource


cdef object lease_entered(Lease self):
    from fastpool.errors import PoolError
    raise PoolError(lease_pool(&self.of), ENTERED)


cdef object lease_not_held(Lease self, str act):
    from fastpool.errors import PoolError
    raise PoolError(lease_pool(&self.of), not_held(&self.of, act))


# Why nothing can be done with a lease that is not held.
cdef str not_held(fp_lease *l, str act):
    if fp_lease_is_fresh(l):
        return f"{act}: this lease was not entered yet"
    if fp_lease_is_held(l) and not fp_lease_is_live(l):
        return f"{act}: the pool of this lease is gone, or the parent process has it"
    return f"{act}: this lease has been released or discarded"


cdef str lease_name(fp_lease *l):
    """The name of its pool for a text: in quotes, if it is known."""
    name = lease_pool(l)
    return name if name == "a pool" else repr(name)


cdef object lease_pool(fp_lease *l):
    manager = fp_manager(fp_lease_core(l), fp_lease_id(l))
    return "a pool" if manager is None else manager.name

# FastPool: a queue, or a pool of resources with a manager behind it.

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
        return taken_by_get(slot)

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
        return taken_by_get(slot)

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


cdef object lend_due(fp_core *c, fp_slot *due):
    """For the fast method of ``get``: it has taken a slot that the manager has to look at."""
    return taken_by_get(pool_lend(c, fp_id_of(c), fp_span(c), due))


cdef inline object taken_by_get(fp_slot *slot):
    fp_slot_own(slot, fp_thread_token() | FP_BY_GET)
    return fp_resource(slot)

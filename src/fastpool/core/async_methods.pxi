# The async methods: hits are served here, the rest by ``_aio/slow_paths.py``.

cdef object MISS = type("Miss", (), {})()


def forks():
    """How often this process was forked off: another number than before, and a hook that was called
    has returned in a child."""
    return fp_forks


def task():
    """An even number that names the running task."""
    return fp_task_token()


cdef class Done:
    """An awaitable that is done: what ``__aexit__`` returns when there is nothing to wait for."""
    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

cdef Done DONE = Done()


def slot_guard(Core core not None):
    """An empty guard, for a caller."""
    return slot_guard_of(core.c, NULL)


cdef object running_loop = None  # these three are set by _aio/loop.py
cdef object loop_of = None
cdef object watch = None


def set_watching(bint on):
    """Whether somebody is to find out about closed loops already."""
    fp_set_watched(on)


def set_patience(int64_t ns):
    """How long the head of a "throughput" queue waits before it asks for hand-off, in all pools; for
    tests, which may not depend on real time.  Returns what it was."""
    global fp_patience
    before = fp_patience
    fp_patience = ns
    return before


def is_watching():
    return fp_is_watched()


def set_loops(running, of, watch_closed):
    """``asyncio._get_running_loop``; the record of a loop; who finds out that one was closed."""
    global running_loop, loop_of, watch
    running_loop, loop_of, watch = running, of, watch_closed


def current():
    """The record of the running loop."""
    return running_mailbox()


def get_later(FastPool pool not None, timeout):
    """Queue use: a ``Wait`` for the next item; None in pool use."""
    cdef fp_core *c = pool.c
    if c.use == FP_POOL:
        return None
    cdef int64_t timeout_ns = fp_span(c) if timeout is UNSET else ns_of_timeout(c, timeout)
    cdef Wait wait = Wait.__new__(Wait, pool.core, running_mailbox())
    wait.queue = &c.getters
    wait.timeout_ns = timeout_ns
    return wait


def put_later(FastPool pool not None, item, timeout):
    """Queue use: a ``Wait`` for room for it."""
    cdef fp_core *c = pool.c
    cdef int64_t timeout_ns = fp_span(c) if timeout is UNSET else ns_of_timeout(c, timeout)
    cdef Wait wait = Wait.__new__(Wait, pool.core, running_mailbox())
    wait.queue = &c.putters
    wait.item = item
    wait.timeout_ns = timeout_ns
    return wait


cdef fp_core *core_of_loop(fp_core *c) except NULL:
    """The core that serves the running loop: the pool's own, unless its factory is asynchronous."""
    cdef fp_core *found
    if not c.sharded:
        return c
    loop = running_loop()
    found = fp_loop_core(c, <void *>loop)
    if found == NULL:
        found = (<Core?>manager_of(c, "aget").core_for(loop)).c
        fp_loop_note(c, <void *>loop, found)
    return found


cdef fp_core *holder(fp_core *c, object resource) except NULL:
    """The core that holds this resource, most likely that of the running loop."""
    cdef fp_core *running_mailbox
    if not c.sharded:
        return c
    loop = running_loop()
    running_mailbox = fp_loop_core(c, <void *>loop)
    if running_mailbox != NULL and fp_pool_find(running_mailbox, <void *>resource) != NULL:
        return running_mailbox
    return (<Core?>manager_of(c, "put").holder(resource)).c


def manager(Owner pool not None, str act):
    """The manager of the whole pool; TypeError in queue use."""
    return manager_of(pool.c, act)


def asks(Owner pool not None, timeout):
    """(core, manager or None for queue use, seconds to wait or None)"""
    cdef fp_core *c = pool.c
    cdef int64_t timeout_ns = fp_span(c) if timeout is UNSET else ns_of_timeout(c, timeout)
    if c.use == FP_QUEUE:
        return pool.core, None, seconds_or_none(timeout_ns)
    manager = manager_of(core_of_loop(c), "aget")
    return manager.core, manager, seconds_or_none(timeout_ns)


def hit(FastPool pool not None):
    """What ``get`` returns at once; a SlotGuard with a slot that is due; or MISS."""
    cdef fp_core *c = pool.c
    cdef fp_slot *slot
    cdef fp_slot *due = NULL
    cdef void *item
    if c.use == FP_QUEUE:
        item = fp_queue_get(c, c.lifo)
        if item == NULL and fp_gate(c) & FP_PUTTERS:  # a waiting putter has its turn in the locked path
            fp_defer_begin()
            fp_queue_get_join(c, NULL, &item)
            fp_defer_end()
        return MISS if item == NULL else fp_steal(item)
    c = core_of_loop(c)
    slot = fp_pool_hit(c, &due)
    if slot != NULL:
        fp_slot_own(slot, fp_task_token() | FP_BY_GET)
        return fp_resource(slot)
    return MISS if due == NULL else slot_guard_of(c, due)


def stored(FastPool pool not None, item):
    """Whether ``put`` could add the item at once."""
    if pool.c.use == FP_POOL:
        raise TypeError(f"{pool.label}: aput() is for queue use; give a resource back with put()")
    if fp_queue_put_new(pool.c, <void *>item):
        return True
    Py_INCREF(item)  # a waiting getter has its turn in the locked path
    fp_defer_begin()
    cdef int state = fp_queue_put_join(pool.c, NULL, <void *>item)
    fp_defer_end()
    if state != FP_GRANTED:
        Py_DECREF(item)
    return state == FP_GRANTED


def is_pool(Owner pool not None):
    return pool.c.use != FP_QUEUE


cpdef object lease_hit(Lease lease, bint block):
    """``__aenter__`` at once: the resource, or a SlotGuard to go on with."""
    cdef fp_lease *l = &lease.of
    cdef fp_slot *slot = NULL
    cdef fp_slot *due = NULL
    if fp_lease_state(l) != FP_LEASE_FRESH:
        return lease_again(lease, fp_task_token())
    cdef fp_core *c = fp_lease_core(l)
    cdef uint64_t id = fp_lease_id(l)
    if fp_id_of(c) == id:
        if c.sharded:
            c = core_of_loop(c)
            id = fp_id_of(c)
        slot = fp_pool_hit(c, &due)
    if slot == NULL or (FP_ATOMIC and fp_id_of(c) != id):
        lease_stays(lease, c, id, slot, due)
        return slot_guard_of(c, due)
    return lease_hold(lease, c, id, slot, fp_task_token(), block)


def lease_asks(lease, SlotGuard guard not None):
    """(manager, what the guard has, seconds to wait or None)"""
    cdef int64_t timeout_ns = (
        (<SharedLease>lease).of.of.timeout_ns if type(lease) is SharedLease else (<Lease?>lease).of.timeout_ns
    )
    return manager_of(guard.c, "lease"), None if guard.slot == NULL else "due", seconds_or_none(timeout_ns)


def lease_keep(lease, SlotGuard guard not None, bint block):
    """Moves the slot from the guard to the lease."""
    if type(lease) is SharedLease:
        return share_keep(<SharedLease>lease, guard, block)
    return kept_by(<Lease?>lease, guard, block)


cdef object kept_by(Lease lease, SlotGuard guard, bint block):
    if not fp_lease_is_fresh(&lease.of):  # entered twice, at once, by two tasks
        slot_guard_drop(guard)
        return lease_again(lease, fp_task_token())
    return lease_hold(
        lease, guard.c, fp_id_of(guard.c), slot_guard_take_out(guard), fp_task_token(), block
    )


cdef object lease_aexit(Lease lease, object error):
    cdef fp_lease *l = &lease.of
    cdef int notify = 0
    cdef int given = 0
    if not fp_lease_end(l, FP_LEASE_RELEASED) or not fp_lease_is_live(l):
        return DONE
    cdef fp_core *c = fp_lease_core(l)
    cdef uint64_t id = fp_lease_id(l)
    if error is None:
        given = fp_pool_return(c, l.slot, l.generation, &notify)
        if given != 0 and not notify:
            return DONE
    if given != 0:  # while the pool was being closed, say
        notify_manager_how(c, True)
        return DONE
    manager = pool_claim(c, l.slot, l.generation)
    if manager is None:  # given back by another way
        return DONE
    try:
        awaitable = give_back_for_task(manager, number_of(l.slot), error, False)
    except BaseException as failure:
        give_back_failed(c, id, l.slot, l.generation, failure)
        return DONE
    return DONE if awaitable is None else awaitable


cdef object give_back_for_task = None # of _aio/methods.py


def add_shared_async_methods(dict pool_methods, dict lease_methods):
    """The same for shared pools."""
    fp_add_methods(<PyTypeObject *>SharedPool, pool_methods)
    fp_add_methods(<PyTypeObject *>SharedLease, lease_methods)


def add_async_methods(dict pool_methods, dict lease_methods, give_back):
    """Puts plain coroutine functions into the two types: they cost half of Cython's own.
    ``give_back``: the slow path of a return by a task."""
    global give_back_for_task
    give_back_for_task = give_back
    fp_add_methods(<PyTypeObject *>FastPool, pool_methods)
    fp_add_methods(<PyTypeObject *>Lease, lease_methods)


fp_deliver_deferred = deliver_deferred
MISSED = MISS
DEFAULT = UNSET

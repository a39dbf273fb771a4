# KeyedPool: a core for each key, under common limits; and KeyedLease.

cdef extern from *:
    """
    #include "core/keyed_pool.h"

    /* The value of a key; None where there is none. */
    static inline PyObject *fp_dict_ref(PyObject *dict, PyObject *key) {
        PyObject *value = NULL;
    #ifdef Py_GIL_DISABLED
        if (PyDict_GetItemRef(dict, key, &value) < 0) return NULL;
    #else
        value = PyDict_GetItemWithError(dict, key);
        if (value == NULL && PyErr_Occurred() != NULL) return NULL;
        Py_XINCREF(value);
    #endif
        return value == NULL ? fp_none() : value;
    }
    """
    const size_t FP_STATES
    ctypedef struct fp_old:
        int64_t since
        fp_core *core
        uint32_t index
    size_t fp_oldest_add(fp_core *, fp_old *, size_t *, size_t)
    int64_t fp_held_by(fp_core *, uintptr_t)
    void fp_count_more(fp_core *, fp_counts *, fp_counts *)
    size_t fp_busy(fp_core *, uintptr_t, int)
    object fp_dict_ref(dict, object)


cdef object refuse_unhashable(KeyedPool self, key):
    try:
        hash(key)
    except TypeError:
        raise TypeError(f"{self.label}: a key must be hashable, not {key!r:.80}") from None


@cython.no_gc_clear
cdef class KeyedPool(Owner):
    """KeyedPool(factory, *, max_total=..., max_per_key=..., max_idle_total=None,
        max_idle_per_key=None, close=None, check=None, reset=None, order="lifo", timeout=30.0,
        create_timeout=30.0, hook_timeout=5.0, max_creating=4, check_after=0.5, keepalive=None,
        idle_timeout=90.0, max_lifetime=1800.0, max_uses=None, max_waiting=None, leak_after=None,
        discard_on=..., on_create_error="raise", warn_unclosed=True, budget=None, name=None,
        clock=None)\n--\n
    A pool of resources for each key, a server's address for instance, under common limits.

    ``factory(key)`` makes one; with a coroutine function resources belong to event loops.  ``max_total`` bounds what is open in all, ``max_per_key`` what is open
    for one key, ``max_idle_total`` and ``max_idle_per_key`` what of it is kept while nobody uses it.
    Where a limit over all keys is reached, the resource idle longest of any key is closed.  A key with
    nothing open for which nobody waits is forgotten.  All options: docs/reference/keyed.md.
    """
    cdef dict cores  # by key, or (event loop, key); the manager's, under its lock

    def __init__(self, factory=None, *others, **options):
        if others:
            refuse_extra(self, "factory", (factory, *others))
        if self.c.manager != NULL:
            raise RuntimeError("a KeyedPool is initialised once")
        refuse_if_gevent_patched(self)
        self.cores, self.label = configure_keyed(self.core, factory, options)
        enlist(self)

    def __del__(self):
        if self.c.manager != NULL and not is_finalizing():
            manager_of(self.c, "close").on_collected()

    def lease(self, key, timeout=...):
        """``with pool.lease(key) as resource:`` - entering takes one of this key, the end gives it back.

        ``timeout``: seconds for all of it, default the pool's.  A block left with an exception that
        ``discard_on`` matches closes the resource.  Entered once.  Thread-safe, and for tasks with
        ``async with``; PoolTimeout, PoolClosed, PoolOverloaded, PoolDeadlock, or the factory's own
        exception.  TypeError at once for a key that cannot be hashed.
        """
        cdef KeyedLease lease = KeyedLease.__new__(KeyedLease)
        cdef fp_core *c = self.c
        manager_of(c, "lease")
        refuse_unhashable(self, key)
        fp_lease_init(&lease.of, c, fp_span(c) if timeout is UNSET else ns_of_timeout(c, timeout))
        lease.whole, lease.cores, lease.of_key = self.core, self.cores, key
        lease.label, lease.pool = self.label, self
        return lease

    def acquire(self, key, timeout=...):
        """Takes a resource of this key at once and returns its KeyedLease, for holds that no block can
        express.  ``lease.resource``, ``lease.release()``, ``lease.discard()``."""
        cdef KeyedLease lease = self.lease(key, timeout)
        keyed_enter(lease, fp_thread_token(), False)
        return lease

    # -- the rest asks the manager --

    def flush(self, key=..., *, idle_only=False, fail_waiters=False):
        """Retires every open resource, or those of one key: idle ones now, leased ones on return.
        ``idle_only``: those that are leased stay.  ``fail_waiters``: who waits for one of them now
        gets PoolInterrupted."""
        if key is UNSET:
            manager_of(self.c, "flush").flush(bool(idle_only), bool(fail_waiters))
        else:
            manager_of(self.c, "flush").flush_key(key, bool(idle_only), bool(fail_waiters))

    def check_idle(self):
        """Checks everything that is idle now, and waits for that; returns how many were closed, for
        the check or their age.  TypeError without a check hook; PoolClosed."""
        return manager_of(self.c, "check_idle").check_idle()

    def configure(self, **options):
        """Changes options at run time: those that need not be fixed, see docs/reference/keyed.md.  A TypeError or
        ValueError as of the constructor, and nothing is changed.  What is idle or leased keeps the
        ``max_lifetime`` with which it was opened."""
        manager_of(self.c, "configure").configure(options)

    def resize(self, max_total, /):
        """Changes ``max_total``, as ``configure`` does: what is open beyond it is closed when it is
        idle, the idle longest first, and what is leased when it comes back.  None: no limit.
        TypeError, or ValueError below 1 or below another limit that was given."""
        manager_of(self.c, "resize").configure({"max_total": max_total})

    def warm(self, key, n, timeout=...):
        """Opens resources of this key until ``n`` are open, ``max_per_key`` at most, and waits for
        them, at most ``timeout`` seconds, default the pool's; returns how many of the key are open.
        Under a limit over all keys it takes the place of what is idle of others.  PoolTimeout, or the
        factory's own exception.  With an async factory a TypeError: ``await pool.awarm(key, n)``."""
        refuse_unhashable(self, key)
        return manager_of(self.c, "warm").warm(
            key, n, None if timeout is UNSET else timeout, timeout is UNSET
        )

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

    def leases(self):
        """Who holds what: a list of ``Holder`` (resource, age in seconds, thread, stack if
        ``leak_after`` is on)."""
        return manager_of(self.c, "leases").leases()

    def stats(self):
        """An immutable ``KeyedStats`` snapshot: all keys together, and the sizes of each."""
        return manager_of(self.c, "stats").stats()

    def close(self, timeout=5.0):
        """Refuses new work, wakes every waiter, closes what is idle, waits up to ``timeout`` seconds
        for what is lent, but not to blocks of the calling thread; True when all is closed.  What is
        still leased is closed when it comes back.  Idempotent, from any thread."""
        return manager_of(self.c, "close").close(timeout)

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
        return (
            f"<KeyedPool {self.label!r}: {n['keys']} keys, {n['idle']} idle, {n['leased']} leased, "
            f"{n['open']} open of {n['maxsize'] or 'unbounded'}{', closed' if self.closed else ''}>"
        )


cdef class KeyedLease(Lease):
    """KeyedLease()\n--\n
    The right to one resource of a key: made by ``KeyedPool.lease`` and ``KeyedPool.acquire``; see
    ``Lease``.  ``key``: what it is of."""
    cdef Core whole          # of the pool, which lends nothing; these four are written once
    cdef dict cores          # of the pool, by key; with an async factory by (event loop, key)
    cdef object of_key
    cdef object label        # of the pool
    cdef KeyedPool pool      # which lives as long as this is not entered; whoever enters it drops it

    def __enter__(self):
        return keyed_enter(self, fp_thread_token(), True)

    @property
    def key(self):
        """What the resource is of."""
        return self.of_key

    @cython.always_allow_keywords(False)
    def _manager(self):
        """The manager of the whole pool."""
        return keyed_manager(self)

    @cython.always_allow_keywords(False)
    def _guard_for(self, Core core not None, SlotGuard guard):
        """The guard to go on with, for this core."""
        return slot_guard_of(core.c, NULL) if guard is None else guard

    @cython.always_allow_keywords(False)
    def _entered(self):
        """It holds a resource, and the pool no more."""
        self.pool = None

    def __repr__(self):
        from fastpool._reports import shown
        of = f"{self.label!r}, key {shown(self.of_key, 60)}"
        if fp_lease_is_held(&self.of):  # the name of a key's pool ends in the key
            of = lease_name(&self.of)
        return handle_shown(self, of, &self.of)


cdef object keyed_manager(KeyedLease self):
    # of the very pool that made it: a block of its own, and a core that is held, are no other's
    return manager_at(self.whole.c, 0, "lease")


# The core of a key is forgotten when nothing is open, nobody waits and nobody is on the way: it is
# closed then, so whoever has just found it takes nothing there and comes to the slow path.  That one
# pins the key, or has it made anew.  The core is held meanwhile: its block is no other's.

cdef inline object keyed_enter(KeyedLease self, uintptr_t me, bint block):
    cdef fp_slot *due = NULL
    cdef fp_slot *slot = NULL
    if fp_lease_state(&self.of) != FP_LEASE_FRESH:
        return lease_again(self, me)
    if self.whole.c.sharded:
        keyed_manager(self).refuse_threads()
    core = fp_dict_ref(self.cores, self.of_key)
    if core is not None:
        slot = fp_pool_hit((<Core>core).c, &due)
    if slot == NULL:
        return keyed_wait(self, core, due, me, block)
    resource = lease_hold(self, (<Core>core).c, fp_id_of((<Core>core).c), slot, me, block)
    self.pool = None
    return resource


cdef object keyed_wait(KeyedLease self, object core, fp_slot *due, uintptr_t me, bint block):
    cdef fp_core *c = NULL if due == NULL else (<Core>core).c
    cdef uint64_t generation = 0 if due == NULL else fp_slot_generation(due)
    try:
        key_pool = keyed_manager(self).pin(self.of_key)
    except BaseException:
        if due != NULL:
            slot_drop(c, due, generation)
        raise
    resource = None
    try:
        core = key_pool.core
        c = (<Core?>core).c
        resource = lease_hold(
            self, c, fp_id_of(c), pool_lend(c, fp_id_of(c), self.of.timeout_ns, due), me, block
        )
        self.pool = None
    finally:
        keyed_unpin(self, key_pool, resource is not None)
    return resource


cdef object keyed_unpin(KeyedLease self, object key_pool, bint entered):
    """After it was entered: then what this raises, a signal handler's say, leaves no slot behind."""
    try:
        key_pool.unpin()
    except BaseException:
        if entered and fp_lease_end(&self.of, FP_LEASE_RELEASED):
            slot_drop(fp_lease_core(&self.of), self.of.slot, self.of.generation)
        raise


def keyed_lease_hit(KeyedLease lease not None, bint block):
    """``__aenter__`` at once: the resource; a SlotGuard with a slot that is due; or MISS."""
    cdef fp_core *c
    cdef fp_slot *due = NULL
    cdef fp_slot *slot
    if fp_lease_state(&lease.of) != FP_LEASE_FRESH:
        return lease_again(lease, fp_task_token())
    key = (running_loop(), lease.of_key) if lease.whole.c.sharded else lease.of_key
    core = fp_dict_ref(lease.cores, key)
    if core is None:
        return MISS
    c = (<Core>core).c
    slot = fp_pool_hit(c, &due)
    if slot != NULL:
        resource = lease_hold(lease, c, fp_id_of(c), slot, fp_task_token(), block)
        lease.pool = None
        return resource
    return MISS if due == NULL else slot_guard_of(c, due)


def add_keyed_async_methods(dict pool_methods, dict lease_methods):
    """The async methods."""
    fp_add_methods(<PyTypeObject *>KeyedPool, pool_methods)
    fp_add_methods(<PyTypeObject *>KeyedLease, lease_methods)


# ---- Over all keys: under the manager's lock, so that none is forgotten meanwhile -----------------
#
# Others may be added: by a finaliser in this very thread, which has the lock, or a key's own
# `__hash__`. So each goes over a copy.

def managers_of(dict cores):
    """The managers of these cores that are still there."""
    found = [fp_manager((<Core?>core).c, 0) for core in PyDict_Values(cores)]
    return [manager for manager in found if manager is not None]


def oldest_idle(dict cores, size_t most):
    """(how many are idle, [(manager, slot), ...] of the ``most``, up to 16, idle longest): of keys for
    which nobody waits, or is about to."""
    cdef fp_old oldest[16]
    cdef size_t n = 0, idle = 0
    most = min(most, <size_t>16)
    for core in PyDict_Values(cores):
        idle += fp_oldest_add((<Core?>core).c, oldest, &n, most)
    found = [
        (fp_manager(oldest[i].core, 0), number_of(fp_slots_at(&oldest[i].core.slots, oldest[i].index)))
        for i in range(n)
    ]
    return idle, [pair for pair in found if pair[0] is not None]  # None: the pool was collected


def all_held_by(dict cores, uintptr_t holder):
    """How many are open, if this thread or task holds all of them in its own blocks; else 0."""
    cdef int64_t all_held = 0, held
    for core in PyDict_Values(cores):
        held = fp_held_by((<Core?>core).c, holder)
        if held < 0:
            return 0
        all_held += held
    return all_held


def busy(dict cores, uintptr_t holder, bint lent=False):
    """How many are open but neither idle nor lent to blocks of this thread or task."""
    cdef size_t n = 0
    for core in PyDict_Values(cores):
        n += fp_busy((<Core?>core).c, holder, lent)
    return n


cdef class Counted:
    """What the cores of keys that are forgotten have counted."""
    cdef fp_counts n

    def add(self, Core core not None):
        cdef fp_counts n
        fp_count_more(core.c, &n, &self.n)

    def add_gone(self, Core core not None):
        """Likewise of an event loop that is closed: what its hooks had in hand went with it, and is
        counted as closed, for "loop"; what was being made never was."""
        cdef fp_counts n
        fp_count_more(core.c, &n, &self.n)
        self.n.closed_for[CLOSED_FOR.index("loop")] += n.by_state[FP_CHECKING] + n.by_state[FP_CLOSING]
        self.n.open -= n.open
        self.n.waiting -= n.waiting
        self.n.leases -= n.leases
        self.n.draining -= n.draining
        if n.open != 0:
            for state in range(FP_STATES):
                self.n.by_state[state] -= n.by_state[state]

    def and_of(self, dict cores, bint shared=False):
        """(as ``Core.counts``, with that of these cores; (key, sizes) of those with which anything is
        going on: idle, leased, creating, checking, closing, open, waiting).  ``shared``: of a shared
        pool."""
        cdef fp_counts n, total = self.n
        cdef list sizes = []
        for key, core in PyDict_Items(cores):
            fp_count_more((<Core?>core).c, &n, &total)
            if n.open or n.waiting:
                sizes.append((key, (
                    n.by_state[FP_IDLE], n.by_state[FP_LEASED], n.by_state[FP_CREATING],
                    n.by_state[FP_CHECKING], n.by_state[FP_CLOSING], n.open, n.waiting,
                )))
        counts = counts_dict(&total)
        if shared:
            counts["leases"], counts["draining"] = total.leases, total.draining
        return counts, sizes

# KeyedPool: a core for each key, under common limits; and KeyedLease.

cdef extern from *:
    """
    #include "_keys.h"

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
    ctypedef struct fp_old:
        int64_t since
        fp_core *core
        uint32_t index
    size_t fp_oldest_add(fp_core *, fp_old *, size_t *, size_t)
    int64_t fp_held_by(fp_core *, uintptr_t)
    void fp_count_more(fp_core *, fp_counts *, fp_counts *)
    size_t fp_busy(fp_core *, uintptr_t, int)
    object fp_dict_ref(dict, object)


@cython.no_gc_clear
cdef class KeyedPool(Owner):
    """KeyedPool(factory, *, max_total=..., max_per_key=..., max_idle_total=None,
        max_idle_per_key=None, close=None, check=None, reset=None, order="lifo", timeout=30.0,
        create_timeout=30.0, hook_timeout=5.0, max_creating=4, check_after=0.5, keepalive=None,
        idle_timeout=90.0, max_lifetime=1800.0, max_uses=None, max_waiting=None, leak_after=None,
        discard_on=..., name=None, clock=None)\n--\n
    A pool of resources for each key, a server's address for instance, under common limits.

    ``factory(key)`` makes one.  ``max_total`` bounds what is open in all, ``max_per_key`` what is open
    for one key, ``max_idle_total`` and ``max_idle_per_key`` what of it is kept while nobody uses it.
    Where a limit over all keys is reached, the resource idle longest of any key is closed.  A key with
    nothing open for which nobody waits is forgotten.  All options: docs/reference/keyed.md.
    """
    cdef dict cores  # by key; the manager's, under its lock

    def __init__(self, factory=None, *others, **options):
        if others:
            refuse_extra(self, "factory", (factory, *others))
        if self.c.manager != NULL:
            raise RuntimeError("a KeyedPool is initialised once")
        mind_gevent(self)
        self.cores, self.label = configure_keyed(self.core, factory, options)

    def __del__(self):
        if self.c.manager != NULL and not is_finalizing():
            (<object>self.c.manager).abandoned()

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
        try:
            hash(key)
        except TypeError:
            raise TypeError(f"{self.label}: a key must be hashable, not {key!r:.80}") from None
        lease.of.c = c
        lease.of.id = fp_id_of(c)
        lease.of.span = c.span if timeout is UNSET else span_of(c, timeout)
        lease.pool = self
        lease.of_key = key
        return lease

    def acquire(self, key, timeout=...):
        """Takes a resource of this key at once and returns its KeyedLease, for holds that no block can
        express.  ``lease.resource``, ``lease.release()``, ``lease.discard()``."""
        cdef KeyedLease lease = self.lease(key, timeout)
        keyed_take(lease)
        return lease

    # -- the rest asks the manager --

    def flush(self, key=...):
        """Retires every open resource, or those of one key: idle ones now, leased ones on return."""
        if key is UNSET:
            manager_of(self.c, "flush").flush()
        else:
            manager_of(self.c, "flush").flush_key(key)

    def suspend(self):
        """Leases wait until ``resume``; returns work as ever."""
        manager_of(self.c, "suspend").suspend()

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
    cdef KeyedPool pool      # until it is entered
    cdef Core core           # of the key; held, so that its block is no other key's meanwhile
    cdef object of_key

    def __init__(self):
        raise TypeError("leases are made by KeyedPool.lease() and KeyedPool.acquire()")

    def __enter__(self):
        if self.of.state != FP_LEASE_FRESH:
            return lease_again(self, fp_thread_token())
        keyed_take(self)
        fp_slot_own(self.of.slot, fp_thread_token() | 1)
        return fp_resource(self.of.slot)

    @property
    def key(self):
        """What the resource is of."""
        return self.of_key

    @cython.always_allow_keywords(False)
    def _manager(self):
        """The manager of the whole pool."""
        return manager_of(keyed_pool(self).c, "lease")

    @cython.always_allow_keywords(False)
    def _turn(self, Core core, Hand hand):
        """Has it wait in the line of this core; the hand to go on with."""
        keyed_turn(self, core)
        return hand_of(core.c, NULL) if hand is None else hand

    @cython.always_allow_keywords(False)
    def _entered(self):
        """It holds a resource, and the pool no more."""
        self.pool = None

    def __repr__(self):
        from fastpool._notices import shown
        pool = self.pool
        of = lease_name(self) if pool is None else repr((<KeyedPool>pool).label)
        if pool is not None or of == "a pool":  # the name of a key's pool ends in the key
            of += f", key {shown(self.of_key, 60)}"
        return handle_shown(self, of, self.of.state, lease_holds(self))


cdef KeyedPool keyed_pool(KeyedLease self):
    """The pool of a lease that is not entered."""
    pool = self.pool
    if pool is None:  # another thread or task is faster
        from fastpool.errors import PoolError
        raise PoolError(lease_pool(self), ENTERED)
    return pool


cdef inline void keyed_turn(KeyedLease self, Core core) noexcept:
    self.core = core
    self.of.c = core.c
    self.of.id = fp_id_of(core.c)


# The core of a key is forgotten when nothing is open, nobody waits and nobody is on the way: it is
# closed then, so whoever has just found it takes nothing there and comes to the slow path.  That one
# pins the key, or has it made anew.

cdef inline bint keyed_hit(KeyedLease self, fp_slot **due) except -1:
    core = fp_dict_ref(keyed_pool(self).cores, self.of_key)
    if core is None:
        return False
    keyed_turn(self, <Core>core)
    return fp_lease_enter(&self.of, due) != 0


cdef int keyed_take(KeyedLease self) except -1:
    cdef fp_slot *due = NULL
    if not keyed_hit(self, &due):
        keyed_wait(self, due)
    self.pool = None
    return 0


cdef object keyed_wait(KeyedLease self, fp_slot *due):
    try:
        branch = manager_of(keyed_pool(self).c, "lease").pin(self.of_key)
    except BaseException:
        if due != NULL:
            slot_drop(self.of.c, due)
        raise
    try:
        keyed_turn(self, <Core?>branch.core)
        lease_lend(&self.of, due)
    finally:
        branch.unpin()


def keyed_lease_hit(KeyedLease lease, bint block):
    """``__aenter__`` at once: the resource; a Hand with a slot that is due; or MISS."""
    cdef fp_lease *l = &lease.of
    cdef fp_slot *due = NULL
    if l.state != FP_LEASE_FRESH:
        return lease_again(lease, fp_task_token())
    if keyed_hit(lease, &due):
        lease.pool = None
        fp_slot_own(l.slot, fp_task_token() | (1 if block else 0))
        return fp_resource(l.slot)
    return MISS if due == NULL else hand_of(l.c, due)


def add_keyed_faces(dict pool_methods, dict lease_methods):
    """The faces for tasks."""
    fp_add_methods(<PyTypeObject *>KeyedPool, pool_methods)
    fp_add_methods(<PyTypeObject *>KeyedLease, lease_methods)


# ---- Over all keys: under the manager's lock, so that no core comes or goes meanwhile ------------

def oldest_idle(dict cores, size_t most):
    """(how many are idle, [(manager, slot), ...] of the ``most``, up to 16, idle longest): of keys for
    which nobody waits, or is about to."""
    cdef fp_old oldest[16]
    cdef size_t n = 0, idle = 0
    most = min(most, <size_t>16)
    for core in cores.values():
        idle += fp_oldest_add((<Core?>core).c, oldest, &n, most)
    return idle, [
        (<object>oldest[i].core.manager, oldest[i].index)
        for i in range(n) if oldest[i].core.manager != NULL  # else the pool was collected
    ]


def all_held_by(dict cores, uintptr_t holder):
    """How many are open, if this thread or task holds all of them in its own blocks; else 0."""
    cdef int64_t all_held = 0, held
    for core in cores.values():
        held = fp_held_by((<Core?>core).c, holder)
        if held < 0:
            return 0
        all_held += held
    return all_held


def busy(dict cores, uintptr_t holder, bint lent=False):
    """How many are open but neither idle nor lent to blocks of this thread or task."""
    cdef size_t n = 0
    for core in cores.values():
        n += fp_busy((<Core?>core).c, holder, lent)
    return n


cdef class Counted:
    """What the cores of keys that are forgotten have counted."""
    cdef fp_counts n

    def add(self, Core core):
        cdef fp_counts n
        fp_count_more(core.c, &n, &self.n)

    def and_of(self, dict cores):
        """(as ``Core.counts``, with that of these cores; by key, the sizes of those with which anything
        is going on: idle, leased, creating, checking, closing, open, waiting)"""
        cdef fp_counts n, total = self.n
        cdef dict sizes = {}
        for key, core in cores.items():
            fp_count_more((<Core?>core).c, &n, &total)
            if n.open or n.waiting:
                sizes[key] = (
                    n.by_state[FP_IDLE], n.by_state[FP_LEASED], n.by_state[FP_CREATING],
                    n.by_state[FP_CHECKING], n.by_state[FP_CLOSING], n.open, n.waiting,
                )
        return counts_dict(&total), sizes

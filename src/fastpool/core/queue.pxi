# Queue use: Queue and LifoQueue, and what FastPool shares with them.

# ---- What it raises, looked up when raised ------------------------------------------------------

cdef object raise_queue(str name, fp_core *waited=NULL):
    import queue
    kind = getattr(queue, name, None)
    if kind is None:  # ShutDown before Python 3.13
        from fastpool.errors import ShutDown as kind
    error = kind()
    if waited != NULL:
        note_wait(waited, error)
    raise error


# ``waited``: of a thread that has waited in vain.
cdef object raise_outcome(int state, str empty, fp_core *waited=NULL):
    if state == FP_WAITING or state == FP_EXPIRED:
        raise_queue(empty, waited)
    elif state == FP_REFUSED:
        raise_queue("ShutDown")
    elif state == FP_OVERLOADED:
        from fastpool.errors import PoolOverloaded
        raise PoolOverloaded("queue", "more than max_waiting callers would wait")
    raise MemoryError


# ---- What waits -----------------------------------------------------------------------------------

cdef object queue_get_slow(fp_core *c, int64_t timeout_ns):
    cdef void *item = NULL
    cdef int interrupted, state
    state = fp_queue_get_slow(c, timeout_ns, &item, &interrupted)
    if interrupted:
        try:
            return fp_pending()
        finally:
            if state == FP_GRANTED:
                queue_return(c, item)
    if state == FP_GRANTED:
        return fp_steal(item)
    return raise_outcome(state, "Empty", NULL if timeout_ns == 0 else c)


# An item was granted to one who does not get it: back to where it came from; or dropped, and counted as
# done, as all that was left when the queue was shut down at once.
cdef object queue_return(fp_core *c, void *item):
    if fp_queue_put_back(c, item):
        return
    fp_queue_finish(c)
    Py_DECREF(<object>item)


cdef object queue_put_slow(fp_core *c, object item, int64_t timeout_ns):
    cdef int interrupted, state
    Py_INCREF(item)
    state = fp_queue_put_slow(c, <void *>item, timeout_ns, &interrupted)
    if state != FP_GRANTED:
        Py_DECREF(item)
    if interrupted:
        return fp_pending()
    if state == FP_GRANTED:
        return None
    return raise_outcome(state, "Full", NULL if timeout_ns == 0 else c)


cdef inline object queue_put(fp_core *c, object item, object block, object timeout):
    if timeout is not None:
        wait_ns(c, block, timeout)    # a bad one is an error even if nobody has to wait
    if fp_queue_put_new(c, <void *>item):
        return None
    return queue_put_slow(c, item, wait_ns(c, block, timeout))


# ---- The types ------------------------------------------------------------------------------------

cdef str NO_SUCH = (
    "{} has no {!r}: its ring is guarded by the core, not by a Python lock, and cannot be overridden "
    "piecewise; use queue.Queue from the standard library where you need that"
)
cdef tuple UNSHARED = ("mutex", "not_empty", "not_full", "all_tasks_done", "_init", "_qsize", "_put",
                       "_get")


cdef class Owner:
    """Who owns a block: all pools and queues."""
    cdef fp_core *c
    cdef Core core
    cdef object size   # maxsize as it was given
    cdef object label  # name
    cdef object __weakref__

    def __cinit__(self, *args, **options):
        self.core = Core()
        self.c = self.core.c

    def __reduce__(self):
        return refuse_copy(self, self.label)

    @classmethod
    def __class_getitem__(cls, item):
        return generic_alias(cls, item)


# Read and assigned by several threads: under the lock the reference is one of the reader's own before
# it can be dropped, which is done after that.

cdef object size_read(Owner self):
    fp_lock_take(&self.c.lock)
    size = self.size
    fp_lock_drop(&self.c.lock)
    return size


cdef object size_write(Owner self, object size):
    fp_lock_take(&self.c.lock)
    before, self.size = self.size, size
    fp_lock_drop(&self.c.lock)
    return before


cdef class Store(Owner):
    """What the queue methods of Queue, LifoQueue and FastPool have in common; all of it cold."""

    def __cinit__(self, *args, **options):
        for name in UNSHARED:
            if getattr(type(self), name, None) is not getattr(Store, name, None):
                raise TypeError(NO_SUCH.format(type(self).__name__, name))

    def qsize(self):
        """Items in the queue, or idle resources in the pool, at some instant of the call."""
        if self.c.use == FP_POOL:
            return manager_of(self.c, "qsize").sizes()["idle"]
        return locked_size(self.c, &self.c.items.count)

    def empty(self):
        """Whether ``qsize()`` is 0."""
        return self.qsize() == 0

    def full(self):
        """Whether ``maxsize`` is bounded and reached."""
        return self.qsize() >= self.c.limit

    @property
    def maxsize(self):
        """Most items held, or resources open; 0 is no bound.  Assignable: a larger bound lets
        waiting putters in, a smaller one takes effect as items leave."""
        return size_read(self)

    @maxsize.setter
    def maxsize(self, value):
        self._resize(value)

    def _resize(self, value):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"maxsize must be an int, not {value!r}")
        size_write(self, value)
        fp_lock_take(&self.c.lock)
        self.c.limit = <size_t>-1 if value <= 0 else <size_t>value
        fp_dispatch(self.c)
        fp_lock_drop(&self.c.lock)

    @property
    def queue(self):
        """The items, the oldest first: a live ``QueueView``.  In pool use a list of what is idle."""
        if self.c.use == FP_POOL:
            return manager_of(self.c, "queue").idle()
        return view_of(self.core)

    @property
    def unfinished_tasks(self):
        """Items put for which ``task_done`` has not been called yet."""
        return locked_size(self.c, &self.c.unfinished)

    def task_done(self):
        """One item got earlier is dealt with.  ValueError if called more often than items were
        put.  The call for the last one ends every ``join``."""
        if fp_queue_finish(self.c) == 0:
            raise ValueError("task_done() called too many times")

    def join(self):
        """Waits until ``task_done`` was called for every item that was put."""
        cdef int interrupted
        cdef int state = fp_queue_join(self.c, &interrupted)
        if interrupted:
            return fp_pending()
        if state == FP_MEMORY:
            raise MemoryError

    def shutdown(self, immediate=False):
        """Puts raise ShutDown from now on, gets do so once it is empty.  ``immediate``: what is
        left is dropped, counted as done, and gets raise at once.  Ends every wait; idempotent."""
        cdef bint at_once = immediate  # asked once: it may be anything
        cdef fp_deque dropped
        fp_queue_shut(self.c, at_once, &dropped)
        while dropped.count != 0:
            Py_DECREF(<object>fp_deque_pop_head(&dropped))
        fp_free(dropped.cells)

    @property
    def is_shutdown(self):
        """Whether ``shutdown`` was called."""
        return (fp_gate(self.c) & (FP_SHUT | FP_CLOSED)) != 0

    @property
    def mutex(self):
        raise AttributeError(NO_SUCH.format(type(self).__name__, "mutex"))

    @property
    def not_empty(self):
        raise AttributeError(NO_SUCH.format(type(self).__name__, "not_empty"))

    @property
    def not_full(self):
        raise AttributeError(NO_SUCH.format(type(self).__name__, "not_full"))

    @property
    def all_tasks_done(self):
        raise AttributeError(NO_SUCH.format(type(self).__name__, "all_tasks_done"))


cdef int refuse_if_gevent_patched(Owner self) except -1:
    """At construction: RuntimeError where gevent has made greenlets of all threads."""
    global fp_gevent
    fp_gevent = "gevent" in sys.modules
    if "gevent.monkey" in sys.modules:
        from fastpool._gevent import refuse
        refuse(type(self).__name__)
    return 0


cdef inline object queue_sizes(Store self, object maxsize, bint lifo):
    refuse_if_gevent_patched(self)
    if not isinstance(maxsize, int):
        raise TypeError(f"maxsize must be an int, not {maxsize!r}")
    self.size = maxsize
    self.core.set_queue(lifo, False, INFINITY if maxsize <= 0 else maxsize, None, INFINITY)


@cython.no_gc_clear
cdef class Queue(Store):
    """Queue(maxsize=0)\n--\n
    Drop-in for ``queue.Queue``: first in, first out.

    ``maxsize`` <= 0 is unbounded.  Thread-safe, and re-entrant: a put from a finaliser or a signal
    handler inside a get is fine.  Raises the standard library's Empty, Full and ShutDown.
    """

    def __init__(self, maxsize=0):
        queue_sizes(self, maxsize, False)

    def get(self, block=True, timeout=None):
        """Removes and returns the next item.  Empty when there is none within ``timeout`` seconds
        (None: for ever), or at once with ``block=False``; ShutDown."""
        cdef void *item
        if timeout is not None:
            wait_ns(self.c, block, timeout)    # a bad one is an error even if nobody has to wait
        item = fp_queue_get(self.c, 0)
        if item != NULL:
            return fp_steal(item)
        return queue_get_slow(self.c, wait_ns(self.c, block, timeout))

    def put(self, item, block=True, timeout=None):
        """Adds an item.  Full when there is no room within ``timeout`` seconds; ShutDown."""
        return queue_put(self.c, item, block, timeout)

    @cython.always_allow_keywords(False)
    def get_nowait(self):
        """``get(block=False)``"""
        cdef void *item = fp_queue_get(self.c, 0)
        if item != NULL:
            return fp_steal(item)
        return queue_get_slow(self.c, 0)

    @cython.always_allow_keywords(False)
    def put_nowait(self, item, /):
        """``put(item, block=False)``"""
        if not fp_queue_put_new(self.c, <void *>item):
            queue_put_slow(self.c, item, 0)


@cython.no_gc_clear
cdef class LifoQueue(Store):
    """LifoQueue(maxsize=0)\n--\n
    Drop-in for ``queue.LifoQueue``: last in, first out.  Else as Queue."""

    def __init__(self, maxsize=0):
        queue_sizes(self, maxsize, True)

    def get(self, block=True, timeout=None):
        """Removes and returns the item put last; see ``Queue.get``."""
        cdef void *item
        if timeout is not None:
            wait_ns(self.c, block, timeout)
        item = fp_queue_get(self.c, 1)
        if item != NULL:
            return fp_steal(item)
        return queue_get_slow(self.c, wait_ns(self.c, block, timeout))

    def put(self, item, block=True, timeout=None):
        """Adds an item; see ``Queue.put``."""
        return queue_put(self.c, item, block, timeout)

    @cython.always_allow_keywords(False)
    def get_nowait(self):
        """``get(block=False)``"""
        cdef void *item = fp_queue_get(self.c, 1)
        if item != NULL:
            return fp_steal(item)
        return queue_get_slow(self.c, 0)

    @cython.always_allow_keywords(False)
    def put_nowait(self, item, /):
        """``put(item, block=False)``"""
        if not fp_queue_put_new(self.c, <void *>item):
            queue_put_slow(self.c, item, 0)

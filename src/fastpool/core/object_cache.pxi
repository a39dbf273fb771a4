# ObjectCache: Go's sync.Pool.  What it keeps is in object_cache.h; when it lets go, in cache.py.

cdef extern from *:
    """
    /* What the garbage collector has to know, as of Core in gc.h. */
    static traverseproc fp_cache_base_traverse;
    static inquiry fp_cache_base_clear;
    static size_t fp_cache_offset; /* of the fp_cache within the object */
    #define FP_CACHE_OF(self) ((fp_cache *)((char *)(self) + fp_cache_offset))

    /* The collector has stopped all other threads, or has the GIL, and nobody keeps a lock then. */
    static int fp_cache_traverse(PyObject *self, visitproc visit, void *arg) {
        FP_EACH_SHARD(FP_CACHE_OF(self), s) {
            Py_VISIT((PyObject *)fp_load(&s->last, relaxed));
            for (size_t i = 0; i < s->recent.count; i++)
                Py_VISIT((PyObject *)fp_deque_at(&s->recent, i));
            for (size_t i = 0; i < s->old.count; i++) Py_VISIT((PyObject *)fp_deque_at(&s->old, i));
        }
        return fp_cache_base_traverse(self, visit, arg);
    }

    static int fp_cache_clear(PyObject *self) {
        void *item;
        while ((item = fp_cache_drain(FP_CACHE_OF(self))) != NULL) Py_DECREF((PyObject *)item);
        return fp_cache_base_clear(self);
    }

    static int fp_install_cache(PyTypeObject *type, size_t offset) {
        fp_cache_offset = offset;
        fp_cache_base_traverse = type->tp_traverse;
        fp_cache_base_clear = type->tp_clear;
        type->tp_traverse = fp_cache_traverse;
        type->tp_clear = fp_cache_clear;
        if (fp_install_thread_index() == 0) return 0;
        PyErr_SetString(PyExc_MemoryError, "fastpool: no key for thread-local storage is left");
        return -1;
    }

    #define FP_AWAY (FP_ATOMIC ? FP_CACHE_LINE : 1)

    static int64_t fp_last_epoch(void) { return fp_load(&fp_caches_advanced, relaxed); }

    static void fp_release_item(void *item) { Py_DECREF((PyObject *)item); }

    static void fp_release_all(fp_deque *dropped) { /* each may run any code */
        while (dropped->count != 0) fp_release_item(fp_deque_pop_head(dropped));
        FP_FREE(dropped->cells);
    }

    /* 0: this collection went over the young objects only.  Free-threaded builds know no generations:
     * whatever they call it, they go over everything. */
    #ifdef Py_GIL_DISABLED
    #define fp_is_full(generation) 1
    #else
    #define fp_is_full(generation) ((generation) == 2)
    #endif
    """
    enum: FP_AWAY
    ctypedef struct fp_cache:
        pass
    void *fp_cache_get(fp_cache *)
    void *fp_cache_put(fp_cache *, void *, int *)
    void fp_cache_begin(fp_cache *)
    void fp_cache_end(fp_cache *, void (*)(void *))
    int fp_caches_advance(fp_deque *)
    int fp_caches_watched
    int64_t fp_last_epoch()
    void fp_release_item(void *)
    void fp_release_all(fp_deque *)
    bint fp_is_full(long)
    int fp_install_cache(PyTypeObject *, size_t) except -1

cdef object configure_cache = None  # these two are set by cache.py: what __init__ does, and
cdef object caches_in_use = None    # who is told that the time is to be watched from now on


def bind_cache(configure, in_use):
    """Tells the core who checks the arguments of an ObjectCache, and who watches the time; by
    ``fastpool.cache``."""
    global configure_cache, caches_in_use
    configure_cache, caches_in_use = configure, in_use


def advance_caches():
    """Ends an epoch of all caches: (what is dropped, to be let go by the caller; whether any cache is
    in use)."""
    cdef fp_deque dropped
    cdef list items = []
    cdef bint used = fp_caches_advance(&dropped)
    try:
        while dropped.count != 0:
            items.append(fp_steal(fp_deque_pop_head(&dropped)))
    finally:
        fp_release_all(&dropped)
    return items, used


def caches_advanced():
    """When the last epoch of the caches ended: seconds on ``time.monotonic()``."""
    return fp_last_epoch() * 1e-9


def caches_watched():
    """Whether anybody has been told to watch the time, and not been told to stop."""
    return fp_caches_watched != 0


def collected(str phase, dict info):
    """For ``gc.callbacks``: a full collection ends an epoch."""
    cdef fp_deque dropped
    if phase == "stop" and fp_is_full(info["generation"]):
        fp_caches_advance(&dropped)
        fp_release_all(&dropped)


cdef object cache_make(ObjectCache self):
    if self.new is None:
        raise ReferenceError(
            "this ObjectCache was not initialised, or the garbage collector has taken it apart"
        )
    made = self.new()
    if made is None:
        raise TypeError(f"ObjectCache: {self.new!r} returned None; it is to make an object")
    return made


cdef bint cache_reset(ObjectCache self, object item) except -1:
    """Whether the object may be kept."""
    try:
        self.hook(item)
        return True
    except Exception as error:
        from fastpool._reports import warn

        warn("%r: reset failed; the object is dropped", self, error=error)
        return False


cdef class ObjectCache:
    """ObjectCache(new, *, reset=None)\n--\n
    Keeps objects that cost something to make for use again, as Go's ``sync.Pool`` does.

    ``new()`` makes an object when none is kept; ``reset(object)`` is called by ``put``, and an
    object for which it raises an Exception is logged and dropped.  For what costs time but no more:
    buffers, encoders, compiled things.  For connections use FastPool: here nothing is ever closed,
    and objects vanish without notice.

    No bound and no size: what nobody asked for during two full garbage collections is dropped, or
    within two minutes without any.  Thread-safe, never blocks, re-entrant; also for tasks, of any
    loop.  A thread gets back what it put last, before what others put.  A forked child has what the
    parent had.
    """
    cdef char away[FP_AWAY]  # what all threads read apart from the reference count that they write
    cdef fp_cache cache
    cdef object new
    cdef object hook
    cdef object __weakref__

    def __cinit__(self, *args, **options):
        fp_cache_begin(&self.cache)

    def __init__(self, new=None, *others, reset=None):
        if others:
            refuse_extra(self, "new", (new, *others))
        if self.new is not None:
            raise RuntimeError("an ObjectCache is initialised once")
        configure_cache(new, reset)
        self.new, self.hook = new, reset

    def __dealloc__(self):
        fp_cache_end(&self.cache, fp_release_item)

    @cython.always_allow_keywords(False)
    def get(self):
        """An object that was put before, or else a new one.

        Never waits, and fails only if ``new`` raises.  Whose object it was does not matter, and
        neither does the order of the puts.
        """
        cdef void *item = fp_cache_get(&self.cache)
        if item != NULL:
            return fp_steal(item)
        return cache_make(self)

    @cython.always_allow_keywords(False)
    def put(self, item, /):
        """Keeps the object for a later ``get``; the caller uses it no more.

        Never refuses: any object will do, None is ignored, and so is the very object that this
        thread put last.  An object that is put twice otherwise is lent to two.
        """
        cdef int must_watch = 0
        cdef void *dropped
        if item is None:
            return
        if self.hook is not None and not cache_reset(self, item):
            return
        Py_INCREF(item)
        dropped = fp_cache_put(&self.cache, <void *>item, &must_watch)
        if dropped != NULL:
            Py_DECREF(<object>dropped)
        if must_watch:
            caches_in_use()

    def __repr__(self):
        from fastpool._reports import shown
        name = getattr(self.new, "__qualname__", None) or shown(self.new, 80)
        return f"<ObjectCache of {name}>"

    def __reduce__(self):
        return refuse_copy(self, None)

    @classmethod
    def __class_getitem__(cls, item):
        return generic_alias(cls, item)

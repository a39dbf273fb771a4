# cython: language_level=3, binding=False, always_allow_keywords=False
# cython: freethreading_compatible=True, embedsignature=False
"""Thin Python faces of candidates.h: `Type(items)`, `get()`, `put(item)`; Empty as in `queue`.

A face holds one pointer to a block of its own, so that the line with its reference count, which
every call through a shared object writes, holds nothing else that is hot. The stores move the
caller's reference in and out; the slots own their items for life and `get` gives a new reference.
No type here is known to the garbage collector: good enough for a benchmark, not for the core.
"""
from cpython.ref cimport Py_DECREF, Py_INCREF
from queue import Empty

cdef extern from *:
    """
    #include <Python.h>
    #if PY_VERSION_HEX >= 0x030D0000  /* before: the header's own choice, a pthread mutex */
    #define MUTEX PyMutex
    #define MUTEX_INIT(m) ((void)(m))  /* zeroed is unlocked */
    #define MUTEX_LOCK(m) PyMutex_Lock(m)
    #define MUTEX_UNLOCK(m) PyMutex_Unlock(m)
    #endif
    #define owned(item) ((PyObject *)(item))  /* the reference that the store held */
    #define borrowed(item) Py_NewRef((PyObject *)(item))
    """
    object owned(void *item)
    object borrowed(void *item)

cdef extern from "candidates.h" nogil:
    ctypedef struct ring "struct ring":
        pass
    ctypedef struct locked_ring "struct locked_ring":
        pass
    ctypedef struct stamped_ring "struct stamped_ring":
        pass
    ctypedef struct tagged_stack "struct tagged_stack":
        pass
    ctypedef struct slot "struct slot":
        void *item
    ctypedef struct table "struct table":
        size_t n
        slot *slot
    ctypedef struct slots "struct slots":
        table table
    ctypedef struct plain_slots "struct plain_slots":
        table table
    ctypedef struct box "struct box":
        pass
    ctypedef enum store "enum store":
        STAMPED_RING
        LOCKED_RING

    ring *ring_new(size_t n)
    void ring_free(ring *)
    bint ring_push(ring *, void *item)
    void *ring_pop_tail(ring *)
    void *ring_pop_head(ring *)

    locked_ring *locked_ring_new(size_t n)
    void locked_ring_free(locked_ring *)
    bint locked_ring_push(locked_ring *, void *item)
    void *locked_ring_pop_tail(locked_ring *)
    void *locked_ring_pop_head(locked_ring *)

    stamped_ring *stamped_ring_new(size_t n)
    void stamped_ring_free(stamped_ring *)
    bint stamped_ring_push(stamped_ring *, void *item)
    void *stamped_ring_pop(stamped_ring *)

    tagged_stack *tagged_stack_new(size_t n)
    void tagged_stack_free(tagged_stack *)
    bint tagged_stack_push(tagged_stack *, void *item)
    void *tagged_stack_pop(tagged_stack *)

    slots *slots_new(store, size_t n)
    void slots_free(slots *)
    void slots_add(slots *, store, void *item)
    bint slots_push(slots *, store, unsigned hints, void *item)
    void *slots_pop(slots *, store, unsigned hints)

    plain_slots *plain_slots_new(size_t n)
    void plain_slots_free(plain_slots *)
    void plain_slots_add(plain_slots *, void *item)
    bint plain_slots_push(plain_slots *, void *item)
    void *plain_slots_pop(plain_slots *)

    box *box_new(void *item)
    void *box_swap(box *, void *item)
    void free(void *)


cdef class PlainRing:
    """1. Growable, no lock: safe under the GIL only."""
    cdef ring *store

    def __cinit__(self, list items):
        self.store = ring_new(len(items))
        if self.store is NULL:
            raise MemoryError
        for item in items:
            self.put(item)

    def __dealloc__(self):
        cdef void *item
        if self.store is not NULL:
            while (item := ring_pop_tail(self.store)) is not NULL:
                owned(item)  # and dropped
            ring_free(self.store)

    def put(self, item):
        Py_INCREF(item)
        if not ring_push(self.store, <void *>item):
            Py_DECREF(item)
            raise MemoryError

    def get(self):
        cdef void *item = ring_pop_tail(self.store)
        if item is NULL:
            raise Empty
        return owned(item)

    def get_first(self):
        cdef void *item = ring_pop_head(self.store)
        if item is NULL:
            raise Empty
        return owned(item)


cdef class LockedRing:
    """2. The same ring behind one mutex."""
    cdef locked_ring *store

    def __cinit__(self, list items):
        self.store = locked_ring_new(len(items))
        if self.store is NULL:
            raise MemoryError
        for item in items:
            self.put(item)

    def __dealloc__(self):
        cdef void *item
        if self.store is not NULL:
            while (item := locked_ring_pop_tail(self.store)) is not NULL:
                owned(item)  # and dropped
            locked_ring_free(self.store)

    def put(self, item):
        Py_INCREF(item)
        if not locked_ring_push(self.store, <void *>item):
            Py_DECREF(item)
            raise MemoryError

    def get(self):
        cdef void *item = locked_ring_pop_tail(self.store)
        if item is NULL:
            raise Empty
        return owned(item)

    def get_first(self):
        cdef void *item = locked_ring_pop_head(self.store)
        if item is NULL:
            raise Empty
        return owned(item)


cdef class StampedRing:
    """4. Lock-free, FIFO."""
    cdef stamped_ring *store

    def __cinit__(self, list items):
        self.store = stamped_ring_new(len(items))
        if self.store is NULL:
            raise MemoryError
        for item in items:
            self.put(item)

    def __dealloc__(self):
        cdef void *item
        if self.store is not NULL:
            while (item := stamped_ring_pop(self.store)) is not NULL:
                owned(item)  # and dropped
            stamped_ring_free(self.store)

    def put(self, item):
        Py_INCREF(item)
        if not stamped_ring_push(self.store, <void *>item):
            Py_DECREF(item)
            raise MemoryError

    def get(self):
        cdef void *item = stamped_ring_pop(self.store)
        if item is NULL:
            raise Empty
        return owned(item)


cdef class TaggedStack:
    """5. Lock-free, LIFO."""
    cdef tagged_stack *store

    def __cinit__(self, list items):
        self.store = tagged_stack_new(len(items))
        if self.store is NULL:
            raise MemoryError
        for item in items:
            self.put(item)

    def __dealloc__(self):
        cdef void *item
        if self.store is not NULL:
            while (item := tagged_stack_pop(self.store)) is not NULL:
                owned(item)  # and dropped
            tagged_stack_free(self.store)

    def put(self, item):
        Py_INCREF(item)
        if not tagged_stack_push(self.store, <void *>item):
            Py_DECREF(item)
            raise MemoryError

    def get(self):
        cdef void *item = tagged_stack_pop(self.store)
        if item is NULL:
            raise Empty
        return owned(item)


cdef class SlotsOverStampedRing:
    """6. Slot words, one hint; a miss goes to the lock-free ring."""
    cdef slots *store

    def __cinit__(self, list items):
        self.store = slots_new(STAMPED_RING, len(items))
        if self.store is NULL:
            raise MemoryError
        for item in items:
            Py_INCREF(item)
            slots_add(self.store, STAMPED_RING, <void *>item)

    def __dealloc__(self):
        cdef size_t i
        if self.store is not NULL:
            for i in range(self.store.table.n):
                owned(self.store.table.slot[i].item)  # and dropped
            slots_free(self.store)

    def put(self, item):
        if not slots_push(self.store, STAMPED_RING, 1, <void *>item):
            raise ValueError("not lent by this pool")

    def get(self):
        cdef void *item = slots_pop(self.store, STAMPED_RING, 1)
        if item is NULL:
            raise Empty
        return borrowed(item)


cdef class SlotsOverLockedRing:
    """7. Slot words, one hint; a miss goes to the locked ring, LIFO."""
    cdef slots *store

    def __cinit__(self, list items):
        self.store = slots_new(LOCKED_RING, len(items))
        if self.store is NULL:
            raise MemoryError
        for item in items:
            Py_INCREF(item)
            slots_add(self.store, LOCKED_RING, <void *>item)

    def __dealloc__(self):
        cdef size_t i
        if self.store is not NULL:
            for i in range(self.store.table.n):
                owned(self.store.table.slot[i].item)  # and dropped
            slots_free(self.store)

    def put(self, item):
        if not slots_push(self.store, LOCKED_RING, 1, <void *>item):
            raise ValueError("not lent by this pool")

    def get(self):
        cdef void *item = slots_pop(self.store, LOCKED_RING, 1)
        if item is NULL:
            raise Empty
        return borrowed(item)


cdef class SlotsOverStampedRing4:
    """6 with four hints a thread."""
    cdef slots *store

    def __cinit__(self, list items):
        self.store = slots_new(STAMPED_RING, len(items))
        if self.store is NULL:
            raise MemoryError
        for item in items:
            Py_INCREF(item)
            slots_add(self.store, STAMPED_RING, <void *>item)

    def __dealloc__(self):
        cdef size_t i
        if self.store is not NULL:
            for i in range(self.store.table.n):
                owned(self.store.table.slot[i].item)  # and dropped
            slots_free(self.store)

    def put(self, item):
        if not slots_push(self.store, STAMPED_RING, 4, <void *>item):
            raise ValueError("not lent by this pool")

    def get(self):
        cdef void *item = slots_pop(self.store, STAMPED_RING, 4)
        if item is NULL:
            raise Empty
        return borrowed(item)


cdef class SlotsOverLockedRing4:
    """7 with four hints a thread."""
    cdef slots *store

    def __cinit__(self, list items):
        self.store = slots_new(LOCKED_RING, len(items))
        if self.store is NULL:
            raise MemoryError
        for item in items:
            Py_INCREF(item)
            slots_add(self.store, LOCKED_RING, <void *>item)

    def __dealloc__(self):
        cdef size_t i
        if self.store is not NULL:
            for i in range(self.store.table.n):
                owned(self.store.table.slot[i].item)  # and dropped
            slots_free(self.store)

    def put(self, item):
        if not slots_push(self.store, LOCKED_RING, 4, <void *>item):
            raise ValueError("not lent by this pool")

    def get(self):
        cdef void *item = slots_pop(self.store, LOCKED_RING, 4)
        if item is NULL:
            raise Empty
        return borrowed(item)


cdef class SlotsOverPlainRing:
    """8. Slots over the plain ring, LIFO: safe under the GIL only."""
    cdef plain_slots *store

    def __cinit__(self, list items):
        self.store = plain_slots_new(len(items))
        if self.store is NULL:
            raise MemoryError
        for item in items:
            Py_INCREF(item)
            plain_slots_add(self.store, <void *>item)

    def __dealloc__(self):
        cdef size_t i
        if self.store is not NULL:
            for i in range(self.store.table.n):
                owned(self.store.table.slot[i].item)  # and dropped
            plain_slots_free(self.store)

    def put(self, item):
        if not plain_slots_push(self.store, <void *>item):
            raise ValueError("not lent by this pool")

    def get(self):
        cdef void *item = plain_slots_pop(self.store)
        if item is NULL:
            raise Empty
        return borrowed(item)


cdef class Box:
    """One place: `swap(item)` leaves an item and takes what another thread left."""
    cdef box *box

    def __cinit__(self, item):
        self.box = box_new(<void *>item)
        if self.box is NULL:
            raise MemoryError
        Py_INCREF(item)

    def __dealloc__(self):
        if self.box is not NULL:
            owned(box_swap(self.box, NULL))  # and dropped
            free(self.box)

    def swap(self, item):
        Py_INCREF(item)
        return owned(box_swap(self.box, <void *>item))

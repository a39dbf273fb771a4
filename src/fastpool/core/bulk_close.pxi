# Closing several resources at once: all are out of reach before the first is closed, and whatever the
# hooks raise, all are closed.

cdef extern from *:
    """
    #include "core/bulk_close.h"
    """
    ctypedef struct fp_taken:
        uint32_t *slots
        size_t wanted, count, next
        void *item
    ctypedef int (*fp_taking)(fp_core *, fp_taken *)
    int fp_taken_alloc(fp_taken *, size_t)
    int fp_take_these(fp_core *, fp_taken *)
    int fp_take_all(fp_core *, fp_taken *)
    int fp_take_idle(fp_core *, fp_taken *)
    int fp_take_item(fp_core *, fp_taken *)
    int fp_take_unused(fp_core *, fp_taken *)
    int fp_take_surplus(fp_core *, fp_taken *)
    void *fp_let_go(fp_core *, uint32_t *)


@cython.no_gc_clear
cdef class Taken:
    """What was taken of one core.  No Python runs between taking and this, so nothing is lost when a
    signal handler raises; what nobody has dealt with when this goes is closed by the pool's threads."""
    cdef Core core
    cdef object close
    cdef fp_taken of
    cdef uint64_t id  # of the block; in a child that a hook has forked off it is another

    cdef object close_all(self, str why, list failures):
        """``close(index, why)`` for each; what that raises is added to the failures, and what it leaves
        undone the pool's threads do."""
        cdef fp_core *c = self.core.c
        cdef fp_slot *slot
        cdef uint64_t generation
        while self.of.next < self.of.count and fp_id_of(c) == self.id:
            slot = fp_slots_at(&c.slots, self.of.slots[self.of.next])
            generation = fp_slot_generation(slot)
            self.of.next += 1
            try:
                self.close(number_of(slot), why)
            except BaseException as failure:
                leave(c, self.id, slot, generation, why)
                if not is_childs(c, self.id, failure):
                    failures.append(failure)

    def __dealloc__(self):
        if self.of.slots != NULL:
            while self.of.next < self.of.count and fp_id_of(self.core.c) == self.id:
                rescue(
                    self.core.c, fp_slots_at(&self.core.c.slots, self.of.slots[self.of.next]),
                    "interrupted",
                )
                self.of.next += 1
            fp_free(self.of.slots)


cdef Taken nothing_of(Core core, object close):
    cdef Taken taken = Taken.__new__(Taken)
    taken.core, taken.close, taken.id = core, close, fp_id_of(core.c)
    return taken


cdef object end_taken(list everything, fp_taking take, str why):
    cdef list failures = []
    cdef Taken taken
    cdef int enough
    for taken in everything:
        fp_lock_take(&taken.core.c.lock)
        enough = take(taken.core.c, &taken.of)
        fp_check(taken.core.c)
        fp_lock_drop(&taken.core.c.lock)
        if not enough:
            raise MemoryError
    for taken in everything:
        taken.close_all(why, failures)
    if failures:
        from fastpool._reports import warn
        for failure in failures[1:]:
            warn("close failed", error=failure)
        raise failures[0]


def end_all(list parts, str why):
    """Retires all that is open in the cores of ``[(core, close), ...]``: what is idle is closed by
    ``close(index, why)``, what is lent when it comes back.  All of it is closed whatever that raises;
    then the first of it is raised."""
    end_taken([nothing_of(core, close) for core, close in parts], fp_take_all, why)


def end_idle(list parts, str why):
    """The same for what is idle in cores that are closed."""
    end_taken([nothing_of(core, close) for core, close in parts], fp_take_idle, why)


def end_item(Core core not None, close, item, str why):
    """The same for one resource; False: the core does not hold it."""
    cdef Taken taken = nothing_of(core, close)
    taken.of.item = <void *>item
    end_taken([taken], fp_take_item, why)
    return taken.of.item != NULL


def end_unused(list parts, str why):
    """The same for what is idle, or of a shared pool in no use, in cores that go on lending."""
    end_taken([nothing_of(core, close) for core, close in parts], fp_take_unused, why)


def end_surplus(Core core not None, close):
    """The same for what is open beyond the limit of this core, or its allowance."""
    end_taken([nothing_of(core, close)], fp_take_surplus, "surplus")


def end_these(Core core not None, close, list slots, str why):
    """The same for these slots of a shared pool."""
    cdef Taken taken = nothing_of(core, close)
    if not fp_taken_alloc(&taken.of, len(slots)):
        raise MemoryError
    for i, index in enumerate(slots):
        taken.of.slots[<size_t>i] = slot_at(core, index).index
    taken.of.wanted = len(slots)
    end_taken([taken], fp_take_these, why)


def let_go(Core core not None):
    """The pool is gone: what was taken by ``get`` can come back no more, and is its borrower's alone
    from here on.  Its resources may refer to the pool; nothing is closed."""
    cdef uint32_t number = 0
    cdef void *item
    if core.c.use != FP_POOL:
        return
    while True:
        fp_lock_take(&core.c.lock)
        item = fp_let_go(core.c, &number)
        fp_check(core.c)
        fp_lock_drop(&core.c.lock)
        if item == NULL:
            return
        Py_DECREF(<object>item)

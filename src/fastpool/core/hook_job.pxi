# A hook on a worker, while its caller waits for the end of it.

cdef class Job:
    """One call of a hook on a worker.  Ended, or given up by whom it was for: whoever comes second
    finds out, and deals with what is left; see ``ask``."""
    cdef object ended  # an Event
    cdef bint over, given_up  # under the lock of the core
    cdef public object result, error

    def __cinit__(self, ended=None):
        self.ended = ended

    def ask(self, SlotGuard guard not None, call, tuple args, timeout):
        """Has ``call(*args)`` made on the scheduler's thread, and the guarded slot with it; waits for
        the end of the job that this begins.  True: the slot is guarded again.  False: it has not ended
        after so many seconds, and whoever ends it has the slot; likewise if a signal handler raises."""
        cdef fp_core *c = guard.c
        cdef fp_slot *slot = guard.slot
        cdef uint64_t generation = guard.generation
        cdef bint over
        call_soon((0.0, call, args))
        guard.slot = NULL
        try:
            self.ended.wait(timeout)
        finally:
            fp_defer_begin()
            fp_lock_take(&c.lock)
            over = self.over
            self.given_up = not over
            if not over and guard.forks == fp_forks:
                fp_sharing_unborrow(c, slot)  # under one lock with that: then it is not lent yet
            fp_lock_drop(&c.lock)
            fp_defer_end()
            if over and guard.forks == fp_forks:
                slot_guard_set(guard, slot, generation)
        return over

    def answer(self, Core core not None):
        """The job has ended; False: it was given up, and the slot is the caller's."""
        fp_lock_take(&core.c.lock)
        self.over = not self.given_up
        cdef bint wanted = self.over
        fp_lock_drop(&core.c.lock)
        self.ended.set()
        return wanted

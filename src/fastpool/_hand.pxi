# A slot between the pool and its borrower: who has it in hand, and who gets it when a call ends early.

cdef class Hand:
    """What a borrower on the slow path has in hand: a slot, or a promise to come to the line.

    Changed in C together with what it stands for, so that a signal handler that raises anywhere in
    the manager's Python code cannot make a slot nobody's; see ``hand_drop``.
    """
    cdef fp_core *c
    cdef fp_slot *slot
    cdef uint64_t generation
    cdef bint coming
    cdef public uint64_t ticket  # shared pools: the manager's name of the lease; 0: it has none

    @property
    def index(self):
        """The number of the slot, -1 for none."""
        return -1 if self.slot == NULL else <int64_t>self.slot.index

    def drop(self):
        """See ``hand_drop``."""
        hand_drop(self)

    def move(self):
        """A new hand with the slot; this one is empty."""
        cdef Hand other = hand_of(self.c, self.slot)
        self.slot = NULL
        return other

    def receive(self, Hand other):
        """What the other had."""
        hand_take(self, other.slot)
        other.slot = NULL
        self.ticket = other.ticket

    def give(self):
        """The resource; it is the caller's to put back."""
        cdef fp_slot *slot
        if self.ticket != 0:
            manager_of(self.c, "get").taken_without_lease(self.ticket)
        slot, self.slot = self.slot, NULL
        if self.c.use == FP_POOL:
            fp_slot_own(slot, fp_task_token())
        return fp_resource(slot)


cdef class Job:
    """One call of a hook on a worker.  Ended, or given up by whom it was for: whoever comes second
    finds out, and deals with what is left; see ``Core.ask``."""
    cdef object ended  # an Event
    cdef bint over, given_up
    cdef public object result, error

    def __cinit__(self, ended=None):
        self.ended = ended


cdef Hand hand_of(fp_core *c, fp_slot *slot):
    cdef Hand hand = Hand.__new__(Hand)
    hand.c = c
    hand_take(hand, slot)
    return hand


cdef void hand_take(Hand self, fp_slot *slot) noexcept:
    self.slot = slot
    self.generation = 0 if slot == NULL else fp_slot_generation(slot)


cdef object hand_drop(Hand self):
    """The borrower does not get through: nobody else may be the poorer for it."""
    cdef fp_core *c = self.c
    cdef fp_slot *slot = self.slot
    cdef fp_waiter *failure
    self.slot = NULL
    if self.coming:
        self.coming = False
        fp_lock_take(&c.lock)
        c.coming -= 1
        failure = fp_spare_failure(c)
        fp_lock_drop(&c.lock)
        if failure != NULL:
            Py_DECREF(<object>failure.grant)
            fp_waiter_free(failure)
    if slot != NULL and fp_slot_generation(slot) == self.generation:
        slot_drop(c, slot)
    if self.ticket != 0 and c.manager != NULL:
        poke((0.0, (<object>c.manager).forget, (self.ticket,)))


cdef object slot_drop(fp_core *c, fp_slot *slot):
    """A LEASED or CHECKING slot that its owner is not going to use: back to the others, or closed
    when it may not be idle any more."""
    if c.use == FP_SHARING:
        return share_drop(c, slot)
    if fp_slot_state(slot) == FP_LEASED:
        if not fp_gate(c) & FP_CLOSED and fp_pool_publish(
            c, slot, FP_LEASED, fp_slot_word(slot)
        ):
            fp_dispatch_locked(c)
            if fp_gate(c) & FP_TELL and c.manager != NULL:
                poke((0.0, (<object>c.manager).returned, (True,)))
            # a close that came in between may have swept already: help it
            if not (fp_gate(c) & FP_CLOSED and fp_slot_move(slot, FP_IDLE, FP_CHECKING)):
                return
        else:
            fp_slot_move(slot, FP_LEASED, FP_CHECKING)
    rescue(c, slot.index, "interrupted")


cdef object rescue(fp_core *c, uint32_t index, str why):
    """Has a slot that is nobody's any more closed by the pool's own threads.  One C call, so it
    cannot be interrupted half way."""
    if c.manager != NULL:
        poke((0.0, (<object>c.manager).rescue, (index, why)))


cdef object leave(fp_core *c, fp_slot *slot, uint64_t generation, str why):
    """A call that had this slot CHECKING or CLOSING ends by an exception: if the slot is still that
    call's, others close it."""
    if fp_slot_generation(slot) == generation:
        if fp_slot_state(slot) == FP_CHECKING or fp_slot_state(slot) == FP_CLOSING:
            rescue(c, slot.index, why)


cdef int pool_wait(fp_core *c, int64_t span, bint asked, bint in_front,
                   fp_slot **slot) except -1:
    """fp_pool_wait with its errors raised."""
    cdef void *error = NULL
    cdef int interrupted
    cdef int state = fp_pool_wait(c, span, asked, in_front, slot, &error, &interrupted)
    if state == FP_FAILED:
        failure = fp_steal(error)
        if not interrupted:
            raise failure
    if interrupted:
        try:
            fp_pending()
        except BaseException:
            if slot[0] != NULL:  # granted while the handler ran
                slot_drop(c, slot[0])
            raise
    if state == FP_MEMORY:
        raise MemoryError
    return state

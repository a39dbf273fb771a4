# A slot between the pool and its borrower: who owns it, and who gets it when a call ends early.
#
# Where Python code has run since a slot was taken, it may be somebody else's: others may have given its
# resource back, wrongly, or a child of this process goes on with the call, whose table is a new one.
# So whoever keeps a slot over Python code keeps its generation, and the id of the block.

# The number of a slot, for Python code.  In a forked child it is another: those of the parent, which
# calls under way there have, name nothing.
cdef inline uint64_t number_of(fp_slot *slot) noexcept:
    return fp_forks << 32 | slot.index


cdef fp_slot *slot_at(Core core, uint64_t number) except NULL:
    if number >> 32 != fp_forks:
        from fastpool.errors import PoolError
        raise PoolError(
            "a pool", "this process was forked off inside the call, and what that is about is the parent's"
        )
    if not fp_slots_has(&core.c.slots, <uint32_t>number):
        raise IndexError(f"there is no slot {number}")
    return fp_slots_at(&core.c.slots, <uint32_t>number)


cdef class SlotGuard:
    """Owns a slot, or an announced wait, while a caller is on the slow path; ``drop`` undoes it.

    Changed in C together with what it stands for, so that a signal handler that raises anywhere in
    the manager's Python code cannot make a slot nobody's; see ``slot_guard_drop``.
    """
    cdef fp_core *c
    cdef uint64_t id  # of the pool, which may be gone when this is collected
    cdef fp_slot *slot
    cdef uint64_t generation
    cdef uint64_t forks  # of the process that has taken it
    cdef bint announced
    cdef public uint64_t ticket  # shared pools: the manager's name of the lease; 0: it has none

    def __dealloc__(self):
        """A task did not come to where it would be dropped: a signal handler has raised in between."""
        if (self.slot != NULL or self.announced) and fp_id_of(self.c) == self.id and not is_finalizing():
            slot_guard_drop(self)

    @property
    def index(self):
        """The number of the slot, -1 for none."""
        return -1 if self.slot == NULL else <int64_t>(self.forks << 32 | self.slot.index)

    def claim(self):
        """LEASED -> CHECKING; False: somebody has given it back wrongly, and it is guarded no more."""
        if slot_guard_leased(self) and fp_slot_move_own(
            self.slot, self.generation, FP_LEASED, FP_CHECKING
        ):
            return True
        self.slot = NULL
        return False

    def claim_idle(self, Core core not None, uint64_t index):
        """Takes this slot out of IDLE as CHECKING; False: it is not idle."""
        cdef fp_slot *slot = slot_at(core, index)
        if core.c.use == FP_SHARING:
            if not fp_sharing_claim(slot):
                return False
        elif not fp_end_idle(core.c, slot):
            return False
        slot_guard_set(self, slot, fp_slot_generation(slot))
        return True

    @property
    def use(self):
        """As ``Core.generation`` of the slot that it has."""
        return self.generation

    def leave(self):
        """What it has is somebody else's from here on."""
        self.slot = NULL

    def condemn(self, str why):
        """Has its slot, CHECKING, closed by the pool's own threads."""
        if self.forks == fp_forks:
            rescue(self.c, self.slot, why)
        self.slot = NULL

    def drop(self):
        """See ``slot_guard_drop``."""
        slot_guard_drop(self)

    def move(self):
        """A new guard with the slot; this one is empty."""
        cdef SlotGuard other = slot_guard_of(self.c, NULL)
        slot_guard_move(self, other)
        return other

    def receive(self, SlotGuard other not None):
        """What the other had."""
        slot_guard_move(other, self)
        self.ticket = other.ticket

    def give(self):
        """The resource; it is the caller's to put back."""
        cdef fp_slot *slot
        if self.ticket != 0:
            manager_of(self.c, "get").taken_without_lease(self.ticket)
        slot = slot_guard_take_out(self)
        if self.c.use == FP_POOL:
            fp_slot_own(slot, fp_task_token() | FP_BY_GET)
        return fp_resource(slot)


cdef SlotGuard slot_guard_of(fp_core *c, fp_slot *slot):
    """With a slot that was taken just now, or none."""
    cdef SlotGuard guard = SlotGuard.__new__(SlotGuard)
    guard.c, guard.id = c, fp_id_of(c)
    slot_guard_set(guard, slot, 0 if slot == NULL else fp_slot_generation(slot))
    return guard


cdef void slot_guard_set(SlotGuard self, fp_slot *slot, uint64_t generation) noexcept:
    self.slot, self.generation, self.forks = slot, generation, fp_forks


cdef void slot_guard_move(SlotGuard self, SlotGuard other) noexcept:
    other.slot, other.generation, other.forks = self.slot, self.generation, self.forks
    self.slot = NULL


cdef bint slot_guard_leased(SlotGuard self) noexcept:
    """Whether it has a slot that is lent still."""
    if self.slot == NULL or self.forks != fp_forks:
        return False
    return fp_slot_lent(self.c, self.slot, self.generation)


cdef bint slot_guard_announced(SlotGuard self) noexcept:
    """Whether it is counted among those who come to the queue; in a forked child none is."""
    return self.announced and self.forks == fp_forks


cdef str slot_guard_begin(SlotGuard self):
    """A grant is guarded: as ``Core.take``."""
    if not slot_guard_leased(self):
        self.slot = NULL
        return "stolen"
    return "due" if fp_begin(self.c, self.slot) else "fresh"


cdef fp_slot *slot_guard_take_out(SlotGuard self) except NULL:
    """Takes the slot out of it, for a task that has come to the end of its call."""
    cdef fp_slot *slot = self.slot
    if not slot_guard_leased(self):
        from fastpool.errors import PoolError
        raise PoolError(
            "a pool", "the resource was given back by another call, which did not hold it, just as it "
            "was being lent"
        )
    self.slot = NULL
    return slot


cdef object slot_guard_drop(SlotGuard self):
    """The borrower does not get through: nobody else may be the poorer for it."""
    cdef fp_core *c = self.c
    cdef fp_slot *slot = self.slot
    cdef fp_waiter *failure
    self.slot = NULL
    if self.forks != fp_forks:  # what it had is the parent's
        self.announced = False
        return
    if self.announced:
        self.announced = False
        fp_lock_take(&c.lock)
        c.arriving -= 1
        failure = fp_spare_failure(c)
        fp_lock_drop(&c.lock)
        if failure != NULL:
            Py_DECREF(<object>failure.grant)
            fp_waiter_free(failure)
    if slot != NULL:
        slot_drop(c, slot, self.generation)
    if self.ticket != 0:
        forget(c, self.ticket)


cdef object forget(fp_core *c, uint64_t ticket):
    """Nobody has what the manager knows under this name."""
    manager = fp_manager(c, 0)
    if ticket != 0 and manager is not None:
        call_soon((0.0, manager.forget, (ticket,)))


cdef object slot_drop(fp_core *c, fp_slot *slot, uint64_t generation):
    """A LEASED or CHECKING slot that its owner is not going to use: back to the others, or closed
    when it may not be idle any more."""
    if c.use == FP_SHARING:
        return share_drop(c, slot, generation)
    manager = fp_manager(c, 0)  # kept: with it go the block and its slots, once all is closed
    cdef uint64_t word = fp_slot_word(slot)
    if fp_slot_generation(slot) != generation:
        return
    if fp_slot_state(slot) == FP_CREATING:
        fp_lock_take(&c.lock)
        c.creating_in_caller -= 1
        fp_lock_drop(&c.lock)
    if fp_slot_state(slot) == FP_LEASED:
        if not fp_gate(c) & FP_CLOSED and fp_pool_publish(c, slot, FP_LEASED, word):
            fp_dispatch_locked(c)
            if fp_gate(c) & FP_NOTIFY:
                notify_manager_soon(c)
            # a close that came in between may have swept already: help it
            if not (fp_gate(c) & FP_CLOSED and fp_slot_move(slot, FP_IDLE, FP_CHECKING)):
                return
        elif not fp_slot_move_own(slot, generation, FP_LEASED, FP_CHECKING):
            return
    rescue(c, slot, "interrupted")


cdef object notify_manager_soon(fp_core *c):
    """On the scheduler's thread: what came back may be wanted elsewhere."""
    manager = fp_manager(c, 0)
    if manager is not None:
        call_soon((0.0, manager.on_return, (True,)))


cdef object rescue(fp_core *c, fp_slot *slot, str why):
    """Has a slot that is nobody's any more closed by the pool's own threads.  One C call, so it
    cannot be interrupted half way."""
    manager = fp_manager(c, 0)
    if manager is not None:
        call_soon((0.0, manager.rescue, (number_of(slot), why, fp_slot_generation(slot))))


cdef object leave(fp_core *c, uint64_t id, fp_slot *slot, uint64_t generation, str why):
    """A call that had this slot CHECKING or CLOSING ends by an exception: if the slot is still that
    call's, others close it.  ``id``: of the block then."""
    if fp_id_of(c) == id and fp_slot_generation(slot) == generation:
        if fp_slot_state(slot) == FP_CHECKING or fp_slot_state(slot) == FP_CLOSING:
            rescue(c, slot, why)


cdef bint is_childs(fp_core *c, uint64_t id, object failure) except -1:
    """Whether it says only that this is a child which was forked off inside a call, of a hook for
    instance: there nothing is to be given back.  ``id``: of the block before."""
    if fp_id_of(c) == id:
        return False
    from fastpool.errors import PoolError
    return isinstance(failure, PoolError)


cdef bint would_wait_for_itself(fp_core *c, uintptr_t me) except -1:
    """Whether the thread, to whom all is lent in blocks, is in these blocks still."""
    manager = fp_manager(c, 0)
    return manager is None or manager.would_wait_for_itself(me)


cdef int pool_wait(fp_core *c, int64_t timeout_ns, bint asked, bint in_front,
                   fp_slot **slot, uint64_t *generation) except -1:
    """fp_pool_wait with its errors raised.  A grant that was taken from the caller meanwhile is no
    slot."""
    cdef void *error = NULL
    cdef int interrupted
    cdef uintptr_t me = fp_thread_token()
    cdef int state = fp_pool_wait(
        c, me, timeout_ns, asked, in_front, slot, generation, &error, &interrupted
    )
    if state == FP_DEADLOCK and not would_wait_for_itself(c, me):
        state = fp_pool_wait(
            c, 0, timeout_ns, False, in_front, slot, generation, &error, &interrupted
        )
    if state == FP_FAILED:
        failure = fp_steal(error)
        if not interrupted:
            raise failure
    if interrupted:
        try:
            fp_pending()
        except BaseException:
            if slot[0] != NULL:  # granted while the handler ran
                slot_drop(c, slot[0], generation[0])
            raise
    if state == FP_MEMORY:
        raise MemoryError
    if slot[0] != NULL and not fp_slot_lent(c, slot[0], generation[0]):
        slot[0] = NULL
        return FP_STOLEN
    return state

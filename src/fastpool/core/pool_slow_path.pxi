# The slow paths of FastPool: a lease that has to wait, a return that its manager has to look at.
#
# ``id`` is that of the block as the caller has seen it: a block may go to another pool meanwhile.

cdef object manager_of(fp_core *c, str act):
    return manager_at(c, 0, act)


# While the block has this id; 0: any.
cdef object manager_at(fp_core *c, uint64_t id, str act):
    manager = fp_manager(c, id)
    if manager is not None:
        return manager
    if c.use == FP_QUEUE and (id == 0 or fp_id_of(c) == id):
        raise TypeError(
            f"{act}() needs a resource pool, and this FastPool is used as a queue: give it a "
            "factory or items="
        )
    from fastpool.errors import PoolClosed
    raise PoolClosed("a pool", f"{act}(): it is gone")


cdef inline object seconds_or_none(int64_t timeout_ns):
    return None if timeout_ns == FP_NEVER else timeout_ns * 1e-9


# A lease by the slow path: waits here when the pool is full, asks the manager for everything else.
# ``id``: of the block, as the caller has seen it.  No Python runs between the last look at the slot,
# which is lent to the caller, and the caller.
cdef fp_slot *pool_lend(
    fp_core *c, uint64_t id, int64_t timeout_ns, fp_slot *due, uint64_t *ticket=NULL
) except NULL:
    cdef fp_slot *slot = due
    cdef uint64_t generation = 0 if due == NULL else fp_slot_generation(due)
    cdef int64_t start = fp_clock_precise()
    cdef int state
    cdef object permit
    cdef SlotGuard guard = slot_guard_of(c, due)
    try:
        manager = manager_at(c, id, "get")  # kept: with it go the block and its slots
        while True:
            permit = None
            reason = "due" if slot != NULL else None
            if slot == NULL and not fp_gate(c) & FP_ASK_GET:
                try:
                    state = pool_wait(c, remaining_ns(timeout_ns, start), False, False, &slot, &generation)
                except Permit as granted:
                    permit, state = granted.args[0], FP_MAY_OPEN_AT_HEAD
                if slot != NULL:
                    if fp_begin(c, slot):
                        reason = "due"
                    elif not c.listened:
                        return slot
                    else:
                        reason = "fresh"
                    slot_guard_set(guard, slot, generation)
                else:
                    reason = REASONS.get(state)
            manager.acquire_slow(
                guard, reason, seconds_or_none(timeout_ns), (fp_clock_precise() - start) * 1e-9, permit
            )
            if ticket == NULL and guard.ticket != 0:
                manager.taken_without_lease(guard.ticket)
            if slot_guard_leased(guard):
                break
            # somebody has given it back who did not hold it, or this is a child of the process
            slot = NULL
            slot_guard_drop(guard)
            id = fp_id_of(c)
            guard = slot_guard_of(c, NULL)
    except BaseException as error:
        slot_guard_drop(guard)
        if timeout_ns != 0:
            from fastpool.errors import PoolTimeout
            if isinstance(error, PoolTimeout):
                note_wait(c, error)
        raise
    slot, guard.slot = guard.slot, NULL
    if ticket != NULL:
        ticket[0] = guard.ticket
    return slot


# Of a span that began then.
cdef int64_t remaining_ns(int64_t timeout_ns, int64_t start) noexcept:
    if timeout_ns == 0 or timeout_ns == FP_NEVER:
        return timeout_ns
    return max(<int64_t>0, start + timeout_ns - fp_clock_precise())


# A return by the slow path: with the exception that left the block, or to discard.  False: the slot is
# lent no more as it was in this generation.
cdef object pool_give_back(
    fp_core *c, fp_slot *slot, uint64_t generation, object error, bint discard
):
    cdef uint64_t id = fp_id_of(c)
    manager = pool_claim(c, slot, generation)
    if manager is None:
        return False
    try:
        if error is not None or discard or not reset_quickly(c, id, manager, slot):
            manager.give_back(number_of(slot), error, discard)
    except BaseException as failure:  # of a signal handler, or a reset hook
        return give_back_failed(c, id, slot, generation, failure)
    if fp_gate(c) & FP_USED:
        notify_manager(c)
    return True


# LEASED -> CHECKING; the manager, which is kept meanwhile, or None: it was not lent in this generation.
cdef object pool_claim(fp_core *c, fp_slot *slot, uint64_t generation):
    manager = fp_manager(c, 0)
    if manager is None or not fp_slot_move_own(slot, generation, FP_LEASED, FP_CHECKING):
        return None
    if slot.sampled > 0:
        fp_pool_sampled(c, slot)
    return manager


# The manager has raised on the way: others do the rest.  True: nothing has to be done, see is_childs.
cdef object give_back_failed(
    fp_core *c, uint64_t id, fp_slot *slot, uint64_t generation, object failure
):
    leave(c, id, slot, generation, "interrupted")
    if is_childs(c, id, failure):
        return True
    raise failure


cdef object pool_take_back(
    fp_core *c, fp_slot *slot, uint64_t generation, object resource, str act
):
    if slot == NULL or not pool_give_back(c, slot, generation, None, act == "discard"):
        manager_of(c, act).raise_misuse(act, resource)


# A CHECKING slot is idle from here on, unless so many are already: "surplus"; or "unfit".
cdef bint publish_slot(fp_core *c, fp_slot *slot) noexcept:
    """A CHECKING slot is idle from here on, and the queue is served; False: it is to be retired, or
    the pool is closed.  Under the lock, as a close sets its gate: what it is to sweep is idle by
    then, or refused here."""
    if fp_gate(c) & FP_CLOSED:
        return False
    fp_slot_own(slot, 0)
    if not fp_pool_publish(c, slot, FP_CHECKING, fp_slot_word(slot)):
        return False
    fp_dispatch(c)
    return True


cdef str core_keep(fp_core *c, fp_slot *slot, double most_idle, bint suspect):
    cdef size_t most = size_of(most_idle)
    cdef bint surplus, kept = False
    fp_defer_begin()
    fp_lock_take(&c.lock)
    # what callers wait for is none too many
    surplus = most_idle != INFINITY and fp_has_idle(c, most + c.getters.count + c.arriving)
    if not surplus and not fp_gate(c) & FP_CLOSED and fp_pool_end(c, slot):
        if suspect:
            fp_slot_suspect(slot)
        kept = publish_slot(c, slot)
    fp_lock_drop(&c.lock)
    fp_defer_end()
    if surplus:
        return "surplus"
    return None if kept else "unfit"


cdef object notify_manager(fp_core *c):
    return notify_manager_how(c, False)


cdef object notify_manager_how(fp_core *c, bint later):
    """The pool was closed while something was being returned, or that may be wanted elsewhere, or there
    are listeners.  It may be gone by now, or be another in the same block: that one looks in vain."""
    cdef int64_t used
    manager = fp_manager(c, 0)
    if manager is None:
        return
    try:
        if fp_gate(c) & FP_USED:
            used = fp_used_take(c)
            if used >= 0:
                manager.was_used(used * 1e-9)
            if c.use == FP_POOL and not fp_gate(c) & (FP_CLOSED | FP_NOTIFY | FP_ASK_PUT):
                return
        if later:
            manager.on_return(True)
        else:
            manager.on_return()
    except BaseException:  # a signal handler's: others may wait for what this was about
        notify_manager_soon(c)
        raise

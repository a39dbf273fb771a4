# The end of a resource: its close hook, called once and no more, whoever comes to it first; then its
# slot is free.

def begin_close(Core core not None, uint64_t index, use):
    """The right to call the close hook of a CLOSING slot's resource: once and no more, and in
    this use of the slot."""
    cdef fp_core *c = core.c
    cdef fp_slot *slot = slot_at(core, index)
    cdef uint64_t generation = use
    fp_lock_take(&c.lock)
    cdef bint first = (
        fp_slot_generation(slot) == generation
        and fp_slot_state(slot) == FP_CLOSING
        and fp_slot_hook(slot) >= 0
    )
    if first:
        fp_slot_set_hook(slot, FP_IN_HOOK)
    fp_lock_drop(&c.lock)
    return first


def close_resource(Core core not None, uint64_t index, hook, use):
    """Calls the close hook, if that was not done before: one call, which no signal handler can
    split.  False: another call of it is under way, or the slot is another's by now."""
    if begin_close(core, index, use):
        try:
            hook(core.item(index))
        finally:
            fp_slot_set_hook(slot_at(core, index), FP_HOOK_OVER)
    return core.is_ending(index, use)


def close_has_begun(Core core not None, uint64_t index, use):
    """Whether the close hook was called in this use of the slot, or that use is over."""
    cdef fp_slot *slot = slot_at(core, index)
    cdef uint64_t generation = use
    fp_lock_take(&core.c.lock)
    cdef bint begun = (
        fp_slot_generation(slot) != generation
        or fp_slot_state(slot) != FP_CLOSING
        or fp_slot_hook(slot) < 0
    )
    fp_lock_drop(&core.c.lock)
    return begun


cdef bint free_slot(Core core, fp_slot *slot, str why, generation) except -1:
    """As ``Core.free``."""
    cdef fp_core *c = core.c
    cdef void *item
    cdef size_t left
    cdef int number = -1 if why is None else CLOSED_FOR.index(why)
    cdef bint any_use = generation is None
    cdef uint64_t use = 0 if any_use else generation
    fp_lock_take(&c.lock)
    if not any_use and fp_slot_generation(slot) != use:
        fp_lock_drop(&c.lock)
        return False
    item = fp_load_item(slot)
    if fp_slot_state(slot) == FP_CREATING:
        c.creating -= 1
    if item != NULL:
        c.retired_uses += fp_slot_uses(c, slot)
    if number >= 0:
        c.closed_for[number] += 1
    fp_slots_forget(&c.slots, slot)
    fp_slots_release(&c.slots, slot)
    c.open -= 1
    left = c.open
    if left <= core.most_idle and core.most_idle != <size_t>-1:
        fp_gate_clear(c, FP_ASK_PUT)
    fp_check(c)
    fp_lock_drop(&c.lock)
    manager = fp_manager(c, 0)
    if manager is not None:
        call_soon((0.0, manager.slot_freed, (left,)))
    if item != NULL:
        Py_DECREF(<object>item)
    return True

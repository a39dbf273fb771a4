# Why resources of a shared pool go: what callers write into the manager's records, each step one call in
# C under its lock, so that no signal handler runs half-way.  ``reasons``: by slot, why it is being
# drained; ``renewing``: by slot, why it is to be replaced, which the core is told the number of.

cdef int is_gone(Core core, uint64_t index) except -1:
    cdef unsigned state = fp_slot_state(slot_at(core, index))
    return state == FP_FREE_SLOT or state == FP_CLOSING


cdef void set_renewing(Core core, size_t n) noexcept:
    """So many resources will take no more leases once another is open in their place, which may be
    opened beyond the limit."""
    fp_lock_take(&core.c.lock)
    core.c.renewing = n
    fp_lock_drop(&core.c.lock)


def will_go(Core core, dict reasons, dict renewing, list indices, str why):
    """They are to be closed as soon as they have no leases, but those that are closing already; how
    many."""
    cdef size_t noted = 0
    for index in indices:
        if not is_gone(core, index):
            reasons.setdefault(index, why)
            renewing.pop(index, None)
            noted += 1
    set_renewing(core, len(renewing))
    return noted


def has_gone(Core core, dict reasons, dict renewing, index):
    """The resource is being closed."""
    reasons.pop(index, None)
    is_renewed(core, renewing, index)


def will_renew(Core core, dict renewing, index, str why):
    """It is to be replaced; False: it goes as it is, and is replaced if need be."""
    if is_gone(core, index) or fp_slot_word(slot_at(core, index)) & FP_RETIRE:
        return False
    renewing.setdefault(index, why)
    set_renewing(core, len(renewing))
    return True


def is_renewed(Core core, dict renewing, index):
    """Why it was to be replaced, and is not any more; None: it was not."""
    why = renewing.pop(index, None)
    set_renewing(core, len(renewing))
    return why

# Creation by workers and tasks: the delivery of what they have made.

def deliver(Core core not None, uint64_t index, bint in_flight):
    """``Core.publish`` of what a creation has made.  ``in_flight``: in one step with that it does not
    count as capacity to come any more; who came in between would wait for it, past ``max_waiting``."""
    cdef fp_core *c = core.c
    cdef fp_slot *slot = slot_at(core, index)
    cdef bint lent
    fp_defer_begin()
    fp_lock_take(&c.lock)
    if c.use == FP_SHARING:
        lent = fp_sharing_lend(c, slot, FP_CHECKING, 0)
    else:
        lent = publish_slot(c, slot)
    c.delivered += lent and in_flight
    fp_check(c)
    fp_lock_drop(&c.lock)
    fp_defer_end()
    return lent


def creation_over(Core core not None, bint delivered):
    """One less is in flight.  ``delivered``: ``deliver`` has said True."""
    cdef fp_core *c = core.c
    fp_lock_take(&c.lock)
    c.in_flight -= c.in_flight > 0  # none are in the child of a fork
    c.delivered -= delivered and c.delivered > 0
    fp_lock_drop(&c.lock)

# Creation by who waits: a borrower has a slot, and calls the factory in its own thread.

class Permit(BaseException):
    """Ends the wait of a borrower who may open a resource itself; its argument is a ``Token``: see
    pool/_creation_in_caller.py."""


def reserve_in_caller(Core core not None, SlotGuard guard not None, creator, permit):
    """Takes a slot under the cap, as CREATING, into the guard, for a borrower who is going to call
    the factory; False: all are taken, or so many are at it already.  ``permit``: the number of the
    one that it has; None: who waits for one goes first.  Under the manager's lock."""
    cdef fp_core *c = core.c
    cdef fp_slot *slot = NULL
    cdef set granted = creator.granted
    cdef double most = creator.most - c.in_flight
    if permit is not None:
        granted.discard(permit)
    elif granted:
        return False
    fp_lock_take(&c.lock)
    if (
        c.creating_in_caller < most and (permit is not None or c.getters.count == 0)
        and fp_has_capacity(c) and not fp_gate(c) & (FP_CLOSED | FP_SUSPENDED)
    ):
        slot = fp_slots_reserve(&c.slots)
        if slot != NULL:
            c.open += 1
            c.creating += 1
            c.creating_in_caller += 1
            if c.open > core.most_idle:
                fp_gate_set(c, FP_ASK_PUT)
            slot_guard_set(guard, slot, fp_slot_generation(slot))
    fp_check(c)
    fp_lock_drop(&c.lock)
    return slot != NULL


def create_in_caller(Core core not None, SlotGuard guard not None, create, refuse, double lifetime):
    """Calls the factory for the guarded slot and lends what it returns, in one step: no signal
    handler comes between.  ``refuse(item)`` raises for what is no resource.  Raises what they
    raise; the slot is guarded still, and whoever drops the guard frees it."""
    cdef fp_core *c = core.c
    cdef fp_slot *slot = guard.slot
    number = number_of(slot)
    item = create()
    if item is None or hasattr(type(item), "__await__") or not core.fill(number, item, lifetime):
        refuse(item)
    fp_lock_take(&c.lock)
    c.creating_in_caller -= 1
    fp_lock_drop(&c.lock)
    fp_slot_lend(slot)
    slot_guard_set(guard, slot, fp_slot_generation(slot))
    fp_pool_begin(c, slot)


def free_in_caller(Core core not None, SlotGuard guard not None):
    """Gives back the guarded slot, if the factory has put nothing there."""
    cdef fp_slot *slot = guard.slot
    if slot == NULL or guard.forks != fp_forks or fp_slot_state(slot) != FP_CREATING:
        return
    guard.slot = NULL
    fp_lock_take(&core.c.lock)
    core.c.creating_in_caller -= 1
    fp_lock_drop(&core.c.lock)
    core.free(number_of(slot))


def creating_in_caller(Core core not None):
    """How many borrowers call the factory themselves at this moment."""
    return locked_size(core.c, &core.c.creating_in_caller)

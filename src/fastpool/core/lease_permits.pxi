# The leases of a shared pool where each takes a permit of a budget: see shared/_budget.py.

def set_permits(Core core not None, size_t n, *, bint notify=False):
    """So many leases there may be, of all resources together; how many there are.  Counted from the
    first call on, which comes before the first lease.  What is lent stays so; who waits for a permit is
    served.  ``notify``: the manager hears of each return, as it does anyway while there are more."""
    cdef fp_core *c = core.c
    fp_defer_begin()
    fp_lock_take(&c.lock)
    cdef size_t leases = fp_sharing_permit(c, n, notify)
    fp_check(c)
    fp_lock_drop(&c.lock)
    fp_defer_end()
    return leases


def lease_counts(Core core not None):
    """(Leases that there are, those of them whose resources drain, callers who want one.)"""
    cdef fp_core *c = core.c
    cdef size_t draining = 0
    fp_lock_take(&c.lock)
    cdef size_t leases = fp_count_leases(&c.slots, &c.loads, &draining)
    cdef size_t callers = fp_callers(c)
    fp_lock_drop(&c.lock)
    return leases, draining, callers

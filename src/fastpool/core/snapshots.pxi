# What a look at a core returns, and the names of what it counts.

cdef tuple CLOSED_FOR = (
    "discarded", "error", "reset", "check", "lifetime", "idle", "uses", "surplus", "flushed", "closed",
    "lost", "overdue", "interrupted", "evicted", "loop",
)
cdef tuple COUNTED = ("created", "create_failures", "timeouts", "overloads")
cdef tuple STATES = ("free", "creating", "idle", "leased", "checking", "closing")
cdef dict REASONS = {
    FP_WAITING: "timeout", FP_EXPIRED: "timeout", FP_REFUSED: "closed", FP_OVERLOADED: "overloaded",
    FP_DEADLOCK: "deadlock", FP_MAY_OPEN: "may open",
    FP_MAY_OPEN_AT_HEAD: "may open at head", FP_STOLEN: "stolen",
}


cdef tuple view_tuple(fp_view *v):
    return (fp_forks << 32 | v.index, STATES[v.state], v.since * 1e-9, seconds_of(v.dies_at), v.uses, v.owner,
            bool(v.retire))


cdef dict counts_dict(fp_counts *n):
    return {
        "idle": n.by_state[FP_IDLE], "leased": n.by_state[FP_LEASED],
        "creating": n.by_state[FP_CREATING], "checking": n.by_state[FP_CHECKING],
        "closing": n.by_state[FP_CLOSING], "open": n.open, "waiting": n.waiting,
        "uses": n.uses, "closed": {
            CLOSED_FOR[i]: n.closed_for[i] for i in range(len(CLOSED_FOR)) if n.closed_for[i]
        }, "waits": times_of(&n.waits), "held": times_of(&n.held), "creates": times_of(&n.creates),
        "created": n.counted[0], "create_failures": n.counted[1], "timeouts": n.counted[2],
        "overloads": n.counted[3],
    }


cdef tuple times_of(fp_times *t):
    """(count, sum and longest in seconds, counts below 1, 2, 4, ... microseconds)"""
    return t.count, t.sum * 1e-9, t.most * 1e-9, tuple([t.counts[i] for i in range(FP_TIMES)])


cdef list views_of(fp_core *c):
    """As ``Core.slots``."""
    cdef size_t n = 0, size
    cdef fp_view *views
    while True:
        fp_lock_take(&c.lock)
        size = c.open
        fp_lock_drop(&c.lock)
        views = <fp_view *>fp_views_new(size)
        if views == NULL:
            raise MemoryError
        fp_lock_take(&c.lock)
        n = fp_views_fill(c, views, size)
        fp_lock_drop(&c.lock)
        if n <= size:
            break
        fp_views_free(views)
    try:
        return [view_tuple(&views[i]) for i in range(n)]
    finally:
        fp_views_free(views)

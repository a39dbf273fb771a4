# Ending waits before their time: a creation has failed; ``flush`` and ``suspend`` on request.

cdef extern from *:
    """
    /* The ticket of the first in the wait queue of those who joined it before ticket `next` was given
     * out; 0: none of them is left.  Under the lock. */
    static uint64_t fp_waits_before(fp_core *c, uint64_t next) {
        for (fp_waiter *w = c->getters.first; w != NULL; w = w->next)
            if (w->ticket < next) return w->ticket;
        return 0;
    }
    static uint64_t fp_next_ticket(fp_core *c) { return c->tickets + 1; }
    """
    uint64_t fp_waits_before(fp_core *, uint64_t)
    uint64_t fp_next_ticket(fp_core *)


def fail_waiter(Core core not None, uint64_t ticket, error):
    """Raises ``error`` in the waiter with this ticket (0: in the caller on its way for whom the
    try was); False if it waits no more."""
    cdef fp_waiter *note = fp_waiter_new()
    if note == NULL:
        raise MemoryError
    Py_INCREF(error)
    fp_lock_take(&core.c.lock)
    cdef int outcome = fp_fail(core.c, ticket, <void *>error, note)
    fp_lock_drop(&core.c.lock)
    if outcome != 2:
        fp_waiter_free(note)
    if outcome == 0:
        Py_DECREF(error)
    return outcome != 0


def fail_waiters(Core core not None, make):
    """Ends the waits of all who are in the wait queue now, each with an exception of its own, which
    ``make()`` builds.  Who joins it meanwhile waits on."""
    cdef fp_core *c = core.c
    cdef uint64_t ticket
    fp_lock_take(&c.lock)
    cdef uint64_t next = fp_next_ticket(c)
    fp_lock_drop(&c.lock)
    while True:
        fp_lock_take(&c.lock)
        ticket = fp_waits_before(c, next)
        fp_lock_drop(&c.lock)
        if ticket == 0:
            return
        fail_waiter(core, ticket, make())

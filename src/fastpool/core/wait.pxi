# A wait of a task, which its coroutine drives.
#
# Every method is called in the thread of the loop, but ``abandon`` of a wait whose loop is closed.  A
# wait is awaited without a coroutine of its own, which would cost as much as the rest of it.

@cython.no_gc_clear
cdef class Wait:
    """One wait of a task in a queue, in the thread of its loop.  Pool use: ``join_pool``, and if that
    says so ``await`` it: what ``outcome`` says then is what ``join_pool`` would have said.  Queue use,
    and semaphores: ``await`` it.  A coroutine that is cancelled or closed meanwhile, as that of a task
    that is never resumed, gives back what it was granted."""
    cdef Core core          # None once it is over: its timer may know it for an hour
    cdef Mailbox mailbox
    cdef SlotGuard guard    # pool use: gets the slot
    cdef SemaphoreHold hold  # of a semaphore: gets the units; None likewise
    cdef fp_waiter *w  # while in a queue, or settled and not looked at
    cdef fp_wait_queue *queue
    cdef object future
    cdef bint begun    # it has joined the queue, or tried to
    cdef bint late     # its time is over
    cdef readonly object outcome
    cdef object item   # queue use: what the put brings, and what the get has brought
    cdef int64_t timeout_ns # but in pool use: ns to wait, from the first step on
    cdef uint64_t forks
    cdef fp_lock lock  # one of those who abandon it gets ``core`` and ``w``
    cdef object __weakref__

    def __cinit__(self, Core core not None, Mailbox mailbox not None):
        fp_lock_init(&self.lock)
        self.core = core
        self.mailbox = mailbox
        self.forks = fp_forks

    def join_pool(self, SlotGuard guard not None, task, timeout, *, bint in_front):
        """As ``Core.take``; None: it has joined the queue.  ``task``: an int that names it;
        ``timeout_ns``: seconds to wait, None for ever, 0 to try."""
        cdef fp_core *c = self.core.c
        cdef fp_slot *slot = NULL
        cdef void *error = NULL
        cdef fp_waiter *spare = NULL
        cdef fp_waiter *w = NULL
        cdef bint asked = slot_guard_announced(guard)
        cdef int64_t ns = ns_of_timeout(c, timeout)
        if ns != 0:
            w = self.record(ns)
        self.begun = True
        self.guard = guard
        guard.announced = False
        self.queue = &c.getters
        cdef int state = fp_pool_join(
            c, w, <uintptr_t>task, asked, in_front, &slot, &error, &spare
        )
        if state == FP_GRANTED:
            slot_guard_set(guard, slot, fp_slot_generation(slot))
        fp_drop_failure(spare)
        if state == FP_WAITING and w != NULL:
            self.start_timeout(ns)
            return None
        self.drop(w)
        if state == FP_FAILED:
            raise fp_steal(error)
        if state == FP_GRANTED:
            return "due" if fp_begin(c, slot) else "fresh"
        return REASONS[state]

    cdef object join_get(self):
        """Queue use, likewise, in the first step: a signal handler that raises on the way there
        leaves nobody in the queue.  The item is ``item``."""
        cdef fp_core *c = self.core.c
        cdef int64_t timeout_ns = self.timeout_ns
        cdef void *item = NULL
        cdef fp_waiter *w = NULL
        self.begun = True
        if timeout_ns != 0:
            w = self.record(timeout_ns)
        fp_defer_begin()
        cdef int state = fp_queue_get_join(c, w, &item)
        fp_defer_end()
        if state == FP_WAITING and w != NULL:
            self.start_timeout(timeout_ns)
            return None
        self.drop(w)
        if state == FP_GRANTED:
            self.item = fp_steal(item)
            self.outcome = "fresh"
            return "fresh"
        return raise_outcome(state, "Empty")

    cdef object join_put(self):
        cdef fp_core *c = self.core.c
        cdef int64_t timeout_ns = self.timeout_ns
        cdef fp_waiter *w = NULL
        self.begun = True
        if timeout_ns != 0:
            w = self.record(timeout_ns)
        item, self.item = self.item, None
        Py_INCREF(item)
        fp_defer_begin()
        cdef int state = fp_queue_put_join(c, w, <void *>item)
        fp_defer_end()
        if state == FP_WAITING and w != NULL:
            self.start_timeout(timeout_ns)
            return None
        self.drop(w)
        if state == FP_GRANTED:
            self.outcome = "fresh"
            return "fresh"
        Py_DECREF(item)
        return raise_outcome(state, "Full")

    cdef object join_hold(self):
        """For the units of a semaphore, likewise."""
        cdef int64_t timeout_ns = self.timeout_ns
        cdef fp_waiter *w = NULL
        self.begun = True
        if timeout_ns != 0:
            w = self.record(timeout_ns)
        cdef int state = fp_weighted_join(self.core.c, w, self.hold.of.n)
        if state == FP_WAITING and w != NULL:
            self.start_timeout(timeout_ns)
            return None
        self.drop(w)
        self.end_hold(self.hold, state, 0)

    cdef object end_hold(self, SemaphoreHold hold, int state, int64_t waited):
        if state != FP_GRANTED:
            raise_weighted(hold.semaphore, state, hold.of.n, waited)
        units_begin(hold)
        self.outcome = "fresh"

    cdef fp_waiter *record(self, int64_t timeout_ns) except NULL:
        cdef fp_waiter *w = fp_waiter_new()
        if w == NULL:
            raise MemoryError
        if not self.mailbox.own_time:
            fp_set_deadline(w, timeout_ns)
        w.mailbox = &self.mailbox.box
        self.w = w
        return w

    cdef void drop(self, fp_waiter *w) noexcept:
        self.w = NULL
        self.future = None
        if w != NULL:
            fp_waiter_free(w)

    # -- as an awaitable: what a coroutine object asks of what it awaits --

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):  # in front of it: fp_next
        return self.send(None)

    def send(self, value):
        future = self.step()
        if future is None:
            raise StopIteration
        return future

    def throw(self, kind, error=None, trace=None):
        if (kind is RuntimeError or isinstance(kind, RuntimeError)) and self.moved():
            return self.send(None)
        self.stop()
        error = error or (kind() if isinstance(kind, type) else kind)
        raise error if trace is None else error.with_traceback(trace)

    def close(self):
        self.stop()

    cdef bint moved(self) except -1:
        """Asyncio has refused the future, since it is that of another loop, the one around the running
        one: it is in the queue still, and goes on with the mailbox of its own."""
        cdef Mailbox wrong = self.mailbox
        loop = running_loop()
        if self.w == NULL or self.forks != fp_forks or loop is None or loop is wrong.loop:
            return False
        cdef Mailbox right = loop_of(loop)
        cdef int64_t until = self.w.until
        wrong.waits.discard(self)
        fp_lock_take(&self.core.c.lock)  # whoever ends the wait holds it while it is posted
        fp_mailbox_forget(&wrong.box, self.w)
        self.w.mailbox = &right.box
        fp_lock_drop(&self.core.c.lock)
        self.mailbox = right
        self.future = None
        if until != 0:
            right.expire(self, max(0, until - fp_clock_precise()) * 1e-9)
        return True

    cdef object step(self):
        """The future to be awaited next; None when there is an outcome."""
        if self.outcome is None:
            if self.future is None:
                if not self.begun:
                    if self.hold is not None:
                        self.join_hold()
                    elif self.queue == &self.core.c.getters:
                        self.join_get()
                    else:
                        self.join_put()
                    if self.outcome is not None:
                        return None
            try:
                if self.future is None:
                    self.mailbox.waits.add(self)
                    if not fp_is_watched():  # after it was added: whoever stops watching has a
                        watch()              # look before
                future = self.armed()
            except BaseException:
                self.stop()
                raise
            if future is not None:
                return future
        self.mailbox.waits.discard(self)
        return None

    cdef object armed(self):
        cdef int state
        while True:
            self.look()
            if self.outcome is not None:
                return None
            if self.late:
                self.end(self.leave_queue(self.core.c, self.w))
                return None
            self.future = future = self.mailbox.new_future()
            self.w.future = <void *>future
            fp_mailbox_runs_here(&self.mailbox.box)
            fp_mailbox_note(&self.mailbox.box, <void *>self.mailbox.loop)
            if fp_waiter_park(self.w):  # from here on whoever ends the wait sets the future
                future._asyncio_future_blocking = True  # it is awaited, and not just yielded
                return future

    cdef object look(self):
        """Notes the outcome, if there is one."""
        cdef int state
        if self.w == NULL or self.forks != fp_forks:  # its loop is closed, or its queue the parent's
            self.outcome = "closed"
            if self.hold is not None:
                raise_weighted(self.hold.semaphore, FP_REFUSED, 0, 0)
            if self.guard is None:
                raise_queue("ShutDown")
            return
        state = fp_waiter_state(self.w)
        if state == FP_NOTIFIED:
            if fp_look(self.core.c, self.queue, self.w):
                self.end(FP_MAY_OPEN_AT_HEAD)
                return
            state = fp_waiter_state(self.w)
        if state >= FP_GRANTED:
            self.end(state)

    cdef object start_timeout(self, int64_t timeout_ns):
        """It has joined: sees to its timeout."""
        if timeout_ns != FP_NEVER:
            try:
                self.mailbox.expire(self, timeout_ns * 1e-9)
            except BaseException:
                self.abandon()
                raise

    def claim(self):
        """Queue use: what the get has brought; once, since its timeout may keep the wait."""
        item, self.item = self.item, None
        return item

    @property
    def pending(self):
        """Whether it has no outcome yet."""
        return self.w != NULL

    def expire(self):
        """Its time is over: "timeout", unless it was settled before."""
        self.late = True
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    cdef object stop(self):
        self.mailbox.waits.discard(self)
        self.abandon()
        fp_lock_take(&self.lock)
        hold, self.hold = self.hold, None
        fp_lock_drop(&self.lock)

    def abandon(self):
        """The task does not get through: what it was granted goes back.  By the task, or by whoever
        finds out that its loop is closed; the second call does nothing."""
        cdef Core core = None
        cdef SemaphoreHold hold
        cdef fp_waiter *w
        fp_lock_take(&self.lock)
        w, self.w = self.w, NULL
        if w != NULL:
            core, self.core = self.core, None
        hold = self.hold
        fp_lock_drop(&self.lock)
        if w == NULL:
            return
        if self.forks != fp_forks:  # the queue is the parent's
            return
        cdef fp_core *c = core.c
        cdef int state = self.leave_queue(c, w)
        cdef void *grant = w.grant
        cdef void *offer = w.offer
        cdef uint64_t generation = w.generation
        self.over(c, w)
        if offer != NULL:
            if state != FP_GRANTED:
                Py_DECREF(<object>offer)
        elif state == FP_FAILED:
            Py_DECREF(<object>grant)
        elif state == FP_GRANTED:
            if self.guard is not None:
                slot_drop(c, <fp_slot *>grant, generation)
            elif hold is not None:
                fp_weighted_give(c, hold.of.n)
            else:
                queue_return(c, grant)

    cdef int leave_queue(self, fp_core *c, fp_waiter *w) noexcept:
        """Leaves the queue; the state."""
        fp_defer_begin()
        fp_lock_take(&c.lock)
        cdef bint ended = fp_leave(c, self.queue, w)
        fp_lock_drop(&c.lock)
        fp_defer_end()
        if fp_gate(c) & FP_NOTIFY: # what it was notified of is idle still
            notify_manager_soon(c)
        return fp_waiter_state(w) if ended else FP_WAITING

    cdef void over(self, fp_core *c, fp_waiter *w) noexcept:
        fp_waited(c, w)  # takes the lock: whoever has settled it has posted it by now
        fp_mailbox_forget(&self.mailbox.box, w)
        w.mailbox = NULL
        self.drop(w)

    cdef object end(self, int state):
        """Notes the outcome, or raises."""
        cdef fp_waiter *w = self.w
        cdef void *grant = w.grant
        cdef void *offer = w.offer
        cdef int64_t since = w.since
        cdef uint64_t generation = w.generation
        cdef Core core = self.core  # its slot is used below
        cdef SemaphoreHold hold = self.hold
        self.over(core.c, w)
        self.core = self.hold = None
        if hold is not None:
            return self.end_hold(hold, state, fp_clock_precise() - since)
        if self.guard is not None:
            if state == FP_GRANTED:
                slot_guard_set(self.guard, <fp_slot *>grant, generation)
                self.outcome = slot_guard_begin(self.guard)
            elif state == FP_FAILED:
                raise fp_steal(grant)
            else:
                self.outcome = REASONS[state]
            return
        if offer != NULL and state != FP_GRANTED:
            Py_DECREF(<object>offer)
        if state != FP_GRANTED:
            raise_outcome(state, "Full" if offer != NULL else "Empty")
        self.item = None if offer != NULL else fp_steal(grant)
        self.outcome = "fresh"

    def __dealloc__(self):
        if self.w != NULL:
            self.abandon()


cdef object wait_step(object wait):
    return (<Wait>wait).step()

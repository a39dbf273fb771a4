# What tasks wait with: the mailbox of an event loop, and a wait that its coroutine drives.
#
# ``_aio.py`` makes the mailboxes; every method is called in the thread of the loop, but ``abandon`` of
# a wait whose loop is closed.  A wait is awaited without a coroutine of its own, which would cost as
# much as the rest of it.

@cython.no_gc_clear
cdef class Mailbox:
    """Where the waits of one event loop end; see ``_mailbox.h``.  ``bell``: a descriptor to write to;
    the loop watches the other end and calls ``open`` when it is readable.

    ``_aio.Loop`` is one.  Weak references are its own, not of this base: they would end after its
    attributes, and on a free-threaded build give away what is being taken apart."""
    cdef fp_mailbox box
    cdef object loop
    cdef object new_future
    cdef readonly set waits  # that are under way
    cdef bint has_thread     # the loop says in which thread it runs

    def __cinit__(self, intptr_t bell, loop):
        fp_mailbox_init(&self.box, bell)
        self.box.owner = <void *>self
        self.loop = loop
        self.new_future = loop.create_future
        self.waits = set()
        self.has_thread = hasattr(loop, "_thread_id")

    def open(self):
        """The bell was heard: sets the future of every wait that has ended."""
        fp_mailbox_opened(&self.box)
        try:
            self.empty()
        except BaseException:  # a signal handler's: the rest when the loop goes on
            fp_mailbox_leave(&self.box)
            raise

    cdef object empty(self):
        """The same for what lies there now."""
        cdef fp_waiter *w
        while True:
            w = fp_mailbox_pop(&self.box)
            if w == NULL:
                break
            future = <object>w.future
            try:
                future.set_result(None)
            except Exception:
                if not future.done():  # else its time was over, or it was cancelled
                    raise

    def forked(self):
        """In a forked child: the lock may be held by a thread that is not there, and the bell is the
        parent's."""
        fp_mailbox_init(&self.box, -1)
        self.box.owner = <void *>self

    def close(self):
        """The loop is gone: nothing is written to the bell any more, and no thread takes this for the
        mailbox of its loop, while what hangs on it is taken apart."""
        fp_mailbox_is_gone()
        fp_mailbox_close(&self.box)

    cdef bint runs_here(self) except -1:
        """Whether its loop runs in this thread now."""
        if self.has_thread:  # as asyncio's own check in debug mode; three times as fast on 3.11
            thread = self.loop._thread_id
            return thread is not None and <uintptr_t>thread == fp_thread_token()
        return running_loop() is self.loop

    def __dealloc__(self):
        fp_mailbox_is_gone()
        fp_mailbox_close(&self.box)


cdef Mailbox here():
    """The mailbox of the running loop.  Python 3.11 makes a system call to say which that is, so there
    the loop is asked for its thread: a loop that runs inside another, which asyncio forbids, is taken
    for that one until it says that it is not; see ``Wait.moved``."""
    cdef fp_mailbox *box
    if ASKING_IS_CHEAP:
        loop = running_loop()
        box = fp_mailbox_guess(<void *>loop)
        return loop_of(loop) if box == NULL else <Mailbox>box.owner
    box = fp_mailbox_guess(NULL)
    if box != NULL and (<Mailbox>box.owner).runs_here():
        return <Mailbox>box.owner
    return loop_of(running_loop())


cdef void empty_here(fp_mailbox *box) noexcept:
    """At the end of a call by a task: wakes others of its loop."""
    cdef Mailbox mailbox = <Mailbox>box.owner
    try:
        if mailbox.runs_here():
            mailbox.empty()
        else:  # it has run here before, and now runs elsewhere
            fp_mailbox_leave(box)
    except BaseException:  # a signal handler's, or of a loop that is closed: the loop does the rest
        fp_mailbox_leave(box)
        raise


@cython.no_gc_clear
cdef class Wait:
    """One wait of a task in a line, in the thread of its loop.  Pool use: ``join_pool``, and if that
    says so ``await`` it: what ``outcome`` says then is what ``join_pool`` would have said.  Queue use:
    ``await`` it.  A coroutine that is
    cancelled or closed meanwhile, as that of a task that is never resumed, gives back what it was
    granted."""
    cdef Core core
    cdef Mailbox mailbox
    cdef Hand hand     # pool use: gets the slot
    cdef fp_waiter *w  # while in a line, or settled and not looked at
    cdef fp_line *line
    cdef object future
    cdef bint begun    # it has joined the line, or tried to
    cdef bint late     # its time is over
    cdef readonly object outcome
    cdef object item   # queue use: what the put brings, and what the get has brought
    cdef int64_t span  # likewise: ns to wait, from the first step on
    cdef uint64_t forks
    cdef object __weakref__

    def __cinit__(self, Core core, Mailbox mailbox):
        self.core = core
        self.mailbox = mailbox
        self.forks = fp_forks

    def join_pool(self, Hand hand, task, span, *, bint in_front):
        """As ``Core.take``; None: it has joined the line.  ``task``: an int that names it; ``span``:
        seconds to wait, None for ever, 0 to try."""
        cdef fp_core *c = self.core.c
        cdef fp_slot *slot = NULL
        cdef void *error = NULL
        cdef fp_waiter *spare = NULL
        cdef fp_waiter *w = NULL
        cdef bint asked = hand.coming
        cdef int64_t ns = span_of(c, span)
        if ns != 0:
            w = self.record(ns)
        self.begun = True
        self.hand = hand
        hand.coming = False
        self.line = &c.getters
        cdef int state = fp_pool_join(
            c, w, <uintptr_t>task, asked, in_front, &slot, &error, &spare
        )
        if state == FP_GRANTED:
            hand_take(hand, slot)
        fp_drop_failure(spare)
        if state == FP_WAITING and w != NULL:
            self.lined_up(ns)
            return None
        self.drop(w)
        if state == FP_FAILED:
            raise fp_steal(error)
        if state == FP_GRANTED:
            return "due" if fp_pool_begin(c, slot) else "fresh"
        return REASONS[state]

    cdef object join_get(self):
        """Queue use, likewise, in the first step: a signal handler that raises on the way there
        leaves nobody in line.  The item is ``item``."""
        cdef fp_core *c = self.core.c
        cdef int64_t span = self.span
        cdef void *item = NULL
        cdef fp_waiter *w = NULL
        self.begun = True
        if span != 0:
            w = self.record(span)
        fp_here_begin()
        cdef int state = fp_queue_get_join(c, w, &item)
        fp_here_end()
        if state == FP_WAITING and w != NULL:
            self.lined_up(span)
            return None
        self.drop(w)
        if state == FP_GRANTED:
            self.item = fp_steal(item)
            self.outcome = "fresh"
            return "fresh"
        return raise_settled(state, "Empty")

    cdef object join_put(self):
        cdef fp_core *c = self.core.c
        cdef int64_t span = self.span
        cdef fp_waiter *w = NULL
        self.begun = True
        if span != 0:
            w = self.record(span)
        item, self.item = self.item, None
        Py_INCREF(item)
        fp_here_begin()
        cdef int state = fp_queue_put_join(c, w, <void *>item)
        fp_here_end()
        if state == FP_WAITING and w != NULL:
            self.lined_up(span)
            return None
        self.drop(w)
        if state == FP_GRANTED:
            self.outcome = "fresh"
            return "fresh"
        Py_DECREF(item)
        return raise_settled(state, "Full")

    cdef fp_waiter *record(self, int64_t span) except NULL:
        cdef fp_waiter *w = fp_waiter_new()
        if w == NULL:
            raise MemoryError
        fp_due(w, span)
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
        one: it is in line still, and goes on with the mailbox of its own."""
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
                    if self.line == &self.core.c.getters:
                        self.join_get()
                    else:
                        self.join_put()
                    if self.outcome is not None:
                        return None
                self.mailbox.waits.add(self)
                if not watching:  # after it was added: whoever stops watching has a look before
                    watch()
            try:
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
                self.end(self.settle(self.w))
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
        if self.w == NULL or self.forks != fp_forks:  # its loop is closed, or its line the parent's
            self.outcome = "closed"
            if self.hand is None:
                raise_queue("ShutDown")
            return
        state = fp_waiter_state(self.w)
        if state == FP_NOTIFIED:
            if fp_look(self.core.c, self.line, self.w):
                self.end(FP_ROOM_AT_HEAD)
                return
            state = fp_waiter_state(self.w)
        if state >= FP_GRANTED:
            self.end(state)

    cdef object lined_up(self, int64_t span):
        """It has joined: sees to its time-out."""
        if span != FP_NEVER:
            try:
                self.mailbox.expire(self, span * 1e-9)
            except BaseException:
                self.abandon()
                raise

    def claim(self):
        """Queue use: what the get has brought; once, since its time-out may keep the wait."""
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

    def abandon(self):
        """The task does not get through: what it was granted goes back.  By the task, or by whoever
        finds out that its loop is closed; the second call does nothing."""
        cdef fp_core *c = self.core.c
        cdef fp_waiter *w
        fp_lock_take(&c.lock)
        w, self.w = self.w, NULL
        fp_lock_drop(&c.lock)
        if w == NULL:
            return
        if self.forks != fp_forks:  # the line is the parent's
            return
        cdef int state = self.settle(w)
        cdef void *grant = w.grant
        cdef void *offer = w.offer
        self.over(w)
        if offer != NULL:
            if state != FP_GRANTED:
                Py_DECREF(<object>offer)
        elif state == FP_FAILED:
            Py_DECREF(<object>grant)
        elif state == FP_GRANTED:
            if self.hand is not None:
                slot_drop(c, <fp_slot *>grant)
            elif not fp_queue_put_back(c, grant):
                Py_DECREF(<object>grant)

    cdef int settle(self, fp_waiter *w) noexcept:
        """Leaves the line; the state."""
        cdef fp_core *c = self.core.c
        fp_here_begin()
        fp_lock_take(&c.lock)
        cdef bint settled = fp_leave(c, self.line, w)
        fp_lock_drop(&c.lock)
        fp_here_end()
        if fp_gate(c) & FP_TELL and c.manager != NULL:  # what it was notified of is idle still
            poke((0.0, (<object>c.manager).returned, (True,)))
        return fp_waiter_state(w) if settled else FP_WAITING

    cdef void over(self, fp_waiter *w) noexcept:
        fp_waited(self.core.c, w)  # takes the lock: whoever has settled it has posted it by now
        fp_mailbox_forget(&self.mailbox.box, w)
        w.mailbox = NULL
        self.drop(w)

    cdef object end(self, int state):
        """Notes the outcome, or raises."""
        cdef fp_waiter *w = self.w
        cdef void *grant = w.grant
        cdef void *offer = w.offer
        self.over(w)
        if self.hand is not None:
            if state == FP_GRANTED:
                hand_take(self.hand, <fp_slot *>grant)
                self.outcome = "due" if fp_pool_begin(self.core.c, <fp_slot *>grant) else "fresh"
            elif state == FP_FAILED:
                raise fp_steal(grant)
            else:
                self.outcome = REASONS[state]
            return
        if offer != NULL and state != FP_GRANTED:
            Py_DECREF(<object>offer)
        if state != FP_GRANTED:
            raise_settled(state, "Full" if offer != NULL else "Empty")
        self.item = None if offer != NULL else fp_steal(grant)
        self.outcome = "fresh"

    def __dealloc__(self):
        if self.w != NULL:
            self.abandon()


cdef object wait_step(object wait):
    return (<Wait>wait).step()


# ---- The faces: hits are served here, the rest by ``_aio.py`` --------------------------------------

cdef object MISS = type("Miss", (), {})()


def task():
    """An even number that names the running task."""
    return fp_task_token()


cdef class Done:
    """An awaitable that is done: what ``__aexit__`` returns when there is nothing to wait for."""
    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

cdef Done DONE = Done()


def hand(Core core):
    """An empty hand, for a borrower."""
    return hand_of(core.c, NULL)


cdef object running_loop = None  # these three are set by _aio.py
cdef object loop_of = None
cdef object watch = None
cdef bint watching = False


def set_watching(bint on):
    """Whether somebody is to find out about closed loops already."""
    global watching
    watching = on


def is_watching():
    return watching


def set_loops(running, of, watch_closed):
    """``asyncio._get_running_loop``; the record of a loop; who finds out that one was closed."""
    global running_loop, loop_of, watch
    running_loop, loop_of, watch = running, of, watch_closed


def current():
    """The record of the running loop."""
    return here()


def get_later(FastPool pool, timeout):
    """Queue use: a ``Wait`` for the next item; None in pool use."""
    cdef fp_core *c = pool.c
    if c.use == FP_POOL:
        return None
    cdef int64_t span = c.span if timeout is UNSET else span_of(c, timeout)
    cdef Wait wait = Wait.__new__(Wait, pool.core, here())
    wait.line = &c.getters
    wait.span = span
    return wait


def put_later(FastPool pool, item, timeout):
    """Queue use: a ``Wait`` for room for it."""
    cdef fp_core *c = pool.c
    cdef int64_t span = c.span if timeout is UNSET else span_of(c, timeout)
    cdef Wait wait = Wait.__new__(Wait, pool.core, here())
    wait.line = &c.putters
    wait.item = item
    wait.span = span
    return wait


cdef fp_core *home(fp_core *c) except NULL:
    """The core that serves the running loop: the pool's own, unless its factory is asynchronous."""
    cdef fp_core *found
    if not c.sharded:
        return c
    loop = running_loop()
    found = fp_home_guess(c, <void *>loop)
    if found == NULL:
        found = (<Core?>manager_of(c, "aget").home(loop)).c
        fp_home_note(c, <void *>loop, found)
    return found


cdef fp_core *holder(fp_core *c, object resource) except NULL:
    """The core that holds this resource, most likely that of the running loop."""
    cdef fp_core *here
    if not c.sharded:
        return c
    loop = running_loop()
    here = fp_home_guess(c, <void *>loop)
    if here != NULL and fp_pool_find(here, <void *>resource) != NULL:
        return here
    return (<Core?>manager_of(c, "put").holder(resource)).c


def manager(Store pool, str act):
    """The manager of the whole pool; TypeError in queue use."""
    return manager_of(pool.c, act)


def asks(Store pool, timeout):
    """(core, manager or None for queue use, seconds to wait or None)"""
    cdef fp_core *c = pool.c
    cdef int64_t span = c.span if timeout is UNSET else span_of(c, timeout)
    if c.use == FP_QUEUE:
        return pool.core, None, seconds_or_none(span)
    manager = manager_of(home(c), "aget")
    return manager.core, manager, seconds_or_none(span)


def hit(FastPool pool):
    """What ``get`` returns at once; a Hand with a slot that is due; or MISS."""
    cdef fp_core *c = pool.c
    cdef fp_slot *slot
    cdef fp_slot *due = NULL
    cdef void *item
    if c.use == FP_QUEUE:
        item = fp_queue_get(c, c.lifo)
        if item == NULL and fp_gate(c) & FP_PUTTERS:  # a waiting putter has its turn in the locked path
            fp_here_begin()
            fp_queue_get_join(c, NULL, &item)
            fp_here_end()
        return MISS if item == NULL else fp_steal(item)
    c = home(c)
    slot = fp_pool_hit(c, &due)
    if slot != NULL:
        fp_slot_own(slot, fp_task_token())
        return fp_resource(slot)
    return MISS if due == NULL else hand_of(c, due)


def stored(FastPool pool, item):
    """Whether ``put`` could add the item at once."""
    if pool.c.use == FP_POOL:
        raise TypeError(f"{pool.label}: aput() is for queue use; give a resource back with put()")
    if fp_queue_put_new(pool.c, <void *>item):
        return True
    Py_INCREF(item)  # a waiting getter has its turn in the locked path
    fp_here_begin()
    cdef int state = fp_queue_put_join(pool.c, NULL, <void *>item)
    fp_here_end()
    if state != FP_GRANTED:
        Py_DECREF(item)
    return state == FP_GRANTED


def is_pool(Store pool):
    return pool.c.use == FP_POOL


cpdef object lease_hit(Lease lease, bint block):
    """``__aenter__`` at once: the resource, or a Hand to go on with."""
    cdef fp_lease *l = &lease.of
    cdef fp_slot *slot
    cdef fp_slot *due = NULL
    if l.state != FP_LEASE_FRESH:
        return lease_again(lease, fp_task_token())
    if l.c.sharded and fp_id_of(l.c) == l.id:
        l.c = home(l.c)
        l.id = fp_id_of(l.c)
    if fp_lease_enter(l, &due):
        fp_slot_own(l.slot, fp_task_token() | (1 if block else 0))
        return fp_resource(l.slot)
    if l.state == FP_LEASE_HELD:  # the block went to another pool at that very moment
        slot, l.slot, l.state = l.slot, NULL, FP_LEASE_RELEASED
        slot_drop(l.c, slot)
    if fp_id_of(l.c) != l.id:
        from fastpool.errors import PoolClosed
        raise PoolClosed("a pool", "the pool of this lease is gone")
    return hand_of(l.c, due)


def lease_asks(Lease lease, Hand hand):
    """(manager, what the hand has, seconds to wait or None)"""
    cdef fp_core *c = lease.of.c
    return manager_of(c, "lease"), None if hand.slot == NULL else "due", seconds_or_none(lease.of.span)


def lease_hold(Lease lease, Hand hand, bint block):
    """Moves the slot from the hand to the lease."""
    cdef fp_lease *l = &lease.of
    cdef fp_slot *slot
    slot, hand.slot = hand.slot, NULL
    if l.state != FP_LEASE_FRESH:  # entered twice, at once, by two tasks
        slot_drop(l.c, slot)
        return lease_again(lease, fp_task_token())
    l.slot = slot
    l.generation = fp_slot_generation(slot)
    l.state = FP_LEASE_HELD
    fp_slot_own(slot, fp_task_token() | (1 if block else 0))
    return fp_resource(slot)


cdef object lease_aexit(Lease lease, object error):
    cdef fp_lease *l = &lease.of
    cdef fp_slot *slot
    if error is None and fp_lease_exit(l):
        return DONE
    slot, l.slot, l.state = l.slot, NULL, FP_LEASE_RELEASED
    if fp_id_of(l.c) != l.id:
        return DONE
    if slot == NULL:  # given back by another way, or while the pool was being closed
        if fp_gate(l.c) & (FP_CLOSED | FP_TELL) and l.c.manager != NULL:
            (<object>l.c.manager).returned(True)
        return DONE
    if not fp_slot_holds(slot, l.generation):
        return DONE
    manager = manager_of(l.c, "put")
    cdef uint64_t generation
    if not fp_slot_move(slot, FP_LEASED, FP_CHECKING):
        return DONE
    generation = fp_slot_generation(slot)
    if slot.sampled > 0:
        fp_pool_sampled(l.c, slot)
    try:
        awaitable = settle_for_task(manager, slot.index, error, False)
    except BaseException:
        if fp_slot_generation(slot) == generation and fp_slot_state(slot) == FP_CHECKING:
            rescue(l.c, slot.index, "interrupted")
        raise
    return DONE if awaitable is None else awaitable


cdef object settle_for_task = None  # of _faces.py


def add_faces(dict pool_methods, dict lease_methods, settle):
    """Puts plain coroutine functions into the two types: they cost half of Cython's own.
    ``settle``: the slow path of a return by a task."""
    global settle_for_task
    settle_for_task = settle
    fp_add_methods(<PyTypeObject *>FastPool, pool_methods)
    fp_add_methods(<PyTypeObject *>Lease, lease_methods)


fp_here_empty = empty_here
MISSED = MISS
DEFAULT = UNSET

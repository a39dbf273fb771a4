# The mailbox of an event loop, where the waits of its tasks end.  ``_aio/loop.py`` makes the mailboxes;
# every method is called in the thread of the loop.

@cython.no_gc_clear
cdef class Mailbox:
    """Where the waits of one event loop end; see ``waiting/mailbox.h``.  ``wakeup_fd``: a descriptor to write
    to; the loop watches the other end and calls ``open`` when it is readable.

    ``_aio.loop.Loop`` is one.  Weak references are its own, not of this base: they would end after its
    attributes, and on a free-threaded build give away what is being taken apart."""
    cdef fp_mailbox box
    cdef object loop
    cdef object new_future
    cdef readonly set waits  # that are under way
    cdef public bint own_time  # the loop's clock is not the core's, which then ends no wait
    cdef bint has_thread     # the loop says in which thread it runs

    def __cinit__(self, intptr_t wakeup_fd, loop):
        fp_mailbox_init(&self.box, wakeup_fd)
        self.box.owner = <void *>self
        self.loop = loop
        self.new_future = loop.create_future
        self.waits = set()
        self.has_thread = hasattr(loop, "_thread_id")

    def open(self):
        """The wakeup descriptor was readable: sets the future of every wait that has ended."""
        fp_mailbox_opened(&self.box)
        try:
            self.empty()
        except BaseException:  # a signal handler's: the rest when the loop goes on
            fp_mailbox_leave(&self.box)
            raise

    def wake(self):
        """Has the loop look here once more."""
        fp_mailbox_leave(&self.box)

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
        """In a forked child: the lock may be held by a thread that is not there, and the descriptor is
        the parent's."""
        fp_mailbox_init(&self.box, -1)
        self.box.owner = <void *>self

    def close(self):
        """The loop is gone: nothing is written to the descriptor any more, and no thread takes this for
        the mailbox of its loop, while what hangs on it is taken apart."""
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


def set_done(future):
    """For the loop to call: in C, or a signal handler that raises in it would leave the future for ever."""
    if not future.done():
        future.set_result(None)


cdef Mailbox running_mailbox():
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


cdef void deliver_deferred(fp_mailbox *box) noexcept:
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

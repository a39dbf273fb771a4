# What an event loop runs for a pool, and what becomes of it when a signal handler raises there.
#
# A loop in the main thread runs the pool's own tasks where any instruction may be the last one.  So
# what ends such a task early, whatever it is, is handed in one call to the scheduler, on whose thread no
# handler runs.

cdef enum:
    LOOP_NEW, LOOP_BEGUN, LOOP_OVER

cdef object current_task = None  # these three of asyncio's are set by _aio/hook_tasks.py
cdef object enter_task = None
cdef object leave_task = None


def set_task_switch(current, enter, leave):
    """``asyncio.current_task``, and what makes another task the current one."""
    global current_task, enter_task, leave_task
    current_task, enter_task, leave_task = current, enter, leave


cdef class HookTask:
    """One coroutine of a pool's own, for a task of its loop; submitted by ``HookTasks``.

    As a callback it begins the task, as a coroutine it is what the task runs: ``work(*args)``.  When
    that has ended the scheduler calls ``after(*args, result, error)``; without ``after``, and if it
    has ended by an exception or never began, ``unfinished(*args)``.  Whoever cancels it before it has
    begun cancels nothing: it would not even clean up.

    A loop's task factory may refuse to make the task.  ``refused(*args, error)``, if it is given, hears
    of that in the thread of the loop, in the stead of ``unfinished`` and of the caller: what cannot
    begin would otherwise be tried again at once, for ever."""
    cdef object tasks, work, unfinished, after, refused, coro
    cdef tuple args
    cdef int state
    cdef object context   # in which it runs; None: that of its task
    cdef object through   # a future that ends with it, for whoever awaits that; or None
    cdef object awaited   # what its first step has come to, for its task to await
    cdef bint in_advance  # its first step is done, and its task has not begun
    cdef fp_lock lock

    def __cinit__(self, tasks, work, tuple args, unfinished=None, after=None, refused=None):
        fp_lock_init(&self.lock)
        self.tasks, self.work, self.args = tasks, work, args
        self.unfinished, self.after, self.refused = unfinished, after, refused

    @property
    def __qualname__(self):
        return getattr(self.work, "__qualname__", "fastpool")

    @property
    def is_over(self):
        return self.state == LOOP_OVER

    cdef bint move(self, int from_, int to) noexcept:
        fp_lock_take(&self.lock)
        cdef bint moved = self.state == from_
        if moved:
            self.state = to
        fp_lock_drop(&self.lock)
        return moved

    def __call__(self):
        """Begins it, in the thread of its loop: the task; None if it was withdrawn."""
        tasks = self.tasks
        if self.state != LOOP_NEW:
            return None
        try:
            task = tasks.loop.create_task(self)
            task._log_destroy_pending = False  # it may end with its loop
            tasks.under_way.add(task)  # a loop keeps no task alive
            task.add_done_callback(tasks.under_way.discard)
            return task
        except BaseException as error:
            if self.move(LOOP_NEW, LOOP_OVER) and self.is_refused(error):
                return None
            raise

    # It never begins; whether ``refused`` has taken that in.
    cdef bint is_refused(self, error) except -1:
        try:
            if self.refused is None or not isinstance(error, Exception):
                return False
            self.refused(*self.args, error)
            self.unfinished = None
            return True
        finally:  # also if a signal handler has raised in it
            self.ended(None, error)

    def begin_now(self):
        """As by a call, but its first step is made at once, as that of an eager task.  Returns what ends
        with it, to be awaited; None: that has come.  Who is cancelled there does not cancel it.

        A hook that waits once costs its caller one iteration of the loop beside what it waits for, the
        one in which its task ends; a task that begins later, under ``asyncio.shield``, costs three."""
        loop = self.tasks.loop
        self.context = PyContext_CopyCurrent()
        task = self()
        if self.state == LOOP_NEW:
            self.make_first_step(loop, task)
        elif self.state == LOOP_OVER:  # by a task factory that is eager itself
            return task
        if self.state == LOOP_OVER:
            return None
        self.through = loop.create_future()
        return self.through

    cdef object make_first_step(self, loop, task):
        """No signal handler runs between one current task and the other: all of it is C."""
        caller = current_task(loop)
        if caller is not None:
            leave_task(loop, caller)
        try:
            enter_task(loop, task)
            try:
                self.awaited = self.send(None)
                self.in_advance = True
            except StopIteration:
                pass
            finally:
                leave_task(loop, task)
        finally:
            if caller is not None:
                enter_task(loop, caller)

    def withdraw(self):
        """It does not begin any more, and its caller sees to the rest; False: it has begun."""
        return self.move(LOOP_NEW, LOOP_OVER)

    def take_over(self, SlotGuard guard not None, after):
        """The slot that the caller guards is the coroutine's until its end, and then ``after`` sees to
        it; False: it has ended, and the slot is the caller's still.  In the thread of the loop."""
        if self.state == LOOP_OVER:
            return False
        self.after = after
        cdef fp_slot *slot = guard.slot
        guard.slot = NULL
        if slot != NULL and guard.forks == fp_forks:
            fp_unborrow_locked(guard.c, slot)
        return True

    cdef object ended(self, result, error):
        after, unfinished, args = self.after, self.unfinished, self.args
        self.after = self.unfinished = self.refused = self.work = self.args = self.coro = None
        if after is not None:
            call_soon((0.0, after, (*args, result, error)))
        elif error is not None and unfinished is not None:
            call_soon((0.0, unfinished, args))

    # -- as a coroutine --

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        if self.in_advance:
            self.in_advance = False
            awaited, self.awaited = self.awaited, None
            if awaited is not None:  # else it wanted to give way, and has
                return awaited
        if self.coro is None and not self.move(LOOP_NEW, LOOP_BEGUN):
            raise StopIteration
        if self.context is not None:
            PyContext_Enter(self.context)
        try:
            if self.coro is None:
                self.coro = self.work(*self.args)
            return self.coro.send(value)
        except BaseException as error:
            if self.stopped(error):
                raise StopIteration
            raise
        finally:
            if self.context is not None:
                PyContext_Exit(self.context)

    def throw(self, kind, error=None, trace=None):
        if self.state == LOOP_NEW:
            return self.send(None)
        error = error or (kind() if isinstance(kind, type) else kind)
        if self.coro is None:
            raise error
        if self.in_advance:  # cancelled before it could await that, which is cancelled too
            self.in_advance = False
            awaited, self.awaited = self.awaited, None
            if awaited is not None:
                awaited.cancel()
        if self.context is not None:
            PyContext_Enter(self.context)
        try:
            return self.coro.throw(error)
        except BaseException as failure:
            if self.stopped(failure):
                raise StopIteration
            raise
        finally:
            if self.context is not None:
                PyContext_Exit(self.context)

    # Whether who awaits its end gets the exception, so that its task ends well.
    cdef bint stopped(self, error) except -1:
        if not self.move(LOOP_BEGUN, LOOP_OVER):
            return False
        through, self.through = self.through, None
        if isinstance(error, StopIteration):
            self.ended(error.value, None)
        else:
            self.ended(None, error)
        if through is None or through.done() or isinstance(error, GeneratorExit):
            return False
        if isinstance(error, StopIteration):
            through.set_result(None)
            return False
        through.set_exception(error)
        return isinstance(error, Exception)  # any other is its task's, and the loop's, as well

    def close(self):
        """Its loop is closed, or its task was given up: it goes no further."""
        if self.move(LOOP_NEW, LOOP_OVER) or self.coro is None:
            return
        try:
            self.coro.close()
        finally:
            self.stopped(GeneratorExit())

    def __del__(self):
        if self.state == LOOP_BEGUN and not is_finalizing():
            self.close()


async def create_on_loop(creator, attempt):
    """Calls the factory and puts what it returns into its slot: no signal handler comes between.  How
    it has ended is for ``creator.ended`` to see to, on the scheduler's thread."""
    cdef Core core = creator.manager.core
    error = failure = item = None
    wanted = True
    try:
        wanted = creator.begin(attempt)
        if wanted:
            lifetime = creator.lifetime()
            item = creator.create()
            if hasattr(type(item), "__await__"):
                item = await item
            if (
                item is None or hasattr(type(item), "cr_await")
                or not core.fill(attempt.index, item, lifetime)
            ):
                creator.refuse(item)
            core.count_created(monotonic() - attempt.started)  # here: the loop may be closed next
    except BaseException as raised:
        error = raised
    item = None
    try:
        # at once: it has had its time, even if the scheduler hears of it later
        creator.manager.lock.run(creator.running.pop, attempt, None)
        if error is not None:
            core.count("create_failures")
            error, failure = creator.explained(error)
    except BaseException as raised:
        error = error or raised
    call_soon((0.0, creator.ended, (attempt, wanted, error, failure)))


async def close_on_loop(closing, uint64_t index, str why, use):
    """A CLOSING slot: its hook, once and no more, and then the slot.  Done twice, it ends once."""
    cdef Core core = closing.core
    failure = None
    if close_has_begun(core, index, use):
        return
    try:
        closing.deadlines.begin(index)
        async with closing.limit():
            if not begin_close(core, index, use):
                return
            item, hook = core.item(index), closing.hook
            if hook is None:
                hook = getattr(item, "aclose", None) or getattr(item, "close", None)
                ended = None if hook is None else hook()
            else:
                ended = hook(item)
            item = hook = None
            if hasattr(type(ended), "__await__"):
                await ended
    except BaseException as error:
        failure = error
    if not close_has_begun(core, index, use):
        call_soon((0.0, closing.unfinished, (index, why, use)))
        raise failure
    try:
        closing.deadlines.end(index)  # before the slot is free: then the number is another's
    finally:
        core.free(index, why, use)
    closing.closed(why, failure)


async def give_back_on_loop(pool, uint64_t index, use, error, bint discard):
    """A CHECKING slot that comes back: reset, and idle or closed."""
    cdef Core core = pool.core
    why, used = await pool.agive_back(index, use, error, discard)
    if why is not None and core.retire(index):
        await close_on_loop(pool.closing, index, why, use)
    pool.given_back(used)


cdef class LoopCallback:
    """``call()``, for a loop to call; once more if a signal handler raises in it."""
    cdef object loop, call

    def __cinit__(self, loop, call):
        self.loop, self.call = loop, call

    def __call__(self):
        try:
            self.call()
        except BaseException:
            self.loop.call_soon(self)
            raise

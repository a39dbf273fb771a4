"""The threads of a WorkerPool: started when they are needed, ended when they are not.

A thread knows its group and not the pool, which may be collected while it works.  Interpreter exit
and fork, which concern all groups, are seen to here.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.thread import BrokenThreadPool
from contextvars import Context
from queue import Empty
from typing import Any

from .._core import (
    Event,
    Lock,
    Queue,
    SemaphoreHold,
    add_task,
    keep_forever,
    part_semaphore,
    withdraw_task,
)
from .._runtime.launch import apart
from ..errors import PoolDeadlock, PoolTimeout, ShutDown

__all__ = ["Task", "WorkerThreads"]

log = logging.getLogger("concurrent.futures")

#: A future, its submitter's context variables, the function with its arguments, and the permit that
#: it holds until it has ended.
Task = tuple[
    "Future[Any]", Context, Callable[..., Any], tuple[Any, ...], dict[str, Any], SemaphoreHold
]

STUCK = (
    "all {} workers would wait for a permit in their own full pool, and none would be left to make "
    "room: use try_submit(), a longer queue, or submit from outside"
)
BROKEN = "A thread initializer failed, the thread pool is not usable anymore"

#: How often a worker that waits for its own pool looks whether that is for nothing, in seconds.
LOOK = 0.1

_running = threading.local()  # .worker: the Worker of the running thread
_groups: weakref.WeakSet[WorkerThreads] = weakref.WeakSet()
_exiting = False


class Worker:
    """One thread: its group, and the permit of its task while that holds it."""

    __slots__ = ("group", "permit")

    def __init__(self, group: WorkerThreads) -> None:
        self.group = group
        self.permit: SemaphoreHold | None = None


class WorkerThreads:
    """At most ``workers`` threads, and what they have to do."""

    def __init__(
        self,
        name: str,
        prefix: str,
        workers: int,
        max_queue: int,
        idle_timeout: float | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        self.name = name
        self.prefix = prefix
        self.workers = workers
        self.idle_timeout = idle_timeout
        self.initializer = initializer
        self.initargs = initargs
        self.permits = part_semaphore(workers + max_queue, name=name)
        self.tasks: Queue[Task] = Queue()
        self.threads: set[threading.Thread] = set()
        self.numbers = itertools.count()  # of those started
        self.stuck: list[Worker] = []  # of its own, those that wait for a permit
        self.over = self.broken = False
        self.lock = Lock()  # a signal handler or a finaliser may submit, too
        _groups.add(self)

    def add(self, task: Task) -> None:
        """To be done by the next thread that is free; one more is started if none is."""
        thread: threading.Thread | None = None
        begun, failures = Event(), list[BaseException]()
        while True:
            args = self, thread, begun, failures
            try:
                added = -1 if _exiting else self.lock.run(add_task, self, task, thread, begin, args)
            except ShutDown:
                added = -1
            if added < 0:
                raise self.refusal()
            if added:
                break
            thread = threading.Thread(target=self.work, name=self.prefix, daemon=False, **apart())
        if added == 2:
            begun.wait()
            if failures and not self.threads:  # fewer than wanted will do, but none will not
                self.lock.run(withdraw_task, self, task)
                raise failures.pop()

    def work(self) -> None:
        """What a thread does."""
        with self.lock.hold():
            self.threads.add(threading.current_thread())
        me = _running.worker = Worker(self)
        if self.initializer is not None:
            try:
                self.initializer(*self.initargs)
            except BaseException:
                log.critical("Exception in initializer:", exc_info=True)
                self.fail()
                return
        tasks = self.tasks
        while self.tasks is tasks:  # in a forked child they are others
            try:
                task = tasks.get(True, self.idle_timeout)
            except Empty:
                if self.retire():
                    return
                continue
            except ShutDown:
                return
            try:
                do(me, *task)
            except BaseException:  # of a callback, which must not cost the pool a thread
                log.critical("Exception in worker", exc_info=True)
            del task
            tasks.task_done()

    def retire(self) -> bool:
        """Whether the calling thread, which found nothing to do, may end."""
        with self.lock.hold():
            if not self.tasks.empty():
                return False
            self.threads.discard(threading.current_thread())
            return True

    def wait_for_permit(
        self, permit: Callable[[float | None], SemaphoreHold], timeout: float | None
    ) -> SemaphoreHold:
        """What ``permit(timeout)`` returns, entered.  PoolDeadlock in the last of its own workers
        that would wait for it: a permit would never be free."""
        me: Worker | None = getattr(_running, "worker", None)
        if me is None or me.group is not self:
            return permit(timeout).__enter__()
        end = None if timeout is None else time.monotonic() + timeout
        with self.lock.hold():
            self.stuck.append(me)
        try:
            while True:
                left = None if end is None else end - time.monotonic()
                with self.lock.hold():
                    if self.is_stuck():
                        raise PoolDeadlock(self.name, STUCK.format(self.workers))
                    last = len(self.stuck) == self.workers
                if not last or (left is not None and left <= LOOK):
                    return permit(left and max(left, 0)).__enter__()
                try:
                    return permit(LOOK).__enter__()
                except PoolTimeout:
                    pass
        finally:
            with self.lock.hold():
                self.stuck.remove(me)

    def is_stuck(self) -> bool:
        """Whether every worker waits, and no permit is on its way to anybody: all are held by their
        tasks and by what is queued behind them."""
        if len(self.stuck) < self.workers:
            return False
        theirs = sum(worker.permit is not None for worker in self.stuck)
        return self.permits.in_use == self.tasks.qsize() + theirs

    def end(self) -> None:
        """No more tasks: what is queued is done, then the threads end.  Runs no Python code that
        could wait: a finaliser calls it."""
        self.over = True
        self.permits.close()
        self.tasks.shutdown()

    def fail(self) -> None:
        """The initialiser failed: nothing can be done here any more."""
        with self.lock.hold():
            self.broken = True
            self.end()
        for future in self.left():
            if future.set_running_or_notify_cancel():
                future.set_exception(BrokenThreadPool(BROKEN))

    def left(self) -> list[Future[Any]]:
        """The futures of what is queued, which nobody does any more."""
        found = []
        while True:
            try:
                found.append(self.tasks.get_nowait()[0])
            except (Empty, ShutDown):
                return found
            self.tasks.task_done()

    def refusal(self) -> Exception:
        """Why nothing can be submitted any more."""
        if self.broken:
            return BrokenThreadPool(BROKEN)
        after = "interpreter shutdown" if _exiting else "shutdown"
        return RuntimeError(f"cannot schedule new futures after {after}")

    def join(self) -> None:
        """Waits until its threads have ended, but for the calling one."""
        for thread in list(self.threads):
            if thread is not threading.current_thread():
                thread.join()

    def bind_to_process(self) -> None:
        """In a forked child: no thread is there, and what was queued is the parent's to do."""
        self.lock = Lock()
        self.threads = set()
        self.stuck = []
        keep_forever(self.tasks)  # no finaliser of what it holds is to run here
        self.tasks = Queue()
        if self.over:
            self.tasks.shutdown()


def begin(
    group: WorkerThreads, thread: threading.Thread, begun: Event, failures: list[BaseException]
) -> None:
    """Starts it, from a thread of its own, where no signal handler runs: one that raises in
    ``Thread.start`` can leave the lock of all threads held."""
    try:
        # not before: one that proves not to be needed would take a number with it
        thread.name = f"{group.prefix}_{next(group.numbers)}"
        thread.start()
    except BaseException as error:  # no more threads are to be had
        group.threads.discard(thread)
        failures.append(error)
    finally:
        begun.set()


def do(
    me: Worker,
    future: Future[Any],
    context: Context,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    permit: SemaphoreHold,
) -> None:
    """One task.  Its permit is free before the result is there: whoever has that finds it so."""
    if not future.set_running_or_notify_cancel():
        permit.__exit__(None, None, None)
        return
    me.permit = permit
    try:
        try:
            result = context.run(function, *args, **kwargs)
        finally:
            me.permit = None
            permit.__exit__(None, None, None)  # whoever submitted it may have been interrupted
    except BaseException as error:
        future.set_exception(error)
        del future  # or the error's traceback refers to what refers to the error
    else:
        future.set_result(result)


def _at_exit() -> None:
    """As the standard library does: what was submitted is done before the interpreter ends."""
    global _exiting
    _exiting = True
    groups = list(_groups)
    for group in groups:
        group.end()
    for group in groups:
        group.join()


def _after_fork_in_child() -> None:
    if hasattr(_running, "worker"):
        del _running.worker
    for group in list(_groups):
        group.bind_to_process()


try:  # before the threads that are no daemons are joined: nobody else would end ours
    threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
except RuntimeError:  # imported while the interpreter ends
    _exiting = True
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""The pool's own threads: hooks run here, so that no borrower waits longer than its timeout."""

from __future__ import annotations

import os
import sys
import threading
import time
from _contextvars import copy_context
from _queue import Empty, SimpleQueue
from collections import deque

from .. import _core, _reports
from . import scheduler
from .launch import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _contextvars import Context
    from collections.abc import Callable
    from typing import Any

LINGER = 2.0  # seconds without work after which a worker ends
AGAIN = 0.1  # seconds after which a thread is asked for again where none was to be had

__all__ = ["ThreadGroup", "on_loop", "shared_group"]

_shared: dict[tuple[str, int], ThreadGroup] = {}


def on_loop() -> bool:
    """Whether an event loop runs in this thread: then no hook may, for it would stop the loop."""
    modules = sys.modules  # no `get`: see _blocking.loop_here
    return "asyncio" in modules and modules["asyncio"]._get_running_loop() is not None


def _end() -> None:
    """Put into the inbox for a worker to end."""


def _end_child() -> None:
    """A hook has forked, and has returned in the child, too, where this thread is the last one and
    has nothing to return to: the process ends, as if it had none of ours."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    os._exit(0)


def shared_group(name: str, limit: int) -> ThreadGroup:
    """The group of this name that all pools of the process share.  A forked child has another one:
    the threads are gone."""
    key = name, _core.forks()
    return _shared.get(key) or _shared.setdefault(key, ThreadGroup(name, limit))


class ThreadGroup:
    """Daemon threads, started when there is work and ended when idle; at most ``limit`` at a time.

    ``submit`` never blocks and never fails for want of a thread: work waits for a free one, and
    where the system has none to give it is asked again a little later.  What takes memory is made
    when it is needed: a pool has four of these, and most never work.

    Work sees a copy of the context variables of whoever submits it; of ``context``, if that is the
    scheduler.
    """

    def __init__(self, name: str, limit: float, context: Context | None = None) -> None:
        self.name = name
        self.limit = limit
        self.context = context
        self.linger = LINGER
        self._lock = _core.Lock()  # a signal handler may submit inside submit
        self._jobs: deque[tuple[Callable[..., object], tuple[Any, ...]]] | None = None
        self._idle = 0
        self._threads = 0
        self._inbox: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()
        self._running = 0
        self.starved = False  # no thread was to be had; what was submitted since waits
        self._stopped = False
        self._quiet = _core.Condition()

    def submit(self, call: Callable[..., object], *args: Any) -> None:
        self._submit(scheduler.context_of_caller(self.context).run, (call, *args))

    def hand_over(self, call: Callable[..., object], *args: Any) -> None:
        """The same for a caller, who leaves it to the scheduler: it may start a thread, which is
        not done where a signal handler may raise."""
        scheduler.call_soon(self._submit, copy_context().run, (call, *args))

    def _submit(self, run: Callable[..., object], args: tuple[Any, ...]) -> None:
        with self._lock.hold():
            if not self._begin(run, args):
                self._running += 1
                if self._jobs is None:
                    self._jobs = deque()
                self._jobs.append((run, args))

    def offer(self, call: Callable[..., object], *args: Any) -> bool:
        """As ``submit``, but only if it begins at once; else False."""
        return self._begin(scheduler.context_of_caller(self.context).run, (call, *args))

    def _begin(self, call: Callable[..., object], args: tuple[Any, ...]) -> bool:
        """Has it done by a worker that is idle, or by a new one; False: there is none."""
        with self._lock.hold():
            if self._idle:
                self._idle -= 1
                self._running += 1
                self._inbox.put((call, args))
                return True
            if self.starved or self._threads >= self.limit:
                return False
            self._running += 1
            started = self._start(call, args)
            if not started:
                self._running -= 1
            return started

    def replace_stuck(self, threads: int = 1) -> None:
        """A worker is stuck in a hook past its deadline: another may take its place.  -1: it came
        back."""
        with self._lock.hold():
            self.limit += threads
            self._take_on()

    def _take_on(self) -> None:
        """Under the lock: starts threads for what waits, as many as there may be."""
        while self._jobs and self._threads < self.limit and not self.starved:
            job = self._jobs.popleft()
            if not self._start(*job):
                self._jobs.appendleft(job)

    def _ask_again(self) -> None:
        """On the scheduler's thread: there may be threads by now."""
        with self._lock.hold():
            self.starved = False
            self._take_on()

    def work_off(self) -> None:
        """On the scheduler's thread, when the interpreter ends and no thread is to be had any more:
        does what waits."""
        while self._jobs:
            with self._lock.hold():
                call, args = self._jobs.popleft()
            self._do([call, args])

    @property
    def undone(self) -> int:
        """How much of what was submitted is not done yet."""
        return self._running

    def stop(self) -> None:
        """Idle workers end now, the others when they have done what was submitted."""
        with self._lock.hold():
            self._stopped = True
            for _ in range(self._idle):
                self._inbox.put((_end, ()))
            self._threads -= self._idle
            self._idle = 0

    def wait_idle(self, timeout: float) -> bool:
        """Waits until nothing submitted is left undone."""
        return bool(self._quiet.wait_for(lambda: self._running == 0, timeout))

    def _start(self, call: Callable[..., object], args: tuple[Any, ...]) -> bool:
        """Under the lock; False: no thread is to be had, so it is asked for again."""
        try:
            self._threads += 1
            # in a list that the worker empties: a Thread keeps its arguments until it ends
            launch(self.name, self._work, [call, args])
        except (RuntimeError, MemoryError):  # interpreter exit, or the system's limit
            self._threads -= 1
            self.starved = True
            scheduler.call_at(time.monotonic() + AGAIN, self._ask_again)
            return False
        return True

    def _work(self, first: list[Any]) -> None:
        call, args = first
        first.clear()
        while True:
            job = [call, args]
            del call, args  # nothing is kept alive by an idle worker
            if not self._do(job):
                _end_child()
            with self._lock.hold():
                if self._jobs and self._threads <= self.limit:
                    call, args = self._jobs.popleft()
                    continue
                if self._threads > self.limit:
                    self._threads -= 1
                    return
                if self._stopped:
                    self._threads -= 1
                    return
                self._idle += 1
            try:
                call, args = self._inbox.get(timeout=self.linger)
                if call is _end:  # stop() has counted this worker out
                    return
            except Empty:
                with self._lock.hold():
                    if self._idle:  # nobody has counted on this worker meanwhile
                        self._idle -= 1
                        self._threads -= 1
                        return
                call, args = self._inbox.get()
                if call is _end:
                    return

    def _do(self, job: list[Any]) -> bool:
        """One call; the list is emptied, so that nothing is kept alive once it is over.  False: a
        hook has forked, and this is the child, whose workers are others."""
        call, args = job
        job.clear()
        forks = _core.forks()
        try:
            call(*args)
        except BaseException as error:  # SystemExit from a hook, say: the worker goes on
            if _core.forks() == forks:
                _reports.warn_and_go_on("%s: a hook raised", self.name, error=error)
        del call, args
        if _core.forks() != forks:
            return False
        with self._lock.hold():
            self._running -= 1
        if not self._running:
            self._quiet.notify_all()
        return True

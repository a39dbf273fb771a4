"""A pool without threads of its own: what its scheduler and its workers would do, the test does.

For tests of one thread that go step by step: nothing is waited for, so they take as long on a busy
machine as the work itself.  What is handed over is put in a line, and done in that order

- when a caller is about to wait for it (``Manager.announce_waiter``, or on a condition), and
- when the test says so: ``OneThread.work()``; ``ManualClock.advance`` does it as well.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from unittest import mock

from fastpool import _core, pool
from fastpool._runtime import scheduler
from fastpool.keyed import _key_pool
from fastpool.keyed import _manager as keyed_manager
from fastpool.pool import _creation, _manager, _partitioned

ROUNDS = 50  # of work, after which nothing new is to be expected
Call = tuple[Callable[..., object], tuple[Any, ...]]


class Condition:
    """In the place of ``_core.Condition``: whoever waits does what is to be done meanwhile.  With
    nothing left to do, or always the same, it is as if the time were over."""

    def __init__(self, world: OneThread) -> None:
        self.world = world

    def notify_all(self) -> None:
        """Nobody waits while another thing goes on."""

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        for _ in range(ROUNDS):
            if (found := predicate()) or not self.world.queue or timeout == 0:
                return found
            self.world.work()
        return predicate()


class OneThread(contextlib.ExitStack):
    """Begun by ``__enter__``, ended by ``close``; a pool that is made in between is to be closed in
    between."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: deque[Call] = deque()
        self.me = threading.get_ident()
        self.working = False

    def __enter__(self) -> OneThread:
        super().__enter__()
        scheduler.start()  # or it would begin with the first pool, on the inbox of this one
        outside = scheduler._inbox  # for deadlines of the real time, and for pools of other threads

        class Inbox:
            @staticmethod
            def put(entry: tuple[float, Callable[..., object], tuple[Any, ...]]) -> None:
                at, call, args = entry
                if threading.get_ident() != self.me or at > time.monotonic():
                    outside.put(entry)
                else:
                    self.queue.append((call, args))

        self._put_in(scheduler, "_inbox", Inbox)
        self._put_in(_core, "Condition", lambda: Condition(self))
        for module in (keyed_manager, _manager, _creation, _partitioned):
            self._put_in(module, "ThreadGroup", self._workers)
        for manager in (_manager.Manager, _key_pool.KeyPool):
            self._put_in(manager, "announce_waiter", self._announcing(manager.announce_waiter))
        self.callback(_core.bind, pool.configure, outside.put)
        _core.bind(pool.configure, Inbox.put)
        return self

    def _put_in(self, owner: Any, name: str, value: Any) -> None:
        self.enter_context(mock.patch.object(owner, name, value))

    def _workers(self, name: str, limit: float, context: object = None) -> Waiting:
        return Waiting(self)

    def _announcing(self, announce_waiter: Callable[..., None]) -> Callable[..., None]:
        def announce_and_work(*args: Any) -> None:
            announce_waiter(*args)
            self.work()

        return announce_and_work

    def work(self) -> None:
        """Does all that was handed over, and what follows from it."""
        assert not self.working, "one thing leads to another, but not inside of it"
        self.working = True
        try:
            while self.queue:
                call, args = self.queue.popleft()
                call(*args)
        finally:
            self.working = False


class Waiting:
    """In the place of ``ThreadGroup``."""

    linger = 0.0
    starved, undone = False, 0  # for the interpreter's exit

    def __init__(self, world: OneThread) -> None:
        self.world = world

    def submit(self, call: Callable[..., object], *args: Any) -> None:
        self.world.queue.append((call, args))

    hand_over = submit

    def wait_idle(self, timeout: float) -> bool:
        self.world.work()
        return True

    def replace_stuck(self, threads: int = 1) -> None:
        """There is none to be excused."""

    def stop(self) -> None:
        """There is none to be ended."""

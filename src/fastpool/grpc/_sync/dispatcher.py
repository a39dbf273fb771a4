"""The thread that waits in the queue for futures and streams: one, for all channels of the process.

It runs an event loop, in which each of them is a task that waits for its slot, in the same queue as
threads that make blocking calls. It is started for the first one, and is a daemon.

What it has to do comes through a deque, and only who finds that the thread has taken in all before
wakes it: ``call_soon_threadsafe`` writes to a socket and lets go of the GIL, which a thousand calls
at once would do a thousand times.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from ..._aio import loop as aio_loop  # noqa: F401  tells the core of event loops
from ..._core import Lock
from ..._runtime.launch import launch

BATCH = 64  # so many are taken in before others have their turn in the loop

Call = Callable[[asyncio.AbstractEventLoop], object]


class Dispatcher:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # None: there is no thread yet
        self._calls: deque[Call] = deque()
        self._woken = False  # the loop is about to take in what is there

    def run(self, call: Call) -> None:
        """Has it called in the thread, with the loop, after what was given before. Never blocks.
        RuntimeError: there is no thread to be had, as at the end of the interpreter."""
        loop = self._loop
        if loop is None:
            loop = self._start()
        self._calls.append(call)
        if not self._woken:
            self._wake(loop)

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Calls it then, and nobody learns of what it raises."""
        self.run(lambda loop: loop.call_later(seconds, call))

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._woken = True
            loop.call_soon_threadsafe(self._take_in, loop)
        except BaseException:  # a signal handler's; others have seen it woken, and rely on that
            self._woken = False
            loop.call_soon_threadsafe(self._take_in, loop)
            raise

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock.hold():
            if self._loop is None:
                loop = asyncio.new_event_loop()
                launch("fastpool-grpc-queue", _serve, loop)
                self._loop = loop
            return self._loop

    def _take_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread."""
        self._woken = False  # first: what comes from here on may be missed
        for _ in range(BATCH):
            try:
                call = self._calls.popleft()
            except IndexError:
                return
            try:
                call(loop)
            except Exception:  # the others are served still
                logging.getLogger("fastpool").exception("fastpool's thread for gRPC calls")
        self._woken = True
        loop.call_soon(self._take_in, loop)

    def forked(self) -> None:
        """In the child the thread is not there, nor anybody who waits."""
        _inherited.append(self._loop)  # its sockets are the parent's
        self.__init__()  # type: ignore[misc]


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


_inherited: list[Any] = []
dispatcher = Dispatcher()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=dispatcher.forked)

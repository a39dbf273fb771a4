"""The thread that waits in the queue for futures and streams: one, for all channels of the process.

It runs an event loop, in which each of them is a task that waits for its slot, in the same queue as
threads that make blocking calls. It is started for the first one, and is a daemon.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from ..._aio import loop as aio_loop  # noqa: F401  tells the core of event loops
from ..._core import Lock
from ..._runtime.launch import launch


class Dispatcher:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Runs it in a context that is a copy of the caller's. RuntimeError: there is no thread to
        be had, as at the end of the interpreter."""
        try:
            loop = self._loop or self._start()
            return asyncio.run_coroutine_threadsafe(coroutine, loop)
        except BaseException:
            coroutine.close()
            raise

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Calls it then, and nobody learns of what it raises."""
        loop = self._loop or self._start()
        loop.call_soon_threadsafe(loop.call_later, seconds, call)

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock.hold():
            if self._loop is None:
                loop = asyncio.new_event_loop()
                launch("fastpool-grpc-queue", self._serve, loop)
                self._loop = loop
            return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    def forked(self) -> None:
        """In the child the thread is not there, nor anybody who waits."""
        _inherited.append(self._loop)  # its sockets are the parent's
        self.__init__()  # type: ignore[misc]


_inherited: list[Any] = []
dispatcher = Dispatcher()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=dispatcher.forked)

"""The thread that waits in the queue for futures and streams: one, for all channels of the process.

It runs an event loop, in which each of them is a task that waits for its slot, in the same queue as
threads that make blocking calls. It is started for the first one, and is a daemon.

What it has to do comes through a queue of fastpool's own: to put there is one call in C, which no
signal handler can split, and wakes the thread only where that sleeps. `call_soon_threadsafe` writes
to a socket for each of a thousand calls, and lets go of the GIL each time.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from ... import FastPool
from ..._core import Lock
from ..._runtime.launch import launch

BATCH = 64  # so many are taken in before others have their turn in the loop

Call = Callable[[asyncio.AbstractEventLoop], object]


class Dispatcher:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inbox: FastPool[Call] | None = None  # None: there is no thread yet

    def run(self, call: Call) -> None:
        """Has it called in the thread, with the loop, after what was given before. Never blocks.
        RuntimeError: there is no thread to be had, as at the end of the interpreter."""
        inbox = self._inbox
        if inbox is None:
            inbox = self._start()
        inbox.put_nowait(call)

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Calls it then, and nobody learns of what it raises."""
        self.run(lambda loop: loop.call_later(seconds, call))

    def _start(self) -> FastPool[Call]:
        with self._lock.hold():
            if self._inbox is None:
                inbox: FastPool[Call] = FastPool(order="fifo", fairness="fair")
                launch("fastpool-grpc-queue", _thread, inbox)
                self._inbox = inbox
            return self._inbox

    def forked(self) -> None:
        """In the child the thread is not there, nor anybody who waits."""
        _inherited.append(self._inbox)
        self.__init__()  # type: ignore[misc]


def _thread(inbox: FastPool[Call]) -> None:
    asyncio.run(_serve(inbox))


async def _serve(inbox: FastPool[Call]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        for _ in range(BATCH):
            call = await inbox.aget()
            try:
                call(loop)
            except Exception:  # the others are served still
                logging.getLogger("fastpool").exception("fastpool's thread for gRPC calls")
            del call  # while it waits, it keeps nobody's call
        await asyncio.sleep(0)


_inherited: list[Any] = []
dispatcher = Dispatcher()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=dispatcher.forked)

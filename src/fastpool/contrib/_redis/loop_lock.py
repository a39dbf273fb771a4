"""As idle_lock.py, for tasks: whoever has the lock has every idle connection of its event loop."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from fastpool import FastPool, PoolOverloaded, PoolTimeout

__all__ = ["LoopLock"]


class LoopLock:
    """``async with lock:`` - no other task of this loop gets at what was idle there.  Each loop has
    its own; not re-entrant, as the hosts' is not."""

    def __init__(self, pool: FastPool[Any], owners: weakref.WeakKeyDictionary[Any, Any]) -> None:
        self.pool = pool
        self.owners = owners  # of connections: their loops
        self._loops: weakref.WeakKeyDictionary[Any, _OneLoop] = weakref.WeakKeyDictionary()

    def _here(self) -> _OneLoop:
        loop = asyncio.get_running_loop()
        return self._loops.setdefault(loop, _OneLoop())

    async def __aenter__(self) -> LoopLock:
        here = self._here()
        await here.lock.acquire()
        try:
            here.owner = asyncio.current_task()
            await self._take(here.held)
        except BaseException:
            self._leave(here)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave(self._here())

    def _leave(self, here: _OneLoop) -> None:
        here.owner = None
        while here.held:  # in the order in which they were taken: the one used last is on top again
            self.pool.put(here.held.pop())
        here.lock.release()

    def locked(self) -> bool:
        """Whether a task of this loop has it."""
        return self._here().lock.locked()

    async def _take(self, held: list[Any]) -> None:
        """It suspends nowhere, since what is idle comes at once."""
        for _ in self.idle():
            try:
                held.append(await self.pool.aget(0))
            except (PoolTimeout, PoolOverloaded):  # closed meanwhile for another loop
                return

    def idle(self) -> list[Any]:
        """In the pool and of this loop; outside loops: of all."""
        loop = asyncio._get_running_loop()
        queue = self.pool.queue
        return [each for each in queue if loop is None or self.owners.get(each) is loop]

    def held(self) -> list[Any]:
        """By the task that has the lock."""
        loop = asyncio._get_running_loop()
        here = None if loop is None else self._loops.get(loop)
        return [] if here is None else list(here.held)

    def mine(self) -> bool:
        """Whether the calling task is inside the block."""
        loop = asyncio._get_running_loop()
        here = None if loop is None else self._loops.get(loop)
        return here is not None and here.owner is not None and here.owner is asyncio.current_task()


class _OneLoop:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.held: list[Any] = []
        self.owner: asyncio.Task[Any] | None = None

"""Pools for code that runs on anyio or trio: ``async with lease(pool) as resource``.

On asyncio this is the pool's own async API.  On trio an idle resource is taken and given back in
place; whoever has to wait is in the pool's queue through a task of an asyncio event loop, which one
thread of this module runs for the whole process.  A cancelled wait leaves the queue; what it was
granted at that very moment goes back.

Not on trio: pools with an async factory, whose resources belong to loops of asyncio (TypeError);
``PoolDeadlock``, since nobody knows there what else the waiting task holds; guest mode.
"""

from __future__ import annotations

import asyncio
import os
import threading
from asyncio import AbstractEventLoop
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

try:
    from anyio import Event
    from anyio.lowlevel import checkpoint, current_token
except ImportError as error:
    raise ImportError(
        "fastpool.contrib.anyio needs anyio 4.11 or newer: pip install 'fastpool[anyio]'"
    ) from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import EllipsisType

    from fastpool import FastPool, Lease

__all__ = ["close", "lease"]

T = TypeVar("T")


@asynccontextmanager
async def lease(pool: FastPool[T], timeout: float | EllipsisType | None = ...) -> AsyncIterator[T]:
    """``async with lease(pool) as resource``: entering takes, the end gives back.

    ``timeout``: seconds, ``None`` for ever, default the pool's.  Errors as with ``pool.lease``.
    On trio entering is a checkpoint; reset and close run on a worker of the pool at the end, which
    does not wait for them.  Cost there: a checkpoint if a resource is idle, else some 0.1 ms.
    """
    how = () if timeout is ... else (timeout,)
    if _on_asyncio():
        async with pool.lease(*how) as resource:
            yield resource
        return
    await checkpoint()
    try:
        held = await pool.aacquire(*how)  # what is idle comes without a loop
    except RuntimeError:  # it has to wait, and that is for asyncio
        held = await _OffloadedCall(lambda: pool.aacquire(*how), _give_back).outcome()
    async with held as resource:
        yield resource


async def close(pool: FastPool[Any], timeout: float | None = 5.0) -> bool:
    """``await pool.aclose(timeout)``.  On trio it waits for the caller's own leases, too."""
    if _on_asyncio():
        return await pool.aclose(timeout)
    return await _OffloadedCall(lambda: pool.aclose(timeout)).outcome()


def _on_asyncio() -> bool:
    return isinstance(current_token().native_token, AbstractEventLoop)


async def _give_back(held: Lease[Any]) -> None:
    async with held:
        pass


# ---- The loop where tasks of trio wait -----------------------------------------------------------

_loops: dict[int, AbstractEventLoop] = {}  # by process: a forked child leaves its parent's alone


def _helper() -> AbstractEventLoop:
    process = os.getpid()
    loop = _loops.get(process)
    if loop is None:
        new = asyncio.SelectorEventLoop()
        loop = _loops.setdefault(process, new)
        if loop is new:
            threading.Thread(target=new.run_forever, name="fastpool-anyio", daemon=True).start()
        else:
            new.close()
    return loop


class _OffloadedCall(Generic[T]):
    """``await call()`` on the helper's loop, for a task of trio; ``undo(result)`` if that task does
    not take it any more.  All but ``outcome`` runs in the helper's thread."""

    def __init__(
        self,
        call: Callable[[], Coroutine[Any, Any, T]],
        undo: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.call, self.undo = call, undo
        self.loop = _helper()
        self.trio: Any = current_token().native_token
        self.over = Event()  # pyright: ignore[reportCallIssue]  # it takes anyio for this file
        self.result: list[T] = []
        self.error: BaseException | None = None
        self.given_up = False

    async def outcome(self) -> T:
        self.loop.call_soon_threadsafe(self.begin)
        try:
            await self.over.wait()
        except BaseException:
            self.loop.call_soon_threadsafe(self.give_up)
            raise
        if self.error is not None:
            raise self.error
        return self.result.pop()

    def begin(self) -> None:
        self.task = self.loop.create_task(self.run())

    async def run(self) -> None:
        try:
            self.result.append(await self.call())
        except BaseException as error:  # SystemExit, too: it would end the helper
            self.error = error
        try:
            self.trio.run_sync_soon(self.over.set)
        except RuntimeError:  # trio's run has ended
            self.give_up()
        if self.given_up:
            self.take_back()

    def give_up(self) -> None:
        """Cancel the call; what it brings all the same, or has brought, is undone."""
        self.given_up = True
        if not self.task.done():
            self.task.cancel()
        self.take_back()

    def take_back(self) -> None:
        """Undo what the call has brought, if that was not done yet.  Both the cancelled task and
        the end of trio's run come here: what one has begun to undo the other leaves alone."""
        if self.result and self.undo is not None:
            self.undoing = self.loop.create_task(self.undo(self.result.pop()))

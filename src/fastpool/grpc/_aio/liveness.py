"""As `_sync/liveness.py`, for the connections of one event loop, by a task of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import grpc

from .._sync.liveness import CHECK, CONNECT_TIMEOUTS, LASTS, NO_ANSWER, PATIENCE, Pause
from .connection import AioConnection

if TYPE_CHECKING:
    from .loop_connections import LoopConnections


class AioLiveness:
    """All of it is for the thread of the loop."""

    def __init__(self, dispatcher: LoopConnections) -> None:
        self._dispatcher = dispatcher
        self._suspects: dict[AioConnection, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._pause = Pause()

    def suspect(self, connection: AioConnection) -> None:
        """A call on it has expired. It gets fewer calls until it has answered."""
        if time.monotonic() < connection.answered_at + LASTS or connection in self._suspects:
            return
        self._dispatcher.penalize(connection)
        if self._dispatcher.ending:
            return
        self._suspects[connection] = None
        if self._task is None or self._task.done():
            self._task = self._dispatcher.loop.create_task(self._run())

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while suspects := list(self._suspects):
            try:
                await self._decide(await self._silent(suspects))
            finally:
                for each in suspects:
                    self._suspects.pop(each, None)

    async def _silent(self, asked: Iterable[AioConnection]) -> list[AioConnection]:
        """Those that do not answer, all of them asked at once."""
        asked = list(asked)
        answers = await asyncio.gather(*map(self._ask, asked))
        return [each for each, code in zip(asked, answers, strict=True) if code == "silent"]

    async def _ask(self, connection: AioConnection) -> str:
        try:
            call = connection.dial().unary_unary(CHECK)(b"", timeout=PATIENCE)
            code = await call.code()
        except (grpc.aio.UsageError, RuntimeError):  # it is closed
            return "gone"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "silent"
        if code not in NO_ANSWER:
            connection.answered_at = time.monotonic()
            self._dispatcher.verdicts.pardon(connection)
        return "there"

    async def _decide(self, silent: list[AioConnection]) -> None:
        if not silent or not self._pause.over:
            return
        fresh = await self._fresh()
        if fresh is None:
            return
        try:
            still = await self._silent([*silent, fresh])
        except BaseException:
            fresh.shut()
            raise
        dead = [each for each in still if each is not fresh]
        if fresh in still or not fresh.answered_at or not dead:
            fresh.shut()
            self._pause.again()
        else:
            await self._dispatcher.warm_up(fresh)
            self._dispatcher.give_up(dead, fresh)
            self._pause.end()

    async def _fresh(self) -> AioConnection | None:
        """A connection that is not lent yet; None: nothing is to be reached."""
        for timeout in CONNECT_TIMEOUTS:
            fresh = AioConnection(self._dispatcher)
            try:
                async with asyncio.timeout(timeout):
                    await fresh.connect()
                return fresh
            except Exception:
                fresh.shut()
            except BaseException:
                fresh.shut()
                raise
        return None

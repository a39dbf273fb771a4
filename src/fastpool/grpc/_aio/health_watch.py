"""The watch over one connection's health, by a task of its loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from .._health import WATCH, Verdicts, request_of, status_in
from .._sync.health_watch import FIRST_PAUSE, LAST_PAUSE

if TYPE_CHECKING:
    from .connection import AioConnection


async def watch(connection: AioConnection, service: str, verdicts: Verdicts) -> None:
    """Tells the verdicts of each status, until the connection is closed. A server without the
    health service serves."""
    request, pause = request_of(service), FIRST_PAUSE
    while True:
        try:
            call = connection.dial().unary_stream(WATCH)(request, wait_for_ready=True)
            over = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]
            while (response := await call.read()) is not over:
                pause = FIRST_PAUSE
                applied = verdicts.say(connection, status_in(response))
                while not applied:
                    await asyncio.sleep(FIRST_PAUSE)
                    applied = verdicts.apply()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return
            verdicts.say(connection, 0)  # the connection is lost, and what was said of it
        except (grpc.aio.UsageError, RuntimeError):  # closed, or of a forked child
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE)

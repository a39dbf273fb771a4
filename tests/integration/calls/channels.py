"""What the tests of policies around channels share: loops, methods of the server, a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from fastpool.calls import CallPolicy
from integration.calls.server import SERVICE, ScriptServer
from support.helpers import PATIENCE


def in_loop(script: ScriptServer, policy: CallPolicy, main: Callable[[Any], Any]) -> None:
    """Runs ``main(channel)`` with a channel of tasks under the policy."""

    async def body() -> None:
        channel = grpc.aio.insecure_channel(script.target)
        async with policy.wrap(channel, idempotent=True) as wrapped:
            async with asyncio.timeout(30):
                await main(wrapped)

    asyncio.run(body())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def say(channel: Any) -> Any:
    return channel.unary_unary(f"/{SERVICE}/Say")


def count(channel: Any) -> Any:
    return channel.unary_stream(f"/{SERVICE}/Count")


class Pauses:
    """A clock that stands still, and does what the test wants in a pause."""

    now = 100.0

    def __init__(self, then: Callable[[], object]) -> None:
        self.then = then
        self.pauses = 0

    def advance(self, seconds: float) -> None:
        self.pauses += 1
        self.then()

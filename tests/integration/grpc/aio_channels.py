"""What the tests of shared channels of tasks have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import fastpool.grpc as fg
from integration.grpc.server import SERVICE
from support.loops import eventually

ONE_SLOT: Any = {"connections": 1, "streams_per_connection": 1}


def say(channel: Any, method: str = "Say") -> Any:
    return channel.unary_unary(f"/{SERVICE}/{method}")


def count(channel: Any, method: str = "Count") -> Any:
    return channel.unary_stream(f"/{SERVICE}/{method}")


def join(channel: Any) -> Any:
    return channel.stream_unary(f"/{SERVICE}/Join")


def chat(channel: Any) -> Any:
    return channel.stream_stream(f"/{SERVICE}/Chat")


async def all_of(stream: Any) -> list[Any]:
    return [message async for message in stream]


def in_use() -> int:
    return sum(each.in_use for each in fg.stats())


def in_queue() -> int:
    return sum(each.waiting for each in fg.stats())


async def quiet() -> None:
    """No slot is held and nobody waits, without help of the garbage collector."""
    await eventually(lambda: (in_use(), in_queue()) == (0, 0))


@asynccontextmanager
async def occupied(channel: Any, wanted: bool = True) -> AsyncIterator[Callable[[], Any]]:
    """A channel of one slot, which a stream holds until the function that this gives is called, or
    the end of the block."""
    if not wanted:
        yield lambda: None
        return
    stream = count(channel)(b"...")
    await stream.read()
    try:
        yield stream.cancel
    finally:
        stream.cancel()


async def waiting(call: Any, n: int = 1) -> Any:
    """The call, once it is the n-th in the queue."""
    await eventually(lambda: call.done() or in_queue() == n)
    assert not call.done()
    return call


async def turns(n: int = 3) -> None:
    """Let everything that is due on the loop run."""
    for _ in range(n):
        await asyncio.sleep(0)

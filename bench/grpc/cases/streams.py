"""G7: streams that their callers leave in the middle, at a server that allows four at once.

Each of a hundred callers reads one message and goes. Bare asyncio streams go on for ever then, and
so do bare sync ones that were given a done callback; when four do, nothing else can begin.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import grpc
import grpc.aio

from bench.grpc.adapter import aio_shared, shared
from bench.grpc.cases import Effort, Figure, take_turns
from bench.grpc.clients import PATIENCE, bare, stream, unary
from bench.grpc.server import GrpcServer

LIMIT = 4
CALLERS = 100
DEADLINE = 1.0  # seconds, of the call that comes after


class Left(NamedTuple):
    """How many streams were left before nothing went on; milliseconds of the call after them."""

    left: int
    next_call: float


async def leave_on_loop(creator: Callable[[], Any]) -> Left:
    async with creator() as channel:
        say, count = unary(channel), stream(channel)
        await say(b"", timeout=PATIENCE)

        async def look() -> None:
            async for _ in count(b"...", timeout=PATIENCE):
                break

        left = 0
        for _ in range(CALLERS):
            try:
                async with asyncio.timeout(DEADLINE):
                    await look()
            except (TimeoutError, grpc.aio.AioRpcError):
                break
            left += 1
        begun = time.perf_counter()
        try:
            await say(b"", timeout=DEADLINE)
        except grpc.aio.AioRpcError:
            pass  # it took until its deadline, and that is the figure
        return Left(left, 1_000 * (time.perf_counter() - begun))


def leave(creator: Callable[[], Any]) -> Left:
    with creator() as channel:
        say, count = unary(channel), stream(channel)
        say(b"", timeout=PATIENCE)

        def look() -> None:
            call = count(b"...", timeout=DEADLINE if left >= LIMIT else PATIENCE)
            call.add_done_callback(lambda _: None)
            for _ in call:
                break

        left = 0
        for _ in range(CALLERS):
            try:
                look()
            except grpc.RpcError:
                break
            left += 1
        begun = time.perf_counter()
        try:
            say(b"", timeout=DEADLINE)
        except grpc.RpcError:
            pass
        return Left(left, 1_000 * (time.perf_counter() - begun))


def g7(effort: Effort) -> Iterator[Figure]:
    parameters = {"connections": 1, "streams_per_connection": LIMIT}
    with GrpcServer(streams=LIMIT, patient=True) as server:
        target = server.target
        openers = {"bare": bare(target), "ours": lambda: aio_shared(target, **parameters)}
        loops = take_turns(
            {
                name: lambda creator=creator: asyncio.run(leave_on_loop(creator))
                for name, creator in openers.items()
            },
            effort.turns,
        )
    yield figure("G7a", loops)
    with GrpcServer(streams=LIMIT, patient=True) as server:
        target = server.target
        threads = take_turns(
            {
                "bare": partial(leave, lambda: grpc.insecure_channel(target)),
                "ours": partial(leave, lambda: shared(target, **parameters)),
            },
            effort.turns,
        )
    yield figure("G7b", threads)


def figure(key: str, turns: Any) -> Figure:
    def next_call(result: Left) -> float:
        return result.next_call

    left = {name: [each.left for each in results] for name, results in turns.results.items()}
    return Figure(
        key, turns.median("bare", next_call), turns.worst("ours", next_call), {"left": left}
    )

"""G15: what calls cost that wait in the queue: threads, and CPU beside calls on a bare channel.

All calls are begun at once. Bare grpcio sends them, to a server without a limit; ours lets 50 at a
time go, on one connection, and the rest wait. The CPU is that of this whole process; a turn of one
contestant follows one of the other, and the figure is the median of their ratios.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import grpc.aio

from bench.grpc.adapter import aio_shared, shared
from bench.grpc.cases import Effort, Figure, Reading, median_of
from bench.grpc.cases.idle import threads
from bench.grpc.clients import PATIENCE, unary
from bench.grpc.server import GrpcServer

CALLS = 800
ONE: dict[str, Any] = {"connections": 1}
HELD = b"300"  # milliseconds that the slots are taken while threads are counted
TURNS = 4  # for each of the effort's


def begin(channel: Any, request: bytes, calls: int) -> list[Any]:
    wait = unary(channel, "Wait")
    return [wait.future(request, timeout=PATIENCE) for _ in range(calls)]


def threads_more(creator: Callable[[str], Any], target: str) -> float:
    """While the calls wait, than before them."""
    with creator(target) as channel:
        unary(channel)(b"", timeout=PATIENCE)
        before = threads()
        futures = begin(channel, HELD, CALLS)
        counted = threads() - before
        for future in futures:
            future.result()
    return counted


def cpu_of_futures(channel: Any) -> float:
    """Seconds a call."""
    gc.collect()
    begun = time.process_time()
    for future in begin(channel, b"0", CALLS):
        future.result()
    return (time.process_time() - begun) / CALLS


async def cpu_of_tasks(channel: Any) -> float:
    gc.collect()
    wait = unary(channel, "Wait")
    begun = time.process_time()
    await asyncio.gather(*(wait(b"0", timeout=PATIENCE) for _ in range(CALLS)))
    return (time.process_time() - begun) / CALLS


def ratios_of_futures(target: str, turns: int) -> list[float]:
    with grpc.insecure_channel(target) as bare, shared(target, **ONE) as ours:
        found = []
        for turn in range(turns + 1):
            pair = [bare, ours] if turn % 2 else [ours, bare]
            cpu = {channel: cpu_of_futures(channel) for channel in pair}
            found.append(cpu[ours] / cpu[bare])
    return found[1:]  # the first turn connects


async def ratios_of_tasks(target: str, turns: int) -> list[float]:
    async with grpc.aio.insecure_channel(target) as bare, aio_shared(target, **ONE) as ours:
        found = []
        for turn in range(turns + 1):
            pair = [bare, ours] if turn % 2 else [ours, bare]
            cpu = {channel: await cpu_of_tasks(channel) for channel in pair}
            found.append(cpu[ours] / cpu[bare])
    return found[1:]


def g15(effort: Effort) -> Iterator[Figure]:
    turns = TURNS * effort.turns
    with GrpcServer() as server:
        bare = threads_more(grpc.insecure_channel, server.target)
        ours = threads_more(partial(shared, **ONE), server.target)
        yield Figure("G15a", Reading(bare), Reading(ours))
        yield Figure("G15b", Reading(1.0), median_of(ratios_of_futures(server.target, turns)))
        ratios = asyncio.run(ratios_of_tasks(server.target, turns))
        yield Figure("G15c", Reading(1.0), median_of(ratios))

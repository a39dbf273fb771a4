"""P5: `async with pool.lease()` with something idle, against the least that a task can hold.

One task, CPU time of its thread, `asyncio.Lock` and the pool turn by turn. The cost of the loop is
taken off both, and that of fetching the lock off its time; making the lease is part of ours.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from bench.measure import Series
from bench.rows import Effort, Figure, of_ratio
from bench.subject import pool_use

TURNS = 2000


async def over(make: Callable[[], Any]) -> int:
    """Nanoseconds of CPU of TURNS blocks."""
    clock = time.thread_time_ns
    start = clock()
    for _ in range(TURNS):
        async with make():
            pass
    return clock() - start


async def over_fetching(make: Callable[[], Any]) -> int:
    clock = time.thread_time_ns
    start = clock()
    for _ in range(TURNS):
        make()
    return clock() - start


async def over_nothing(make: Callable[[], Any]) -> int:
    clock = time.thread_time_ns
    start = clock()
    for _ in range(TURNS):
        pass
    return clock() - start


async def block_times(rounds: int) -> dict[str, Series]:
    pool, lock = pool_use(), asyncio.Lock()
    blocks: dict[str, tuple[Callable[..., Awaitable[int]], Callable[[], Any]]] = {
        "lease": (over, pool.lease),
        "Lock": (over, lambda: lock),
        "fetching": (over_fetching, lambda: lock),
        "nothing": (over_nothing, int),
    }
    taken: dict[str, list[float]] = {name: [] for name in blocks}
    order = list(blocks)
    try:
        for round_ in range(rounds + 2):
            for name in order:
                measure, make = blocks[name]
                gc.disable()
                took = await measure(make)
                gc.enable()
                if round_ >= 2:  # the first two only warm
                    taken[name].append(took / TURNS)
            order.append(order.pop(0))
    finally:
        pool.close()
    off = {"lease": "nothing", "Lock": "fetching"}
    return {
        name: Series(tuple(t - statistics.median(taken[less]) for t in taken[name]))
        for name, less in off.items()
    }


def p5(effort: Effort) -> Iterator[Figure]:
    times = asyncio.run(block_times(effort.rounds))
    yield of_ratio("P5d", times["lease"], times["Lock"])

"""P11: 1000 tasks of one loop want 50 resources, 20 turns each, held for 1 ms. How long they wait.

A task's first turn is left out: there the order in which tasks start decides. What is left has one
length, that of the line, for whoever is served in turn; so the tail over the middle is the measure
of fairness. `asyncio.Semaphore(50)` is the least that such a line can cost; it lends nothing.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.adapter import pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Series

TASKS, ROUND_TRIPS, RESOURCES, HOLD = 1000, 20, 50, 0.001


async def waits(enter: Callable[[], Any]) -> list[float]:
    """Milliseconds of each wait, sorted, the first of each task left out."""
    found: list[float] = []
    clock, sleep = time.perf_counter, asyncio.sleep

    async def borrower() -> None:
        for turn in range(ROUND_TRIPS):
            asked = clock()
            async with enter():
                got = clock()
                await sleep(HOLD)
            if turn:
                found.append((got - asked) * 1e3)

    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(borrower())
    return sorted(found)


async def ours(fairness: str) -> list[float]:
    pool = pool_use(RESOURCES, fairness=fairness)
    try:
        return await waits(pool.lease)
    finally:
        await pool.aclose()


async def semaphore() -> list[float]:
    rival = asyncio.Semaphore(RESOURCES)
    return await waits(lambda: rival)


def middle(run: list[float]) -> float:
    return run[len(run) // 2]


def tail(run: list[float]) -> float:
    """The 99.9th percentile: 19 of 19,000 waits are longer."""
    return run[len(run) * 999 // 1000]


def middles(runs: list[list[float]]) -> Series:
    return Series(tuple(middle(run) for run in runs))


def unevenness(key: str, runs: list[list[float]]) -> Figure:
    each = [tail(run) / middle(run) for run in runs]
    worst = statistics.median(run[-1] for run in runs)
    detail = {"p50": middles(runs).median, "max": worst}
    return Figure(key, statistics.median(each), min(each), max(each), detail=detail)


def p11(effort: Effort) -> Iterator[Figure]:
    runs: dict[str, list[list[float]]] = {"fair": [], "Semaphore": [], "throughput": []}
    for round_ in range(effort.repeats + 1):
        played = {
            "fair": asyncio.run(ours("fair")),
            "Semaphore": asyncio.run(semaphore()),
            "throughput": asyncio.run(ours("throughput")),
        }
        for name, run in played.items():
            if round_:  # the first only warms
                runs[name].append(run)
    yield unevenness("P11a", runs["fair"])
    yield of_ratio("P11b", middles(runs["fair"]), middles(runs["Semaphore"]))
    yield unevenness("P11c", runs["throughput"])
    yield of_ratio("P11d", middles(runs["throughput"]), middles(runs["Semaphore"]))
    yield unevenness("P11e", runs["Semaphore"])
    yield Figure("P11f", middles(runs["fair"]).median)

"""R1: very many waits that time out at one instant, and what is left of the pool's work meanwhile.

Eight resources are held until the instant comes. In front of the queue stand 20,000 tasks of one
loop, or 1,000 threads, whose time is over then; behind them, on a loop of its own, the borrowers
that are counted, over the two seconds that follow. What a late waiter still gets, it holds as long
as they do, and that counts for nobody. R1c is the same storm beside the pool: tasks that time out
waiting for something else, which takes the CPU and the GIL all the same.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.adapter import Thing, fastpool, pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.measure import NotRun, Series

RESOURCES, BORROWERS, HOLD, WINDOW = 8, 24, 0.005, 2.0
TASKS, THREADS = 20_000, 1000
SHORT, RETURNS = 200, 100  # the line that a long one is compared with; returns measured in each

clock = time.monotonic


def in_queue(pool: Any, many: int, until: float) -> None:
    """Return when so many wait, at the latest a moment before their time is over."""
    while pool.stats().waiting < many:
        if clock() > until - 0.2:
            raise NotRun("machine too busy: the waits ended before the last had begun")
        time.sleep(0.01)


# --- the storms: each a thread, which ends when all have been told ---------------------------


def late_tasks(pool: Any, many: int, until: float) -> list[threading.Thread]:
    async def late() -> None:
        try:
            async with pool.lease(timeout=until - clock()):
                await asyncio.sleep(HOLD)
        except TimeoutError:
            pass

    async def all_of_them() -> None:
        await asyncio.gather(*(late() for _ in range(many)))

    return [threading.Thread(target=asyncio.run, args=(all_of_them(),))]


def late_threads(pool: Any, many: int, until: float) -> list[threading.Thread]:
    def late() -> None:
        try:
            with pool.lease(timeout=until - clock()):
                time.sleep(HOLD)
        except TimeoutError:
            pass

    return [threading.Thread(target=late) for _ in range(many)]


def elsewhere(pool: Any, many: int, until: float) -> list[threading.Thread]:
    async def late() -> None:
        try:
            async with asyncio.timeout(until - clock()):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            pass

    async def all_of_them() -> None:
        await asyncio.gather(*(late() for _ in range(many)))

    return [threading.Thread(target=asyncio.run, args=(all_of_them(),))]


Storm = Callable[[Any, int, float], list[threading.Thread]]


def goodput(storm: Storm | None, many: int, patience: float) -> float:
    """Turns per second of the borrowers on their own loop, from the instant on."""
    pool = pool_use(RESOURCES)
    held = [pool.get() for _ in range(RESOURCES)]
    until = clock() + (patience if storm else 1.0)
    turns = 0

    async def borrower() -> None:
        nonlocal turns
        while clock() < until + WINDOW:
            async with pool.lease(timeout=None):
                await asyncio.sleep(HOLD)
            turns += until <= clock() < until + WINDOW

    async def borrowers() -> None:
        await asyncio.gather(*(borrower() for _ in range(BORROWERS)))

    threads = storm(pool, many, until) if storm else []
    counted = threading.Thread(target=asyncio.run, args=(borrowers(),))
    try:
        for each in threads:
            each.start()
        ahead = many if storm in (late_tasks, late_threads) else 0
        in_queue(pool, ahead, until)
        counted.start()
        in_queue(pool, ahead + BORROWERS, until)
        time.sleep(max(0.0, until - clock()))
    finally:
        for each in held:
            pool.put(each)
        for thread in (*threads, counted):
            if thread.ident is not None:
                thread.join()
        pool.close()
    return turns / WINDOW


# --- the cost of a return --------------------------------------------------------------------


def return_cost(many: int) -> float:
    """Nanoseconds of CPU of a `put` that hands the resource to the head of a line of so many.

    The first rings the bell of the waiters' loop; the median is of those that find it rung.
    """
    pool = pool_use(RETURNS)
    held = [pool.get() for _ in range(RETURNS)]
    over = threading.Event()
    costs: list[int] = []

    async def waiter() -> Thing:
        resource: Thing = await pool.aget(None)
        return resource

    async def line() -> None:
        waiters = [asyncio.create_task(waiter()) for _ in range(many)]
        await asyncio.get_running_loop().run_in_executor(None, over.wait)
        for each in waiters:
            each.cancel()
        for got in await asyncio.gather(*waiters, return_exceptions=True):
            if isinstance(got, Thing):
                pool.put(got)

    thread = threading.Thread(target=asyncio.run, args=(line(),))
    thread.start()
    in_queue(pool, many, clock() + 30)
    put, now = pool.put, time.thread_time_ns
    for each in held:
        start = now()
        put(each)
        costs.append(now() - start)
    over.set()
    thread.join()
    pool.close()
    return statistics.median(costs)


def r1(effort: Effort) -> Iterator[Figure]:
    fastpool()
    patience = 2.0
    storms: dict[str, tuple[Storm | None, int]] = {
        "none": (None, 0),
        "tasks": (late_tasks, TASKS),
        "elsewhere": (elsewhere, TASKS),
        "threads": (late_threads, THREADS),
    }
    runs: dict[str, list[float]] = {name: [] for name in storms}
    for _ in range((effort.repeats + 1) // 2):
        for name, (storm, many) in storms.items():
            while True:
                try:
                    runs[name].append(goodput(storm, many, patience))
                    break
                except NotRun:
                    if patience > 10:
                        raise
                    patience *= 2
    series = {name: Series(tuple(each)) for name, each in runs.items()}
    yield of_ratio("R1a", series["tasks"], series["none"])
    yield of_ratio("R1b", series["threads"], series["none"])
    yield of_ratio("R1c", series["elsewhere"], series["none"])
    costs: dict[int, list[float]] = {SHORT: [], TASKS: []}
    for _ in range(effort.repeats):
        for many, each in costs.items():
            each.append(return_cost(many))
    yield of_ratio("R1d", Series(tuple(costs[TASKS])), Series(tuple(costs[SHORT])))

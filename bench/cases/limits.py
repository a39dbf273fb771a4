"""L1: units of a semaphore, free, beside what takes and gives back one elsewhere.
L2: tasks of a WorkerPool beside ThreadPoolExecutor's, which has no bound.

L1 is CPU time of one thread, or of one task, turn by turn. L2 is wall time per task of functions
that do nothing, so what is left is the executor: one task after the other, each waited for; a burst
that is submitted first and waited for then, with a queue that takes it all; ``map``; and L2j: one
task after the other by as many callers as there are workers. Both executors are warm and take
turns.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib import import_module
from typing import Any

from bench.adapter import fastpool, in_threads
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Case, Series, pair_times, quartiles

PAIR = "s.acquire(); s.release()"
TASK_PAIR = "await s.acquire(); s.release()"
SIZE, BURST, ONES, CALLERS = 8, 2000, 400, 32


def optional(module: str, name: str) -> Any:
    """What a rival offers, or None where it is not installed."""
    try:
        return getattr(import_module(module), name)
    except ImportError:
        return None


def beside(key: str, times: dict[str, Series], rival: str, ours: str) -> Figure:
    if rival not in times:
        return Figure(key, None, note=f"{rival} is not installed")
    return of_ratio(key, times[rival], times[ours])


def l1(effort: Effort) -> Iterator[Figure]:
    ours = fastpool().WeightedSemaphore(SIZE)
    plain = threading.Semaphore(SIZE)
    cases = {
        "ours": Case(PAIR, {"s": ours}),
        "three": Case("s.acquire(3); s.release(3)", {"s": ours}),
        "hold": Case("with s.hold(): pass", {"s": ours}),
        "Semaphore": Case(PAIR, {"s": plain}),
        "BoundedSemaphore": Case(PAIR, {"s": threading.BoundedSemaphore(SIZE)}),
        "with Semaphore": Case("with s: pass", {"s": plain}),
    }
    aiologic = optional("aiologic", "Semaphore")
    if aiologic is not None:
        cases["aiologic"] = Case("s.green_acquire(); s.green_release()", {"s": aiologic(SIZE)})
    times = pair_times(cases, rounds=effort.rounds)
    samples = times["ours"].samples
    yield Figure("L1a", times["ours"].median, *quartiles(samples))
    yield of_ratio("L1b", times["Semaphore"], times["ours"])
    yield of_ratio("L1c", times["BoundedSemaphore"], times["ours"])
    yield beside("L1d", times, "aiologic", "ours")
    yield of_ratio("L1e", times["with Semaphore"], times["hold"])
    yield of_ratio("L1f", times["three"], times["ours"])

    with asyncio.Runner() as runner:
        theirs = asyncio.Semaphore(SIZE)
        cases = {
            "ours": Case("await s.aacquire(); s.release()", {"s": ours}),
            "hold": Case("async with s.hold(): pass", {"s": ours}),
            "asyncio": Case(TASK_PAIR, {"s": theirs}),
            "with asyncio": Case("async with s: pass", {"s": theirs}),
        }
        anyio = optional("anyio", "CapacityLimiter")
        if anyio is not None:

            async def limiter() -> Any:
                return anyio(SIZE)

            cases["anyio"] = Case("async with s: pass", {"s": runner.run(limiter())})
        if aiologic is not None:
            cases["aiologic"] = Case("async with s: pass", {"s": aiologic(SIZE)})
        times = pair_times(cases, rounds=effort.rounds, runner=runner)
    yield of_ratio("L1g", times["asyncio"], times["ours"])
    yield of_ratio("L1h", times["with asyncio"], times["hold"])
    yield beside("L1i", times, "anyio", "hold")
    yield beside("L1j", times, "aiologic", "hold")


def one_by_one(executor: Executor) -> int:
    for _ in range(ONES):
        executor.submit(int).result()
    return ONES


def by_many(executor: Executor) -> int:
    """The same, by as many callers as there are workers."""

    def caller(_: int) -> None:
        for _ in range(ONES // CALLERS + 1):
            executor.submit(int).result()

    in_threads(CALLERS, caller)
    return (ONES // CALLERS + 1) * CALLERS


def burst(executor: Executor) -> int:
    for future in [executor.submit(int) for _ in range(BURST)]:
        future.result()
    return BURST


def mapped(executor: Executor) -> int:
    for _ in executor.map(int, range(BURST)):
        pass
    return BURST


def turns(
    executors: dict[str, Executor], work: Callable[[Executor], int], rounds: int
) -> dict[str, Series]:
    """Microseconds per task, the executors in turn."""
    taken: dict[str, list[float]] = {name: [] for name in executors}
    order = list(executors)
    for round_ in range(rounds + 1):
        for name in order:
            start = time.perf_counter()
            done = work(executors[name])
            if round_:
                taken[name].append((time.perf_counter() - start) / done * 1e6)
        order.reverse()
    return {name: Series(tuple(each)) for name, each in taken.items()}


def l2(effort: Effort) -> Iterator[Figure]:
    keys = iter("abcdefghij")
    for work, sizes in (
        (one_by_one, (1, 8, 32)),
        (burst, (1, 8, 32)),
        (mapped, (1, 8, 32)),
        (by_many, (CALLERS,)),
    ):
        for workers in sizes:
            executors: dict[str, Executor] = {
                "ours": fastpool().WorkerPool(workers, BURST),
                "theirs": ThreadPoolExecutor(workers),
            }
            try:
                times = turns(executors, work, effort.rounds // 2)
            finally:
                for executor in executors.values():
                    executor.shutdown()
            yield of_ratio(f"L2{next(keys)}", times["theirs"], times["ours"])

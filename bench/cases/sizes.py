"""C2 and C3: what must not grow with the size of a pool, its keys or their number.

C2: each is measured large and small in one process, and the ratio of the two is what is promised:
work that looks at everything shows there, on any machine. C3 is of whole processes: the CPU of
pools in which nothing happens, and the memory of pools that are gone.
"""

from __future__ import annotations

import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from bench import child
from bench.adapter import fastpool
from bench.cases import Effort, Figure
from bench.cases.capacity import resident

SMALL = 100
MANY_IDLE, MANY_DROPPED, SETTLED, WATCHED = 1000, 20_000, 4.0, 5.0


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def full(size: int, **options: Any) -> tuple[Any, list[Any]]:
    """A pool with so many open, all of them lent."""
    pool = fastpool().FastPool(2 * size, factory=object, **options)
    return pool, [pool.get(timeout=600) for _ in range(size)]


def returns_after_close(size: int) -> float:
    pool, held = full(size)
    pool.close(0)

    def give_back() -> None:
        for resource in held:
            pool.put(resource)

    return seconds(give_back) / size


def refusal(size: int) -> float:
    pool = fastpool().FastPool(size, items=[object() for _ in range(size)])
    held = [pool.get() for _ in range(size)]

    def ask() -> None:
        for _ in range(SMALL):
            try:
                pool.get_nowait()
            except fastpool().PoolTimeout:
                continue

    took = seconds(ask) / SMALL
    for resource in held:
        pool.put(resource)
    pool.close()
    return took


def surplus(size: int) -> float:
    pool, held = full(size, max_idle=1)
    pool.put(held.pop())

    def give_back() -> None:
        for _ in range(SMALL // 2):
            pool.put(held.pop())

    took = seconds(give_back) / (SMALL // 2)
    pool.close(0)
    for resource in held:
        pool.put(resource)
    return took


def eviction(size: int) -> float:
    pool = fastpool().KeyedPool(lambda key: object(), max_total=size)
    for key in range(size + 1):  # the first that is evicted has all keys put in order
        with pool.lease(key):
            pass

    def evict() -> None:
        for key in range(size + 1, size + 1 + SMALL):
            with pool.lease(key):
                pass

    took = seconds(evict) / SMALL
    pool.close()
    return took


def c2(effort: Effort) -> Iterator[Figure]:
    for key, ratio, measure, large in (
        ("C2a", "C2b", returns_after_close, 10_000),
        ("C2c", "C2d", refusal, 100_000),
        ("C2e", "C2f", surplus, 10_000),
        ("C2g", "C2h", eviction, 10_000),
    ):
        if effort.repeats == 1:  # a guard: what grows with the size shows at a fifth of it too
            large //= 5
        # the best of a few: whatever disturbs only adds
        much, little = (
            min(measure(size) for _ in range(min(3, effort.repeats + 1))) for size in (large, SMALL)
        )
        yield Figure(key, much * 1e6)
        yield Figure(ratio, much / little, detail={"above": much, "below": little})


def c3(effort: Effort) -> Iterator[Figure]:
    yield Figure("C3a", float(child.python("-m", "bench.cases.sizes", "idle")))
    dropped, closed = (
        float(child.python("-m", "bench.cases.sizes", how)) for how in ("dropped", "closed")
    )
    yield Figure("C3b", dropped / closed, detail={"above": dropped, "below": closed})


def cpu_of_idle_pools() -> float:
    """Percent of one CPU."""
    pools = [fastpool().FastPool(2, factory=object, min_idle=1) for _ in range(MANY_IDLE)]
    time.sleep(SETTLED)
    begun, cpu = time.perf_counter(), time.process_time()
    time.sleep(WATCHED)
    share = (time.process_time() - cpu) / (time.perf_counter() - begun)
    for pool in pools:
        pool.close(0)
    return 100 * share


def memory_of_gone_pools(how: str) -> float:
    """Bytes by which this process has grown when they are gone."""
    warnings.simplefilter("ignore")
    before = resident()
    pools = [fastpool().FastPool(2, factory=object) for _ in range(MANY_DROPPED)]
    for pool in pools:
        with pool.lease():
            pass
    for pool in pools if how == "closed" else ():
        pool.close()
    del pools[:], pool
    time.sleep(SETTLED)  # what is left is closed in the background
    gc.collect()
    return resident() - before


if __name__ == "__main__":
    print(cpu_of_idle_pools() if sys.argv[1] == "idle" else memory_of_gone_pools(sys.argv[1]))

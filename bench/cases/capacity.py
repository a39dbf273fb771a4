"""P12: what a million costs. Pair time of a full pool of 10^6 against one of 16; memory per slot.

In fifo order each pair touches another resource, so there the cache misses as well; a bare deque of
the same objects is shown beside it. Every resource is lent once before the clock starts: the first
use of each is among those that the pool measures, and costs more than the rest.
Memory is the growth of the process's resident set by a full pool, the resources made beforehand;
each is measured in a child process of its own.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

from bench import child
from bench.adapter import fastpool
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Case, NotRun, pair_times

SMALL, LARGE = 16, 10**6
BLOCKING = "q.put(q.get())"


def full_queue(size: int, order: str) -> Any:
    pool = fastpool().FastPool(size, order=order)
    for _ in range(size):
        pool.put_nowait(object())
    return pool


def full_pool(size: int, order: str) -> Any:
    return fastpool().FastPool(size, items=[object() for _ in range(size)], order=order)


def p12(effort: Effort) -> Iterator[Figure]:
    for key, make, order in (
        ("P12a", full_queue, "lifo"),
        ("P12b", full_queue, "fifo"),
        ("P12c", full_pool, "lifo"),
        ("P12d", full_pool, "fifo"),
    ):
        small, large = make(SMALL, order), make(LARGE, order)
        for _ in range(LARGE):
            large.put(large.get())
        cases = {"small": Case(BLOCKING, {"q": small}), "large": Case(BLOCKING, {"q": large})}
        times = pair_times(cases, rounds=effort.rounds)
        yield of_ratio(key, times["large"], times["small"])
        small.close()
        large.close()
        del small, large, cases
    statement = "q.append(q.popleft())"
    small, large = (deque(object() for _ in range(size)) for size in (SMALL, LARGE))
    cases = {"small": Case(statement, {"q": small}), "large": Case(statement, {"q": large})}
    times = pair_times(cases, rounds=effort.rounds)
    yield of_ratio("P12e", times["large"], times["small"])
    yield Figure("P12f", bytes_per_slot("queue"))
    yield Figure("P12g", bytes_per_slot("pool"))


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grown_by(use: str) -> float:
    """Bytes per slot by which this process grows when it makes a full pool."""
    package = fastpool()
    things = [object() for _ in range(LARGE)]
    before = resident()
    if use == "queue":
        pool = package.FastPool(LARGE)
        for each in things:
            pool.put_nowait(each)
    else:
        pool = package.FastPool(LARGE, items=things)
    grown = resident() - before
    pool.close()
    return grown / LARGE


def bytes_per_slot(use: str) -> float:
    if not os.path.exists("/proc/self/statm"):
        raise NotRun("needs Linux: the size of the resident set")
    return float(child.python("-m", "bench.cases.capacity", use))


if __name__ == "__main__":
    print(grown_by(sys.argv[1]))

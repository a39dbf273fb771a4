"""P8 and P9: more borrowers than resources. Who gets a turn, how often, after what wait.

P8 holds each resource for 2 ms, as a query does: there a pool must be fair and lose nothing by it.
P9 holds it for no time at all: there strict turns are ruinous, and what counts is throughput with
a bounded wait. Every borrower runs the same loop and times each of its own waits. Threads that
share a GIL or a CPU are kept from it for a while even without any pool; P9e shows for how long.
"""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.adapter import filled, in_threads, pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.measure import NotRun, Series
from bench.peers import PEER

HOLD = 0.002


@dataclass(frozen=True)
class Crowd:
    """What happened to `threads` borrowers: turns of each, longest wait, length of the run."""

    turns: tuple[int, ...]
    worst_wait: float
    seconds: float

    @property
    def evenness(self) -> float:
        return min(self.turns) / max(self.turns)

    @property
    def rate(self) -> float:
        return sum(self.turns) / self.seconds


def crowd(
    get: Callable[[], Any],
    put: Callable[[Any], None],
    *,
    threads: int,
    seconds: float,
    hold: float,
) -> Crowd:
    """Let the threads borrow for that long."""
    turns = [0] * threads
    worst = [0.0] * threads
    clock, sleep = time.perf_counter, time.sleep
    begun = clock()
    end = begun + seconds

    def holding(i: int) -> None:
        count, longest = 0, 0.0
        while (asked := clock()) < end:
            item = get()
            waited = clock() - asked
            if waited > longest:
                longest = waited
            sleep(hold)
            put(item)
            count += 1
        turns[i], worst[i] = count, longest

    def at_once(i: int) -> None:
        count, longest = 0, 0.0
        while (asked := clock()) < end:
            item = get()
            waited = clock() - asked
            if waited > longest:
                longest = waited
            put(item)
            count += 1
        turns[i], worst[i] = count, longest

    in_threads(threads, holding if hold else at_once)
    return Crowd(tuple(turns), max(worst), clock() - begun)


def ours(fairness: str, resources: int, **how: Any) -> Crowd:
    pool = pool_use(resources, fairness=fairness)
    try:
        return crowd(pool.get, pool.put, **how)
    finally:
        pool.close()


def lifo_queue(resources: int, **how: Any) -> Crowd:
    rival = filled(queue.LifoQueue(resources), resources)
    return crowd(rival.get, rival.put, **how)


def psycopg_pool(resources: int, **how: Any) -> Crowd:
    peer = PEER["psycopg_pool"]
    pool = peer.warm(resources)
    try:
        return crowd(pool.getconn, pool.putconn, **how)
    finally:
        peer.close(pool)


def p8(effort: Effort) -> Iterator[Figure]:
    how = {"threads": 24, "seconds": effort.seconds, "hold": HOLD}
    runs: dict[str, list[Crowd]] = {"LifoQueue": [], "fair": [], "throughput": []}
    for _ in range(min(effort.repeats, 3)):
        runs["LifoQueue"].append(lifo_queue(4, **how))
        for fairness in ("fair", "throughput"):
            runs[fairness].append(ours(fairness, 4, **how))
    yield evenness("P8a", runs["fair"])
    yield evenness("P8b", runs["throughput"])
    yield of_ratio("P8c", rates(runs["fair"]), rates(runs["LifoQueue"]))
    yield of_ratio("P8d", rates(runs["throughput"]), rates(runs["LifoQueue"]))
    try:
        yield evenness("P8e", [psycopg_pool(4, **how)])
    except NotRun as reason:
        yield Figure("P8e", None, note=str(reason))
    yield evenness("P8f", runs["LifoQueue"])


def evenness(key: str, runs: list[Crowd]) -> Figure:
    each = [run.evenness for run in runs]
    turns = [sorted(run.turns) for run in runs]
    return Figure(key, statistics.median(each), min(each), max(each), detail={"turns": turns})


def worst_wait(key: str, runs: list[Crowd]) -> Figure:
    """In milliseconds; of each run the longest wait of any thread, of those the median."""
    each = [run.worst_wait * 1e3 for run in runs]
    return Figure(key, statistics.median(each), min(each), max(each))


def rates(runs: list[Crowd]) -> Series:
    return Series(tuple(run.rate for run in runs))


def p9(effort: Effort) -> Iterator[Figure]:
    how = {"threads": 8, "seconds": effort.seconds / 2, "hold": 0.0}
    runs: dict[str, list[Crowd]] = {"throughput": [], "LifoQueue": [], "fair": [], "psycopg": []}
    missing = ""
    for _ in range(effort.repeats):
        runs["throughput"].append(ours("throughput", 2, **how))
        runs["LifoQueue"].append(lifo_queue(2, **how))
        runs["fair"].append(ours("fair", 2, **how))
        try:
            runs["psycopg"].append(psycopg_pool(2, **how))
        except NotRun as reason:
            missing = str(reason)
    yield of_ratio("P9a", rates(runs["throughput"]), rates(runs["LifoQueue"]))
    yield worst_wait("P9b", runs["throughput"])
    if missing:
        yield Figure("P9c", None, note=missing)
    else:
        yield of_ratio("P9c", rates(runs["fair"]), rates(runs["psycopg"]))
    yield worst_wait("P9d", runs["LifoQueue"])
    yield worst_wait("P9e", [crowd(object, id, **how) for _ in range(effort.repeats)])

"""P13: fifty threads at the same instant, 150 ms to connect, 2 ms of use, a cap of fifty.

The naive pool opens fifty. A better one sees that the few it has started will soon serve everybody.
The yardstick for time is the naive way itself: every thread opens its own, measured in this run.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.adapter import Thing, fastpool, in_threads
from bench.cases import Effort, Figure
from bench.measure import NotRun
from bench.peers import PEER

THREADS = 50
CONNECT = 0.150
USE = 0.002


class Server:
    """Counts what was opened. A connection is opened when its connect begins."""

    def __init__(self) -> None:
        self.opened = 0
        self._lock = threading.Lock()

    def connect(self) -> Thing:
        with self._lock:
            self.opened += 1
        time.sleep(CONNECT)
        return Thing()


def last_served(take: Callable[[], Any], give: Callable[[Any], None]) -> float:
    """Seconds from the start of all threads until the last one has had its turn."""
    begun: list[float] = []
    served: list[float] = []

    def thread(i: int) -> None:
        begun.append(time.perf_counter())
        item = take()
        time.sleep(USE)
        give(item)
        served.append(time.perf_counter())

    in_threads(THREADS, thread)
    return max(served) - min(begun)


def ours(idle: int) -> tuple[int, float]:
    """Opened in all, and when the last was served, with that many idle at the start."""
    server = Server()
    pool = fastpool().FastPool(THREADS, factory=server.connect)
    try:
        if idle:
            held = [pool.get() for _ in range(idle)]
            for each in held:
                pool.put(each)
            # Elision may have left a creation that nobody needed any more; let it land.
            deadline = time.monotonic() + 5
            while pool.stats().creating and time.monotonic() < deadline:
                time.sleep(0.01)
        seconds = last_served(pool.get, pool.put)
        return server.opened, seconds
    finally:
        pool.close()


def naive() -> float:
    server = Server()
    return last_served(server.connect, lambda item: None)


def rival(name: str) -> int:
    server = Server()
    peer = PEER[name]
    pool = peer.make(THREADS, server.connect)
    try:
        last_served(lambda: peer.take(pool), lambda item: peer.give(pool, item))
        return server.opened
    finally:
        peer.close(pool)


def p13(effort: Effort) -> Iterator[Figure]:
    empty, warm, alone = [], [], []
    for _ in range(effort.repeats):
        empty.append(ours(0))
        warm.append(ours(5))
        alone.append(naive())
    opened = [count for count, _ in empty]
    yield Figure("P13a", statistics.median(opened), min(opened), max(opened))
    each = sorted(seconds / yard for (_, seconds), yard in zip(empty, alone, strict=True))
    detail = {"ours": [seconds for _, seconds in empty], "opening all": alone}
    yield Figure("P13b", statistics.median(each), each[0], each[-1], detail=detail)
    opened = [count for count, _ in warm]
    yield Figure("P13c", statistics.median(opened), min(opened), max(opened))
    for key, name in (("P13d", "psycopg_pool"), ("P13e", "SQLAlchemy")):
        try:
            yield Figure(key, rival(name))
        except NotRun as reason:
            yield Figure(key, None, note=str(reason))

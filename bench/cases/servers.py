"""P14: other projects' clients against real servers, our queue in place of their own.

Sixteen threads, eight connections, the smallest query each protocol has. The two pools take short
turns; each pair of turns gives one ratio, and the median of those is the figure.
"""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from bench import servers
from bench.adapter import fastpool, in_threads
from bench.cases import Effort, Figure
from bench.measure import NotRun

THREADS = 16
CONNECTIONS = 8
ROUND_TRIP = 0.3  # seconds

Query = Callable[[], Any]


def per_second(query: Query, seconds: float) -> float:
    counts = [0] * THREADS
    begun = time.perf_counter()
    end = begun + seconds

    def thread(i: int) -> None:
        count = 0
        while time.perf_counter() < end:
            query()
            count += 1
        counts[i] = count

    in_threads(THREADS, thread)
    return sum(counts) / (time.perf_counter() - begun)


def redis_queries(port: int) -> tuple[Query, Query]:
    import redis

    def query(**options: Any) -> Query:
        pool = redis.BlockingConnectionPool(
            host="127.0.0.1", port=port, max_connections=CONNECTIONS, **options
        )
        return redis.Redis(connection_pool=pool).ping

    fastpool()
    from fastpool.queue import LifoQueue

    return query(queue_class=LifoQueue), query()


def urllib3_queries(port: int) -> tuple[Query, Query]:
    import urllib3

    fastpool()
    from fastpool.queue import LifoQueue

    class Ours(urllib3.HTTPConnectionPool):
        QueueCls = LifoQueue

    def query(kind: Any) -> Query:
        pool = kind("127.0.0.1", port, maxsize=CONNECTIONS, block=True)
        return lambda: pool.request("GET", "/")

    return query(Ours), query(urllib3.HTTPConnectionPool)


def sqlalchemy_queries(port: int) -> tuple[Query, Query]:
    import psycopg
    import sqlalchemy
    from sqlalchemy.pool import QueuePool
    from sqlalchemy.util import queue as theirs

    package = fastpool()

    class Queue:
        """SQLAlchemy's own interface and exceptions over a FastPool."""

        def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:
            self.maxsize, self.use_lifo = maxsize, use_lifo
            self.pool = package.FastPool(maxsize, order="lifo" if use_lifo else "fifo")
            self.qsize = self.pool.qsize

        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            try:
                return self.pool.get(block, timeout)
            except queue.Empty:
                raise theirs.Empty from None

        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
            try:
                self.pool.put(item, block, timeout)
            except queue.Full:
                raise theirs.Full from None

    class Ours(QueuePool):
        _queue_class = Queue

    def query(kind: Any) -> Query:
        engine = sqlalchemy.create_engine(
            f"postgresql+{psycopg.__name__}://bench@127.0.0.1:{port}/postgres",
            poolclass=kind,
            pool_size=CONNECTIONS,
            max_overflow=0,
        )

        def select() -> None:
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1").scalar()

        return select

    return query(Ours), query(QueuePool)


Server = Callable[[], AbstractContextManager[int]]

CLIENTS: tuple[tuple[str, Server, Callable[[int], tuple[Query, Query]]], ...] = (
    ("P14a", servers.redis, redis_queries),
    ("P14b", servers.http, urllib3_queries),
    ("P14c", servers.postgresql, sqlalchemy_queries),
)


def compared(key: str, server: Server, clients: Callable[..., Any], effort: Effort) -> Figure:
    with server() as port:
        try:
            ours, own = clients(port)
        except ImportError as error:
            raise NotRun(f"not installed: {error}") from None
        for query in (ours, own):
            per_second(query, 0.2)  # opens the connections
        rates: list[tuple[float, float]] = []
        for turn in range(effort.repeats * 4):
            first, second = (ours, own) if turn % 2 else (own, ours)
            a, b = per_second(first, ROUND_TRIP), per_second(second, ROUND_TRIP)
            rates.append((a, b) if first is ours else (b, a))
    each = sorted(a / b for a, b in rates)
    quarter = len(each) // 4
    own_rate = statistics.median(b for _, b in rates)
    detail = {"own per second": own_rate}
    return Figure(key, statistics.median(each), each[quarter], each[-1 - quarter], detail=detail)


def p14(effort: Effort) -> Iterator[Figure]:
    for key, server, clients in CLIENTS:
        try:
            yield compared(key, server, clients, effort)
        except NotRun as reason:
            yield Figure(key, None, note=str(reason))

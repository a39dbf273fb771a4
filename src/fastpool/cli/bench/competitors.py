"""The contestants of `fastpool bench`: pools of other projects over connections that do nothing.

Each is set up as its documentation recommends for a pool of fixed size. The dummies answer at once,
so that the pool alone is timed.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from ... import FastPool


class Thing:
    """A resource that does nothing, as big as a small connection object, so that no two of them
    share a cache line."""

    __slots__ = ("__weakref__", "a", "b", "c", "d", "e", "f", "g", "h")

    def close(self) -> None:
        pass


class Competitor(NamedTuple):
    """A pool of another project: the module that it needs; how it is built for a number of
    connections; one turn as its users write it, and its two halves; how it is closed."""

    name: str
    module: str
    build: Callable[[int], Any]
    round_trip: str
    take: Callable[[Any], Callable[[], Any]]
    give: Callable[[Any], Callable[[Any], Any]]
    close: Callable[[Any], object]


class NotRun(Exception):
    """A rival that cannot take part; the text says why."""


def warm(competitor: Competitor, size: int) -> Any:
    """Its pool with all connections open and idle, or NotRun."""
    if importlib.util.find_spec(competitor.module) is None:
        raise NotRun("not installed")
    try:
        pool = competitor.build(size)
        take, give = competitor.take(pool), competitor.give(pool)
        for held in [take() for _ in range(size)]:
            give(held)
    except Exception as error:  # a part is missing, or a version that wants more of a connection
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise NotRun(text) from error
    return pool


def queue_use(size: int, order: Literal["lifo", "fifo"]) -> Any:
    """Ours without a factory, full."""
    return filled(FastPool(size, order=order), size)


def pool_use(size: int, fairness: Literal["fair", "throughput"] = "fair") -> FastPool[Thing]:
    """Ours with a factory, everything else as it is by default, and every resource open."""
    pool = FastPool(size, factory=Thing, fairness=fairness)
    for held in [pool.get() for _ in range(size)]:
        pool.put(held)
    return pool


def filled(queue: Any, size: int) -> Any:
    """A queue with so many things in it."""
    for _ in range(size):
        queue.put(Thing())
    return queue


def _psycopg_pool(size: int) -> Any:
    from psycopg import pq
    from psycopg_pool import ConnectionPool

    class Status:
        transaction_status = pq.TransactionStatus.IDLE

    class Connection:
        _pool = None
        closed = autocommit = False

        def __init__(self) -> None:
            self.pgconn = Status()

        @classmethod
        def connect(cls, conninfo: str, **options: Any) -> Connection:
            return cls()

        def __enter__(self) -> Connection:
            return self

        def __exit__(self, *exc_info: object) -> None:
            pass

        def close(self) -> None:
            self.closed = True

    kind: Any = Connection
    # min_size 0 as ours: opened on demand, and `warm` demands all.
    return ConnectionPool("", connection_class=kind, min_size=0, max_size=size, open=True)


def _sqlalchemy(size: int) -> Any:
    from sqlalchemy.pool import QueuePool

    class Connection:
        def rollback(self) -> None:
            pass

        def close(self) -> None:
            pass

    connect: Any = Connection
    return QueuePool(connect, pool_size=size, max_overflow=0)


def _redis(size: int) -> Any:
    from redis import BlockingConnectionPool

    class Connection:
        def __init__(self, **options: Any) -> None:
            self.pid = os.getpid()

        def connect(self) -> None:
            pass

        def can_read(self, timeout: float = 0) -> bool:
            return False

        def should_reconnect(self) -> bool:
            return False

        def disconnect(self, *args: object) -> None:
            pass

    pool: Any = BlockingConnectionPool
    return pool(max_connections=size, connection_class=Connection)


def _urllib3(size: int) -> Any:
    from urllib3 import HTTPConnectionPool

    class Connection:
        is_connected = is_verified = True
        proxy = None

        def __init__(self, **options: Any) -> None:
            pass

        def close(self) -> None:
            pass

    pool: Any = type("Pool", (HTTPConnectionPool,), {"ConnectionCls": Connection})
    return pool("localhost", maxsize=size, block=True)  # block: the form that has a limit


COMPETITORS = (
    Competitor(
        "psycopg_pool",
        "psycopg_pool",
        _psycopg_pool,
        "with pool.connection(): pass",
        lambda pool: pool.getconn,
        lambda pool: pool.putconn,
        lambda pool: pool.close(),
    ),
    Competitor(
        "SQLAlchemy",
        "sqlalchemy",
        _sqlalchemy,
        "pool.connect().close()",
        lambda pool: pool.connect,
        lambda pool: lambda connection: connection.close(),
        lambda pool: pool.dispose(),
    ),
    Competitor(
        "redis",
        "redis",
        _redis,
        "pool.release(pool.get_connection())",
        lambda pool: pool.get_connection,
        lambda pool: pool.release,
        lambda pool: pool.disconnect(),
    ),
    Competitor(
        "urllib3",
        "urllib3",
        _urllib3,
        "pool._put_conn(pool._get_conn())",
        lambda pool: pool._get_conn,
        lambda pool: pool._put_conn,
        lambda pool: pool.close(),
    ),
)

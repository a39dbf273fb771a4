"""The rivals: pools of other projects over connections that do nothing.

Each is configured as its documentation recommends for a pool of a fixed size, with every check
that needs a real server left to a dummy that answers at once. So what is timed is the pool alone;
with a real server behind it a rival's share of a request is smaller than these figures suggest.

The dummies have the attributes that the rival touches and nothing else. `connect` is what one
connection costs to open: nothing, but for the spike of P13.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from bench.measure import NotRun


def nothing() -> None:
    pass


@dataclass(frozen=True)
class Peer:
    """One rival.

    `build(size, connect)` gives a pool that may open `size` connections. `pair` is one acquire
    and release of it as its users write them; `take` and `give` are the two halves as functions
    of the pool, for runs that hold what they took.
    """

    name: str
    distribution: str
    build: Callable[[int, Callable[[], None]], Any]
    pair: str
    take: Callable[[Any], Any]
    give: Callable[[Any, Any], None]
    close: Callable[[Any], None]

    def make(self, size: int, connect: Callable[[], None] = nothing) -> Any:
        """A pool of this rival, or NotRun when it is not installed."""
        try:
            return self.build(size, connect)
        except ImportError as error:
            raise NotRun(f"{self.distribution} is not installed ({error})") from None

    def warm(self, size: int) -> Any:
        """A pool with `size` connections open and idle."""
        pool = self.make(size)
        held = [self.take(pool) for _ in range(size)]
        for each in held:
            self.give(pool, each)
        return pool


# --- psycopg_pool: `with pool.connection()`, no check ------------------------------------------


def psycopg_pool(size: int, connect: Callable[[], None]) -> Any:
    from psycopg import pq
    from psycopg_pool import ConnectionPool

    class Status:
        transaction_status = pq.TransactionStatus.IDLE

    class Connection:
        _pool = None
        closed = False
        autocommit = False

        @classmethod
        def connect(cls, conninfo: str, **kwargs: Any) -> Connection:
            connect()
            return cls()

        def __init__(self) -> None:
            self.pgconn = Status()

        def __enter__(self) -> Connection:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def close(self) -> None:
            self.closed = True

    return ConnectionPool(
        "",
        connection_class=Connection,  # type: ignore[type-var]
        min_size=0,  # as ours: opened on demand; `warm` fills it for the rows that want it full
        max_size=size,
        open=True,
    )


# --- SQLAlchemy: the QueuePool behind an engine ------------------------------------------------


def sqlalchemy_pool(size: int, connect: Callable[[], None]) -> Any:
    from sqlalchemy.pool import QueuePool

    class Connection:
        def rollback(self) -> None:
            pass

        def close(self) -> None:
            pass

    def creator() -> Any:
        connect()
        return Connection()

    return QueuePool(creator, pool_size=size, max_overflow=0)


# --- redis-py: the pool that waits -------------------------------------------------------------


def redis_pool(size: int, connect: Callable[[], None]) -> Any:
    from redis import BlockingConnectionPool

    class Connection:
        def __init__(self, **kwargs: Any) -> None:
            self.pid = os.getpid()
            connect()

        def connect(self) -> None:
            pass

        def can_read(self, timeout: float = 0) -> bool:
            return False

        def should_reconnect(self) -> bool:
            return False

        def disconnect(self, *args: object) -> None:
            pass

    return BlockingConnectionPool(max_connections=size, connection_class=Connection)


# --- urllib3: block=True, the form that has a limit --------------------------------------------


def urllib3_pool(size: int, connect: Callable[[], None]) -> Any:
    from urllib3 import HTTPConnectionPool

    class Connection:
        is_connected = True
        is_verified = True
        proxy = None

        def __init__(self, **kwargs: Any) -> None:
            connect()

        def close(self) -> None:
            pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection  # type: ignore[assignment]

    return Pool("localhost", maxsize=size, block=True)


# --- DBUtils: PooledDB, no ping ----------------------------------------------------------------


def dbutils_pool(size: int, connect: Callable[[], None]) -> Any:
    from dbutils.pooled_db import PooledDB

    class Connection:
        def cursor(self) -> None:
            pass

        def rollback(self) -> None:
            pass

        def commit(self) -> None:
            pass

        def close(self) -> None:
            pass

    class Driver:  # looks like a DB-API 2 module
        threadsafety = 2
        OperationalError = InterfaceError = InternalError = OSError

        @staticmethod
        def connect(**kwargs: Any) -> Connection:
            connect()
            return Connection()

    return PooledDB(Driver, maxconnections=size, maxcached=size, blocking=True, ping=0)


def close_it(pool: Any) -> None:
    pool.close()


PEERS: tuple[Peer, ...] = (
    Peer(
        "psycopg_pool",
        "psycopg_pool",
        psycopg_pool,
        "with pool.connection() as connection: pass",
        lambda pool: pool.getconn(),
        lambda pool, connection: pool.putconn(connection),
        close_it,
    ),
    Peer(
        "SQLAlchemy",
        "SQLAlchemy",
        sqlalchemy_pool,
        "pool.connect().close()",
        lambda pool: pool.connect(),
        lambda pool, connection: connection.close(),
        lambda pool: pool.dispose(),
    ),
    Peer(
        "redis",
        "redis",
        redis_pool,
        "pool.release(pool.get_connection())",
        lambda pool: pool.get_connection(),
        lambda pool, connection: pool.release(connection),
        lambda pool: pool.disconnect(),
    ),
    Peer(
        "urllib3",
        "urllib3",
        urllib3_pool,
        "pool._put_conn(pool._get_conn())",
        lambda pool: pool._get_conn(),
        lambda pool, connection: pool._put_conn(connection),
        close_it,
    ),
    Peer(
        "DBUtils",
        "DBUtils",
        dbutils_pool,
        "pool.connection().close()",
        lambda pool: pool.connection(),
        lambda pool, connection: connection.close(),
        close_it,
    ),
)

PEER = {peer.name: peer for peer in PEERS}


def versions(distributions: Iterable[str]) -> dict[str, str | None]:
    """Version of each of them, None where it is not installed."""
    found: dict[str, str | None] = {}
    for distribution in distributions:
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[distribution] = None
    return found

"""The rivals of a task: asynchronous pools of other projects over connections that do nothing.

The rules of `peers.py` hold: each is configured as its documentation recommends for a pool of a
fixed size, and what needs a server is answered at once by a dummy. None of the dummies lets the
event loop turn, which a real answer would: so each rival is timed at its cheapest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from bench.adapter import Thing
from bench.measure import NotRun


def only_pool(pool: Any) -> dict[str, Any]:
    return {"pool": pool}


@dataclass(frozen=True)
class TaskPeer:
    """One rival.

    `build(size)` gives a pool on the running loop that may open `size` connections. `pair` is one
    acquire and release of it as its users write them, over the names that `names(pool)` gives.
    `take` and `give` are the halves, by which it is filled.
    """

    name: str
    distribution: str
    build: Callable[[int], Awaitable[Any]]
    pair: str
    take: Callable[[Any], Awaitable[Any]]
    give: Callable[[Any, Any], Awaitable[Any]]
    close: Callable[[Any], Awaitable[Any]]
    names: Callable[[Any], Mapping[str, Any]] = only_pool

    async def warm(self, size: int) -> Any:
        """A pool with `size` connections open and idle, or NotRun when it is not installed."""
        try:
            pool = await self.build(size)
        except ImportError as error:
            raise NotRun(f"{self.distribution} is not installed ({error})") from None
        held = [await self.take(pool) for _ in range(size)]
        for each in held:
            await self.give(pool, each)
        return pool


async def close_it(pool: Any) -> None:
    await pool.close()


# --- psycopg_pool: `async with pool.connection()`, no check -------------------------------------


async def psycopg_pool(size: int) -> Any:
    from psycopg import pq
    from psycopg_pool import AsyncConnectionPool

    class Status:
        transaction_status = pq.TransactionStatus.IDLE

    class Connection:
        _pool = None
        closed = False
        autocommit = False

        @classmethod
        async def connect(cls, conninfo: str, **kwargs: Any) -> Connection:
            return cls()

        def __init__(self) -> None:
            self.pgconn = Status()

        async def __aenter__(self) -> Connection:
            return self

        async def __aexit__(self, *error: object) -> None:
            pass

        async def close(self) -> None:
            self.closed = True

    pool: Any = AsyncConnectionPool(
        "",
        connection_class=Connection,  # type: ignore[type-var]
        min_size=size,
        max_size=size,
        open=False,
    )
    await pool.open(wait=True)
    return pool


# --- asyncpg: `async with pool.acquire(timeout=...)` --------------------------------------------


async def asyncpg_pool(size: int) -> Any:
    """asyncpg's own Pool and its own Connection, over a protocol that answers at once.

    Left out is what the protocol's C code does with the reset query that a release sends: to write
    it, to wait for a turn of the event loop, to read the answer. All else is theirs and runs: the
    timeouts, the proxy, the shield, the query's text and the timer for idle connections.
    """
    import asyncpg

    class Protocol:
        queries_count = 0

        def __init__(self) -> None:
            self.settings = SimpleNamespace(server_version="17.0")
            self.connected = True

        def get_settings(self) -> Any:
            return self.settings

        def is_connected(self) -> bool:
            return self.connected

        def is_in_transaction(self) -> bool:
            return False

        def _is_cancelling(self) -> bool:
            return False

        async def query(self, query: str, timeout: float | None) -> str:
            return "RESET"

        async def close(self, timeout: float | None) -> None:
            self.connected = False

        def abort(self) -> None:
            self.connected = False

    async def connect(*dsn: Any, loop: Any, connection_class: Any, **options: Any) -> Any:
        config = SimpleNamespace(statement_cache_size=100, max_cached_statement_lifetime=300)
        return connection_class(Protocol(), None, loop, ("localhost", 5432), config, None)

    return await asyncpg.create_pool(connect=connect, min_size=size, max_size=size)


# --- redis-py: the pool that waits --------------------------------------------------------------


async def redis_pool(size: int) -> Any:
    from redis.asyncio import BlockingConnectionPool

    class Connection:
        def __init__(self, **kwargs: Any) -> None:
            pass

        async def connect(self) -> None:
            pass

        async def can_read(self, timeout: float = 0) -> bool:
            return False

        def should_reconnect(self) -> bool:
            return False

        async def re_auth(self) -> None:  # on every release: there is no token to renew
            pass

        async def disconnect(self, *args: object) -> None:
            pass

    return BlockingConnectionPool(max_connections=size, connection_class=Connection)  # type: ignore[arg-type]


# --- SQLAlchemy: the pool behind an asynchronous engine, entered as the engine enters it --------


async def sqlalchemy_pool(size: int) -> Any:
    import greenlet  # noqa: F401 - SQLAlchemy itself looks for it later
    from sqlalchemy.pool import AsyncAdaptedQueuePool

    class Connection:
        def rollback(self) -> None:
            pass

        def close(self) -> None:
            pass

    return AsyncAdaptedQueuePool(Connection, pool_size=size, max_overflow=0)


async def spawn(function: Callable[..., Any]) -> Any:
    from sqlalchemy.util import greenlet_spawn

    return await greenlet_spawn(function)


def sqlalchemy_names(pool: Any) -> dict[str, Any]:
    from sqlalchemy.util import greenlet_spawn

    return {"pool": pool, "spawn": greenlet_spawn}


# --- aiologic, culsans: queues for threads and tasks, filled with connections -------------------


async def aiologic_queue(size: int) -> Any:
    import aiologic

    return aiologic.SimpleLifoQueue(Thing() for _ in range(size))


async def culsans_queue(size: int) -> Any:
    import culsans

    queue: Any = culsans.LifoQueue(size)
    for _ in range(size):
        queue.sync_q.put(Thing())
    return queue.async_q


async def nothing_to_close(pool: Any) -> None:
    pass


# --- generic-connection-pool --------------------------------------------------------------------


async def generic_pool(size: int) -> Any:
    from generic_connection_pool.asyncio import BaseConnectionManager, ConnectionPool

    class Manager(BaseConnectionManager[str, Thing]):
        async def create(self, endpoint: str) -> Thing:
            return Thing()

        async def dispose(self, endpoint: str, conn: Thing) -> None:
            pass

    return ConnectionPool(
        Manager(),
        idle_timeout=600.0,
        max_lifetime=1800.0,
        min_idle=size,
        max_size=size,
        total_max_size=size,
        background_collector=True,
    )


TASK_PEERS: tuple[TaskPeer, ...] = (
    TaskPeer(
        "psycopg_pool",
        "psycopg_pool",
        psycopg_pool,
        "async with pool.connection() as connection: pass",
        lambda pool: pool.getconn(),
        lambda pool, connection: pool.putconn(connection),
        close_it,
    ),
    TaskPeer(
        "asyncpg",
        "asyncpg",
        asyncpg_pool,
        "async with pool.acquire(timeout=30) as connection: pass",  # as ours, which waits for 30 s
        lambda pool: pool.acquire(timeout=30),
        lambda pool, connection: pool.release(connection),
        close_it,
    ),
    TaskPeer(
        "redis",
        "redis",
        redis_pool,
        "await pool.release(await pool.get_connection())",
        lambda pool: pool.get_connection(),
        lambda pool, connection: pool.release(connection),
        lambda pool: pool.disconnect(),
    ),
    TaskPeer(
        "SQLAlchemy",
        "SQLAlchemy",
        sqlalchemy_pool,
        "connection = await spawn(pool.connect)\nawait spawn(connection.close)",
        lambda pool: spawn(pool.connect),
        lambda pool, connection: spawn(connection.close),
        lambda pool: spawn(pool.dispose),
        sqlalchemy_names,
    ),
    TaskPeer(
        "aiologic",
        "aiologic",
        aiologic_queue,
        "await pool.async_put(await pool.async_get())",
        lambda pool: pool.async_get(),
        lambda pool, connection: pool.async_put(connection),
        nothing_to_close,
    ),
    TaskPeer(
        "culsans",
        "culsans",
        culsans_queue,
        "await pool.put(await pool.get())",
        lambda pool: pool.get(),
        lambda pool, connection: pool.put(connection),
        nothing_to_close,
    ),
    TaskPeer(
        "generic-connection-pool",
        "generic-connection-pool",
        generic_pool,
        'async with pool.connection("there", timeout=30) as connection: pass',
        lambda pool: pool.acquire("there", timeout=30),
        lambda pool, connection: pool.release(connection, "there"),
        close_it,
    ),
)

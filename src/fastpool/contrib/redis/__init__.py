"""redis-py's connection pools on FastPool: each thread gets its turn, and waits for nothing else.

    redis.Redis(connection_pool=fastpool.contrib.redis.BlockingConnectionPool.from_url(url))

The classes are subclasses of redis-py's, with its arguments, exceptions, events and configuration.
Keywords of their own: ``fairness`` ("fair", or "throughput": newcomers may barge for 1 ms),
``max_waiting`` (more that wait are refused at once), ``leak_after`` (seconds after which a
connection that is still in use is logged with the stack that took it), ``name``.  The pool itself
is the attribute ``fastpool``: ``stats()``, ``leases()``.  ``queue_class`` means nothing here.

Safe for threads and after a fork.  For asyncio: ``fastpool.contrib.redis.asyncio``.
"""

from __future__ import annotations

try:
    import redis
    import redis.sentinel
except ImportError as error:
    raise ImportError(
        "fastpool.contrib.redis needs redis-py 5.2 or newer: pip install 'fastpool[redis]'"
    ) from error

from .._redis.settings import WaitingSentinel
from ._threads import BlockingRedisConnections, RedisConnections

__all__ = [
    "BlockingConnectionPool",
    "ConnectionPool",
    "SentinelBlockingConnectionPool",
    "SentinelConnectionPool",
]


class ConnectionPool(RedisConnections, redis.ConnectionPool):  # type: ignore[misc]
    """Raises MaxConnectionsError at once when ``max_connections`` are in use.

    ``max_connections``: 100, or as many as redis-py allows by default.
    """


class BlockingConnectionPool(BlockingRedisConnections, redis.BlockingConnectionPool):  # type: ignore[misc]
    """Waits ``timeout`` seconds (20; None: for ever) when ``max_connections`` (50) are in use, then
    raises redis.ConnectionError.  Who has waited longest is first."""


class SentinelConnectionPool(RedisConnections, redis.sentinel.SentinelConnectionPool):  # type: ignore[misc]
    """For ``Sentinel.master_for(name, connection_pool_class=SentinelConnectionPool)``; refuses at
    once, as ConnectionPool does."""

    def reset(self) -> None:
        super().reset()
        self.proxy.reset()


class SentinelBlockingConnectionPool(
    WaitingSentinel, BlockingRedisConnections, SentinelConnectionPool
):
    """The same, but waits ``timeout`` seconds, as BlockingConnectionPool does; redis-py has none.

    ``max_connections``: 50.
    """

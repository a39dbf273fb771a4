"""redis.asyncio's connection pools on FastPool: fair, and for any number of event loops.

    redis.asyncio.Redis(connection_pool=BlockingConnectionPool.from_url(url))

The names of ``redis.asyncio``, and keywords as in ``fastpool.contrib.redis``.  Connections belong
to the event loop that made them; ``disconnect`` and ``aclose`` are for those of the calling loop,
so each loop ends its own, and the pool goes on serving the others and those to come.
"""

from __future__ import annotations

import redis.asyncio
import redis.asyncio.sentinel

from .._redis.settings import WaitingSentinel
from ._tasks import AsyncRedisConnections, BlockingAsyncRedisConnections

__all__ = [
    "BlockingConnectionPool",
    "ConnectionPool",
    "SentinelBlockingConnectionPool",
    "SentinelConnectionPool",
]


class ConnectionPool(AsyncRedisConnections, redis.asyncio.ConnectionPool):  # type: ignore[misc]
    """Raises MaxConnectionsError at once when ``max_connections`` are in use."""


class BlockingConnectionPool(BlockingAsyncRedisConnections, redis.asyncio.BlockingConnectionPool):  # type: ignore[misc]
    """Waits ``timeout`` seconds (20; None: for ever) when ``max_connections`` (50) are in use, then
    raises redis.ConnectionError.  Who has waited longest is first."""


class SentinelConnectionPool(AsyncRedisConnections, redis.asyncio.sentinel.SentinelConnectionPool):  # type: ignore[misc]
    """For ``Sentinel.master_for(name, connection_pool_class=SentinelConnectionPool)``; refuses at
    once, as ConnectionPool does."""


class SentinelBlockingConnectionPool(
    WaitingSentinel, BlockingAsyncRedisConnections, SentinelConnectionPool
):
    """The same, but waits ``timeout`` seconds, as BlockingConnectionPool does; redis-py has none.

    ``max_connections``: 50.
    """

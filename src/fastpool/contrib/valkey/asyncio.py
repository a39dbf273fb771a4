"""valkey.asyncio's connection pools on FastPool; else as ``fastpool.contrib.redis.asyncio``."""

from __future__ import annotations

from typing import Any

import valkey.asyncio
import valkey.asyncio.sentinel
from valkey.exceptions import ConnectionError

from .._redis.settings import WaitingSentinel
from .._redis.tasks import AsyncConnections, BlockingAsyncConnections

__all__ = [
    "BlockingConnectionPool",
    "ConnectionPool",
    "SentinelBlockingConnectionPool",
    "SentinelConnectionPool",
]


class _ValkeyConnections(AsyncConnections):
    def _full(self, error: Exception) -> Any:
        return ConnectionError("Too many connections")


class _BlockingValkeyConnections(BlockingAsyncConnections, _ValkeyConnections):
    def _full(self, error: Exception) -> Any:
        return ConnectionError("No connection available.")


class ConnectionPool(_ValkeyConnections, valkey.asyncio.ConnectionPool):  # type: ignore[misc]
    """Raises ConnectionError at once when ``max_connections`` are in use."""


class BlockingConnectionPool(_BlockingValkeyConnections, valkey.asyncio.BlockingConnectionPool):  # type: ignore[misc]
    """Waits ``timeout`` seconds (20; None: for ever) when ``max_connections`` (50) are in use, then
    raises ConnectionError.  Who has waited longest is first."""


class SentinelConnectionPool(_ValkeyConnections, valkey.asyncio.sentinel.SentinelConnectionPool):  # type: ignore[misc]
    """For ``Sentinel.master_for(name, connection_pool_class=SentinelConnectionPool)``; refuses at
    once, as ConnectionPool does."""


class SentinelBlockingConnectionPool(
    WaitingSentinel, _BlockingValkeyConnections, SentinelConnectionPool
):
    """The same, but waits ``timeout`` seconds, as BlockingConnectionPool does.

    ``max_connections``: 50.
    """

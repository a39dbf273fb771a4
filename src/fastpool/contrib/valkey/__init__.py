"""valkey-py's connection pools on FastPool; else as ``fastpool.contrib.redis``.

    valkey.Valkey(connection_pool=fastpool.contrib.valkey.BlockingConnectionPool.from_url(url))

The pool is the attribute ``fastpool``.  Safe for threads and after a fork.
"""

from __future__ import annotations

from typing import Any

try:
    import valkey
    import valkey.sentinel
    from valkey.exceptions import ConnectionError
except ImportError as error:
    raise ImportError(
        "fastpool.contrib.valkey needs valkey-py 6 or newer: pip install 'fastpool[valkey]'"
    ) from error

from .._redis.settings import WaitingSentinel
from .._redis.silence import Silence
from .._redis.threads import BlockingConnections, Connections

__all__ = [
    "BlockingConnectionPool",
    "ConnectionPool",
    "SentinelBlockingConnectionPool",
    "SentinelConnectionPool",
]

silent = Silence("valkey")


class _ValkeyConnections(Connections):
    """What valkey-py's pools of threads do at a checkout."""

    def _full(self, error: Exception) -> Any:
        return ConnectionError("Too many connections")

    def _make_ready(self, connection: Any) -> None:
        if silent(connection):
            return
        connection.connect()
        try:
            # with a client-side cache the server speaks by itself
            if connection.can_read() and connection.client_cache is None:
                raise ConnectionError("Connection has data")
        except (ConnectionError, OSError):
            connection.disconnect()
            connection.connect()
            if connection.can_read() and connection.client_cache is None:
                raise ConnectionError("Connection not ready")


class _BlockingValkeyConnections(BlockingConnections, _ValkeyConnections):
    def _full(self, error: Exception) -> Any:
        return ConnectionError("No connection available.")


class ConnectionPool(_ValkeyConnections, valkey.ConnectionPool):  # type: ignore[misc]
    """Raises ConnectionError at once when ``max_connections`` are in use.

    ``max_connections``: as many as valkey-py allows by default, which is no limit to speak of.
    """


class BlockingConnectionPool(_BlockingValkeyConnections, valkey.BlockingConnectionPool):  # type: ignore[misc]
    """Waits ``timeout`` seconds (20; None: for ever) when ``max_connections`` (50) are in use, then
    raises ConnectionError.  Who has waited longest is first."""


class SentinelConnectionPool(_ValkeyConnections, valkey.sentinel.SentinelConnectionPool):  # type: ignore[misc]
    """For ``Sentinel.master_for(name, connection_pool_class=SentinelConnectionPool)``; refuses at
    once, as ConnectionPool does."""

    def reset(self) -> None:
        super().reset()
        self.proxy.reset()


class SentinelBlockingConnectionPool(
    WaitingSentinel, _BlockingValkeyConnections, SentinelConnectionPool
):
    """The same, but waits ``timeout`` seconds, as BlockingConnectionPool does.

    ``max_connections``: 50.
    """

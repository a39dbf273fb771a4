"""What redis.asyncio's pools do at a checkout and a return."""

from __future__ import annotations

import time
from typing import Any

from redis.exceptions import ConnectionError, MaxConnectionsError

from .._redis.tasks import AsyncConnections, BlockingAsyncConnections
from . import _metrics
from ._versions import (
    AsyncAfterConnectionReleasedEvent,
    AsyncReAuthConnectionListener,
    reconnects,
)

__all__ = ["AsyncRedisConnections", "BlockingAsyncRedisConnections"]

RECONNECTS = reconnects("redis.asyncio.connection")


class AsyncRedisConnections(AsyncConnections):
    """Before ``redis.asyncio.ConnectionPool``."""

    _event_dispatcher: Any

    def _full(self, error: Exception) -> Any:
        return MaxConnectionsError("Too many connections")

    async def _before_return(self, connection: Any) -> None:
        if RECONNECTS and connection.should_reconnect():
            await connection.disconnect()
        if AsyncAfterConnectionReleasedEvent is not None:
            await self._notify_listeners(connection)

    async def _notify_listeners(self, connection: Any) -> None:
        """As the dispatcher does; redis-py's own listener alone is asked in place, see _threads."""
        dispatcher = self._event_dispatcher
        known = getattr(dispatcher, "_event_listeners_mapping", {})
        listeners = known.get(AsyncAfterConnectionReleasedEvent, ())
        if len(listeners) == 1 and type(listeners[0]) is AsyncReAuthConnectionListener:
            await connection.re_auth()
        else:
            await dispatcher.dispatch_async(AsyncAfterConnectionReleasedEvent(connection))

    # ---- observed --------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._observed = False  # whether somebody listened when a connection was lent last
        self._fresh: set[Any] = set()  # made while somebody listens, and not lent yet
        super()._begin()

    def make_connection(self) -> Any:
        connection = super().make_connection()
        if _metrics.enabled():
            _metrics.count(self, idle=1)
            self._fresh.add(connection)
        return connection

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        self._observed = _metrics.enabled()
        if not self._observed:
            return await super().get_connection()
        start = time.monotonic()
        connection = await self._acquire()
        _metrics.count(self, idle=-1, used=1)
        fresh = connection in self._fresh
        self._fresh.discard(connection)
        try:
            await self.ensure_connection(connection)  # type: ignore[attr-defined]
        except BaseException:
            await self.release(connection)
            raise
        if fresh:
            _metrics.created(self, time.monotonic() - start)
        self._record_wait(time.monotonic() - start)
        return connection

    def _record_wait(self, seconds: float) -> None:
        """Only pools that wait tell of it."""

    def _record_given(self, how: str) -> None:
        _metrics.count(self, used=-1, idle=how == "put")


class BlockingAsyncRedisConnections(BlockingAsyncConnections, AsyncRedisConnections):
    """Before ``redis.asyncio.BlockingConnectionPool``."""

    def _full(self, error: Exception) -> Any:
        return ConnectionError("No connection available.")

    def _record_wait(self, seconds: float) -> None:
        _metrics.waited(self, seconds)

"""What redis-py's pools of threads do at a checkout and a return."""

from __future__ import annotations

import time
from typing import Any

from redis.exceptions import ConnectionError, MaxConnectionsError, TimeoutError

from .._redis.threads import BlockingConnections, Connections
from . import _metrics
from ._versions import (
    AfterConnectionReleasedEvent,
    CacheProxyConnection,
    ReAuthConnectionListener,
    reconnects,
)

__all__ = ["BlockingRedisConnections", "RedisConnections"]

RECONNECTS = reconnects("redis.connection")


class RedisConnections(Connections):
    """Before ``redis.ConnectionPool``."""

    cache: Any
    _event_dispatcher: Any

    def _full(self, error: Exception) -> Any:
        return MaxConnectionsError("Too many connections")

    def make_connection(self) -> Any:
        connection = super().make_connection()
        if self.cache is not None:
            connection = CacheProxyConnection(connection, self.cache, self._lock)
        if _metrics.enabled():
            _metrics.count(self, idle=1)
            self._fresh.add(connection)
        return connection

    def _make_ready(self, connection: Any) -> None:
        connection.connect()
        try:
            if connection.can_read():
                self._refuse_unread("Connection has data")
        except (ConnectionError, TimeoutError, OSError):
            connection.disconnect()
            connection.connect()
            if connection.can_read():
                self._refuse_unread("Connection not ready")

    def _refuse_unread(self, what: str) -> None:
        """It may be the answer to somebody else, or the end of the stream, unless the server is
        expected to speak by itself."""
        if self.cache is None and not self.maint_notifications_enabled():
            raise ConnectionError(what)

    def _before_return(self, connection: Any) -> None:
        if RECONNECTS and connection.should_reconnect():
            connection.disconnect()
        if AfterConnectionReleasedEvent is not None:
            self._notify_listeners(connection)

    def _notify_listeners(self, connection: Any) -> None:
        """As the dispatcher does.  It costs more than all of the pool, so where its one listener is
        redis-py's own that one is asked in place."""
        dispatcher = self._event_dispatcher
        known = getattr(dispatcher, "_event_listeners_mapping", {})
        listeners = known.get(AfterConnectionReleasedEvent, ())
        if len(listeners) == 1 and type(listeners[0]) is ReAuthConnectionListener:
            connection.re_auth()
        else:
            dispatcher.dispatch(AfterConnectionReleasedEvent(connection))

    if not RECONNECTS:

        def maint_notifications_enabled(self) -> bool:
            return False

    # ---- observed --------------------------------------------------------------------------------

    def reset(self) -> None:
        if "fastpool" in self.__dict__:
            self._record_forgotten()
        self._observed = False  # whether somebody listened when a connection was lent last
        self._fresh: set[Any] = set()  # made while somebody listens, and not lent yet
        super().reset()

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        self._observed = _metrics.enabled()
        if not self._observed:
            return super().get_connection()
        start = time.monotonic()
        connection = self._acquire()
        _metrics.count(self, idle=-1, used=1)
        fresh = connection in self._fresh
        self._fresh.discard(connection)
        try:
            self._make_ready(connection)
        except BaseException:
            self.release(connection)
            raise
        if fresh:
            _metrics.created(self, time.monotonic() - start)
        self._record_wait(time.monotonic() - start)
        return connection

    def _record_wait(self, seconds: float) -> None:
        """Only pools that wait tell of it."""

    def _give(self, connection: Any, how: str) -> bool:
        given = super()._give(connection, how)
        if given and self._observed:
            _metrics.count(self, used=-1, idle=how == "put")
        return given

    def _record_forgotten(self) -> None:
        if _metrics.enabled():
            _metrics.count(self, idle=-len(self._idle()), used=-len(self._in_use()))

    def __del__(self) -> None:
        try:
            self._record_forgotten()
        except Exception:  # it may be half made, and nobody could do anything about it
            pass


class BlockingRedisConnections(BlockingConnections, RedisConnections):
    """Before ``redis.BlockingConnectionPool``."""

    def _full(self, error: Exception) -> Any:
        return ConnectionError("No connection available.")

    def _record_wait(self, seconds: float) -> None:
        _metrics.waited(self, seconds)

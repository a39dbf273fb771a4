"""What redis-py's pools of threads do at a checkout and a return."""

from __future__ import annotations

import time
from typing import Any

from redis.exceptions import ConnectionError, MaxConnectionsError, TimeoutError

from .._redis.silence import Silence
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
silent = Silence("redis")


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
        if silent(connection):
            return
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
        """Listeners are told as by the dispatcher.  That costs more than all of the pool, so where
        its one listener is redis-py's own that one is asked in place."""
        if RECONNECTS and connection.should_reconnect():
            connection.disconnect()
        if AfterConnectionReleasedEvent is None:
            return
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
        observed = self._observed = _metrics.enabled()
        start = time.monotonic() if observed else 0.0
        connection = self._acquire()
        if observed:
            _metrics.count(self, idle=-1, used=1)
        try:
            self._make_ready(connection)
        except BaseException:
            self._fresh.discard(connection)
            self.release(connection)
            raise
        if observed:
            self._record_lent(connection, time.monotonic() - start)
        return connection

    def _record_lent(self, connection: Any, seconds: float) -> None:
        if connection in self._fresh:
            self._fresh.discard(connection)
            _metrics.created(self, seconds)
        self._record_wait(seconds)

    def _record_wait(self, seconds: float) -> None:
        """Only pools that wait tell of it."""

    def _record_given(self, how: str) -> None:
        _metrics.count(self, used=-1, idle=how == "put")

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

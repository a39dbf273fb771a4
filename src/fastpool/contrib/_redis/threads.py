"""Connections of redis-py or valkey-py in a FastPool, for threads: the class to put before a pool
of theirs among the bases.

Their class keeps configuration, URLs, events and callbacks; what it keeps of connections is
replaced.  A resource is one of their connection objects, connected or not.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

from fastpool import PoolClosed, PoolOverloaded, PoolTimeout

from .idle_lock import IdleLock
from .settings import Settings

__all__ = ["BlockingConnections", "Connections"]


class Connections(Settings):
    """For a pool that refuses at once what it has no connection for.

    Safe for threads, and after a fork.
    """

    _lock: Any

    # ---- what a host's class says ------------------------------------------------------------

    def _full(self, error: Exception) -> Any:
        """The host's exception for a pool that has no connection to lend."""
        raise NotImplementedError

    def _make_ready(self, connection: Any) -> None:
        """Connect it, unless it is; connect it anew if it has something to read."""
        raise NotImplementedError

    def _before_return(self, connection: Any) -> None:
        """It was used, and is about to go back."""

    # ---- the pool ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget all connections, and start anew; what is in use is closed when it comes back."""
        # no circle, or a pool that is dropped would live until the collector comes
        me: weakref.ref[Connections] = weakref.ref(self)
        self._connections: set[Any] = set()  # all that are open here, idle or in use
        self._start(lambda: _make(me), lambda each: _close(me, each), create_in="caller")
        self._lock = IdleLock(self.fastpool)

    @property
    def pid(self) -> int:
        """Whose connections these are.  After a fork the FastPool is empty by itself."""
        return os.getpid()

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """A connection that is connected.  Raises what the host raises."""
        connection = self._acquire()
        try:
            self._make_ready(connection)
        except BaseException:
            self.release(connection)
            raise
        return connection

    def _acquire(self) -> Any:
        try:
            return self.fastpool.get_nowait()
        except PoolTimeout:
            pass
        with self._lock.creation:  # who had the idle ones for a moment has given them back
            try:
                return self.fastpool.get_nowait()
            except PoolTimeout as error:
                raise self._full(error) from error

    def release(self, connection: Any) -> None:
        """Give it back.  One that is not of this pool is left alone."""
        if connection not in self._connections:
            self._give_former(connection)
            return
        if not self.owns_connection(connection):  # type: ignore[attr-defined]
            self._give(connection, "discard")
            return
        try:
            self._before_return(connection)
        finally:
            self._give(connection, "put")

    # ---- all of them -------------------------------------------------------------------------

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Disconnect what is idle, and what others use unless ``inuse_connections`` is false."""
        with self._lock:
            for connection in self._idle():
                connection.disconnect()
            if inuse_connections:
                for connection in self._in_use():
                    connection.disconnect()

    def set_retry(self, retry: Any) -> None:
        """Of connections to come, and of those there are."""
        self.connection_kwargs.update({"retry": retry})
        for connection in list(self._connections):
            connection.retry = retry

    def _idle(self) -> list[Any]:
        """To the owner of the lock: what nobody else can get at."""
        lock = self._lock
        return list(lock.held) if lock.mine() else [*lock.held, *self.fastpool.queue]

    def _in_use(self) -> set[Any]:
        """The others: to the owner of the lock also what came back since."""
        idle = set(map(id, self._idle()))
        mine = os.getpid()
        return {
            each for each in list(self._connections) if id(each) not in idle and each.pid == mine
        }

    @property
    def _available_connections(self) -> list[Any]:
        return self._idle()

    @property
    def _in_use_connections(self) -> set[Any]:
        return self._in_use()

    @property
    def _created_connections(self) -> int:
        return len(self._idle()) + len(self._in_use())

    def _get_free_connections(self) -> list[Any]:
        return self._idle()

    def _get_in_use_connections(self) -> set[Any]:
        return self._in_use()

    def _get_pool_lock(self) -> Any:
        return self._lock


class BlockingConnections(Connections):
    """For a pool that waits ``timeout`` seconds for a connection."""

    timeout: float | None

    def _acquire(self) -> Any:
        while True:
            pool = self.fastpool
            try:
                return pool.get(True, self.timeout)
            except (PoolTimeout, PoolOverloaded) as error:
                raise self._full(error) from error
            except PoolClosed:
                if pool is self.fastpool:
                    raise
                # it was reset meanwhile


def _make(of: weakref.ref[Connections]) -> Any:
    """The factory: cheap, since it is in ``get_connection`` that a connection is connected."""
    pool = of()
    assert pool is not None  # who borrows holds it
    with pool._lock.creation:
        connection = pool.make_connection()
        pool._connections.add(connection)
    return connection


def _close(of: weakref.ref[Connections], connection: Any) -> None:
    pool = of()
    if pool is not None:
        pool._connections.discard(connection)
    connection.disconnect()

"""Connections of redis.asyncio or valkey.asyncio in a FastPool: the class to put before a pool of
theirs among the bases.

Connections belong to the event loop in which they were made.  One pool serves any number of loops
under its one cap: a loop that is gone gives up its slots, and of one that runs what is idle is
closed when another loop waits.  What is said of all connections (``disconnect``, ``aclose``) is
done to those of the calling loop.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from fastpool import PoolClosed, PoolOverloaded, PoolTimeout

from .loop_lock import LoopLock
from .settings import Settings

__all__ = ["AsyncConnections", "BlockingAsyncConnections"]


class AsyncConnections(Settings):
    """For a pool that refuses at once what it has no connection for."""

    _wait: dict[str, Any] = {"max_waiting": 0}  # noqa: RUF012

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._begin()

    def _begin(self) -> None:
        me: weakref.ref[AsyncConnections] = weakref.ref(self)
        self._owners: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

        async def create() -> Any:
            return _make(me)

        self._start(create, _close, **self._wait)
        self._lock = LoopLock(self.fastpool, self._owners)

    # ---- what a host's class says ------------------------------------------------------------

    def _full(self, error: Exception) -> Any:
        """The host's exception for a pool that has no connection to lend."""
        raise NotImplementedError

    async def _before_return(self, connection: Any) -> None:
        """It was used, and is about to go back."""

    # ---- the pool ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget all connections, and start anew; what is in use is closed when it comes back."""
        self._begin()
        super().reset()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """A connection that is connected.  Raises what the host raises."""
        connection = await self._acquire()
        try:
            await self.ensure_connection(connection)  # type: ignore[attr-defined]
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def _acquire(self) -> Any:
        while True:
            pool = self.fastpool
            try:
                return await pool.aget(self._span())
            except (PoolTimeout, PoolOverloaded) as error:
                raise self._full(error) from error
            except PoolClosed:
                if pool is self.fastpool:
                    raise
                # it was reset meanwhile

    def _span(self) -> float | None:
        """How long a task waits, in seconds."""
        return None

    async def release(self, connection: Any) -> None:
        """Give it back.  KeyError if it is not of this pool."""
        if connection not in self._owners:
            if not self._give_former(connection):
                raise KeyError(connection)
            return
        try:
            await self._before_return(connection)
        finally:
            given = self._give(connection, "put")
        if not given:
            raise KeyError(connection)

    def can_get_connection(self) -> bool:
        """Whether one is idle, or may be opened."""
        return bool(self._idle()) or self.fastpool.stats().open < self.max_connections

    # ---- all of them -------------------------------------------------------------------------

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Disconnect what is idle, and what others use unless ``inuse_connections`` is false: of
        this event loop."""
        async with self._lock:
            these = [*self._idle(), *(self._in_use() if inuse_connections else ())]
            ends = await asyncio.gather(
                *(each.disconnect() for each in these), return_exceptions=True
            )
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    def set_retry(self, retry: Any) -> None:
        """Of connections to come, and of those there are."""
        self.connection_kwargs["retry"] = retry
        for connection in list(self._owners):
            connection.retry = retry

    async def re_auth_callback(self, token: Any) -> None:
        """As the host's.  Those of other loops authenticate when they come back there."""
        here = asyncio.get_running_loop()
        for connection, owner in list(self._owners.items()):
            if owner is not here:
                connection.set_re_auth_token(token)
        await super().re_auth_callback(token)  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    def _idle(self) -> list[Any]:
        """To the task that has the lock: what no other can get at."""
        lock = self._lock
        return lock.held() if lock.mine() else [*lock.held(), *lock.idle()]

    def _in_use(self) -> set[Any]:
        """The others: to the task that has the lock also what came back since."""
        idle = set(map(id, self._idle()))
        loop = asyncio._get_running_loop()
        return {
            each
            for each, owner in list(self._owners.items())
            if id(each) not in idle and (loop is None or owner is loop)
        }

    @property
    def _available_connections(self) -> list[Any]:
        return self._idle()

    @_available_connections.setter
    def _available_connections(self, _: object) -> None:
        """The host sets it where it begins."""

    @property
    def _in_use_connections(self) -> set[Any]:
        return self._in_use()

    @_in_use_connections.setter
    def _in_use_connections(self, _: object) -> None:
        """The host sets it where it begins."""


class BlockingAsyncConnections(AsyncConnections):
    """For a pool that waits ``timeout`` seconds for a connection."""

    timeout: float | None
    _wait: dict[str, Any] = {}  # noqa: RUF012

    def _span(self) -> float | None:
        return self.timeout


def _make(of: weakref.ref[AsyncConnections]) -> Any:
    """Not connected yet: that is done in ``get_connection``."""
    pool = of()
    assert pool is not None  # who borrows holds it
    connection = pool.make_connection()
    pool._owners[connection] = asyncio.get_running_loop()
    return connection


async def _close(connection: Any) -> None:
    await connection.disconnect()

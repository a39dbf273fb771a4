"""The pool for tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psycopg_pool
from psycopg_pool.abc import ACT

from ... import FastPool
from ...errors import PoolClosed, PoolError, PoolTimeout
from ._connections import ConnectionsPool, logger
from ._tries import Tries

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = ["AsyncConnectionPool"]


class AsyncConnectionPool(ConnectionsPool, psycopg_pool.AsyncConnectionPool[ACT]):
    """A drop-in for ``psycopg_pool.AsyncConnectionPool``.

    ``conninfo`` and options as there, and ``fairness="fair"``, ``leak_after=None``.  Tasks of
    several event loops, at once or one after the other, share its one limit; each connection stays
    with the loop that opened it.
    """

    def __init__(
        self,
        conninfo: Any = "",
        *,
        open: bool | None = None,
        fairness: str = "fair",
        leak_after: float | None = None,
        **options: Any,
    ) -> None:
        """``options``: those of ``psycopg_pool.AsyncConnectionPool``; the others as in
        ``ConnectionPool``."""
        super().__init__(conninfo, open=False, **options)
        pool = self._reference()

        async def make() -> Any:
            return await pool()._make()

        async def check(connection: Any) -> None:
            await pool()._check_idle(connection)

        self._begin(make, check, {"fairness": fairness, "leak_after": leak_after})
        self._opening: Any = None  # the task that opens it for the constructor
        self._making: set[Any] = set()  # tasks that connect
        if open is None:
            open = self._open_implicit = True
        elif open:
            self._warn_open_async()
        if open:
            self._open()

    # ---- lending -------------------------------------------------------------------------------

    def connection(self, timeout: float | None = None) -> AbstractAsyncContextManager[ACT]:
        """A block with a connection: its end commits, or rolls back after an exception, and gives
        the connection back.  ``timeout``: seconds, the pool's unless given; then PoolTimeout."""
        return Block(self, timeout)

    async def getconn(self, timeout: float | None = None) -> ACT:
        """A connection, which has to be given back by ``putconn``.  ``timeout`` as in
        ``connection()``; 0 takes what is idle."""
        return (await self._take(self.fastpool.aget, timeout))[1]

    async def _take(
        self, take: Callable[[float], Awaitable[Any]], timeout: float | None
    ) -> tuple[Any, Any]:
        """What ``take`` gives, a lease or a connection, and the connection."""
        if timeout is None:
            timeout = self.timeout
        if self._closed or self._open_implicit:
            self._check_open_getconn()
        try:
            if self._check is not None:
                return await self._take_checked(take, timeout)
            taken = await take(timeout if timeout > 0 else 0)
        except PoolError as error:
            raise self._refusal(error, timeout) from error
        connection = getattr(taken, "resource", taken)
        connection._pool = self
        return taken, connection

    async def _take_checked(
        self, take: Callable[[float], Awaitable[Any]], timeout: float
    ) -> tuple[Any, Any]:
        """As that of ConnectionPool."""
        tries = Tries(timeout)
        while True:
            taken = await take(tries.left())
            connection = getattr(taken, "resource", taken)
            connection._pool = self
            try:
                await self._check_connection(connection)
                return taken, connection
            except Exception as error:
                failed = error
                self._repeats += 1
                await self._return(connection, True)
            except BaseException:
                await self._return(connection, True)
                raise
            await asyncio.sleep(tries.pause())
            if not tries.left():
                self._stats[self._REQUESTS_ERRORS] += 1
                raise self._timed_out(timeout, f"its check failed: {failed!r}") from failed

    async def putconn(self, conn: ACT) -> None:
        """Gives a connection back: rolled back if a transaction is open, ``reset`` in the calling
        task.  ValueError if it is not lent by this pool."""
        self._check_pool_putconn(conn)
        await self._return(conn, False)

    async def _return(self, connection: Any, failed_check: bool) -> None:
        if self._closed:
            connection._pool = None
            await connection.close()  # here, as there may be no later for this event loop
        if self._reset is None and not connection.pgconn.transaction_status:  # 0: idle
            self._give_back(connection, failed_check)
            return
        task: Any = asyncio.current_task()
        cancelled = task.cancelling()
        try:
            if not self._closed:
                await self._reset_connection(connection)
        except BaseException:
            self._throw_away(connection)
            raise
        self._give_back(connection, failed_check)
        if task.cancelling() > cancelled:  # to the host's part that was one more failure
            raise asyncio.CancelledError

    # ---- connections ---------------------------------------------------------------------------

    async def _make(self) -> Any:
        task = asyncio.current_task()
        self._making.add(task)
        try:
            connection = self._connected(await self._connect())
        except Exception as error:
            if self._not_connected(error):
                try:
                    await self.reconnect_failed()
                except Exception:
                    logger.exception("reconnect_failed of pool %r failed", self.name)
            raise
        finally:
            self._making.discard(task)
        if self.fastpool.closed:
            await connection.close()  # here, as there may be no later for this event loop
        return connection

    async def _check_idle(self, connection: Any) -> None:
        try:
            await self.check_connection(connection)
        except Exception:
            self._lost(connection)
            raise

    # ---- lifecycle -----------------------------------------------------------------------------

    async def open(self, wait: bool = False, timeout: float = 30.0) -> None:
        """Begins to connect, and to lend.  ``wait``: as ``wait(timeout)``.  Again on an open pool
        it does nothing; PoolClosed after ``close()``."""
        if self._closed:
            self._check_open()
            await self.fastpool.aopen()
            self._closed, self._opened = False, True
        if wait:
            await self.wait(timeout)

    def _open(self) -> None:
        """For the constructor.  RuntimeError if no event loop runs, as in the host's pool."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(f"{type(self).__name__} open with no running loop") from None
        self._closed, self._opened = False, True
        self._opening = loop.create_task(open_unless_closed(self.fastpool))

    async def wait(self, timeout: float = 30.0) -> None:
        """Until ``min_size`` connections are open.  After ``timeout`` seconds the pool is closed,
        and it is PoolTimeout."""
        self._check_open_getconn()
        try:
            await self.fastpool.awarm(self._min_size, timeout)
        except PoolTimeout as error:
            await self.close()
            raise self._incomplete(timeout) from error
        except PoolError as error:
            raise self._refusal(error, timeout) from error

    async def close(self, timeout: float = 5.0) -> None:
        """Refuses who waits or comes, with PoolClosed, and closes what is idle; what is lent, when
        it comes back.  ``timeout``: seconds for what is being opened on this event loop."""
        if self._closed:
            return
        self._closed = True
        await self.fastpool.aclose(0)
        here = asyncio.get_running_loop()
        if making := [task for task in self._making.copy() if task.get_loop() is here]:
            await asyncio.wait(making, timeout=timeout)

    async def resize(self, min_size: int, max_size: int | None = None) -> None:
        """New sizes.  What is idle above ``max_size`` is closed now, what is lent when it comes
        back."""
        self._resized(min_size, max_size)

    async def check(self) -> None:
        """Checks all idle connections, on all loops that run; broken ones are replaced."""
        await self.fastpool.acheck_idle()

    async def drain(self) -> None:
        """Closes what is idle, and what is lent when it comes back; new ones replace them."""
        self.fastpool.flush()


async def open_unless_closed(fastpool: FastPool[Any]) -> None:
    try:
        await fastpool.aopen()
    except PoolClosed:
        pass


class Block:
    """``async with pool.connection() as connection``.  Dropped before its end, it closes the
    connection, and the pool opens another."""

    __slots__ = ("pool", "timeout", "lease", "began")

    lease: Any

    def __init__(self, pool: Any, timeout: float | None) -> None:
        self.pool, self.timeout = pool, timeout

    async def __aenter__(self) -> Any:
        self.lease, connection = await self.pool._take(self._enter, self.timeout)
        self.began = time.monotonic()
        return await connection.__aenter__()

    async def _enter(self, timeout: float) -> Any:
        """A lease as a block of this task's; what puts its connection back ends it."""
        lease = self.pool.fastpool.lease(timeout)
        await lease.__aenter__()
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        pool = self.pool
        try:
            connection = self.lease.resource
        except PoolError:  # given back inside the block, and perhaps somebody else's by now
            return None
        try:
            return await connection.__aexit__(kind, error, traceback)
        finally:
            await pool._return(connection, False)
            pool._used(time.monotonic() - self.began)

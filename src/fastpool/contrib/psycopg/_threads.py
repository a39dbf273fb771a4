"""The pool for threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psycopg_pool
from psycopg_pool.abc import CT

from ...errors import PoolError, PoolTimeout
from ._connections import ConnectionsPool, logger
from ._tries import Tries

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["ConnectionPool"]


class ConnectionPool(ConnectionsPool, psycopg_pool.ConnectionPool[CT]):
    """A drop-in for ``psycopg_pool.ConnectionPool``.

    ``conninfo`` and options as there, and ``fairness="fair"``, ``leak_after=None``.  Thread-safe.
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
        """``options``: those of ``psycopg_pool.ConnectionPool``.

        ``fairness``: "fair" serves who waits in turn, "throughput" lets newcomers in first for a
        millisecond.  ``leak_after``: a connection held for longer, in seconds, is logged once with
        the stack that took it, and timeouts name who holds what; each checkout costs more then.
        ValueError or TypeError for an option that cannot be.
        """
        super().__init__(conninfo, open=False, **options)
        pool = self._reference()

        def make() -> Any:
            return pool()._make()

        def check(connection: Any) -> None:
            pool()._check_idle(connection)

        self._begin(make, check, {"fairness": fairness, "leak_after": leak_after})
        self._get = partial(self.fastpool.get, True)
        if open is None:
            open = self._open_implicit = True
        if open:
            self._open()

    # ---- lending -------------------------------------------------------------------------------

    def connection(self, timeout: float | None = None) -> AbstractContextManager[CT]:
        """A block with a connection: its end commits, or rolls back after an exception, and gives
        the connection back.  ``timeout``: seconds, the pool's unless given; then PoolTimeout."""
        if self._check is not None or self._closed or self._open_implicit:
            return SlowBlock(self, timeout)
        return self._blocks.block(self, self.timeout if timeout is None else timeout)

    def getconn(self, timeout: float | None = None) -> CT:
        """A connection, which has to be given back by ``putconn``.  ``timeout`` as in
        ``connection()``; 0 takes what is idle."""
        return self._take(self._get, timeout)[1]

    def _take(self, take: Callable[[float], Any], timeout: float | None) -> tuple[Any, Any]:
        """What ``take`` gives, a lease or a connection, and the connection."""
        if timeout is None:
            timeout = self.timeout
        if self._closed or self._open_implicit:
            self._check_open_getconn()
        try:
            if self._check is not None:
                return self._take_checked(take, timeout)
            taken = take(timeout if timeout > 0 else 0)
        except PoolError as error:
            raise self._refusal(error, timeout) from error
        connection = getattr(taken, "resource", taken)
        connection._pool = self
        return taken, connection

    def _take_checked(self, take: Callable[[float], Any], timeout: float) -> tuple[Any, Any]:
        """The user's ``check`` is asked, of new ones too.  What fails goes back, and may well be in
        order."""
        tries = Tries(timeout)
        while True:
            taken = take(tries.left())
            connection = getattr(taken, "resource", taken)
            connection._pool = self
            try:
                self._check_connection(connection)
                return taken, connection
            except Exception as error:
                failed = error
                self._repeats += 1
                self._return(connection, True)
            except BaseException:
                self._return(connection, True)
                raise
            time.sleep(tries.pause())
            if not tries.left():
                self._stats[self._REQUESTS_ERRORS] += 1
                raise self._timed_out(timeout, f"its check failed: {failed!r}") from failed

    def putconn(self, conn: CT) -> None:
        """Gives a connection back: rolled back if a transaction is open, ``reset`` in the calling
        thread.  ValueError if it is not lent by this pool."""
        self._check_pool_putconn(conn)
        self._return(conn, False)

    def _return(self, connection: Any, failed_check: bool) -> None:
        if self._reset is not None or connection.pgconn.transaction_status:  # 0: idle
            try:
                if not self._closed:
                    self._reset_connection(connection)
            except BaseException:
                self._throw_away(connection)
                raise
        self._give_back(connection, failed_check)

    # ---- connections ---------------------------------------------------------------------------

    def _make(self) -> Any:
        try:
            return self._connected(self._connect())
        except Exception as error:
            if self._not_connected(error):
                try:
                    self.reconnect_failed()
                except Exception:
                    logger.exception("reconnect_failed of pool %r failed", self.name)
            raise

    def _check_idle(self, connection: Any) -> None:
        try:
            self.check_connection(connection)
        except Exception:
            self._lost(connection)
            raise

    # ---- lifecycle -----------------------------------------------------------------------------

    def open(self, wait: bool = False, timeout: float = 30.0) -> None:
        """Begins to connect, and to lend.  ``wait``: as ``wait(timeout)``.  Again on an open pool
        it does nothing; PoolClosed after ``close()``."""
        self._open()
        if wait:
            self.wait(timeout)

    def _open(self) -> None:
        if self._closed:
            self._check_open()
            self.fastpool.open()
            self._closed, self._opened = False, True

    def wait(self, timeout: float = 30.0) -> None:
        """Until ``min_size`` connections are open.  After ``timeout`` seconds the pool is closed,
        and it is PoolTimeout."""
        self._check_open_getconn()
        try:
            self.fastpool.warm(self._min_size, timeout)
        except PoolTimeout as error:
            self.close()
            raise self._incomplete(timeout) from error
        except PoolError as error:
            raise self._refusal(error, timeout) from error

    def close(self, timeout: float = 5.0) -> None:
        """Refuses who waits or comes, with PoolClosed, and closes what is idle; what is lent, when
        it comes back.  There is nothing to wait for."""
        if not self._closed:
            self._closed = True
            self.fastpool.close(0)

    def resize(self, min_size: int, max_size: int | None = None) -> None:
        """New sizes.  What is idle above ``max_size`` is closed now, what is lent when it comes
        back."""
        self._resized(min_size, max_size)

    def check(self) -> None:
        """Checks all idle connections, on threads of the pool; broken ones are replaced."""
        self.fastpool.check_idle()

    def drain(self) -> None:
        """Closes what is idle, and what is lent when it comes back; new ones replace them."""
        self.fastpool.flush()


class SlowBlock:
    """What a ConnectionBlock is, for a pool that was not open yet, or whose ``check`` is asked of
    each connection before it is lent."""

    __slots__ = ("pool", "timeout", "lease", "began")

    lease: Any

    def __init__(self, pool: Any, timeout: float | None) -> None:
        self.pool, self.timeout = pool, timeout

    def __enter__(self) -> Any:
        self.lease, connection = self.pool._take(self._enter, self.timeout)
        self.began = monotonic()
        try:
            return connection.__enter__()
        except BaseException:
            self.pool._return(connection, False)
            raise

    def _enter(self, timeout: float) -> Any:
        """A lease as a block of this thread's, so that one that waits for itself is told at once.
        What puts its connection back ends it."""
        lease = self.pool.fastpool.lease(timeout)
        lease.__enter__()
        return lease

    def __exit__(
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
            return connection.__exit__(kind, error, traceback)
        finally:
            pool._return(connection, False)
            pool._used(monotonic() - self.began)

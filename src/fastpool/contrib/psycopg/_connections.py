"""What the two pools share: a FastPool of psycopg's connections.

The class of ``psycopg_pool`` keeps what is said of one connection: how it is made and configured,
checked, brought back to order, and what is logged of that.  What it does with many, its queue,
tasks and threads, is replaced.  A connection's ``_pool`` is the pool while it is lent, so that
psycopg leaves it open at the end of a block, and None while it is idle.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any, get_origin

import psycopg_pool
from psycopg.connection import Connection
from psycopg.pq import TransactionStatus
from psycopg_pool.base import BasePool

from ... import FastPool
from ..._core import ConnectionBlocks
from ...errors import PoolClosed, PoolError, PoolOverloaded
from ._settings import Setting

__all__ = ["CLOSED", "ConnectionsPool", "logger"]

logger = logging.getLogger("psycopg.pool")

CLOSED = TransactionStatus.UNKNOWN  # what a connection says that is closed or broken

#: What `Connection.__exit__` uses, of the versions of psycopg that are known.
OF_A_BLOCKS_END = {
    "closed", "rollback", "Exception", "logger", "warning", "commit", "getattr", "close",
}  # fmt: skip


def plain(given: Any) -> Any:
    """The class, if its blocks are psycopg's own: they begin with nothing, and end by ``commit()``,
    which may then be called without what is around it: half a microsecond of three."""
    known = {*Connection.__exit__.__code__.co_names} == OF_A_BLOCKS_END
    kind: Any = get_origin(given) or given  # `Connection[Row]` makes a Connection
    begin, end, commit = (getattr(kind, name, None) for name in ("__enter__", "__exit__", "commit"))
    theirs = (Connection.__enter__, Connection.__exit__, Connection.commit)
    return kind if known and (begin, end, commit) == theirs else None


class ConnectionsPool(BasePool):
    """The part of ``psycopg_pool``'s interface that waits for nothing."""

    max_waiting = Setting("max_waiting", lambda given: given or None)
    max_lifetime = Setting("max_lifetime")
    max_idle = Setting("idle_timeout")

    # the host's
    name: str
    timeout: float
    reconnect_timeout: float
    num_workers: int
    _closed: bool
    _min_size: int
    _max_size: int
    _stats: Any
    connection_class: Any
    _check: Any
    _reset: Any

    fastpool: FastPool[Any]

    def _begin(self, make: Callable[[], Any], check: Any, options: dict[str, Any]) -> None:
        """Makes the FastPool; the host's part has been made."""
        self._failing_since: float | None = None  # the first failure to connect since a success
        self._repeats = 0  # connections that were taken only for their check to fail
        self._reported: dict[str, int] = {}  # the counters of the last pop_stats()
        #: The FastPool of connections, for ``stats()``, ``leases()`` and metrics.  Nothing is to be
        #: taken from it by other ways than this pool's.
        self.fastpool = FastPool(
            self._max_size,
            factory=make,
            check=check,
            check_after=None,  # by check() alone
            timeout=self.timeout,
            min_size=self._min_size,
            max_waiting=self.max_waiting or None,
            max_lifetime=self.max_lifetime,
            idle_timeout=self.max_idle,
            max_creating=self.num_workers,
            on_create_error="wait",
            order="fifo",
            open=False,
            warn_unclosed=False,
            name=self.name,
            **options,
        )
        self._blocks = ConnectionBlocks(
            self.fastpool, self._reset is not None, plain(self.connection_class)
        )

    def __del__(self) -> None:
        """The FastPool closes what is idle.  What is lent refers to this pool, so it is out of
        everybody's reach as well."""
        fastpool = self.__dict__.get("fastpool")
        if fastpool is None or sys.is_finalizing():  # the constructor has raised; all is closed
            return
        try:
            holders = fastpool.leases()
        except PoolClosed:  # collected before this one, with nothing open
            return
        for holder in holders:
            if getattr(holder.resource, "_pool", None) is self:
                holder.resource.pgconn.finish()
                self._throw_away(holder.resource)

    def _reference(self) -> Callable[[], Any]:
        """For the FastPool's hooks: no circle, or a pool that is dropped would live until the
        collector comes."""
        me = weakref.ref(self)

        def pool() -> Any:
            found = me()
            if found is None:
                raise PoolClosed("a pool", "it was dropped")
            return found

        return pool

    # ---- lending -------------------------------------------------------------------------------

    def _refusal(self, error: PoolError, timeout: float) -> Any:
        """The host's exception for a caller who gets nothing; ``error`` becomes its cause."""
        self._stats[self._REQUESTS_ERRORS] += 1
        if isinstance(error, PoolClosed):
            return psycopg_pool.PoolClosed(f"the pool {self.name!r} is closed")
        if isinstance(error, PoolOverloaded):
            return psycopg_pool.TooManyRequests(
                f"the pool {self.name!r} has already {self.max_waiting} requests waiting"
            )
        return self._timed_out(timeout, error)

    def _refusal_of(self, error: Exception, timeout: float) -> Any:
        """The same for a ConnectionBlock; None if ``error`` is no refusal of the pool."""
        return self._refusal(error, timeout) if isinstance(error, PoolError) else None

    def _timed_out(self, timeout: float, why: object) -> Any:
        return psycopg_pool.PoolTimeout(f"couldn't get a connection after {timeout:.2f} sec: {why}")

    def _incomplete(self, timeout: float) -> Any:
        """The host's exception for ``wait()``."""
        return psycopg_pool.PoolTimeout(f"pool initialization incomplete after {timeout} sec")

    def _give_back(self, connection: Any, failed_check: bool) -> None:
        """It is in order, or closed."""
        connection._pool = None
        if connection.pgconn.transaction_status != CLOSED and not self._closed:
            self.fastpool.put(connection)
            return
        self.fastpool.discard(connection)
        if self._closed:
            return
        if failed_check:
            self._stats[self._CONNECTIONS_LOST] += 1
            logger.info("not serving connection found broken")
        else:
            self._stats[self._RETURNS_BAD] += 1
            logger.warning("discarding closed connection: %s", connection)

    def _throw_away(self, connection: Any) -> None:
        """Whatever state it is in: what was to put it in order was interrupted."""
        connection._pool = None
        self.fastpool.discard(connection)

    def _used(self, seconds: float) -> None:
        self._blocks.used(seconds)

    # ---- connecting ----------------------------------------------------------------------------

    def _connected(self, connection: Any) -> Any:
        self._failing_since = None
        connection._pool = None
        return connection

    def _not_connected(self, error: Exception) -> bool:
        """Whether it is for so long now that ``reconnect_failed`` is to be called."""
        logger.warning("error connecting in %r: %s", self.name, error)
        now, since = monotonic(), self._failing_since
        if since is None:
            self._failing_since = now
            return False
        if now - since < self.reconnect_timeout:
            return False
        self._failing_since = None
        logger.warning(
            "reconnection attempt in pool %r failed after %s sec", self.name, self.reconnect_timeout
        )
        return True

    def _lost(self, connection: Any) -> None:
        """``check()`` has found it broken."""
        self._stats[self._CONNECTIONS_LOST] += 1
        logger.warning("discarding broken connection: %s", connection)

    # ---- sizes and statistics ------------------------------------------------------------------

    def _resized(self, min_size: int, max_size: int | None) -> None:
        least, most = self._check_size(min_size, max_size)
        logger.info("resizing %r to min_size=%s max_size=%s", self.name, least, most)
        if most >= self._max_size:  # the smaller one is never above the other
            self.fastpool.resize(most)
            self.fastpool.configure(min_size=least)
        else:
            self.fastpool.configure(min_size=least)
            self.fastpool.resize(most)
        self._min_size, self._max_size = least, most

    def get_stats(self) -> dict[str, int]:
        """Sizes, and what was counted since the last ``pop_stats()``; each key every time."""
        return self._statistics(self._counters())

    def pop_stats(self) -> dict[str, int]:
        """As ``get_stats()``, and all counters begin anew."""
        counters = self._counters()
        since = self._statistics(counters)
        self._reported = counters
        return since

    def _counters(self) -> dict[str, int]:
        stats, counted = self.fastpool.stats(), self._stats
        errors = counted[self._REQUESTS_ERRORS]
        here = (
            self._CONNECTIONS_NUM, self._CONNECTIONS_MS, self._CONNECTIONS_ERRORS,
            self._CONNECTIONS_LOST, self._RETURNS_BAD,
        )  # fmt: skip
        return {
            self._REQUESTS_NUM: stats.uses - self._repeats + errors,
            self._REQUESTS_ERRORS: errors,
            self._REQUESTS_QUEUED: stats.wait_time.count + stats.waiting,
            self._REQUESTS_WAIT_MS: int(1000.0 * stats.wait_time.total),
            self._USAGE_MS: int(self._blocks.usage_ms),
            **{key: int(counted[key]) for key in here},
        }

    def _statistics(self, counters: dict[str, int]) -> dict[str, int]:
        before = self._reported
        return self._get_measures() | {
            key: max(0, count - before.get(key, 0)) for key, count in counters.items()
        }

    def _get_measures(self) -> dict[str, int]:
        stats = self.fastpool.stats()
        return {
            self._POOL_MIN: self._min_size,
            self._POOL_MAX: self._max_size,
            self._POOL_SIZE: stats.open,
            self._POOL_AVAILABLE: stats.idle,
            self._REQUESTS_WAITING: stats.waiting,
        }

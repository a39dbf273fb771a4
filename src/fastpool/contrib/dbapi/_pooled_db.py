"""DBUtils' PooledDB over a FastPool of its steady connections.

A steady connection (``dbutils.steady_db.SteadyDBConnection``) pings, reconnects and counts its uses
by itself.  So the FastPool under it closes nothing by age, checks nothing and judges no exception;
it lends, limits and keeps the queue of waiters.  What DBUtils does under the one lock of its pool,
connecting, pinging and rolling back, is done here by each thread for itself.
"""

from __future__ import annotations

from weakref import ref

from fastpool import FastPool

from ...errors import PoolError, PoolOverloaded, PoolTimeout

try:
    from dbutils import pooled_db
except ImportError as error:
    raise ImportError(
        "fastpool.contrib.dbapi.PooledDB needs DBUtils 3.1 or newer: pip install "
        "'fastpool[dbutils]'; Pool needs nothing"
    ) from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["PooledDB"]


class PooledDB(pooled_db.PooledDB):
    """A drop-in for ``dbutils.pooled_db.PooledDB``: its arguments, methods and errors.

    With ``maxshared`` and a driver that allows it, it is DBUtils' own pool, and nothing changes.
    Thread-safe.  A forked child begins with an empty pool.
    """

    def __init__(
        self,
        creator: Any,
        mincached: int | None = 0,
        maxcached: int | None = 0,
        maxshared: int | None = 0,
        maxconnections: int | None = 0,
        blocking: bool = False,
        *args: Any,
        fastpool: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """``fastpool``: options of the FastPool: ``fairness``, ``timeout`` (seconds, of who waits
        with ``blocking``), ``max_waiting``, ``leak_after``, ``name``.  The rest: as DBUtils."""
        least = mincached or 0
        most_idle = max(maxcached, least) if maxcached else None
        self._lends: FastPool[Any] | None = None
        super().__init__(
            creator, 0, most_idle, maxshared, maxconnections, blocking, *args, **kwargs
        )
        if not self._maxshared:
            self._lends = FastPool(
                max(self._maxconnections, least) if self._maxconnections else 0,
                factory=_Factory(self),
                max_idle=most_idle,
                order="fifo",
                create_in="caller",
                max_creating=None,
                idle_timeout=None,
                max_lifetime=None,
                discard_on=None,
                warn_unclosed=False,
                **{"timeout": None if blocking else 0, **(fastpool or {})},
            )
        opened = [self.dedicated_connection() for _ in range(least)]
        while opened:
            opened.pop().close()

    def connection(self, shareable: bool = True) -> Any:
        """A connection; ``close()``, or the end of a ``with`` block or of the last reference to it,
        gives it back."""
        if self._lends is None:
            return super().connection(shareable)
        try:
            lease = self._lends.acquire()
        except (PoolTimeout, PoolOverloaded) as error:
            raise pooled_db.TooManyConnectionsError(str(error)) from error
        steady = lease.resource
        try:
            if steady.fastpool_lease is not None:  # it was lent before
                steady._ping_check()
            steady.fastpool_lease = lease
            return pooled_db.PooledDedicatedDBConnection(self, steady)
        except BaseException:
            lease.discard()
            raise

    def cache(self, con: Any) -> None:
        """Takes a connection back; its proxies call this."""
        if self._lends is None:
            super().cache(con)
            return
        lease = con.fastpool_lease
        try:
            lease.resource  # noqa: B018
        except PoolError:  # of the parent of this process
            return
        try:
            con._reset(force=self._reset)
        except BaseException:
            lease.discard()
            raise
        lease.release()

    def close(self) -> None:
        """Closes what is idle; the pool may be used again."""
        if self._lends is None:
            super().close()
        else:
            self._lends.flush(idle_only=True)

    @property
    def fastpool(self) -> FastPool[Any] | None:
        """The FastPool of steady connections, for ``stats()``, ``leases()`` and metrics; None with
        ``maxshared``.  Nothing is to be taken from it by other ways than ``connection``."""
        return self._lends

    # ---- what others have been seen to read ----------------------------------------------------

    @property
    def _idle_cache(self) -> list[Any]:
        return self._own_idle if self._lends is None else list(self._lends.queue)

    @_idle_cache.setter
    def _idle_cache(self, idle: list[Any]) -> None:
        self._own_idle = idle

    @property
    def _connections(self) -> int:
        return self._own_count if self._lends is None else self._lends.stats().leased

    @_connections.setter
    def _connections(self, count: int) -> None:
        self._own_count = count


class _Factory:
    """The hooks; the pool is known by a weak reference, so that it goes with its last user's."""

    def __init__(self, pool: PooledDB) -> None:
        self.pool = ref(pool)

    def create(self) -> Any:
        """A steady connection, for somebody who holds the pool."""
        pool = self.pool()
        assert pool is not None
        steady = pool.steady_connection()
        steady.fastpool_lease = None
        return steady

    def close(self, steady: Any) -> None:
        """Ends it; DBUtils raises nothing there."""
        steady.close()

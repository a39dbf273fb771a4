"""Connections that are lent: which lease one belongs to, and how it ends."""

from __future__ import annotations

import queue
import weakref
from typing import Any

from fastpool import FastPool, Lease, PoolClosed, PoolError

__all__ = ["Lent", "QueueView", "end", "give_back", "take"]


def take(pool: FastPool[Any], timeout: float | None) -> Lease[Any]:
    """A lease, which its connection has as an attribute.  Raises what FastPool raises."""
    lease = pool.acquire(timeout)
    lease.resource.fastpool_lease = lease
    return lease


def give_back(connection: Any) -> bool:
    """Release a connection, or what a response has of one; False: it is not lent."""
    lease = vars(connection).pop("fastpool_lease", None)
    if lease is None:
        return False
    try:
        lease.release()
    except PoolError:
        return False
    return True


def end(lease: Lease[Any] | None) -> None:
    """Close its connection and free its slot, unless that lease has ended."""
    if lease is not None:
        try:
            connection = lease.resource
            vars(connection).pop("fastpool_lease", None)
            lease.discard()
        except PoolError:
            pass


class Lent:
    """A connection as a response has it until its body is read or it is closed.

    A response that is closed, or dropped, closes its connection and gives nothing back: the slot of
    a pool that blocks would be lost.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.fastpool_lease = vars(connection).pop("fastpool_lease", None)

    def close(self) -> None:
        """Close the connection, which can connect anew, and give it back: once, since after that it
        is somebody else's."""
        lease = vars(self).pop("fastpool_lease", None)
        if lease is not None:
            try:
                self.connection.close()
            finally:
                lease.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


class QueueView:
    """What urllib3 and others read in ``HTTPConnectionPool.pool``: a queue of ``maxsize`` slots,
    of which each is in use, empty (None) or has an idle connection.  Nothing is left of it once the
    connection pool is closed or gone."""

    def __init__(self, pool: FastPool[Any], maxsize: int) -> None:
        self._pool = weakref.ref(pool)
        self.maxsize = maxsize

    @property
    def queue(self) -> list[Any]:
        """The slots that are free, a copy; that which is next is the last."""
        pool = self._open()
        idle = [] if pool is None else list(pool.queue)
        return [None] * (self.qsize() - len(idle)) + idle

    def qsize(self) -> int:
        pool = self._open()
        if pool is None:
            return 0
        stats = pool.stats()
        return max(stats.idle, self.maxsize - stats.leased)

    def empty(self) -> bool:
        return not self.qsize()

    def full(self) -> bool:
        return 0 < self.maxsize <= self.qsize()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """A connection, made if need be.  queue.Empty if there is none in time."""
        pool = self._open()
        if pool is None or (not block and self.empty()):
            raise queue.Empty
        try:
            return take(pool, timeout if block else 0).resource
        except PoolClosed:
            raise queue.Empty from None

    def get_nowait(self) -> Any:
        return self.get(False)

    def put(self, connection: Any, block: bool = True, timeout: float | None = None) -> None:
        """Give it back.  queue.Full if it is not lent."""
        if not give_back(connection):
            raise queue.Full

    def put_nowait(self, connection: Any) -> None:
        self.put(connection)

    def _open(self) -> FastPool[Any] | None:
        pool = self._pool()
        return None if pool is None or pool.closed else pool

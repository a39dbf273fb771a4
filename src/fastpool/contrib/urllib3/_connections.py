"""Connections of urllib3 in a FastPool: the class to put before a connection pool of theirs among
the bases.

A resource is one of their connection objects, connected or not: it connects, and connects anew, by
itself.  So the FastPool under it makes them in no time and checks nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from typing import Any

from urllib3.exceptions import ClosedPoolError, EmptyPoolError, FullPoolError
from urllib3.util.connection import is_connection_dropped

from fastpool import FastPool, Lease, PoolClosed, PoolError

from ._lent import Lent, QueueView, end, give_back

__all__ = ["OPTIONS", "Connections", "checked"]

#: The keywords that are not urllib3's.
OPTIONS = (
    "fairness", "max_waiting", "leak_after", "idle_timeout", "max_lifetime", "pool_timeout", "name",
)  # fmt: skip

log = logging.getLogger("urllib3.connectionpool")


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """Take ours out of these keywords.  ValueError or TypeError if one of them cannot be."""
    ours = {name: options.pop(name) for name in OPTIONS if name in options}
    trial = {name: value for name, value in ours.items() if name != "pool_timeout"}
    if "pool_timeout" in ours:
        trial["timeout"] = ours["pool_timeout"]
    FastPool(1, factory=object, open=False, warn_unclosed=False, **trial).close()
    return ours


class Connections:
    """Before ``HTTPConnectionPool`` or one of its kind.  Safe for threads, and after a fork."""

    block: Any
    host: Any
    port: Any
    scheme: Any
    proxy: Any
    pool: Any

    class QueueCls:
        """What the host makes and fills before the FastPool is there; a subclass's own means
        nothing."""

        def __init__(self, maxsize: int = 0) -> None:
            self.maxsize = maxsize

        def put(self, connection: None) -> None: ...

        def get(self, block: bool = True) -> None:
            raise queue.Empty

    def __init__(
        self,
        *given: Any,
        fairness: str = "fair",
        max_waiting: int | None = None,
        leak_after: float | None = None,
        idle_timeout: float | None = None,
        max_lifetime: float | None = None,
        pool_timeout: float | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*given, **options)
        self.pool_timeout = pool_timeout
        self._lending = _Lending()
        maxsize = max(self.pool.maxsize, 0)
        me: weakref.ref[Any] = weakref.ref(self)  # no circle: a pool that is dropped is gone
        more: dict[str, Any] = {
            "fairness": fairness, "max_waiting": max_waiting, "leak_after": leak_after,
            "idle_timeout": idle_timeout, "max_lifetime": max_lifetime,
        }  # fmt: skip
        self.fastpool: FastPool[Any] = FastPool(
            maxsize if self.block else 0,
            factory=lambda: me()._new_conn(),  # type: ignore[union-attr]  # who borrows holds it
            max_idle=None if self.block else maxsize or None,
            timeout=pool_timeout,
            create_in="caller",
            max_creating=None,
            discard_on=None,
            warn_unclosed=False,  # sessions and managers are dropped all the time
            name=" ".join(filter(None, [name, self._address()])),
            **more,
        )
        if not self.block:
            self.fastpool.add_listener(_SurplusWarnings(self.host, maxsize))
        self.pool = QueueView(self.fastpool, maxsize)
        # An error's traceback is in a circle with this object.  What is idle must not be part of
        # that garbage, or the collector may come to the sockets first, which warn.
        weakref.finalize(self, _let_go, self.fastpool).atexit = False

    def _address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        if self.proxy is None or (self.proxy.host, self.proxy.port) == (self.host, self.port):
            return f"{self.scheme}://{host}{port}"
        return f"{self.scheme}://{host}{port} by {self.proxy.host}:{self.proxy.port}"

    # ---- a checkout and its return -------------------------------------------------------------

    def urlopen(self, *given: Any, **options: Any) -> Any:
        """As the host's.  An exception that leaves it leaves no connection behind, even if a signal
        handler raised between two steps of the host's."""
        lending = self._lending
        outer, lending.lease = lending.lease, None  # a body may make requests itself
        try:
            return super().urlopen(*given, **options)  # type: ignore[misc]
        except BaseException:
            end(lending.lease)
            raise
        finally:
            lending.lease = outer

    def _get_conn(self, timeout: float | None = None) -> Any:
        if self.pool is None:
            raise self._error(ClosedPoolError, "Pool is closed.")
        try:
            lease = self.fastpool.acquire(self.pool_timeout if timeout is None else timeout)
        except PoolClosed:
            raise self._error(ClosedPoolError, "Pool is closed.") from None
        except PoolError as error:
            text = "Pool is empty and a new connection can't be opened due to blocking mode."
            raise self._error(EmptyPoolError, text) from error
        self._lending.lease = lease  # first: from here on whoever interrupts leaves nothing lent
        connection = lease.resource
        connection.fastpool_lease = lease
        if not connection.is_closed and is_connection_dropped(connection):
            log.debug("Resetting dropped connection: %s", self.host)
            connection.close()
        return connection

    def _make_request(self, conn: Any, *given: Any, **options: Any) -> Any:
        if options.get("response_conn") is not None:
            options["response_conn"] = Lent(conn)
        return super()._make_request(conn, *given, **options)  # type: ignore[misc]

    def _put_conn(self, conn: Any) -> None:
        """Give it back.  None: that which this thread took last was closed, and is not to be lent
        again."""
        if conn is None:
            end(self._lending.lease)
        elif not give_back(conn) and not isinstance(conn, Lent):
            conn.close()
            if self.pool is not None and self.block:
                text = "Pool reached maximum size and no more connections are allowed."
                raise self._error(FullPoolError, text)

    def _error(self, kind: Any, text: str) -> Exception:
        """urllib3's, which knows its pool."""
        error: Exception = kind(self, text)
        return error

    # ---- its end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Close what is idle now and what is in use when it comes back; who waits gets
        ClosedPoolError."""
        self.pool = None
        self.fastpool.close(0)


def _let_go(pool: FastPool[Any]) -> None:
    """It was held, and closes what is idle by itself when it is not any more."""


class _Lending(threading.local):
    """What the innermost request of this thread has taken."""

    lease: Lease[Any] | None = None


class _SurplusWarnings:
    """urllib3's warning of a connection that comes back to a pool that has enough."""

    def __init__(self, host: str, maxsize: int) -> None:
        self.host = host
        self.maxsize = maxsize

    def closed(self, pool: object, reason: str) -> None:
        if reason == "surplus":
            log.warning(
                "Connection pool is full, discarding connection: %s. Connection pool size: %s",
                self.host,
                self.maxsize,
            )

"""The pool of connections of any driver that speaks PEP 249."""

from __future__ import annotations

from fastpool import FastPool

from ..._core import Connection
from ...errors import PoolClosed, PoolError
from ._driver import Driver
from ._returned import Returned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, Self

__all__ = ["Connection", "Pool"]


class Pool:
    """Connections of a driver that speaks PEP 249: ``Pool(psycopg2, "dbname=app", maxsize=8)``.

    ``connect()`` lends one; its ``close()`` or the end of a ``with`` block gives it back.
    Thread-safe.  A forked child begins with an empty pool.  A pool that is dropped closes what is
    idle, without a warning.
    """

    def __init__(
        self,
        connect_or_module: Any,
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        setup: Any = None,
        check: Any = None,
        reset: Any = "rollback",
        **options: Any,
    ) -> None:
        """``connect_or_module``: the driver's module, or a function that connects.  It is called
        with ``args`` and ``kwargs``, in the thread of the borrower who needs a new connection.

        ``setup``: statements, or a function of the connection, run on each new one and committed.
        ``check``: whether one that was idle for ``check_after`` seconds is alive: a statement, True
        for the driver's ``ping()`` or else ``select 1``, or a function of it.  ``reset``: what is
        done when it comes back: "rollback", a function of it, or None for connections in autocommit
        mode, on which a ``with`` block then neither commits nor rolls back.

        ``options``: those of ``FastPool``; ``create_in`` is "caller" and ``warn_unclosed`` False
        unless they say otherwise.  TypeError or ValueError for one that cannot be, and for a driver
        whose ``threadsafety`` is 0.
        """
        self._driver = Driver(connect_or_module, args, kwargs, setup, check, reset)
        options.setdefault("create_in", "caller")
        options.setdefault("warn_unclosed", False)
        self._pool: FastPool[Any] = FastPool(factory=self._driver, **options)
        self._returned = Returned(self._pool.name, self._driver)

    def connect(self, timeout: float | None = ...) -> Connection:  # type: ignore[assignment]
        """A connection, idle or new, within ``timeout`` seconds (default: the pool's).

        The driver's OperationalError if there is none in time, its InterfaceError if the pool is
        closed, with the pool's own error as the cause; or what connecting raises.
        """
        try:
            lease = self._pool.acquire(timeout)
        except PoolError as error:
            kind = "InterfaceError" if isinstance(error, PoolClosed) else "OperationalError"
            theirs = self._driver.error(kind)
            if theirs is None:
                raise
            raise theirs(str(error)) from error
        return Connection(self, lease)

    def close(self, timeout: float | None = 5.0) -> bool:
        """Closes what is idle, and what is lent when it comes back, for which it waits at most
        ``timeout`` seconds; True when all is closed.  Idempotent, from any thread."""
        return self._pool.close(timeout)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._pool.closed

    @property
    def fastpool(self) -> FastPool[Any]:
        """The FastPool of the driver's connections, for ``stats()``, ``leases()``, ``resize()`` and
        the like.  Nothing is to be taken from it by other ways than ``connect``."""
        return self._pool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close() if error is None else self.close(0)

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} over {self._pool!r}>"

"""A connection that is lent: the driver's, but that its end gives it back."""

from __future__ import annotations

import sys
from weakref import ref

from fastpool import is_broken

from ...errors import PoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, NoReturn, Self

    from ... import Lease
    from ._driver import Driver
    from ._pool import Pool

__all__ = ["Connection", "Returned"]

MANY = 32  # cursors of one loan, from which on those that are gone are looked for


class Returned:
    """Stands where the driver's connection was."""

    closed = True  # of psycopg2 and others
    open = False  # of those of MySQL

    _said_by: tuple[str, Driver]

    def __init__(self, name: str, driver: Driver) -> None:
        object.__setattr__(self, "_said_by", (name, driver))

    def __getattr__(self, name: str) -> NoReturn:
        self.refuse(name)

    def __setattr__(self, name: str, value: object) -> None:
        self.refuse(name)

    def refuse(self, name: str) -> NoReturn:
        """Raises the driver's InterfaceError."""
        pool, driver = self._said_by
        text = f"{name}: this connection was given back to its pool"
        kind = driver.error("InterfaceError")
        raise PoolError(pool, text) if kind is None else kind(f"{pool}: {text}")


class Connection:
    """A connection of the pool, until ``close()`` or the end of a ``with`` block gives it back.

    What is not named here is the driver's: its methods, and its attributes to read and to assign.
    Cursors are the driver's own; those that are left are closed when the connection goes back.
    Used afterwards, it raises the driver's InterfaceError.  For one thread at a time.  Dropped
    without ``close()``, it is closed for good, with a ResourceWarning.
    """

    __slots__ = ("__weakref__", "_before", "_connection", "_cursors", "_lease", "_pool")

    _before: int  # the id of an exception that was being handled when it was lent
    _connection: Any
    _cursors: list[Any] | None
    _lease: Lease[Any] | None
    _pool: Pool

    def __init__(self, pool: Pool, lease: Lease[Any]) -> None:
        """Made by ``Pool.connect``."""
        _set_pool(self, pool)
        _set_lease(self, lease)
        _set_before(self, id(sys.exception()))
        _set_cursors(self, None)
        _set_connection(self, lease.resource)

    # ---- use -----------------------------------------------------------------------------------

    @property
    def dbapi_connection(self) -> Any:
        """The driver's connection, for what insists on its class.  Not to be kept."""
        if self._lease is None:
            self._connection.refuse("dbapi_connection")
        return self._connection

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor of the driver's; it is closed at the latest when the connection goes back."""
        return self._noted(self._connection.cursor(*args, **kwargs))

    def _noted(self, cursor: Any) -> Any:
        """A cursor that was made; it is to be closed at the end."""
        cursors = self._cursors
        try:
            note = ref(cursor)
        except TypeError:  # of pyodbc and pymssql
            note = lambda: cursor  # type: ignore[assignment]  # noqa: E731
        if cursors is None:
            _set_cursors(self, [note])
            return cursor
        if len(cursors) >= MANY:
            alive = [each for each in cursors if each() is not None]
            if len(alive) < MANY // 2:
                cursors[:] = alive
        cursors.append(note)
        return cursor

    def commit(self) -> None:
        """As the driver's."""
        self._connection.commit()

    def rollback(self) -> None:
        """As the driver's."""
        self._connection.rollback()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if name.startswith("execute"):  # of sqlite3, psycopg and pyodbc, which return a cursor
            return lambda *args, **kwargs: self._noted(
                getattr(self._connection, name)(*args, **kwargs)
            )
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._connection, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._connection, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self._connection)})

    def __repr__(self) -> str:
        pool = self._pool.fastpool.name
        what = "given back" if self._lease is None else repr(self._connection)
        return f"<Connection of {pool!r}: {what}>"

    # ---- the end of it -------------------------------------------------------------------------

    def close(self) -> None:
        """Gives it back: cursors are closed, what was not committed is rolled back.  If that fails
        the connection is closed instead, and nothing is raised; so it is in a ``finally``, if the
        exception on its way says that it is broken.  Done again, it does nothing."""
        lease = self._lease
        if lease is None:
            return
        connection = self._take(lease)
        if connection is None:
            return
        error = sys.exception()
        if error is None or id(error) == self._before:
            self._end(lease, connection, self._pool._driver.at_return)
        else:
            self._end_failed(lease, connection, error)

    def __enter__(self) -> Self:
        lease = self._lease
        if lease is None:
            self._connection.refuse("with")
        else:
            lease.__enter__()  # a block of this thread's: PoolDeadlock knows of it
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commits, or with an exception rolls back, and gives it back.  A connection that the
        exception says is broken is closed."""
        lease = self._lease
        if lease is None:
            return
        connection = self._take(lease)
        if connection is None:
            return
        if error is not None:
            self._end_failed(lease, connection, error)
            return
        driver = self._pool._driver
        if driver.at_return is not None:
            try:
                self._close_cursors()
                connection.commit()
            except BaseException as failure:
                self._end_failed(lease, connection, failure)
                raise
        self._end(lease, connection, driver.after_commit)

    def _take(self, lease: Lease[Any]) -> Any:
        """The connection, which is out of the user's reach from here on; None in a forked child,
        which has nothing to do with it."""
        _set_lease(self, None)
        _set_connection(self, self._pool._returned)
        try:
            return lease.resource
        except PoolError:
            return None

    def _end(self, lease: Lease[Any], connection: Any, reset: Any) -> None:
        driver = self._pool._driver
        try:
            if self._cursors is not None:
                self._close_cursors()
            if reset is not None:
                reset(connection)
            sound = not driver.knows_health or connection.is_healthy()
        except Exception:
            lease.discard()
        except BaseException:
            lease.discard()
            raise
        else:
            lease.release() if sound else lease.discard()

    def _end_failed(self, lease: Lease[Any], connection: Any, error: BaseException) -> None:
        """With an exception: on a connection that is broken a rollback might hang."""
        if is_broken(error, connection):
            lease.discard()
            return
        reset = self._pool._driver.at_return
        try:
            self._close_cursors()
            if reset is not None:
                reset(connection)
        except Exception:
            lease.discard()
        except BaseException:
            lease.discard()
            raise
        else:
            lease.__exit__(type(error), error, None)  # which asks `discard_on`

    def _close_cursors(self) -> None:
        cursors = self._cursors
        if cursors is None:
            return
        _set_cursors(self, None)
        for note in cursors:
            cursor = note()
            if cursor is not None:
                try:
                    cursor.close()
                except Exception:  # it is closed already, or the connection is gone
                    pass


# __setattr__ is for the driver's attributes.
_set_before = Connection.__dict__["_before"].__set__
_set_connection = Connection.__dict__["_connection"].__set__
_set_cursors = Connection.__dict__["_cursors"].__set__
_set_lease = Connection.__dict__["_lease"].__set__
_set_pool = Connection.__dict__["_pool"].__set__

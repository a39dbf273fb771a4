"""What a borrower holds: the lease, the driver's connection and its cursors; and how that ends."""

from __future__ import annotations

import sys
from weakref import ref

from fastpool import is_broken

from ...errors import PoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ... import Lease
    from ._driver import Driver

__all__ = ["Loan", "Returned"]

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


class Loan:
    """One connection, lent once.  ``lease`` is None when it has been given back."""

    __slots__ = ("before", "connection", "cursors", "driver", "lease", "pool", "returned")

    def __init__(self, pool: Any, lease: Lease[Any], driver: Driver, returned: Returned) -> None:
        self.pool = pool  # which lives as long
        self.lease: Lease[Any] | None = lease
        self.connection: Any = lease.resource
        self.driver = driver
        self.returned = returned
        self.cursors: list[Any] | None = None
        self.before = id(sys.exception())  # one that is being handled already is not this loan's

    def note(self, cursor: Any) -> Any:
        """A cursor that was made, and is to be closed at the end."""
        try:
            note: Any = ref(cursor)
        except TypeError:  # of pyodbc and pymssql
            note = lambda: cursor  # noqa: E731
        cursors = self.cursors
        if cursors is None:
            self.cursors = [note]
            return cursor
        if len(cursors) >= MANY:
            alive = [each for each in cursors if each() is not None]
            if len(alive) < MANY // 2:
                cursors[:] = alive
        cursors.append(note)
        return cursor

    def close(self) -> None:
        """For ``Connection.close``."""
        lease = self.lease
        if lease is None or (connection := self._take(lease)) is None:
            return
        error = sys.exception()
        if error is None or id(error) == self.before:
            self._end(lease, connection, self.driver.at_return)
        else:
            self._end_failed(lease, connection, error)

    def leave(self, error: BaseException | None) -> None:
        """For ``Connection.__exit__``."""
        lease = self.lease
        if lease is None or (connection := self._take(lease)) is None:
            return
        if error is not None:
            self._end_failed(lease, connection, error)
            return
        if self.driver.at_return is not None:
            try:
                if self.cursors is not None:
                    self._close_cursors()
                connection.commit()
            except BaseException as failure:
                self._end_failed(lease, connection, failure)
                raise
        self._end(lease, connection, self.driver.after_commit)

    def _take(self, lease: Lease[Any]) -> Any:
        """The connection, which is out of the user's reach from here on; None in a forked child,
        which has nothing to do with it."""
        self.lease, self.connection = None, self.returned
        try:
            return lease.resource
        except PoolError:
            return None

    def _end(self, lease: Lease[Any], connection: Any, reset: Any) -> None:
        try:
            if self.cursors is not None:
                self._close_cursors()
            if reset is not None:
                reset(connection)
            sound = not self.driver.knows_health or connection.is_healthy()
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
        reset = self.driver.at_return
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
        cursors, self.cursors = self.cursors, None
        for note in cursors or ():
            cursor = note()
            if cursor is not None:
                try:
                    cursor.close()
                except Exception:  # it is closed already, or the connection is gone
                    pass

"""A connection that is lent: the driver's, but that its end gives it back."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from ._loan import Loan

__all__ = ["Connection"]


class Connection:
    """A connection of the pool, until ``close()`` or the end of a ``with`` block gives it back.

    What is not named here is the driver's: its methods, and its attributes to read and to assign.
    Cursors are the driver's own; those that are left are closed when the connection goes back.
    Used afterwards, it raises the driver's InterfaceError.  For one thread at a time.  Dropped
    without ``close()``, it is closed for good, with a ResourceWarning.
    """

    __slots__ = ("__weakref__", "_loan")

    _loan: Loan

    def __init__(self, loan: Loan) -> None:
        """Made by ``Pool.connect``."""
        _set_loan(self, loan)

    @property
    def dbapi_connection(self) -> Any:
        """The driver's connection, for what insists on its class.  Not to be kept."""
        loan = self._loan
        if loan.lease is None:
            loan.returned.refuse("dbapi_connection")
        return loan.connection

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor of the driver's; it is closed at the latest when the connection goes back."""
        loan = self._loan
        return loan.note(loan.connection.cursor(*args, **kwargs))

    def commit(self) -> None:
        """As the driver's."""
        self._loan.connection.commit()

    def rollback(self) -> None:
        """As the driver's."""
        self._loan.connection.rollback()

    def close(self) -> None:
        """Gives it back: cursors are closed, what was not committed is rolled back.  If that fails
        the connection is closed instead, and nothing is raised; so it is in a ``finally``, if the
        exception on its way says that it is broken.  Done again, it does nothing."""
        self._loan.close()

    def __enter__(self) -> Self:
        lease = self._loan.lease
        if lease is None:
            self._loan.returned.refuse("with")
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
        self._loan.leave(error)

    def __getattr__(self, name: str) -> Any:
        loan = self._loan
        found = getattr(loan.connection, name)
        if name.startswith("execute"):  # of sqlite3, psycopg and pyodbc, which return a cursor
            return lambda *args, **kwargs: loan.note(
                getattr(loan.connection, name)(*args, **kwargs)
            )
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loan.connection, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._loan.connection, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self._loan.connection)})

    def __repr__(self) -> str:
        loan = self._loan
        what = "given back" if loan.lease is None else repr(loan.connection)
        return f"<Connection of {loan.pool.fastpool.name!r}: {what}>"


_set_loan = Connection.__dict__["_loan"].__set__  # as __setattr__ is for the driver's attributes

"""What a pool knows of its driver, by PEP 249: how to connect, its errors, how to ask and to reset.

No driver is imported here.  Its module is what the user gave, or the one that the connect function
or a connection comes from.
"""

from __future__ import annotations

import sys

from fastpool import is_broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["Driver"]


class Driver:
    """The factory and the hooks of the FastPool under a ``Pool``."""

    __slots__ = (
        "_args", "_connect", "_kwargs", "_setup", "after_commit", "at_return", "check", "errors",
        "knows_health",
    )  # fmt: skip

    def __init__(
        self,
        connect_or_module: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        setup: Any,
        check: Any,
        reset: Any,
    ) -> None:
        """TypeError or ValueError for what cannot be; see ``Pool``."""
        connect = connect_or_module
        if not callable(connect):
            connect = getattr(connect, "connect", None)
        if not callable(connect):
            raise TypeError(
                "Pool wants a function that connects, or a module that has one as `connect`, not "
                f"{connect_or_module!r}"
            )
        self.errors = errors_of(connect_or_module) or errors_of(connect)
        if self.errors is not None:
            _refuse_unsafe(self.errors)
        self._connect, self._args = connect, args
        self._kwargs = _of_sqlite(self.errors, dict(kwargs or {}))
        self._setup = _setup_of(setup)
        self.check = _check_of(check)
        self.at_return = _reset_of(reset)
        self.after_commit = None if self.at_return is True else self.at_return
        self.knows_health = False  # whether is_healthy() says, without I/O, that it is gone

    def create(self) -> Any:
        """A new connection, made ready."""
        connection: Any = self._connect(*self._args, **self._kwargs)
        if not hasattr(connection, "cursor"):
            getattr(connection, "close", int)()  # a coroutine would warn that nobody awaits it
            raise TypeError(
                f"{self._connect!r} has made a {type(connection).__qualname__}, which has no "
                "cursor(): Pool wants connections as PEP 249 has them"
            )
        try:
            if self.errors is None:
                self.errors = errors_of(connection) or errors_of(type(connection))
                if self.errors is not None:
                    _refuse_unsafe(self.errors)
            self.knows_health = hasattr(connection, "is_healthy")  # of oracledb
            if self._setup is not None:
                self._setup(connection)
                connection.commit()  # or the first rollback would undo it
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self, connection: Any) -> None:
        """Ends it; what one says to that which is broken already is of no interest."""
        try:
            connection.close()
        except Exception:
            pass

    @staticmethod
    def is_broken(error: BaseException, connection: Any) -> bool:
        """Whether an exception means that a connection is not to be lent again."""
        return is_broken(error, connection)

    def error(self, name: str) -> Any:
        """The driver's class of this name, or None if there is none."""
        return getattr(self.errors, name, None)


# ---- Whose errors these are ----------------------------------------------------------------------


def errors_of(thing: Any) -> Any:
    """What has the driver's error classes as attributes: itself, or the module that it is of, or a
    package above that; None."""
    if _has_errors(thing):
        return thing
    thing = getattr(thing, "func", thing)  # functools.partial
    name = getattr(thing, "__module__", None) or ""
    while name:
        module = sys.modules.get(name)
        if _has_errors(module):
            return module
        name = name.rpartition(".")[0]
    return None


def _has_errors(thing: Any) -> bool:
    found = getattr(thing, "InterfaceError", None), getattr(thing, "OperationalError", None)
    return all(isinstance(each, type) and issubclass(each, Exception) for each in found)


def _refuse_unsafe(errors: Any) -> None:
    if getattr(errors, "threadsafety", 1) == 0:
        raise ValueError(
            f"{getattr(errors, '__name__', errors)} says threadsafety = 0: threads may not share "
            "the module, so none of its connections can be lent to them"
        )


def _of_sqlite(errors: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """sqlite3 refuses other threads unless it is told; a pool lends to one at a time."""
    if getattr(errors, "__name__", "") == "sqlite3":
        if kwargs.setdefault("check_same_thread", False):
            raise ValueError(
                "check_same_thread=True keeps a connection to the thread that opened it, and a "
                "pool lends it to others: leave it out"
            )
    return kwargs


# ---- What the options stand for ------------------------------------------------------------------


def _execute(connection: Any, statements: Iterable[str]) -> None:
    cursor = connection.cursor()
    try:
        for statement in statements:
            cursor.execute(statement)
    finally:
        cursor.close()


def _setup_of(setup: Any) -> Any:
    if setup is None or callable(setup):
        return setup
    statements = (setup,) if isinstance(setup, str) else tuple(setup)
    return lambda connection: _execute(connection, statements)


def _check_of(check: Any) -> Any:
    """A hook from ``check=``: a statement, True, a function, or None."""
    if check is None or check is False:
        return None
    if check is True:
        return _ping
    if isinstance(check, str):
        return lambda connection: _ask(connection, check)
    if not callable(check):
        raise TypeError(f"check must be a statement, True, a function or None, not {check!r}")
    return check


def _ping(connection: Any) -> object:
    """By the driver's ping(), which PEP 249 has not, or else a statement."""
    ping = getattr(connection, "ping", None)
    if ping is None:
        _ask(connection, "select 1")
        return None
    try:
        return ping(reconnect=False)  # as those of MySQL have it, one of which reconnects else
    except TypeError:
        return ping()


def _ask(connection: Any, statement: str) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        cursor.fetchall()
    finally:
        cursor.close()
    connection.rollback()  # it may have begun a transaction


def _reset_of(reset: Any) -> Any:
    """What is done when a connection comes back: True for a rollback, a function of it, or None."""
    if reset == "rollback":
        return True
    if reset is None or callable(reset):
        return reset
    raise TypeError(f'reset must be "rollback", a function or None, not {reset!r}')

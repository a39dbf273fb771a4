"""A driver that speaks PEP 249 and keeps accounts: what was called, and how each was closed."""

from __future__ import annotations

import threading
from typing import Any


class Error(Exception):
    pass


class OperationalError(Error):
    pass


class InterfaceError(Error):
    pass


class Cursor:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.closed = 0

    def execute(self, statement: str) -> None:
        self.connection.note(statement)

    def fetchall(self) -> list[Any]:
        return []

    def close(self) -> None:
        self.closed += 1


class Connection:
    """One connection, by its number; ``dead``: whatever reaches the server raises that."""

    autocommit = False

    def __init__(self, driver: Driver, number: int) -> None:
        self.driver = driver
        self.number = number
        self.thread = threading.get_ident()
        self.calls: list[str] = []
        self.closed = 0
        self.dead: BaseException | None = None

    def note(self, call: str) -> None:
        self.calls.append(call)
        if self.dead is not None:
            raise self.dead

    def cursor(self) -> Cursor:
        return Cursor(self)

    def execute(self, statement: str) -> Cursor:
        cursor = Cursor(self)
        cursor.execute(statement)
        return cursor

    def commit(self) -> None:
        self.note("commit")

    def rollback(self) -> None:
        self.note("rollback")

    def close(self) -> None:
        self.closed += 1


class Driver:
    """As a module: ``connect`` and the errors.  ``fails``: raised instead, one after the other."""

    threadsafety = 1
    Error, OperationalError, InterfaceError = Error, OperationalError, InterfaceError

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.fails: list[Exception] = []
        self.given: list[Any] = []
        self.lock = threading.Lock()

    def connect(self, *args: Any, **kwargs: Any) -> Connection:
        with self.lock:
            if self.fails:
                raise self.fails.pop(0)
            self.given.append((args, kwargs))
            self.made.append(Connection(self, len(self.made)))
            return self.made[-1]

    def open(self) -> list[int]:
        """The numbers of those that are not closed."""
        assert all(each.closed <= 1 for each in self.made), "closed twice"
        return [each.number for each in self.made if not each.closed]

"""A DB-API whose connections do nothing but keep accounts, and a log of what a pool tells of."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import event

EVENTS = (
    "first_connect", "connect", "checkout", "checkin", "reset", "invalidate", "soft_invalidate",
    "close", "detach", "close_detached",
)  # fmt: skip


class Connection:
    """One connection, by its number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.thread = threading.get_ident()
        self.closed = 0
        self.rollbacks = 0

    def rollback(self) -> None:
        self.rollbacks += 1

    def commit(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


class Driver:
    """What ``creator=driver.connect`` has made; ``fails`` is raised instead, once or for ever."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.fails: list[Exception] = []
        self.lock = threading.Lock()

    def connect(self) -> Connection:
        with self.lock:
            if self.fails:
                raise self.fails.pop()
            self.made.append(Connection(len(self.made)))
            return self.made[-1]

    def open(self) -> list[int]:
        """The numbers of those that are not closed."""
        assert all(each.closed <= 1 for each in self.made), "closed twice"
        return [each.number for each in self.made if not each.closed]


def log_of(pool: Any) -> list[tuple[str, Any]]:
    """(event, number of the connection) from here on, as they come; in the caller's thread."""
    log: list[tuple[str, Any]] = []
    for name in EVENTS:

        def heard(connection: Any, *args: Any, name: str = name) -> None:
            log.append((name, getattr(connection, "number", None)))

        event.listen(pool, name, heard)
    return log

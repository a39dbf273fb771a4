"""What stands in the place of the driver's connection when it has been given back."""

from __future__ import annotations

from ...errors import PoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ._driver import Driver

__all__ = ["Returned"]


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

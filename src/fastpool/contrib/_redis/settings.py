"""What pools of threads and of tasks have in common: the keywords, the cap, the FastPool."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastpool import FastPool

__all__ = ["Settings", "WaitingSentinel"]


class Settings:
    """``fairness``, ``max_waiting``, ``leak_after``, ``name``: options of the FastPool, which is
    the attribute ``fastpool``."""

    fastpool: FastPool[Any]
    connection_class: Any
    connection_kwargs: Any
    _options: dict[str, Any]
    _observed = False  # whether somebody listened when a connection was lent last
    _former: list[FastPool[Any]]  # before reset(), with what was in use then

    def __init__(
        self,
        *given: Any,
        fairness: str = "fair",
        max_waiting: int | None = None,
        leak_after: float | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        self._options = {
            "fairness": fairness, "max_waiting": max_waiting, "leak_after": leak_after, "name": name
        }  # fmt: skip
        self._former = []
        super().__init__(*given, **options)

    @property
    def max_connections(self) -> int:
        """Most connections open at once.  Assignable: fewer takes effect as they come back."""
        return self._max_connections

    @max_connections.setter
    def max_connections(self, value: int) -> None:
        self._max_connections = value
        if "fastpool" in self.__dict__:
            self.fastpool.resize(_cap(value))

    def make_connection(self) -> Any:
        """A connection object, not connected yet.  Subclasses may make others."""
        return self.connection_class(**self.connection_kwargs)

    def _start(self, create: Callable[[], Any], close: Callable[[Any], Any], **more: Any) -> None:
        """A FastPool in place of the one there was.

        Connections connect, reconnect and authenticate by themselves: so there is no health check,
        there are no life times, and creations need no limit.
        """
        former = self.__dict__.get("fastpool")
        options = self._options | more
        self.fastpool = FastPool(
            _cap(self.max_connections),
            factory=create,
            close=close,
            max_creating=None,
            idle_timeout=None,
            max_lifetime=None,
            warn_unclosed=False,  # the hosts' pools are seldom closed by anybody
            **options,
        )
        if former is not None and not former.close(0):
            self._former.append(former)

    def _give(self, connection: Any, how: str) -> bool:
        """`put` it or `discard` it; False: it was not lent by this pool."""
        try:
            getattr(self.fastpool, how)(connection)
        except ValueError:
            return False
        if self._observed:
            self._record_given(how)
        return True

    def _record_given(self, how: str) -> None:
        """What a host counts while somebody listens."""

    def _give_former(self, connection: Any) -> bool:
        given = False
        for former in list(self._former):
            with suppress(ValueError):
                former.discard(connection)
                given = True
            if former.close(0):
                self._former.remove(former)
        return given


class WaitingSentinel:
    """Before a pool of a Sentinel that waits, which the hosts do not have: its ``timeout``."""

    def __init__(
        self, *given: Any, max_connections: int = 50, timeout: float | None = 20, **options: Any
    ) -> None:
        self.timeout = timeout
        options["max_connections"] = max_connections
        super().__init__(*given, **options)


def _cap(connections: int) -> int:
    """The hosts say 2**31 for no limit."""
    return connections if connections < 2**31 else 0

"""Health of connections: what `grpc.health.v1` says of a service on each, for threads and tasks.

A connection whose server says NOT_SERVING gets no new calls. Never the last one, nor more than 70 %
of them: when nearly all say so, it is more likely that the word is wrong, or that nothing better is
to be had.

The two messages are read and written here: they have one field each, and that needs no package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .._core import Lock

WATCH = "/grpc.health.v1.Health/Watch"
NOT_SERVING = 2  # of HealthCheckResponse.ServingStatus
MOST_AVOIDED = 0.7  # of all connections, and never the last one


def request_of(service: str) -> bytes:
    """A HealthCheckRequest."""
    name = service.encode()
    if not name:
        return b""
    size, length = len(name), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return b"\x0a" + length + bytes([size]) + name


def status_in(response: bytes) -> int:
    """Of a HealthCheckResponse; 0 = UNKNOWN."""
    return response[1] if len(response) > 1 and response[0] == 0x08 else 0


def avoided(ill: Iterable[Any], there_are: int) -> list[Any]:
    """Which of the connections that say NOT_SERVING get no calls: the ones that said so first."""
    return list(ill)[: int(MOST_AVOIDED * there_are)]


class Verdicts:
    """Who is ill, and who is therefore avoided. Thread-safe.

    `all_of()` gives the connections there are; `avoid(connection, on)` has one avoided or not, and
    says whether that could be done: one that has just been opened may not be in its place yet.
    `elsewhere(connection)` is told when all there are are ill, this one among them.
    """

    def __init__(
        self,
        all_of: Callable[[], list[Any]],
        avoid: Callable[[Any, bool], bool],
        elsewhere: Callable[[Any], object] = lambda connection: None,
    ) -> None:
        self._all_of = all_of
        self._avoid = avoid
        self._elsewhere = elsewhere
        self._ill: dict[Any, None] = {}  # in the order in which they fell ill
        self._out: dict[Any, None] = {}  # likewise, those that do worse than others
        self._avoided: set[Any] = set()
        self._lock = Lock()

    def say(self, connection: Any, status: int) -> bool:
        """Its status now. False: ask to `apply` again."""
        with self._lock.hold():
            if status == NOT_SERVING:
                self._ill.setdefault(connection)
            else:
                self._ill.pop(connection, None)
            nowhere = bool(self._ill) and all(each in self._ill for each in self._all_of())
        if nowhere:
            self._elsewhere(connection)
        return self.apply()

    def put_out(self, connection: Any, on: bool) -> None:
        """It does worse than others; or its time is over."""
        with self._lock.hold():
            if on:
                self._out.setdefault(connection)
            else:
                self._out.pop(connection, None)
        self.apply()

    def pardon(self, connection: Any) -> None:
        """It answers: no penalty is upon it any more."""
        with self._lock.hold():
            if connection not in self._avoided:
                self._avoid(connection, False)

    def forget(self, connection: Any) -> None:
        """It is closed."""
        with self._lock.hold():
            self._ill.pop(connection, None)
            self._out.pop(connection, None)
            self._avoided.discard(connection)
        self.apply()

    def apply(self) -> bool:
        """After any change of who there is and who is ill; whether all of it could be done."""
        with self._lock.hold():
            there = self._all_of()
            worse = {**self._ill, **self._out}
            chosen = set(avoided([each for each in worse if each in there], len(there)))
            # First those that are to be had again, so that there is always one.
            for connection in self._avoided - chosen:
                self._avoid(connection, False)
            done = {each for each in chosen - self._avoided if self._avoid(each, True)}
            self._avoided = chosen & self._avoided | done
            return self._avoided == chosen

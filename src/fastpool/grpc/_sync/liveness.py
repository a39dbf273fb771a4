"""Connections on which calls go unanswered: whether they are dead, or their server is only slow.

Where packets are dropped on the way nobody hears of it: calls on the connection end by their
deadlines until TCP gives up, which takes minutes. Pings by a clock would find out, but servers
close connections that ping more often than every five minutes. So a connection is asked when a call
on it has expired, by a call that every server answers at once, if only by saying that it does not
know the method. One that does not answer is compared with a fresh one: if that answers, the old one
is dead and the fresh one takes its place; if not, the server is slow, and nothing changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import grpc

from ..._runtime.launch import launch

if TYPE_CHECKING:
    from .connection import Connection
    from .connections import Connections

CHECK = "/grpc.health.v1.Health/Check"
PATIENCE = 1.0  # seconds for an answer
LASTS = 1.0  # seconds for which an answer is a sign of life
CONNECT_TIMEOUTS = (1.0, 2.0, 4.0)  # seconds for a fresh connection, try by try
FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0  # seconds from one that was no better to the next

NO_ANSWER = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


class Pause:
    """Grows from one comparison that showed nothing to the next."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE
        self._until = 0.0

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._until

    def again(self) -> None:
        self._until = time.monotonic() + self._seconds
        self._seconds = min(2 * self._seconds, LAST_PAUSE)

    def end(self) -> None:
        self.__init__()  # type: ignore[misc]


class Liveness:
    """Of the connections of one channel of threads. Its thread runs while there is a suspect."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._suspects: dict[Connection, None] = {}  # each change is one atomic step
        self._thread: threading.Thread | None = None
        self._pause = Pause()

    def suspect(self, connection: Connection) -> None:
        """A call on it has expired. It gets fewer calls until it has answered."""
        if time.monotonic() < connection.answered_at + LASTS or connection in self._suspects:
            return
        self._connections.penalize(connection)
        self._suspects[connection] = None
        thread = self._thread
        if thread is None or (thread.ident and not thread.is_alive()):
            try:
                self._thread = launch("fastpool-grpc-silence", self._run)
            except RuntimeError:  # the interpreter is about to end
                self._suspects.clear()

    def _run(self) -> None:
        while suspects := list(self._suspects):
            try:
                self._decide(self._silent(suspects))
            finally:
                for each in suspects:
                    self._suspects.pop(each, None)

    def _silent(self, asked: Iterable[Connection]) -> list[Connection]:
        """Those that do not answer, all of them asked at once."""
        calls: list[tuple[Connection, Any]] = []
        for each in asked:
            try:
                calls.append((each, each.channel.unary_unary(CHECK).future(b"", PATIENCE)))
            except ValueError:  # it is closed
                pass
        silent = []
        for each, call in calls:
            code = call.code()  # waits
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                silent.append(each)
            elif code not in NO_ANSWER:
                each.answered_at = time.monotonic()
                self._connections.verdicts.pardon(each)
        return silent

    def _decide(self, silent: list[Connection]) -> None:
        if not silent or not self._pause.over:
            return
        tries = (self._connections.fresh(timeout) for timeout in CONNECT_TIMEOUTS)
        fresh = next((each for each in tries if each is not None), None)
        if fresh is None:
            return
        still = self._silent([*silent, fresh])
        dead = [each for each in still if each is not fresh]
        if fresh in still or not fresh.answered_at or not dead:
            self._connections.discard(fresh)
            self._pause.again()
        else:
            self._connections.warm_up(fresh)
            self._connections.give_up(dead, fresh)
            self._pause.end()

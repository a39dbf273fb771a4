"""A bound on calls at once, with one line for threads and tasks.

The line is the compiled core's: a queue of permits, from which a place is taken and to which it is
given back.  So waiting is fair, bounded, cancelled and woken as it is everywhere in fastpool.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from typing import Any

from .._core import FastPool, asks
from ..errors import PoolOverloaded

__all__ = ["Limit", "LimitStats"]

_all: weakref.WeakSet[Limit] = weakref.WeakSet()


class LineFull(Exception):
    """As many wait as may."""


class Place:
    """The right to one call at a time; in the line while nobody has it.

    One that is dropped goes back by itself: a signal handler may raise between the moment when it
    was taken and the one when its taker could say so.
    """

    __slots__ = ("_line", "out")

    def __init__(self, line: weakref.ref[FastPool[Any]]) -> None:
        self._line = line
        self.out = False

    def give_back(self) -> None:
        """To the line that it was taken from; once."""
        line = self._line()
        if self.out and line is not None:
            self.out = False
            line.put_nowait(self)

    def __del__(self) -> None:
        line = self._line()
        if line is not None:  # nobody has it, and the line has not
            line.put_nowait(Place(self._line))


@dataclass(frozen=True, slots=True)
class LimitStats:
    """One limit at one moment: calls under way, callers in line; ``overloads``: refused so far."""

    size: int
    in_use: int
    waiting: int
    overloads: int


class Limit:
    """At most ``size`` calls at once; further callers wait in line, first come, first served.

    They wait for as long as their call may take; a caller who gives up leaves the line.
    ``max_waiting``: one more in line than this is Overloaded at once; None: any number.  While a
    call pauses between two tries it holds no place; a gRPC stream holds one until it ends.

    One object may serve any number of policies, threads and event loops: they share its places and
    its line.  A free place costs some 0.2 us.
    """

    def __init__(self, size: int, *, max_waiting: int | None = None) -> None:
        for what, value, least in (("size", size, 1), ("max_waiting", max_waiting or 0, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"{what} must be a whole number of at least {least}, not {value!r}"
                )
        self._size = size
        self._max_waiting = max_waiting
        self._lock = threading.RLock()  # a finaliser may call something that goes through here
        self._overloads = 0
        self._permits = self._fresh()
        _all.add(self)

    def __repr__(self) -> str:
        return f"<Limit: {self._size - self._permits.qsize()} of {self._size} in use>"

    def _fresh(self) -> FastPool[Any]:
        permits: FastPool[Any] = FastPool(fairness="fair", max_waiting=self._max_waiting)
        line = weakref.ref(permits)
        for _ in range(self._size):
            permits.put_nowait(Place(line))
        return permits

    @property
    def size(self) -> int:
        """Calls at once."""
        return self._size

    @property
    def max_waiting(self) -> int | None:
        """Most callers in line; None: any number."""
        return self._max_waiting

    def stats(self) -> LimitStats:
        """An immutable snapshot."""
        with self._lock:
            in_use = max(0, self._size - self._permits.qsize())
            waiting = int(asks(self._permits, None)[0].waiting)
            return LimitStats(self._size, in_use, waiting, self._overloads)

    # ---- a place: taken, then given back by itself -----------------------------------------------

    def take_nowait(self) -> Place:
        """A free place, or Empty."""
        place: Place = self._permits.get_nowait()
        place.out = True
        return place

    def take(self, timeout: float | None) -> Place:
        """A place.  Empty after ``timeout`` seconds, LineFull at once."""
        try:
            place: Place = self._permits.get(True, timeout)
        except PoolOverloaded:
            self._refuse()
            raise LineFull from None
        place.out = True
        return place

    async def atake(self, timeout: float | None) -> Place:
        """``take`` for a task."""
        try:
            place: Place = await self._permits.aget(timeout)
        except PoolOverloaded:
            self._refuse()
            raise LineFull from None
        place.out = True
        return place

    def _refuse(self) -> None:
        with self._lock:
            self._overloads += 1


def _after_fork_in_child() -> None:
    """The calls of other threads do not go on here, so all places are free.  What the forking
    thread still has under way goes back to the old line, which nobody uses any more."""
    for limit in list(_all):
        limit._lock = threading.RLock()
        limit._permits = limit._fresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""A bound on calls at once: a WeightedSemaphore of which each call holds one unit.

So waiting is fair, bounded, cancelled and woken as it is everywhere in fastpool, and a forked
child, where the calls of the other threads do not go on, begins with all permits free.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass

from .._core import Lock, SemaphoreHold, part_semaphore, units_hit, units_quiet
from ..errors import PoolOverloaded

__all__ = ["Limit", "LimitStats"]

_all: weakref.WeakSet[Limit] = weakref.WeakSet()


def whole(what: str, value: int, least: int) -> None:
    """ValueError for what is no whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} must be a whole number of at least {least}, not {value!r}")


class QueueFull(Exception):
    """As many wait as may."""


@dataclass(frozen=True, slots=True)
class LimitStats:
    """One limit at one moment: calls under way, callers in the queue; ``overloads``: refused so
    far."""

    __module__ = "fastpool.calls"

    size: int
    in_use: int
    waiting: int
    overloads: int


class Limit:
    """At most ``size`` calls at once; further callers wait in the queue, first come, first served.

    They wait for as long as their call may take; a caller who gives up leaves the queue.
    ``max_waiting``: one more in the queue than this is Overloaded at once; None: any number.  While
    a call pauses between two tries it holds no permit; a gRPC stream holds one until it ends.

    One object may serve any number of policies, threads and event loops: they share its permits and
    its queue.  A free permit costs some 0.2 us.
    """

    __module__ = "fastpool.calls"

    def __init__(self, size: int, *, max_waiting: int | None = None) -> None:
        whole("size", size, 1)
        whole("max_waiting", max_waiting or 0, 0)
        self._units = part_semaphore(size, max_waiting=max_waiting, name="limit")
        self._lock = Lock()  # a finaliser may call something that goes through here
        self._overloads = 0
        _all.add(self)

    adapts = False  # whether the two below want to be called

    def answered(self, sent: float, now: float) -> None:
        """A call that was sent then has been answered now."""

    def failed(self, error: BaseException, sent: float, now: float) -> None:
        """A call that was sent then has failed now, by no word of this side's."""

    def __repr__(self) -> str:
        return f"<Limit: {self._units.in_use} of {self.size} in use>"

    @property
    def size(self) -> int:
        """Calls at once."""
        return self._units.size

    @property
    def max_waiting(self) -> int | None:
        """Most callers in the queue; None: any number."""
        return self._units.max_waiting

    def stats(self) -> LimitStats:
        """An immutable snapshot."""
        units = self._units
        with self._lock.hold():
            return LimitStats(units.size, units.in_use, units.waiting, self._overloads)

    # ---- a permit: a hold of one unit, which goes back by itself when it is dropped -----------

    def take_nowait(self) -> SemaphoreHold | None:
        """A free permit, if there is one and nobody waits."""
        permit = units_quiet(self._units, 0)
        return permit if units_hit(permit) else None

    def take(self, timeout: float | None) -> SemaphoreHold:
        """A permit.  PoolTimeout after ``timeout`` seconds, QueueFull at once."""
        permit = units_quiet(self._units, timeout)
        try:
            return permit.__enter__()
        except PoolOverloaded:
            self._refuse()
            raise QueueFull from None

    async def atake(self, timeout: float | None) -> SemaphoreHold:
        """``take`` for a task."""
        permit = units_quiet(self._units, timeout)
        try:
            return await permit.__aenter__()
        except PoolOverloaded:
            self._refuse()
            raise QueueFull from None

    def _refuse(self) -> None:
        with self._lock.hold():
            self._overloads += 1


def _after_fork_in_child() -> None:
    for limit in list(_all):
        limit._lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""Tests without real time: a clock for the ages of resources."""

from __future__ import annotations

import weakref

from .._core import Ticks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..pool._manager import Manager

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that stands until a test moves it: ``FastPool(..., clock=clock)``.

    It rules ages and intervals (idle and life time, ``check_after``, ``keepalive``,
    ``leak_after``); waits and deadlines of hooks stay in real time.
    """

    def __init__(self, start: float = 1e6) -> None:
        self.ticks = Ticks(start)
        self.managers: weakref.WeakSet[Manager] = weakref.WeakSet()

    @property
    def now(self) -> float:
        """Seconds."""
        return self.ticks.seconds

    def advance(self, seconds: float, settle: float = 5.0) -> None:
        """Moves the clock, lets the maintenance of its pools run, and waits up to ``settle``
        seconds of real time until what that started is over."""
        if not seconds >= 0:
            raise ValueError(f"a clock never goes back: seconds must be >= 0, not {seconds!r}")
        self.ticks.advance(seconds)
        for manager in list(self.managers):
            manager.maintain()
            for workers in (*manager.workers(), manager.offload_threads):
                workers.wait_idle(settle)

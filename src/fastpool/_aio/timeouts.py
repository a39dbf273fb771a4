"""When the waits of one event loop's tasks are over: one timer for all of them.

Very many may be over at one instant.  They are told a few at a time, so that whatever else is
ready on the loop has its turn in between: first of all who was granted something in that instant,
and would keep it from others for as long as the loop is busy.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Protocol

    class Timed(Protocol):
        """A wait, or the limit of a hook."""

        @property
        def pending(self) -> bool: ...
        def expire(self) -> None: ...


__all__ = ["Timeouts"]

INF = float("inf")
AT_ONCE = 64  # told in one iteration of the loop


class Timeouts:
    """``clock``: of the loop.  In the thread of the loop alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self.loop, self.clock = loop, clock
        self._entries: list[tuple[float, int, Timed]] = []  # a heap
        self._look_at = 64  # so many, and it is looked which are over
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = INF
        self._on_time = _core.LoopCallback(loop, self._expire_some)

    def add(self, wait: Timed, timeout: float) -> None:
        """Has the wait end after ``timeout`` seconds."""
        at = self.clock() + timeout
        if len(self._entries) > self._look_at:  # most waits end long before
            self._entries[:] = [entry for entry in self._entries if entry[2].pending]
            heapify(self._entries)
            self._look_at = 2 * len(self._entries) + 64
        heappush(self._entries, (at, next(self._order), wait))
        if at < self._timer_at:
            self._set_timer(at)

    def _set_timer(self, at: float) -> None:
        """First the new one, then away with the old: a signal handler that raises in between leaves
        one too many, which finds nothing to do."""
        timer = self.loop.call_later(max(0.0, at - self.clock()), self._on_time)
        before, self._timer = self._timer, timer
        self._timer_at = at
        if before is not None:
            before.cancel()

    def _expire_some(self) -> None:
        self._timer, self._timer_at = None, INF
        entries, now, left = self._entries, self.clock(), AT_ONCE
        try:
            while True:  # not by a condition: see tests/project/test_loops_in_try.py
                if not entries or not left or (entries[0][0] > now and entries[0][2].pending):
                    break
                wait = entries[0][2]
                if wait.pending:
                    left -= 1
                    wait.expire()
                heappop(entries)  # only now: it may be told twice, but not be missed
        finally:
            if entries:
                self._set_timer(entries[0][0])

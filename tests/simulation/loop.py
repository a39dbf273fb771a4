"""An event loop that runs what is ready in an order of chance, in virtual time.

Several of them, each in an actor of its own, share one ``Schedule``; beside them run the pool's
workers and its scheduler.  A task under test can be cancelled at its k-th step, before it or
after it, for every k in turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop
from typing import Any

from simulation.scheduler import INF, Schedule


class ShufflingLoop(asyncio.SelectorEventLoop):
    """One ready handle a turn.  Nothing of asyncio promises the order of handles that are ready at
    the same time, but to those who made them."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        super().__init__()
        self._strike: tuple[Callable[[], Any], int, str] | None = None
        self.steps = 0  # of the task under test
        self.hit = False
        self.idle = True  # it waits for work; else it is in a callback, which may be blocked

    def time(self) -> float:
        return self.schedule.now

    def strike(self, task: Callable[[], Any], at: int, when: str) -> None:
        """Cancels ``task()`` at its step number ``at``.  "late": what it waited for has come, and
        it has not run yet; "early": it has just begun to wait for the next."""
        self._strike = task, at, when

    def _run_once(self) -> None:
        if any(timer._cancelled for timer in self._scheduled):
            for timer in self._scheduled:
                timer._scheduled = not timer._cancelled
            self._scheduled = [timer for timer in self._scheduled if timer._scheduled]
            heapify(self._scheduled)
            self._timer_cancelled_count = 0
        next_at = self._scheduled[0]._when if self._scheduled else INF
        self.idle = True
        self.schedule.pause(self._has_work, next_at)
        self.idle = False
        while self._scheduled and self._scheduled[0]._when <= self.schedule.now:
            timer = heappop(self._scheduled)
            timer._scheduled = False
            self._ready.append(timer)
        if self._ready:
            number = self.schedule.dice.randrange(len(self._ready))
            handle = self._ready[number]
            del self._ready[number]
            if not handle._cancelled:
                self._step(handle)

    def _has_work(self) -> bool:
        """Also asked by other actors, while this one waits."""
        if not self._closed:
            self._process_events(self._selector.select(0))
        return bool(self._ready or self._stopping)

    def _add_callback(self, handle: Any) -> None:
        if handle not in self._ready:  # a descriptor stays readable until its handle has run
            super()._add_callback(handle)  # type: ignore[misc]

    def _step(self, handle: Any) -> None:
        stepping = getattr(handle._callback, "__self__", None)  # of a step or wake-up of a task
        if self._strike is None or stepping is None or stepping is not self._strike[0]():
            handle._run()
            return
        task, (_, at, when) = stepping, self._strike
        struck = self.steps == at
        self.steps += 1
        if struck and when == "late":
            self.hit = True
            task.cancel()
        handle._run()
        if struck and when == "early" and not task.done():
            self.hit = True
            task.cancel()

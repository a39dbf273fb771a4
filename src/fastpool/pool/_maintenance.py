"""What a pool does with time: evicts, keeps alive, refills, reports leaks, and sets the next date.

All of it on the scheduler's thread, or on that of a test that moves a manual clock.  What takes
long is handed to the pool's workers.
"""

from __future__ import annotations

import time

from .. import _core
from .._runtime import scheduler
from . import _policy
from ._opening import begin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._manager import Manager

__all__ = ["Maintenance"]

INF = float("inf")


class Maintenance:
    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.core = manager.core
        self.options = manager.options
        self.kept_alive: dict[int, float] = {}  # when a slot's resource was last checked for it
        self.away: dict[int, float] = {}  # slots under such a check: until when they are waited for
        self.next_at = INF  # of the real time, when the scheduler comes by
        self.maintaining = _core.Lock()
        self._asked = False  # for a visit that has not begun
        # the next loan is told of, for nothing is in use, or nothing open yet
        self.dozing = manager.unopened

    def opened(self, index: int) -> None:
        """There is a new resource.  A visit looks at all that are open, so one is asked for only if
        this resource has the first deadline, or is one too many."""
        core, o = self.core, self.options
        if core.open > o.max_idle and self.manager.has_idle(int(o.max_idle) + 1):
            self.maintain_soon()
        since, dies_at = core.slot(index)[2:4]
        first = min(dies_at, since + min(o.idle_timeout, o.keepalive))
        self.within(first - core.now())

    def within(self, seconds: float) -> None:
        """A visit is due by then, which says when the next one is."""
        now = time.monotonic()
        if now >= self.next_at or now + seconds < self.next_at:
            self.maintain_soon()

    def maintain_soon(self) -> None:
        """There may be a new first deadline."""
        if self.options.clock is None:
            self.ask()

    def ask(self) -> None:
        """For a visit soon: one, for all who ask before it begins."""
        if self._asked:
            return
        try:
            self._asked = True
            scheduler.call_soon(self._maintain_as_asked)
        except BaseException:  # a signal handler's
            self._asked = False
            raise

    def _maintain_as_asked(self) -> None:
        self._asked = False  # first: what comes from here on may be missed
        self.maintain()

    def maintain(self) -> None:
        """Evicts what expired, starts a keepalive check, refills, reports leaks; sets the next
        deadline."""
        manager, core, o = self.manager, self.core, self.options
        if core.closed:
            return
        now = core.now()
        next_at = INF
        with self.maintaining.hold():
            slots = core.slots()
            oldest = None
            idle = []
            for index, state, since, dies_at, *_ in slots:
                next_at = min(next_at, dies_at)
                if state != "idle":
                    continue
                why = _policy.expiry(now, since, dies_at, o.idle_timeout)
                if why is not None:
                    if core.claim(index):
                        manager.closing.later(index, why)
                    continue
                next_at = min(next_at, since + o.idle_timeout)
                idle.append((since, index))
                since = max(since, self.kept_alive.get(index, since))
                if oldest is None or since < oldest[1]:
                    oldest = (index, since)
            self._trim(idle)
            if slots:
                next_at = min(next_at, now + o.idle_timeout)
            if o.keepalive != INF and slots:
                next_at = min(next_at, self._keep_alive(now, oldest))
            if o.least_idle:
                manager.creator.refill()
                if o.min_idle and slots and not self._may_doze():
                    next_at = min(next_at, now + 1.0)
            if manager.tracking.taken:
                next_at = min(next_at, manager.tracking.report_leaks(now))
        self._schedule_visit(now, next_at)

    def _may_doze(self) -> bool:
        """Loans that leave fewer idle than ``min_idle`` tell nobody, so there is a look every
        second; but not while nothing is in use: then the next loan has to ask, and wakes this up.
        True once that has held from one visit to the next, since a loan may have looked at the gate
        just before."""
        quiet = not self.manager.creator.missing() and not self.core.in_use()
        before, self.dozing = self.dozing, quiet
        self.core.ask_get(quiet or self.manager.tracking.on)
        return before and quiet

    def wake_up(self) -> None:
        """Something is about to be lent."""
        if self.manager.unopened:
            begin(self.manager)
        self.maintain_soon()
        self.core.ask_get(self.manager.tracking.on)
        self.dozing = False

    def _trim(self, idle: list[tuple[float, int]]) -> None:
        """What became idle and was not returned: made for a caller who gave up, for instance.  What
        was made for one who is about to take it was never surplus."""
        if len(idle) <= self.options.max_idle:
            return
        surplus = len(idle) - int(self.options.max_idle) - self.core.callers
        for _, index in sorted(idle)[: max(0, surplus)]:
            if self.core.claim(index):
                self.manager.closing.later(index, "surplus")

    def _schedule_visit(self, now: float, next_at: float) -> None:
        """The scheduler's next visit, ``next_at`` of the pool's clock."""
        if self.options.clock is None and next_at != INF:
            delay = max(next_at - now, 0.01)
            at = time.monotonic() + delay
            if at < self.next_at or self.next_at <= time.monotonic():
                self.next_at = at
                scheduler.call_at(at, self.maintain)

    def _keep_alive(self, now: float, oldest: tuple[int, float] | None) -> float:
        """One idle resource at a time, and none while anybody waits.  A check past its deadline
        does not hold up the next."""
        manager, core, o = self.manager, self.core, self.options
        if oldest is None or now - oldest[1] < o.keepalive:
            return now + o.keepalive if oldest is None else oldest[1] + o.keepalive
        index, real_now = oldest[0], time.monotonic()
        if any(until > real_now for until in self.away.copy().values()):
            return now + min(o.keepalive, o.hook_timeout)
        if not core.waiting and core.claim(index):
            self.away[index] = real_now + o.hook_timeout
            if manager.checking.offer(index):
                self.kept_alive[index] = now
            else:
                self._let_be(index)
        return now + o.keepalive

    def _let_be(self, index: int) -> None:
        """No worker was free for the check, so it is not worth a borrower's time: idle once more,
        until the next visit."""
        del self.away[index]
        manager = self.manager
        if manager.core.publish(index, used=False):
            manager.on_idle()
        else:
            manager.closing.later(index, manager.reject_reason(index))

    def was_kept_alive(self, index: int) -> None:
        """Its check is over: it may be the next one's turn."""
        self.away.pop(index, None)
        self.maintain_soon()

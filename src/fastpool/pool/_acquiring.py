"""The slow path of a get, in the borrower's thread: wait, check, ask for one more, refuse."""

from __future__ import annotations

import threading
import time

from .. import _core
from .._runtime import scheduler
from ..errors import PoolClosed, PoolDeadlock, PoolError, PoolOverloaded, PoolTimeout
from ._creation import Creator
from ._health_checks import HealthChecks
from ._listeners import notify_listeners
from ._own_blocks import waits_for_itself
from ._returning import Returning

__all__ = ["Acquiring"]

MAY_OPEN = ("may open", "may open at head")  # of what Core.take says: one more may be opened
FEW = 1000  # slots that are counted in no time


class Acquiring(Returning):
    """The borrowing from a pool; tasks have the like in ``_aio/slow_paths.py``."""

    checking: HealthChecks
    creator: Creator

    def acquire_slow(
        self,
        guard: _core.SlotGuard,
        reason: str | None,
        timeout: float | None,
        waited: float,
        permit: object = None,
    ) -> None:
        """The slow path of a get: returns with a guarded slot as LEASED, or raises.  ``reason``:
        what the core said, as ``Core.take``; None: not asked yet.  ``permit``: to open a resource,
        which has ended the wait so far.  What is guarded when a signal handler raises is given back
        by the caller."""
        core = self.core
        start = time.monotonic() - waited
        in_front = asked = False
        missed = waited > 0 and reason == "fresh"  # it has waited in the core
        if self.maintenance.dozing:
            self.maintenance.wake_up()
        while reason != "fresh":
            if reason == "due":
                if self.checking.examine(guard, start, timeout):
                    break
                in_front = True  # a grant that was no good: the position in the queue is kept
            elif reason in MAY_OPEN:
                missed = True
                if self.creator.create_in_caller(guard, permit):
                    break
                permit = None
                if timeout == 0:
                    raise self.refusal("timeout", start, timeout)
                self.announce_waiter(guard, start, timeout, threading.get_ident())
                in_front, asked = in_front or asked or reason == "may open at head", True
            elif reason == "stolen":
                in_front = True
            elif reason is not None:
                raise self.refusal(reason, start, timeout)
            left = None if timeout is None else max(0.0, start + timeout - time.monotonic())
            missed = True
            try:
                reason = core.take(guard, left, in_front=in_front)
            except _core.Permit as granted:
                reason, permit, in_front = "may open", granted.args[0], True
        if self.tracking.on:
            self.tracking.note(guard)
        if missed and self.listeners is not None:
            self.acquired_after_wait(time.monotonic() - start)

    def acquired_after_wait(self, seconds: float) -> None:
        """A borrower has a resource in hand, for which it had to wait so long."""
        notify_listeners(self, "acquired_after_wait", seconds)

    def announce_waiter(
        self, guard: _core.SlotGuard, start: float, timeout: float | None, me: int
    ) -> None:
        """Nothing is idle and there is free capacity: has one more opened for a caller on its way
        to the queue.  ``me`` names the caller, where other cores are looked at too: a thread or a
        task."""
        self.core.announce_waiter(guard)
        scheduler.call_soon(self.creator.refill)

    def would_wait_for_itself(self, me: int) -> bool:
        """Whether the caller, who has entered blocks over all resources, is in them still."""
        return waits_for_itself((self.core,), me)

    def refusal(
        self, reason: str, start: float, timeout: float | None, phase: str | None = None
    ) -> PoolError:
        """The exception for a borrower who gets nothing."""
        if reason == "closed":
            return PoolClosed(self.name, "the pool is closed")
        if reason == "overloaded":
            self.core.count("overloads")
            most = self.options.max_waiting
            text = f"{most} callers wait already, and max_waiting is {most}"
            return PoolOverloaded(self.name, text)
        if reason == "deadlock":
            return PoolDeadlock(
                self.name,
                f"the caller holds all {self.maxsize} resources in its own `with` blocks and "
                "would wait for itself; take what you need in one place, or raise maxsize",
            )
        if phase is None and self.budget is not None:
            phase = self.budget.why_refused(self.core, timeout == 0)
        has_capacity = phase is None and self.creator.has_capacity()  # before a creation takes it
        short = phase is None and self.budget is not None and self.budget.is_short(self.core)
        if timeout == 0 and (has_capacity or short) and not self.creator.in_caller:
            scheduler.call_soon(self.creator.refill, 1)
        self.core.count("timeouts")
        cause = self.creator.last_failure
        # counted at once where that costs little
        few = self.sizes() if self.core.open <= FEW else None
        creating = self.core.creating if few is None else few["creating"]
        if phase is None:
            phase = "create" if has_capacity or creating else "budget" if short else "wait"
        waited = time.monotonic() - start
        error = PoolTimeout(
            self.name, phase, waited, few or self.sizes, tuple(self.tracking.holders())
        )
        error.__cause__ = cause
        if phase == "budget" and self.budget:
            error.budget = self.budget.stats()
        notify_listeners(self, "timed_out", phase, waited)
        return error

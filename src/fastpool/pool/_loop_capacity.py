"""Who gives up a slot, and for whom, among the event loops that share a limit.

A resource cannot move to another loop.  So where the limit is reached and callers of one loop wait,
what has been idle longest on another loop is closed for them; and if nothing is idle, a loop that
has nothing at all gets the slot of what another one gets back.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["LoopCapacity", "priority"]

INF = float("inf")
# Seconds after which a loop that has nothing gets the slot of what others give back.  With less,
# where loops are more than slots, each turn would open and close.
SPARE_AFTER = 0.05


class LoopCapacity:
    """``parts()``: the managers of these loops; ``free()``: how many more may be open, after the
    limit was lowered perhaps less than none.  Called under the lock that guards both, unless a
    method says otherwise."""

    def __init__(self, parts: Callable[[], list[Any]], free: Callable[[], float]) -> None:
        self.parts = parts
        self.free = free
        self.hungry: list[Any] = []  # loops that wait for a slot

    def is_wanted_by_others(self, part: Any) -> bool:
        """Whether another loop waits for a slot: what its own callers wait for they get without the
        scheduler, whose thread would take the time of the loop.  Needs no lock."""
        return any(other is not part for other in self.hungry)

    def evict_for(self, hungry: list[Any]) -> None:
        """Closes what is idle elsewhere for loops whose callers wait for a slot.  First the bits,
        then the look: what comes back later is told of, so nothing is idle unseen."""
        self.hungry = hungry
        destitute = [part for part in hungry if not part.core.open]
        for part in self.parts():
            part.watch_returns(
                notify=any(other is not part for other in hungry),
                ask=any(other is not part for other in destitute),
            )
        if not hungry:
            return
        pending = self.pending()
        if pending < 0:  # more are open than may be: a slot that is freed is gone
            return
        idle = [
            (not part.loop.is_running(), slot[2], slot[0], part)
            for part in self.parts()
            for slot in part.core.slots()
            if slot[1] == "idle" and not part.core.waiting
        ]
        for _, _, index, part in sorted(idle, key=lambda entry: entry[:3]):
            # not for its own loop: what has come back there since is for the callers it has
            wanted = sum(other.creator.wanted_at_all() for other in hungry if other is not part)
            if wanted > pending and part.core.claim(index):
                part.closing.later(index, "evicted")
                pending += 1

    def pending(self) -> float:
        """How many slots are free or about to be; not those of a loop that does not run.  One that
        is freed meanwhile may count twice, but not be missed: whoever hears of it looks again."""
        running = [part for part in self.parts() if part.loop.is_running()]
        closing: int = sum(slot[1] == "closing" for part in running for slot in part.core.slots())
        return closing + self.free()

    def refuses(self, me: int, most: int, max_waiting: float) -> str | None:
        """Why a caller for whom nothing is idle may not wait, or None.  ``me``: its task; ``most``:
        may be open; ``max_waiting``: of all these loops.  Under the lock, until it has come."""
        parts = self.parts()
        slots = [slot for part in parts for slot in part.core.slots()]
        mine = sum(slot[1] == "leased" and slot[5] == me | 1 for slot in slots)
        if mine == len(slots) >= most:
            return "deadlock"
        if max_waiting == INF:
            return None
        callers = open_ = available = 0  # slots: that come free, or are to be had
        for part in parts:
            counts, demand = part.core.counts(), part.core.demand  # at once: any may be freed now
            callers += demand
            open_ += counts["open"]
            # a creation that is over comes free as well, when the scheduler has seen to it
            available += max(counts["creating"], part.core.undelivered)
            available += counts["closing"] + (0 if demand else counts["idle"])
        available += max(0, most - open_)
        return "overloaded" if callers >= max_waiting + available else None

    def must_yield(self, part: Any) -> bool:
        """Whether this loop has to give up the slot of what it gets back: to a loop that has
        nothing at all, and would wait for as long as others are busy.  Not at once, and not while
        callers of its own have waited longer."""
        before = min(part.core.waits_since(0), time.monotonic() - SPARE_AFTER)
        older: int = sum(
            other.core.demand > 0 and other.core.open == 0 and other.core.waits_since(0) < before
            for other in self.hungry
            if other is not part
        )
        return older > self.pending() >= 0

    def close_surplus(self, surplus: int) -> None:
        """Close so many: what is idle, the oldest first, and what is lent when it comes back.
        ``surplus``: of what is open and not being closed."""
        parts = self.parts()
        slots = [(part, slot) for part in parts for slot in part.core.slots()]
        idle = [(slot[2], slot[0], i) for i, (_, slot) in enumerate(slots) if slot[1] == "idle"]
        for _, index, i in sorted(idle)[: max(0, surplus)]:
            part = slots[i][0]
            if part.core.end_idle(index, part.closing.later, "surplus"):
                surplus -= 1
        # those that flush or an earlier resize has marked will be closed anyway
        surplus -= sum(slot[6] for _, slot in slots if slot[1] not in ("idle", "closing"))
        for part in parts:
            if surplus > 0:
                surplus -= part.core.mark_retire(surplus)

    def staying(self) -> int:
        """How many are open and not being closed."""
        return sum(slot[1] != "closing" for part in self.parts() for slot in part.core.slots())


def priority(part: Any) -> tuple[bool, float]:
    """Who is next to open: a loop that has nothing, then the caller who has waited longest."""
    return part.core.open > 0, part.core.waits_since(part.core.in_flight)

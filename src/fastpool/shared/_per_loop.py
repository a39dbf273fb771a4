"""The manager behind a SharedPool whose factory is asynchronous: one part for each event loop.

Resources belong to the loop that made them, and so do their slots.  What the loops share is the
numbers of ``items``: the least are kept over all loops, and no more are in service than the most.
As in every shared pool a resource that drains is not counted, up to as many again.  So a loop that
has nothing, and waits where the most are in service, gets its own as soon as one of another loop
takes no more leases.
"""

from __future__ import annotations

import time

from .. import _core
from .._runtime import scheduler
from ..pool._budget import LoopsShare, more_wanted
from ..pool._loop_capacity import SPARE_AFTER
from ..pool._per_loop import PerLoopManager
from ..stats import KeySizes, SharedStats
from ._loop_permits import LoopsSlotsShare
from ._loop_pool import SharedLoopPool
from ._options import bounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any, NoReturn

    from ._options import SharedOptions

__all__ = ["SharedPerLoopManager"]

INF = float("inf")


class SharedLoopsShare(LoopsShare):
    """What it has of a budget: a permit for each resource, until it is closed."""

    def share_out(self) -> None:
        """Nothing: each resource is opened under the lock of all loops."""

    def spare(self) -> float:
        """Leases that may be given beside those that there are."""
        return INF

    def needed(self, whole: Any) -> int:
        with whole.lock.hold():
            counts = whole.counts()
            leaving = whole.leaving()
            busy = whole.taken() - counts["idle"]
            wanted = sum(more_wanted(part) for part in whole.everyone())
        needed = max(busy + wanted, whole.least + leaving)
        return int(min(needed, whole.maxsize + leaving) if whole.maxsize else needed)

    def shed(self, whole: Any) -> None:
        whole.drain_surplus(self.allowance)


class SharedPerLoopManager(PerLoopManager):
    """See the module."""

    stats_kind = SharedStats
    options: SharedOptions

    def __init__(self, core: _core.Core, options: SharedOptions) -> None:
        self.least = options.least
        self.slots = options.slots
        self.share_kind = LoopsSlotsShare if options.units == "slots" else SharedLoopsShare
        super().__init__(core, options)
        core.set_sharing(slots=options.slots, most_uses=INF, penalty=options.penalty)

    def new_part(self, loop: asyncio.AbstractEventLoop) -> SharedLoopPool:
        part = SharedLoopPool(self, loop)
        part.least = self.least
        return part

    # ---- how many ------------------------------------------------------------------------------

    def to_keep(self) -> int:
        return self.least

    def counted(self) -> tuple[dict[str, Any], list[tuple[Any, tuple[int, ...]]]]:
        both: tuple[dict[str, Any], list[Any]] = self.lock.run(self.past.and_of, self.cores, True)
        return both

    def live(self) -> int:
        """How many take leases, or are about to."""
        n = self.counts()
        return int(n["idle"] + n["leased"] + n["checking"] - n["draining"])

    def leaving(self) -> int:
        """How many drain, or will once another is open in their place."""
        renewing = sum(len(part.renewing) for part in self.everyone())
        return int(self.counts()["draining"]) + renewing

    def lacking(self) -> int:
        """How many more have to be open for the least number."""
        return max(0, self.least - self.live()) if self.least else 0

    def _free(self) -> float:
        most = INF
        if self.maxsize:
            most = self.maxsize + min(self.leaving(), self.maxsize)
        if self.budget is not None:
            most = min(most, self.budget.most_open)
        return INF if most == INF else most - self.taken()

    def refill(self) -> None:
        latest: Any = self.latest()
        lacking = self.lacking() if latest is not None else 0
        if latest is None or not lacking:
            return
        others = 0  # what is made for callers, or wished for, on other loops serves as well
        for part in self.running_parts():
            if part is not latest:
                goal = part.creator.goal(part.creator.background_demand)
                others += max(0, goal - len(part.renewing))
        creator = latest.creator
        wished = max(0, lacking - others) + len(latest.renewing)
        creator.background_demand = max(creator.background_demand, wished)

    def refuses(self, me: int) -> str | None:
        spare = INF if self.budget is None else self.budget.spare()  # permits
        if self.options.max_waiting == INF or not (self.maxsize or spare < INF):
            return None
        parts = self.everyone()
        callers = sum(part.core.callers for part in parts)
        expected = max(0, self._free())
        for part in parts:
            n = part.core.counts()
            expected += max(n["creating"], part.core.in_flight) + n["checking"] + n["closing"]
        served = min(expected * self.slots, spare)
        return "overloaded" if callers >= self.options.max_waiting + served else None

    def start(self) -> None:
        if self.budget is not None and not self.core.closed:
            self.budget.share_out()
        super().start()
        with self.lock.hold():
            destitute = [part for part in self.capacity.hungry if not part.core.open]
        if destitute and not self.core.closed:
            self._spare_for(destitute)

    def _spare_for(self, destitute: list[Any]) -> None:
        """For loops that have waited long enough with nothing, what carries least on others takes
        no more leases.  On the scheduler's thread."""
        now = time.monotonic()
        since = sorted(part.core.waits_since(0) for part in destitute)
        due = sum(at + SPARE_AFTER <= now for at in since) - max(0, int(self.capacity.pending()))
        later = [at + SPARE_AFTER for at in since if now < at + SPARE_AFTER < INF]
        if later:
            scheduler.call_at(later[0], self.start)
        if self.leaving() >= self.maxsize or due <= 0:
            return
        spare = [
            (part.core.load(slot[0]), slot[0], part)
            for part in self.everyone()
            if part not in destitute and part.loop.is_running()
            for slot in part.core.slots()
            if slot[1] in ("idle", "leased") and not slot[6]
        ]
        for _, index, part in sorted(spare, key=lambda found: found[:2])[:due]:
            part.drain(index, "evicted", later=True)

    # ---- resources -----------------------------------------------------------------------------

    def part_of(self, act: str, resource: object) -> Any:
        """The loop's share that has it."""
        part = self.holder(resource).manager
        if part is self or part is None:
            self.raise_misuse(act, resource)
        return part

    def drain_resource(self, resource: object) -> None:
        self.part_of("drain", resource).drain_resource(resource)

    def replace(self, resource: object) -> None:
        if resource is not None:
            self.part_of("replace", resource).replace(resource)
            return
        scheduler.run(self._replace_all)

    def _replace_all(self) -> None:
        """On the scheduler's thread."""
        for part in self.everyone():
            part.replace_all()

    def penalize(self, resource: object) -> None:
        self.part_of("penalize", resource).penalize(resource)

    def avoid(self, resource: object, on: bool) -> None:
        self.part_of("avoid", resource).avoid(resource, on)

    def ended(self, resource: object) -> int:
        return int(self.part_of("ended", resource).ended(resource))

    def forget_oldest(self, index: int) -> None:
        """No loop holds it: see ``holder``."""

    def add(self, resource: object) -> NoReturn:
        raise TypeError(self.for_tasks("a factory that returns it; add() cannot tell its loop"))

    def flush(self, idle_only: bool = False, fail_waiters: bool = False) -> None:
        scheduler.run(self._flush, idle_only, fail_waiters)

    def _flush(self, idle_only: bool, fail_waiters: bool) -> None:
        """On the scheduler's thread: the hooks are tasks of the loops."""
        for part in self.everyone():
            part.flush(idle_only, fail_waiters)

    # ---- operations ----------------------------------------------------------------------------

    def resize(self, items: Any, /) -> Any:
        least, most = bounds(f"{self.name}: ", items)
        scheduler.run(self._resize_items, least, most)
        return least, most

    def _resize_items(self, least: int, most: int | None) -> None:
        """On the scheduler's thread: no loop keeps the numbers of before."""
        with self.lock.hold():
            self.least, self.maxsize = least, most or 0
            self.core.set_limit(most or INF)
            for part in self.everyone():
                part.least, part.maxsize = least, self.maxsize
            self.limit_cores()
        self.drain_surplus(most)
        for part in self.everyone():
            part.creator.refill()

    def drain_surplus(self, most: int | None) -> None:
        """As ``SharedManager.drain_surplus``, over all loops."""
        if most is None:
            return
        slots = [
            (slot[1] != "creating", part.core.load(slot[0]), -slot[0], part, slot)
            for part in self.everyone()
            for slot in part.core.slots()
            if slot[1] != "closing" and not slot[6]
        ]
        made = sum(not found[0] for found in slots)
        renewing = sum(len(part.renewing) for part in self.everyone())
        surplus = max(0, len(slots) - min(made, renewing) - most)
        of: dict[Any, list[Any]] = {}
        for *_, part, slot in sorted(slots, key=lambda found: found[:3])[:surplus]:
            of.setdefault(part, []).append(slot)
        for part, chosen in of.items():
            part.drain_all(chosen, "surplus")

    def sweep(self, later: bool = True) -> None:
        self.forget_closed()
        for part in self.everyone():
            part.core.close(wake=False)
            part.closing.sweep(later)

    # ---- what goes on in it --------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        counted, _ = self.counted()
        names = (*KeySizes.__slots__, "leases")
        return {name: counted[name] for name in names} | {
            "maxsize": self.most(),
            "slots": self.slots,
        }

    def stats_of(self, sizes: list[tuple[Any, tuple[int, ...]]]) -> dict[str, Any]:
        return {"slots": self.slots}

"""The manager behind a shared pool: what it does otherwise than that of a FastPool.

A resource is closed in two steps here: first it takes no more leases (it drains), and whoever gives
back the last one closes it.  Until then the cap does not count it, so that calls which take long
stand in nobody's way.  ``reasons`` remembers why each is being drained.
"""

from __future__ import annotations

from .. import _core, _reports
from .._runtime import scheduler
from ..errors import WARNINGS_PAGE, with_page
from ..pool._broken import evidence
from ..pool._closing import Closing
from ..pool._creation import Attempt, Creator
from ..pool._ended_waits import end_waits
from ..pool._listeners import notify_in_worker
from ..pool._manager import Manager
from ._budget import SharedShare, SlotsShare
from ._lease_tracking import SharedLeaseTracking
from ._maintenance import SharedMaintenance
from ._options import bounds, matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..stats import PoolStats
    from ._options import SharedOptions

__all__ = ["SharedManager"]

INF = float("inf")
NOTHING = (-1, 0, "")  # of what a creation stands in for: slot, its use, and why
LINGER = 0.1  # seconds that an idle worker waits for work: there are few resources, so that is rare


class SharedCreator(Creator):
    """Wishes for what the least number lacks, and for what is to take another's place."""

    manager: SharedManager

    def __init__(self, manager: SharedManager) -> None:
        super().__init__(manager)
        self.replaces: dict[Attempt, tuple[int, int, str]] = {}  # what a creation stands in for

    def has_capacity(self) -> bool:
        core = self.manager.core
        return core.has_capacity() and not core.suspended

    def added(self) -> None:
        """On the scheduler's thread: something was taken in that was made elsewhere."""
        with self.manager.lock.hold():
            self.background_demand = max(0, self.background_demand - 1)

    def missing(self) -> int:
        manager = self.manager
        return max(0, manager.least - manager.live()) + len(manager.renewing)

    def goal(self, background_demand: int) -> int:
        """What is opened for a caller serves as one of the least number too."""
        renewals = min(len(self.manager.renewing), background_demand)
        return max(self.manager.core.demand + renewals, background_demand)

    def usable(self, counts: dict[str, Any]) -> int:
        return super().usable(counts) - int(counts["draining"])

    def for_callers(self) -> int:
        return 0  # a wish is for what callers open as well: see goal

    def _take_in(self, attempt: Attempt, resource: Any) -> None:
        super()._take_in(attempt, resource)
        self.replaces[attempt] = self.manager.next_to_renew()

    def _late_is_wanted(self, attempt: Attempt) -> bool:
        manager = self.manager
        stands_in = self.replaces[attempt][0] >= 0
        return stands_in or manager.live() <= manager.least or super()._late_is_wanted(attempt)

    def _arrived(self, attempt: Attempt) -> None:
        index, use, why = self.replaces.pop(attempt)
        if index >= 0 and self.manager.core.generation(index) == use:
            self.manager.drain(index, why, later=True)

    def _finish(self, attempt: Attempt, error: BaseException | None) -> None:
        super()._finish(attempt, error)
        index, _, why = self.replaces.pop(attempt, NOTHING)
        if index >= 0:  # what was to take its place is not lent, so it stays in service
            self.manager.renew(index, why)


class SharedClosing(Closing):
    manager: SharedManager

    def finish(self, index: int, why: str, workers: Any = None, use: int | None = None) -> None:
        why = self.manager.reasons.get(index, why)
        if use is None or self.core.is_ending(index, use):
            self.manager.on_closing(index)
        super().finish(index, why, workers, use)

    def sweep(self, later: bool = False) -> None:
        for slot in self.core.slots():
            if slot[1] in ("idle", "leased"):
                self.manager.reasons.setdefault(slot[0], "closed")
        _core.end_all([(self.core, self.later if later else self.here)], "closed")


class SharedManager(Manager):
    """See the module."""

    options: SharedOptions
    creator: SharedCreator
    tracking: SharedLeaseTracking

    def __init__(self, core: _core.Core, options: SharedOptions) -> None:
        self.least = options.least
        self.slots = options.slots
        self.shrink_after = options.shrink_after
        self.share_kind = SlotsShare if options.units == "slots" else SharedShare
        super().__init__(core, options)

    def set_core(self, limit: float, max_waiting: float) -> None:
        o = self.options
        super().set_core(limit, max_waiting)
        self.core.set_sharing(slots=o.slots, most_uses=o.max_uses, penalty=o.penalty)

    def asks_put(self) -> bool:
        return self.tracking.on

    def create_parts(self) -> None:
        super().create_parts()
        self.create_records()
        self.tracking = SharedLeaseTracking(self)
        self.closing = SharedClosing(self)
        self.creator = SharedCreator(self)
        self.maintenance = SharedMaintenance(self)
        for workers in self.workers():
            workers.linger = LINGER

    def create_records(self) -> None:
        """Of what is on its way out."""
        # Why the resource of a slot is being drained, and likewise of those that are to be
        # replaced: written in ``core/drain_reasons.pxi``, under the lock.
        self.reasons: dict[int, str] = {}
        self.renewing: dict[int, str] = {}

    def options_changed(self) -> None:
        super().options_changed()
        self.shrink_after = self.options.shrink_after

    def to_keep(self) -> int:
        return self.least

    def live(self) -> int:
        """How many take leases, or are about to."""
        n = self.counts()
        return int(n["idle"] + n["leased"] + n["checking"] - n["draining"])

    def live_elsewhere(self) -> int:
        """The same on other event loops."""
        return 0

    def sizes(self) -> dict[str, int]:
        return super().sizes() | {"slots": self.slots, "leases": int(self.counts()["leases"])}

    def add(self, resource: object) -> bool:
        """As if the factory had made it; False: there is no free capacity, and it is the caller's
        still."""
        creator = self.creator
        try:
            if not self.core.adopt(resource, creator.lifetime()):
                return False
        except ValueError:
            text = f"{self.name}: add: the pool holds it already: {resource!r:.80}"
            raise ValueError(text) from None
        self.core.count("created")
        scheduler.call_soon(creator.added)
        self.notify_changed()
        self.maintenance.maintain_soon()
        return True

    # ---- returning -----------------------------------------------------------------------------

    def on_lease_end(
        self, index: int, ticket: int, error: BaseException | None, discard: bool
    ) -> None:
        """For the core: a lease is about to be given back, by other than the plain way."""
        if ticket:
            used = self.tracking.forget(ticket)
            if used is not None and self.listeners is not None:  # the slot is not given back yet
                scheduler.call_soon(notify_in_worker, self, "used", used)
        if discard:
            self.drain(index, "discarded")
        elif error is not None:
            resource = self.core.item(index)
            if self.error_discards(error, resource):
                self.drain(index, "error")
                return
            if evidence(error):
                self.core.suspect(index)
            if self.says(self.options.penalize_on, error, resource):
                self.penalize_slot(index)

    def error_discards(self, error: BaseException, resource: object) -> bool:
        return self.says(self.options.discard_on, error, resource)

    def says(self, rule: Any, error: BaseException, resource: object) -> bool:
        try:
            return matches(rule, error, resource)
        except Exception as failure:
            self.log("discard_on or penalize_on raised; nothing is done", failure)
            return False

    def on_drained(self, index: int) -> None:
        """For the core: the last lease of a resource that takes no more has been given back; the
        slot is CHECKING and the caller's."""
        if self.budget is not None:
            self.budget.lease_returned()
        self.closing.here(index, self.reject_reason(index))

    def reject_reason(self, index: int) -> str:
        if index in self.reasons:
            return self.reasons[index]
        if self.core.closed:
            return "closed"
        return "uses" if self.core.slot(index)[4] >= self.options.max_uses else "flushed"

    def rescue(self, index: int, why: str, use: int | None = None) -> None:
        super().rescue(index, self.reasons.get(index) or why, use)

    def on_return(self, later: bool = False) -> None:
        """For the core: a lease of a closed pool came back, or of a resource that takes no more, or
        its permit is wanted elsewhere."""
        if self.budget is not None:
            self.budget.lease_returned()
        if self.core.closed:
            self.notify_changed()
        elif self.core.demand:
            scheduler.call_soon(self.creator.refill)

    def lost(self, ticket: int, /) -> None:
        """A lease was collected unreleased; its slot has been given back.  May be in a finaliser:
        no lock, no hook."""
        import warnings

        taken_at = self.tracking.taken_at(ticket)
        self.tracking.taken.pop(ticket, None)
        where = f", taken at {taken_at}" if taken_at else "; leak_after= shows where it was taken"
        warnings.warn(
            with_page(
                f"fastpool {self.name!r}: a lease was collected unreleased; its slot is free again"
                f"{where}",
                WARNINGS_PAGE,
            ),
            ResourceWarning,
            stacklevel=2,
            source=None,
        )

    def forget_oldest(self, index: int) -> None:
        """For the core: a slot of it is given back by whoever has got it without a lease."""
        for ticket in self.tracking.of(index)[:1]:
            self.tracking.forget(ticket)

    def taken_without_lease(self, ticket: int) -> None:
        """For the core: what this ticket names is given back by ``put``."""
        self.tracking.loosen(ticket)

    def forget(self, ticket: int) -> None:
        """For the core, on the scheduler's thread: a caller did not get through with what this
        names."""
        self.tracking.taken.pop(ticket, None)

    def raise_misuse(self, act: str, resource: object) -> Any:
        if self.core.find(resource) >= 0:
            what = f"{type(resource).__name__} object {_reports.shown(resource, 80)}"
            raise ValueError(f"{self.name}: {act}: no slot of it is taken: the {what}")
        super().raise_misuse(act, resource)

    def only(self, me: int) -> bool:
        return {slot[1] for slot in self.core.slots()} <= {"idle"}

    # ---- taking out of service -----------------------------------------------------------------

    def drain(self, index: int, why: str, later: bool = False) -> None:
        """It takes no more leases; if it has none it is closed, here and now or by the pool's own
        threads.  One that is being made or looked at will not be lent any more."""
        core = self.core
        if not self._will_go([index], why):
            return
        if not core.end_idle(index, self.closing.later if later else self.closing.here, why):
            self._renewed(index)  # that was asked for in between
            scheduler.call_soon(self.creator.refill)  # its slot is free already
            self.maintenance.maintain_soon()  # it has a time to drain

    def drain_all(self, slots: list[Any], why: str) -> None:
        """The same for several, in one step: none is lent while another is being closed."""
        if not slots:
            return
        indices = [slot[0] for slot in slots]
        self._will_go(indices, why)
        try:
            _core.end_these(self.core, self.closing.here, indices, why)
        finally:
            scheduler.call_soon(self.creator.refill)
            self.maintenance.maintain_soon()

    def on_closing(self, index: int) -> None:
        """Its resource is being closed."""
        self.lock.run(_core.has_gone, self.core, self.reasons, self.renewing, index)

    def _will_go(self, indices: list[int], why: str) -> int:
        """Notes why for those that are not closing already; how many."""
        record = self.core, self.reasons, self.renewing
        return int(self.lock.run(_core.will_go, *record, indices, why))

    def renew(self, index: int, why: str) -> None:
        """It is drained as soon as another is open in its place."""
        if self.lock.run(_core.will_renew, self.core, self.renewing, index, why):
            scheduler.call_soon(self.creator.refill)

    def _renewed(self, index: int) -> str | None:
        """Why it was to be renewed, and is not any more."""
        return self.lock.run(_core.is_renewed, self.core, self.renewing, index)

    def next_to_renew(self) -> tuple[int, int, str]:
        """One more is about to be open: the slot that it stands in for, that use of it, and why."""
        with self.lock.hold():
            for index in self.renewing:
                return index, self.core.generation(index), self._renewed(index) or ""
        return NOTHING

    def index_of(self, act: str, resource: object) -> int:
        index = self.core.find(resource)
        if index < 0:
            self.raise_misuse(act, resource)
        return index

    def drain_resource(self, resource: object) -> None:
        self.drain(self.index_of("drain", resource), "flushed")

    def replace(self, resource: object) -> None:
        if resource is not None:
            self.renew(self.index_of("replace", resource), "flushed")
        else:
            scheduler.run(self.replace_all)

    def replace_all(self) -> None:
        """On the scheduler's thread."""
        for index, state, *_, retire in self.core.slots():
            if state in ("idle", "leased", "checking") and not retire:
                self.renew(index, "flushed")

    def flush(self, idle_only: bool = False, fail_waiters: bool = False) -> None:
        if fail_waiters:
            end_waits("flush", [self])
        if idle_only:
            _core.end_unused([(self.core, self.closing.here)], "flushed")
        else:
            self.drain_all(self.core.slots(), "flushed")

    def penalize(self, resource: object) -> None:
        self.penalize_slot(self.index_of("penalize", resource))

    def avoid(self, resource: object, on: bool) -> None:
        self.core.avoid(self.index_of("avoid", resource), on)
        if on:
            scheduler.call_soon(self.creator.refill)  # those who wait may want another one

    def ended(self, resource: object) -> int:
        index = self.index_of("ended", resource)
        return self.core.slot(index)[4] - self.core.load(index)

    def penalize_slot(self, index: int) -> None:
        self.core.penalize(index, self.options.penalty_time)

    # ---- operations ----------------------------------------------------------------------------

    def resize(self, items: Any, /) -> Any:
        least, most = bounds(f"{self.name}: ", items)
        self.lock.run(self.core.resize, self, {"least": least, "maxsize": most or 0}, most or INF)
        scheduler.call_soon(self.creator.refill)
        self.drain_surplus(most)
        return least, most

    def drain_surplus(self, most: int | None) -> None:
        """Drain what is in service beyond so many; None: any number may be."""
        slots = [s for s in self.core.slots() if s[1] != "closing" and not s[6]]
        made = sum(slot[1] == "creating" for slot in slots)
        most = len(slots) if most is None else most
        surplus = len(slots) - min(made, len(self.renewing)) - most
        # what is being made goes first, then the least loaded
        slots.sort(key=lambda s: (s[1] != "creating", self.core.load(s[0]), -s[0]))
        self.drain_all(slots[: max(0, surplus)], "surplus")

    def stats(self) -> PoolStats:
        from ..stats import SharedStats, snapshot, tally

        counted = tally(self) | {"slots": self.slots}
        return snapshot(self.name, self.maxsize, counted, SharedStats, self.budget)

"""What a SharedPool has of a budget: a permit for each resource, or for each lease.

For each resource (``units="resources"``), until it is closed.  One that drains has its permit
still, so where the budget has none to spare a resource that is to be replaced stays in service
until there is one, and what replaces it is opened first, as ever.

For each lease (``units="slots"``), until it comes back, of whatever resource.  The core counts the
leases and gives none beyond the allowance, so no borrower asks the budget.  Resources take no
permits: the least of ``items`` are open in any case, and more, up to the most, where callers with a
permit have a use for them.  What is more than a smaller allowance comes back by itself; only
``terminate`` ends it before that.
"""

from __future__ import annotations

from .. import _core
from ..pool._budget import Share, more_wanted
from ._termination import terminate_leases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["SharedShare", "SlotsShare"]

INF = float("inf")


class SharedShare(Share):
    """A permit for each resource."""

    def needed(self, whole: Any) -> int:
        counts = whole.counts()
        leaving = int(counts["draining"]) + len(whole.renewing)
        busy = int(counts["open"] - counts["idle"])
        needed: int = max(busy + more_wanted(whole), whole.least + leaving)
        return min(needed, int(whole.maxsize) + leaving) if whole.maxsize else needed

    def shed(self, whole: Any) -> None:
        whole.drain_surplus(self.allowance)


class SlotsShare(Share):
    """A permit for each lease.  ``allow(n, close=False)``, where the budget's engine is silent: as
    many leases at once as before, which count as if they were all there."""

    _kept = 0  # of an allowance that has ended, and that leases go on with
    _tries = 0  # 1: a caller who does not wait was refused, and may come again

    # ---- for the pool ----------------------------------------------------------------------------

    @property
    def most_open(self) -> float:
        return INF

    def is_short(self, core: _core.Core) -> bool:
        whole = self._whole()
        if whole is None:
            return False
        leases, available, _ = self.counts(whole)
        return available > 0 and leases >= self.allowance

    def is_wanted(self, core: _core.Core, more: bool) -> bool:
        whole = self._whole()
        if whole is None:
            return False
        return self.needed(whole) > max(self.allowance, self.counts(whole)[0])

    def why_refused(self, core: _core.Core, tries: bool) -> str | None:
        if not self.is_short(core):
            return None
        if tries:
            self._tries = 1
            self.ask()
        return "budget"

    def lease_returned(self) -> None:
        self.ask()

    def spare(self) -> float:
        """Leases that may be given beside those that there are."""
        whole = self._whole()
        return 0 if whole is None else max(0, self.allowance - self.counts(whole)[0])

    def counts(self, whole: Any) -> tuple[int, float, int]:
        """(Leases, how many more the pool itself could give, callers who want one)."""
        leases = draining = callers = 0
        for part in self.parts(whole):
            n = _core.lease_counts(part.core)
            leases, draining, callers = leases + n[0], draining + n[1], callers + n[2]
        most = whole.maxsize * whole.slots
        return leases, max(0, most - (leases - draining)) if most else INF, callers

    # ---- for the budget's thread -----------------------------------------------------------------

    def allow(self, n: int, close: bool = True) -> int:
        self._kept = 0 if close else max(self._kept, self.allowance)
        return max(super().allow(max(n, self._kept), close), self._kept)

    def _terminate(self, how: Callable[[Any], object]) -> None:
        whole = self._whole()
        if whole is not None:
            surplus = self.counts(whole)[0] - self.allowance
            terminate_leases(self.parts(whole), surplus, how)

    def set_allowance(self, whole: Any, n: int) -> int:
        with whole.lock.hold():
            self.allowance = n
            self.limit(self.parts(whole))
        leases = self.counts(whole)[0]
        if n > leases:
            self._tries = 0
        return leases

    def limit(self, parts: list[Any]) -> None:
        """Tell the core how many leases it may give.  Under the lock."""
        for part in parts:
            _core.set_permits(part.core, self.allowance)

    def in_use(self, whole: Any) -> int:
        leases = self.counts(whole)[0]
        return leases if whole.core.closed else max(leases, self._kept)

    def listen(self, whole: Any) -> None:
        parts = self.parts(whole)
        for part in parts:
            part.core.listen_for_demand()
        with whole.lock.hold():
            self.limit(parts)  # after a recall: returns need not be told of any more

    def needed(self, whole: Any) -> int:
        leases, available, callers = self.counts(whole)
        return leases + int(min(callers + self._tries, available))

    def shed(self, whole: Any) -> None:
        """Nothing: what comes back takes no permit, and is not lent on."""

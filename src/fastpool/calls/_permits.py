"""What a limit has of a budget of ``fastpool.fleet``: a permit for each call under way.

The permits are the units of the limit's own semaphore, so a call that finds one free asks nobody.
One that waits has the budget look, once for all who come before it has looked, and not at all where
it knows of as many.  What a look finds, it takes and gives up in one step, however many calls that
is for.  ``fleet/_member.py`` has the budget's side; nothing here knows how it works.
"""

from __future__ import annotations

from weakref import ref

from .._core import units_allow, units_join, units_look, units_short
from .._runtime import scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import WeightedSemaphore
    from ..stats import BudgetStats

__all__ = ["CallShare"]


class CallShare:
    """See the module.  ``allow`` and ``look`` are for the budget's thread, the rest for any."""

    def __init__(self, limit: Any, units: WeightedSemaphore, budget: Any, name: str) -> None:
        self.name = name
        self.allowance = 0
        self._kept = 0  # of an allowance that has ended, and that calls go on with
        self._budget = budget
        self._units = units
        self._membership: Any = None
        units_join(units, self)
        self._limit = ref(limit, self._collected)
        self._membership = budget.join(self)
        scheduler.start()  # it is told of callers who wait

    def _collected(self, _: object) -> None:
        units_join(self._units, None)
        if self._membership is not None:
            self._membership.ask()

    def bind_to_process(self) -> None:
        """In a forked child, which has nothing of what its parent had."""
        self.allowance = self._kept = 0
        self._membership = self._budget.join(self)
        scheduler.start()

    def ask(self) -> None:
        """Have the budget look.  Never blocks."""
        self._membership.ask()

    def stats(self) -> BudgetStats:
        """What the budget has seen last."""
        stats: BudgetStats = self._membership.stats()
        return stats

    @property
    def is_short(self) -> bool:
        """Whether a call has to wait for want of a permit, and not for the limit's own size."""
        return units_short(self._units)

    def look(self) -> tuple[int, int] | None:
        """(Calls under way, calls wanted); None: the limit is gone, and so are its calls."""
        in_use, wanted = units_look(self._units)
        if self._limit() is None:
            return (in_use, 0) if in_use else None
        return max(in_use, self._kept), wanted

    def allow(self, n: int, close: bool = True) -> int:
        """So many calls may be under way from here on; how many are.  ``close=False``: or as
        many as before, which count as if they were all under way."""
        self._kept = 0 if close else max(self._kept, self.allowance)
        self.allowance = max(n, self._kept)
        return max(units_allow(self._units, self.allowance), self._kept)

    def terminate(self, how: object) -> None:
        """Nothing: a call that is under way comes to its own end, and counts until then."""

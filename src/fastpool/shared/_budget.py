"""What a SharedPool has of a budget: a permit for each resource, until it is closed.

One that drains has its permit still, so where the budget has none to spare a resource that is to be
replaced stays in service until there is one, and what replaces it is opened first, as ever.
"""

from __future__ import annotations

from ..pool._budget import Share, more_wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SharedShare"]


class SharedShare(Share):
    """See the module."""

    def needed(self, whole: Any) -> int:
        counts = whole.counts()
        leaving = int(counts["draining"]) + len(whole.renewing)
        busy = int(counts["open"] - counts["idle"])
        needed: int = max(busy + more_wanted(whole), whole.least + leaving)
        return min(needed, int(whole.maxsize) + leaving) if whole.maxsize else needed

    def shed(self, whole: Any) -> None:
        whole.drain_surplus(self.allowance)

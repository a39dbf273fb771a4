"""A bound on calls at once: a WeightedSemaphore of which each call holds one unit.

So waiting is fair, bounded, cancelled and woken as it is everywhere in fastpool, and a forked
child, where the calls of the other threads do not go on, begins with all permits free; with a
budget, with none, and asks for its own.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass, field
from itertools import count

from .._core import Lock, SemaphoreHold, part_semaphore, units_hit, units_quiet
from ..errors import PoolOverloaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..fleet import Budget
    from ..stats import BudgetStats
    from ._permits import CallShare

__all__ = ["Limit", "LimitStats"]

MOST = 1 << 62
_all: weakref.WeakSet[Limit] = weakref.WeakSet()
_numbers = count(1)


def whole(what: str, value: int, least: int) -> None:
    """ValueError for what is no whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} must be a whole number of at least {least}, not {value!r}")


class QueueFull(Exception):
    """As many wait as may."""


@dataclass(frozen=True, slots=True)
class LimitStats:
    """One limit at one moment: calls under way, callers in the queue; ``overloads``: refused so
    far; ``budget``: who has what of its budget, if it has one."""

    __module__ = "fastpool.calls"

    size: int
    in_use: int
    waiting: int
    overloads: int
    budget: BudgetStats | None = field(default=None, kw_only=True)


class Limit:
    """At most ``size`` calls at once; further callers wait in the queue, first come, first served.

    ``budget``: a budget of ``fastpool.fleet``, of which each call under way has a permit: so many
    calls at once in all processes that share it.  ``size`` is this limit's own bound beside it;
    None: as many as the budget allows.  A call that finds a permit free does not ask the budget.

    They wait for as long as their call may take; a caller who gives up leaves the queue.
    ``max_waiting``: one more in the queue than this is Overloaded at once; None: any number.  With
    a budget those for whom it has not looked yet may wait for it.  While a call pauses between two
    tries it holds no permit; a gRPC stream holds one until it ends.  ``name``: in the budget's
    reports.

    One object may serve any number of policies, threads and event loops: they share its permits and
    its queue.  A free permit costs some 0.2 us.
    """

    __module__ = "fastpool.calls"

    def __init__(
        self,
        size: int | None = None,
        *,
        max_waiting: int | None = None,
        budget: Budget | None = None,
        name: str | None = None,
    ) -> None:
        if size is None:
            if budget is None:
                raise TypeError("Limit needs a size, or a budget, or both: Limit(20)")
            size = MOST
        if isinstance(budget, str) or not (budget is None or hasattr(budget, "join")):
            raise TypeError(
                f"budget must be a budget of fastpool.fleet or None, not {budget!r}; how many "
                "calls at once is size"
            )
        whole("size", size, 1)
        whole("max_waiting", max_waiting or 0, 0)
        self._units = part_semaphore(size, max_waiting=max_waiting, name="limit")
        self._lock = Lock()  # a finaliser may call something that goes through here
        self._overloads = 0
        self.share: CallShare | None = None  # of the budget
        if budget is not None:
            from ._permits import CallShare

            named = f"limit-{next(_numbers)}" if name is None else name
            self.share = CallShare(self, self._units, budget, named)
        _all.add(self)

    adapts = False  # whether the two below want to be called

    def answered(self, sent: float, now: float) -> None:
        """A call that was sent then has been answered now."""

    def failed(self, error: BaseException, sent: float, now: float) -> None:
        """A call that was sent then has failed now, by no word of this side's."""

    def __repr__(self) -> str:
        return f"<Limit: {self._units.in_use} of {self.size} in use>"

    @property
    def size(self) -> int:
        """Calls at once; with a budget: as many as it allows at this moment."""
        size = self._units.size
        return size if self.share is None else min(size, self.share.allowance)

    @property
    def max_waiting(self) -> int | None:
        """Most callers in the queue; None: any number."""
        return self._units.max_waiting

    def stats(self) -> LimitStats:
        """An immutable snapshot."""
        units = self._units
        with self._lock.hold():
            overloads = self._overloads
        budget = None if self.share is None else self.share.stats()
        return LimitStats(self.size, units.in_use, units.waiting, overloads, budget=budget)

    def shortage(self) -> BudgetStats | None:
        """Who has the permits for want of which a call waits; None: it waits for something else."""
        share = self.share
        return share.stats() if share is not None and share.is_short else None

    # ---- a permit: a hold of one unit, which goes back by itself when it is dropped -----------

    def take_nowait(self) -> SemaphoreHold | None:
        """A free permit, if there is one and nobody waits."""
        permit = units_quiet(self._units, 0)
        return permit if units_hit(permit) else None

    def take(self, timeout: float | None) -> SemaphoreHold:
        """A permit.  PoolTimeout after ``timeout`` seconds, QueueFull at once."""
        permit = units_quiet(self._units, timeout)
        try:
            return permit.__enter__()
        except PoolOverloaded:
            self._refuse()
            raise QueueFull from None

    async def atake(self, timeout: float | None) -> SemaphoreHold:
        """``take`` for a task."""
        permit = units_quiet(self._units, timeout)
        try:
            return await permit.__aenter__()
        except PoolOverloaded:
            self._refuse()
            raise QueueFull from None

    def _refuse(self) -> None:
        with self._lock.hold():
            self._overloads += 1


def _after_fork_in_child() -> None:
    for limit in list(_all):
        limit._lock = Lock()
        if limit.share is not None:
            limit.share.bind_to_process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

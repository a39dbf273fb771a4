"""A pool's side of a budget: permits that many pools, in many processes, share.

The pool sees one number, its ``allowance``: so many resources may be open, and never more than
``maxsize``.  No borrower calls a budget or waits for one.  Whatever may change what the pool has a
use for says ``ask``: a caller for whom a resource could only be opened, a slot that is free, the
end of the pool.  Then the budget, in a thread of its own, looks (``look``) and decides (``allow``).

``allow`` may be called with any number at any time.  A larger one opens what callers wait for.  A
smaller one closes what is idle, the oldest first, and what is lent when it comes back: nothing is
taken from a borrower.  Until then more are open than allowed, and ``allow`` says how many; none is
opened meanwhile, so that number only falls.  A budget that counts, for each pool, the larger of the
two therefore never has more in force than it gave out.  ``allow(n, close=False)`` closes nothing:
what is open is lent on, and nothing is opened in the place of what goes.  ``terminate(how)`` does
not wait for what comes back: it ends what is more than allowed under its borrowers.

A budget is any object with ``join(share)``, which returns an object with ``ask()`` and ``stats()``;
it is handed in, and nothing here knows how it works.  ``fleet/_member.py`` has its side.
"""

from __future__ import annotations

from weakref import ref

from .. import _core
from .._runtime import scheduler
from . import _policy
from ._termination import terminate_lent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..stats import BudgetStats

__all__ = ["LoopsShare", "Share", "join", "more_wanted"]

INF = float("inf")


def join(kind: type[Share], whole: Any) -> Share | None:
    """What a pool has of its budget; None: it has no budget.  ``whole``: its manager.  Called when
    the pool is made, and again in a forked child, which has nothing of what its parent had."""
    return None if whole.options.budget is None else kind(whole)


class Share:
    """Of a pool with one core.  ``allowance`` is written by the budget's thread, under the lock
    under which slots are reserved."""

    def __init__(self, whole: Any) -> None:
        self.name: str = whole.name
        self.allowance = 0
        self.set_allowance(whole, 0)
        self._membership: Any = None
        self._whole = ref(whole, self._collected)
        self._membership = whole.options.budget.join(self)

    def _collected(self, _: object) -> None:
        if self._membership is not None:
            self._membership.ask()

    def ask(self) -> None:
        """Have the budget look.  Never blocks; in any thread, under any lock."""
        self._membership.ask()

    def stats(self) -> BudgetStats:
        """What the budget has seen last."""
        stats: BudgetStats = self._membership.stats()
        return stats

    @property
    def most_open(self) -> float:
        """So many resources may be open by it."""
        return self.allowance

    def is_wanted(self, core: _core.Core, more: bool) -> bool:
        """Whether one more permit is.  ``core``: of whoever asks; ``more``: it has a use for one
        more resource."""
        return more and self.is_short(core)

    # ---- of a shared pool whose leases take permits, see ``shared/_budget.py`` -------------------

    def why_refused(self, core: _core.Core, tries: bool) -> str | None:
        """The phase "budget" where callers wait for a permit for their lease, whatever is open.
        ``tries``: who is refused does not wait, and may come again."""
        return None

    def lease_returned(self) -> None:
        """A lease has come back of which somebody is to hear.  Never blocks; in any thread."""

    # ---- for the budget's thread ----------------------------------------------------------------

    def look(self) -> tuple[int, int] | None:
        """(How many are open, how many there is a use for); None: the pool is gone.  From here on
        whoever wants one more is heard again."""
        whole = self._whole()
        if whole is None:
            return None
        self.listen(whole)
        in_use = self.in_use(whole)
        if whole.core.closed:
            return (in_use, 0) if in_use else None
        return in_use, self.needed(whole)

    def allow(self, n: int, close: bool = True) -> int:
        """So many may be open from here on; how many are, those that are being made or closed
        included.  ``close``: what is more than that is to go."""
        whole = self._whole()
        if whole is None:
            return 0
        in_use = self.set_allowance(whole, n)
        if close and in_use > n:
            self.shed(whole)
        scheduler.call_soon(self.serve, whole)
        return in_use

    def terminate(self, how: Callable[[Any], object]) -> None:
        """End what is lent and more than allowed, once each, by ``how(resource)`` in a thread of
        the pool or on the loop of the resource.  It counts until its borrower gives it back."""
        scheduler.call_soon(self._terminate, how)  # behind what ``shed`` has left to it

    def _terminate(self, how: Callable[[Any], object]) -> None:
        whole = self._whole()
        if whole is not None:
            terminate_lent(self.parts(whole), self.in_use(whole) - self.allowance, how)

    # ---- what each kind of pool does in its own way ----------------------------------------------

    def is_short(self, core: _core.Core) -> bool:
        """Whether nothing may be opened for want of a permit, and for no other reason.  ``core``:
        of whoever asks."""
        return bool(core.at_allowance)

    def set_allowance(self, whole: Any, n: int) -> int:
        with whole.lock.hold():
            self.allowance = n
            return int(whole.core.set_allowance(n))

    def in_use(self, whole: Any) -> int:
        """Permits that are taken."""
        return int(whole.core.open)

    def parts(self, whole: Any) -> list[Any]:
        """The managers that have resources."""
        return [whole]

    def listen(self, whole: Any) -> None:
        whole.core.listen_for_demand()

    def needed(self, whole: Any) -> int:
        """How many resources there is a use for: in use, wanted, or to be kept."""
        counts, o = whole.counts(), whole.options
        busy = counts["open"] - counts["idle"]
        needed = max(busy + more_wanted(whole), counts["leased"] + o.min_idle, o.min_size)
        return min(needed, whole.maxsize) if whole.maxsize else int(needed)

    def shed(self, whole: Any) -> None:
        """Close what is more than allowed."""
        _core.end_surplus(whole.core, whole.closing.later)

    def serve(self, whole: Any) -> None:
        """On the scheduler's thread: the allowance has changed."""
        if not whole.core.closed:
            whole.creator.refill()
        whole.notify_changed()


class LoopsShare(Share):
    """Of a pool with an async factory, which has a core for each event loop."""

    def is_short(self, core: _core.Core) -> bool:
        whole = self._whole()
        return whole is not None and self.allowance <= self.in_use(whole) < (whole.maxsize or INF)

    def set_allowance(self, whole: Any, n: int) -> int:
        with whole.lock.hold():  # under which slots are given out
            self.allowance = n
            whole.limit_cores()
            return self.in_use(whole)

    def limit(self, parts: list[Any]) -> None:
        """Tell the cores how many each may open without asking.  Under the lock."""
        alone = len(parts) == 1
        for part in parts:
            part.core.set_allowance(self.allowance if alone else INF)

    def in_use(self, whole: Any) -> int:
        return int(whole.taken())

    def parts(self, whole: Any) -> list[Any]:
        parts: list[Any] = whole.everyone()
        return parts

    def listen(self, whole: Any) -> None:
        for shard in whole.everyone():
            shard.core.listen_for_demand()

    def needed(self, whole: Any) -> int:
        with whole.lock.hold():
            counts, o = whole.counts(), whole.options
            busy = whole.taken() - counts["idle"]
            wanted = sum(more_wanted(shard) for shard in whole.everyone())
        needed = max(busy + wanted, counts["leased"] + o.min_idle, o.min_size)
        return min(needed, whole.maxsize) if whole.maxsize else int(needed)

    def shed(self, whole: Any) -> None:
        whole.close_surplus(self.allowance)

    def serve(self, whole: Any) -> None:
        whole.start()


def more_wanted(manager: Any) -> int:
    """How many more resources callers and the background want than are being made for them."""
    creator = manager.creator
    goal = creator.goal(creator.background_demand)
    return _policy.attempts_wanted(goal, creator.manager.core.in_flight, INF)

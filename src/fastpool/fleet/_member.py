"""What passes between a pool and its budget, and what a budget keeps for each pool.

The pool's side is a ``Share`` (``pool/_budget.py``): the budget looks at it and sets its allowance.
The budget's side is a ``Budget``, which pools join.  A budget works in a thread of its own and
calls shares only there, holding no lock; pools call ``ask`` and ``stats``, which never wait.  A
``Fence`` is for a budget with members on other machines, where nobody sees that they have ended.

What keeps the sum: a ``Member`` has ``held`` permits.  The allowance is raised only after permits
were taken, and permits are given up only when the pool has fewer open than that: ``spare``.  So at
every moment, ``max(allowance, open) <= held``, and it is enough that the sum of ``held`` over all
members never passes the limit, whatever a budget uses to keep that.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..stats import BudgetStats

__all__ = ["Budget", "Fence", "Member", "Membership", "Share"]


class Share(Protocol):
    """What a pool shows to its budget."""

    name: str

    def look(self) -> tuple[int, int] | None:
        """(How many resources are open, how many there is a use for); None: the pool is gone."""
        ...

    def allow(self, n: int, close: bool = True) -> int:
        """So many may be open from here on; how many are.  ``close``: what is more than that is
        closed when it is idle; False: it is kept, but when it goes nothing is opened in its place.
        Never blocks, takes nothing that is lent."""
        ...

    def terminate(self, how: Callable[[Any], object]) -> None:
        """End what is lent and more than allowed, by ``how(resource)``, once each and while its
        borrower uses it.  It counts as open until it has come back.  Never blocks."""
        ...


class Membership(Protocol):
    """What a pool has of its budget."""

    def ask(self) -> None:
        """Have the budget look at the share soon.  Never blocks; safe in any thread, under any
        lock, in finalisers and signal handlers."""

    def stats(self) -> BudgetStats:
        """What the budget has seen last.  Never blocks."""
        ...


@runtime_checkable
class Budget(Protocol):
    """Permits that pools share: ``FastPool(..., budget=budget)``."""

    def join(self, share: Share) -> Membership:
        """Enter a pool, which has no permit yet.  Never blocks."""
        ...


class Fence(Protocol):
    """Ends what an expired member has open still: ``RedisBudget(..., fence=fence)``.

    Silence of a member is no proof that it has ended: it may be stopped, or cut off, with all its
    connections open.  So before its permits are used again a survivor calls ``fence(member)``, in a
    thread of its own, with no lock held.  ``member``: its id, which is ``budget.member`` in the
    process that it is of, and never used twice.  Returned: nothing that it opened is open any more.
    Raised: something may be, its permits are kept, and the call is made again.  Two survivors may
    call at once, and for a member that has been fenced already: that does no harm.
    """

    def __call__(self, member: str, /) -> None: ...


class Member:
    """The account of one pool.  Read and written in the budget's thread."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.held = 0  # permits, of which the engine knows
        self.allowance = 0  # what the pool was told last; at most ``held``
        self.closes = True  # and whether it closes what is more
        self.in_use = 0  # resources that were open when the pool was looked at last
        self.wanted = 0  # resources that it had a use for
        self.unused_since = 0.0  # when it began to hold more than it has a use for; 0: it does not

    def look(self) -> bool:
        """Ask the pool; False: it is gone, and its permits are spare."""
        seen = self.share.look()
        self.in_use, self.wanted = seen or (0, 0)
        if seen is None:
            self.allowance = 0
        elif self.closes and self.in_use > self.allowance:  # what has come back since may be closed
            self.in_use = self.share.allow(self.allowance)
        return seen is not None

    def grant(self, n: int) -> None:
        """``n`` more permits were taken for it."""
        self.held += n
        self.allow(self.held)

    def allow(self, n: int, close: bool = True) -> None:
        """Set the allowance of the pool, at most what is held; ``close``: see ``Share.allow``."""
        if n != self.allowance or close != self.closes:
            self.allowance, self.closes = n, close
            self.in_use = self.share.allow(n, close)

    def terminate(self, how: Callable[[Any], object]) -> None:
        """Have the pool end what is lent and more than allowed."""
        if self.is_over:
            self.share.terminate(how)

    @property
    def is_over(self) -> bool:
        """Whether more is open than allowed."""
        return self.in_use > self.allowance

    @property
    def spare(self) -> int:
        """Permits that may be given up."""
        return self.held - max(self.allowance, self.in_use)

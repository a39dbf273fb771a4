"""Permits for leases, divided among the event loops of a pool with an async factory.

Each loop has a core of its own, which gives leases without a look at the others.  So each gets a
part of the pool's allowance: by max-min fairness of what the loops want, and what nobody wants
evenly.  A core that wants more than it has says so, and then all is divided anew; while any loop
lacks permits all say what comes back.

A part is made smaller first, and what is not free yet is given to nobody else:
``sum(max(permits, leases))`` is never more than the allowance.  Where there are more leases than
that, since it was lowered, no part has any permit.
"""

from __future__ import annotations

from .. import _core
from .._runtime import scheduler
from ._budget import SlotsShare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LoopsSlotsShare", "divide"]


class LoopsSlotsShare(SlotsShare):
    """A permit for each lease, on whatever loop."""

    def parts(self, whole: Any) -> list[Any]:
        parts: list[Any] = whole.everyone()
        return parts

    def limit(self, parts: list[Any]) -> None:
        divide(parts, self.allowance)

    def serve(self, whole: Any) -> None:
        whole.start()

    def lease_returned(self) -> None:
        self.ask()
        whole = self._whole()
        if whole is not None:
            scheduler.call_soon(whole.start)

    def share_out(self) -> None:
        """Divide anew what there is, and ask for what is wanted beside it."""
        whole = self._whole()
        if whole is None:
            return
        with whole.lock.hold():
            self.limit(self.parts(whole))
        if self.is_wanted(whole.core, True):
            self.ask()


def divide(parts: list[Any], allowance: int) -> None:
    """Give each part its permits.  Under the lock of the pool."""
    if len(parts) == 1:
        parts[0].permits = allowance
        _core.set_permits(parts[0].core, allowance)
    elif _divide(parts, allowance):
        _divide(parts, allowance)  # some were served, and so others wait longest now


def _divide(parts: list[Any], allowance: int) -> bool:
    """Once; whether a part has got more."""
    for part in parts:  # before the look: what changes later is heard of
        _core.set_permits(part.core, part.permits, notify=True)
        part.core.listen_for_demand()
    parts = sorted(parts, key=lambda part: part.core.waits_since(0))  # who waits longest is first
    wants = [leases + callers for leases, _, callers in (_core.lease_counts(p.core) for p in parts)]
    shares = shares_of(allowance, wants)
    held = [_lower(part, share) for part, share in zip(parts, shares, strict=True)]
    if sum(held) > allowance:  # what one loop has not got back yet no other may lend
        held = [_lower(part, 0) for part in parts]
    free, raised = allowance - sum(held), False
    for part, share, has in zip(parts, shares, held, strict=True):
        permits = min(share, has + free)
        if free >= 0 and permits > part.permits:
            free -= max(0, permits - has)
            part.permits, raised = permits, True
            _core.set_permits(part.core, permits, notify=True)
    if all(part.permits >= want for part, want in zip(parts, wants, strict=True)):
        for part in parts:
            _core.set_permits(part.core, part.permits)
    return raised


def _lower(part: Any, most: int) -> int:
    """Leave a part no more than that; how many it has, or may have."""
    part.permits = min(part.permits, most)
    leases = _core.set_permits(part.core, part.permits, notify=True)
    return int(max(part.permits, leases))


def shares_of(allowance: int, wants: list[int]) -> list[int]:
    """Max-min shares: who wants little gets it, the others equal parts, and of what cannot be
    divided the first get one each.  What nobody wants is divided evenly."""
    shares, left = [0] * len(wants), allowance
    while left and (lacking := [i for i, want in enumerate(wants) if shares[i] < want]):
        level = left // len(lacking)
        for i in lacking if level else lacking[:left]:
            n = min(max(level, 1), wants[i] - shares[i])
            shares[i] += n
            left -= n
    each, more = divmod(left, max(1, len(wants)))
    return [share + each + (i < more) for i, share in enumerate(shares)]

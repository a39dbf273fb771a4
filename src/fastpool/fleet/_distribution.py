"""Divides the permits that a process has among its pools.

``divide`` lowers allowances, takes back what is spare, and grants what is free; permits for which
no pool has a use any more are left over once they were unused for ``linger``.  It keeps
``sum(held) <= permits``, unless pools hold more from before permits were lost: then they shrink,
and nothing is granted meanwhile; or, told not to ``close``, they keep what is open until it goes.
"""

from __future__ import annotations

from ._fairness import recalls, targets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._member import Member

__all__ = ["divide"]


def divide(
    members: list[Member], permits: int, now: float, linger: float, close: bool = True
) -> None:
    """Let pools have up to ``permits`` together, by max-min fairness; see the module."""
    standing = dict(enumerate((member.held, member.wanted) for member in members))
    due = recalls(permits, standing)
    over = sum(member.held for member in members) > permits
    for i, member in enumerate(members):
        keep = member.held - due.get(i, 0)
        useful = max(member.in_use, min(member.wanted, member.held))
        if keep >= useful and member.held > useful:
            keep = _linger(member, useful, keep, now, linger)
        else:
            member.unused_since = 0.0
        if over:  # permits are missing: what one pool has not closed yet no other may open
            keep = min(keep, max(member.allowance, member.in_use))
        member.allow(keep, close)
        give_back(member)
        standing[i] = (member.held, member.wanted)
    free = permits - sum(member.held for member in members)
    for i, member in sorted(enumerate(members), key=lambda entry: entry[1].held):
        if free <= 0 or member.held >= member.wanted:
            continue
        n = min(targets(permits, standing)[i] - member.held, free)
        if n > 0:
            free -= n
            standing[i] = (member.held + n, member.wanted)
            member.grant(n)


def give_back(member: Member) -> None:
    """Take from a pool what it has no resource for and may not open."""
    member.held -= max(0, member.spare)


def _linger(member: Member, useful: int, keep: int, now: float, linger: float) -> int:
    """Permits for which there is no resource and no use: kept for a while, so that one resource
    that is closed and another that is opened cost nothing."""
    if not member.unused_since:
        member.unused_since = now
    elif now - member.unused_since >= linger:
        member.unused_since = 0.0
        return useful
    return keep

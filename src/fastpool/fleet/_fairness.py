"""Max-min fairness: how many permits each member is to have, and who gives up how many for others.

Pure functions of what members have and want.  Each member computes them for itself from the same
table, and comes to the same result if it has not changed meanwhile; where it has, the next look
corrects it.  None of this keeps the sum under the limit: that is for permits to do.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["level", "recalls", "targets"]


def level(limit: int, wants: list[int]) -> int:
    """The most that anybody gets who wants more: who wants less gets that, and the others the same
    each.  What does not divide evenly, fewer permits than members, is left over."""
    left = limit
    wants = sorted(wants)
    for i, want in enumerate(wants):
        share = left // (len(wants) - i)
        if want > share:
            return share
        left -= want
    return limit


def targets(limit: int, members: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """How many permits each is to have.  ``members``: what each has, and what it wants.

    Up to the level; of what is left over one more each, for those who have most already, so that
    none has to move.  The sum is at most the limit, so nobody's target is at another's expense.
    """
    most = level(limit, [want for _, want in members.values()])
    found = {key: min(want, most) for key, (_, want) in members.items()}
    over = limit - sum(found.values())
    greedy = [key for key, (_, want) in members.items() if want > most]
    for key in sorted(greedy, key=lambda key: (-members[key][0], key))[:over]:
        found[key] += 1
    return found


def recalls(limit: int, members: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """How many permits each should give up: as many as others lack, or are in force beyond the
    limit, and no more; first from those who have most beyond their target."""
    if sum([have if have > want else want for have, want in members.values()]) <= limit:
        return {}  # there are enough for all
    due = targets(limit, members)
    lacking = sum(max(0, due[key] - have) for key, (have, _) in members.items())
    lacking -= limit - sum(have for have, _ in members.values())
    found: dict[int, int] = {}
    for key in sorted(members, key=lambda key: (due[key] - members[key][0], key)):
        n = min(members[key][0] - due[key], lacking)
        if n > 0:
            found[key] = n
            lacking -= n
    return found

"""Max-min fairness: who may have how many permits, and who gives up how many for others.

Pure functions of what members have and want.  Each member computes them for itself from the same
table, and comes to the same result if it has not changed meanwhile; where it has, the next look
corrects it.  None of this keeps the sum under the limit: that is for permits to do.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from typing import TypeVar

    K = TypeVar("K", bound=Hashable)

__all__ = ["allowed", "level", "recalls"]


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


def allowed(limit: int, members: Mapping[K, tuple[int, int]], me: K) -> int:
    """How many permits ``me`` should have at most.  ``members``: what each has, and what it wants.

    Up to the level; one more of what is left over, if nobody is below the level that wants more.
    """
    have, want = members[me]
    most = level(limit, [want for _, want in members.values()])
    if want <= most:
        return want
    others_lack = any(h < min(w, most) for k, (h, w) in members.items() if k != me)
    in_force = sum(h for h, _ in members.values())
    odd = have > most or (in_force < limit and have >= most)
    return most + 1 if odd and not others_lack else most


def recalls(limit: int, members: Mapping[K, tuple[int, int]]) -> dict[K, int]:
    """How many permits each should give up: as many as are lacking to those below the level, or are
    in force beyond the limit, and no more; first from those who have most beyond what they are
    entitled to."""
    most = level(limit, [want for _, want in members.values()])
    lacking = sum(max(0, min(want, most) - have) for have, want in members.values())
    lacking -= limit - sum(have for have, _ in members.values())
    excess = [(have - min(want, most), key) for key, (have, want) in members.items()]
    found: dict[K, int] = {}
    for over, key in sorted(excess, key=lambda entry: (-entry[0], str(entry[1]))):
        n = min(over, lacking)
        if n > 0:
            found[key] = n
            lacking -= n
    return found

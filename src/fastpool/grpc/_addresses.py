"""A target of several addresses: which one a connection is to try first.

grpc's pick_first goes through the addresses in their order, so every connection would end at the
first that answers. Here each has the list begin elsewhere: where fewest connections of the channel
begin so far, and the first of a channel at random. The others follow, so that a connection whose
server goes away finds another, as ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import randrange

LISTS = ("ipv4", "ipv6", "unix")  # schemes of targets that may name several


class Addresses:
    """Of one target. `several` is False where grpc sees to it, or there is only one."""

    def __init__(self, target: str, spread: bool = True) -> None:
        scheme, colon, rest = target.partition(":")
        named = rest.split(",") if colon and scheme in LISTS else []
        self._scheme = scheme
        self._all = [each for each in named if each] if spread else []
        self.several = len(self._all) > 1
        self._next = randrange(len(self._all)) if self.several else 0

    def pick(self, taken: Iterable[str | None]) -> str | None:
        """The one to begin with, where the connections that there are begin with those; None: the
        target as it is."""
        if not self.several:
            return None
        counts = Counter(taken)
        start, self._next = self._next, (self._next + 1) % len(self._all)
        return min(self._all[start:] + self._all[:start], key=lambda each: counts[each])

    def free(self, taken: Iterable[str | None]) -> str | None:
        """One with which none of those begins."""
        there = {*taken}
        return next((each for each in self._all if each not in there), None)

    def target(self, first: str) -> str:
        """The target with this one in front."""
        start = self._all.index(first)
        return f"{self._scheme}:{','.join(self._all[start:] + self._all[:start])}"

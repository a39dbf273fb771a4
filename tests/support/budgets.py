"""A budget that does what the test says, for the pool's side of a budget."""

from __future__ import annotations

import time
from typing import Any

from fastpool.stats import BudgetStats

from .helpers import PATIENCE, eventually


class Flag:
    """As ``threading.Event``, but one that a finaliser may set inside of ``set``: a pool that is
    collected there asks its budget too."""

    def __init__(self) -> None:
        self.up = False

    def set(self) -> None:
        self.up = True

    def clear(self) -> None:
        self.up = False

    def is_set(self) -> bool:
        return self.up

    def wait(self, within: float = PATIENCE) -> bool:
        end = time.monotonic() + within
        while not self.up and time.monotonic() < end:
            time.sleep(0.001)
        return self.up


class Membership:
    """What a pool has of it; ``share`` is the pool's side."""

    def __init__(self, share: Any) -> None:
        self.share = share
        self.asked = Flag()
        self.allowance = 0

    def ask(self) -> None:
        self.asked.set()

    def stats(self) -> BudgetStats:
        return BudgetStats("by hand", 60, 60, 9, self.allowance, 7, 5)

    def allow(self, n: int, close: bool = True) -> int:
        """As the budget's thread."""
        self.allowance = n
        return int(self.share.allow(n, close))

    def terminate(self, how: Any) -> None:
        """As the budget's thread: what is lent and more than allowed ends."""
        self.share.terminate(how)

    def wants(self, n: int) -> bool:
        """Whether the pool has a use for so many, as it says when it is looked at."""
        seen = self.share.look()
        return seen is not None and seen[1] == n

    def has_open(self, n: int) -> bool:
        seen = self.share.look()
        return (0 if seen is None else seen[0]) == n


class ScriptedBudget:
    """``join`` keeps who has joined; a test has its one pool by ``member``."""

    def __init__(self) -> None:
        self.joined: list[Membership] = []

    def join(self, share: Any) -> Membership:
        self.joined.append(Membership(share))
        return self.joined[-1]

    @property
    def member(self) -> Membership:
        return self.joined[-1]

    def grants(self, n: int) -> None:
        """Wait until the pool wants so many, and allow them."""
        eventually(lambda: self.member.wants(n))
        self.member.allow(n)

"""What one member has of an engine that others share, and until when.  Knows no network, no clock.

The engine counts what each member may use; a member never uses more than that:

- Permits are given up first and reported afterwards, by a request that says how many are kept.  So
  a request that is lost, late or doubled harms nobody; by its number the engine skips what is old.
- The lease is counted from before the request was sent, so it ends here before it ends there.
- A notification counts only if it builds on the latest request: one that was sent before permits
  were given up does not give them back.

``permits`` outlive the lease here: the engine may have been silent, and has then not given them to
anybody else.  What they are good for meanwhile is for the owner to say (``on_lapse``).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Claim", "LateReply", "NoLimit"]


class LateReply(Exception):
    """The engine has a later request of this member: what it said to this one is not known."""


class NoLimit(Exception):
    """The engine knows no limit of this budget, and the member gave none."""


class Claim:
    """Read and written in the budget's thread.  Times are seconds of any clock that never stops."""

    def __init__(self, floor: int = 0) -> None:
        self.floor = floor  # permits that the member has in any case
        self.permits = 0
        self.until = float("-inf")  # when the lease ends
        self.number = 0  # of the latest request
        self.version = 0  # of what the engine said last
        self.due = -1  # so many may be kept, for others lack some; -1: all
        self.reported = 0  # how many the latest request wanted
        self.learning = False  # the engine has started anew, and gives out nothing yet
        self.lack = False  # somebody has fewer permits than it wants
        self.lapses = 0  # how often the engine had forgotten this member
        self.limit = self.in_force = self.members = self.share = 0
        self.ttl = self.grace = 0.0  # as the engine says
        self.again = float("inf")  # seconds after which the engine may have something for us

    def is_valid(self, now: float) -> bool:
        return now < self.until

    @property
    def usable(self) -> int:
        """How many permits there are for pools while the lease goes on.  What was recalled before
        permits were given up may be more than is left."""
        permits = self.permits if self.due < 0 else min(self.permits, self.due)
        return max(permits, self.floor)

    def request(self, keep: int, wanted: int) -> int:
        """Give up all permits but ``keep``; the number under which that is reported."""
        self.permits = min(self.permits, keep)
        self.number += 1
        self.reported = wanted
        return self.number

    def answered(self, sent: float, now: float, reply: Sequence[int]) -> None:
        """Take in what the engine said to the latest request, which was sent at ``sent``.
        LateReply, NoLimit: nothing that counts.

        An engine that learns believes what was true when the request was sent.  A lease that has
        ended since is not confirmed: the request may have come so late that the permits had gone to
        others before the engine lost its data."""
        if reply[0] == -2:
            raise NoLimit
        if reply[0] < 0:
            raise LateReply
        self.permits, self.version, self.due = reply[0], reply[1], reply[2]
        self.learning = bool(reply[3])
        self.lapses += reply[4] == 1
        self.limit, self.in_force, self.members, self.share = reply[5:9]
        self.ttl, self.grace, self.again = reply[9] / 1e3, reply[10] / 1e3, reply[11] / 1e3
        self.lack = bool(reply[12])
        believed = not self.learning or self.is_valid(now)
        if reply[4] != 2 and believed:  # else it is counted, and confirmed later
            self.until = sent + self.ttl

    def notified(self, number: int, version: int, permits: int, due: int) -> bool:
        """Take in a notification; False: it says nothing new."""
        if number != self.number or version <= self.version:
            return False
        self.permits, self.version, self.due = permits, version, due
        return True

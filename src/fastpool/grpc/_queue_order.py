"""By deadline: the queue's order in which the call goes first that has least time left.

A call without a deadline stands as if it had ten seconds, so that those in a hurry keep it away for
no longer. What cannot make it is not sent: a unary call is refused when it has less time left than
the calls of its method take at the least. The slot goes to one that can, and the server is spared
an answer that nobody waits for.
"""

from __future__ import annotations

import time

import grpc

Refusal = tuple[grpc.StatusCode, str]

ORDERS = ("arrival", "deadline")
UNHURRIED = 10.0  # seconds; the core's FP_UNHURRIED
SAMPLE = 20  # calls of which the shortest tenth is looked at
KNOWN_FOR = 5.0  # seconds for which that is taken to be true


class LeastTime:
    """What the calls of one method that went well take at the least: the second shortest of 20,
    taken anew after each 20. Thread-safe; threads that note at once may lose a measurement.

    It is forgotten in time: what is not sent is not measured, so a method that was slow once could
    never be seen to be fast again."""

    __slots__ = ("_recent", "_until", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0  # not known yet: none is refused
        self._until = 0.0
        self._recent: list[float] = []

    def note(self, seconds: float) -> None:
        """A call went well and took so long."""
        recent = self._recent
        recent.append(seconds)
        if len(recent) >= SAMPLE:
            self._recent = []
            self.learn(sorted(recent)[len(recent) // 10])

    def learn(self, seconds: float) -> None:
        """So much it is, for the next few seconds."""
        self._until = time.monotonic() + KNOWN_FOR
        self.seconds = seconds

    def is_more_than(self, left: float) -> bool:
        """Whether a call with so much time left cannot make it, as far as is known."""
        return left < self.seconds and time.monotonic() < self._until


def least_time(order: str, kind: str) -> LeastTime | None:
    """What is kept of a method of this kind; None: its calls are not measured."""
    return LeastTime() if order == "deadline" and kind == "unary_unary" else None


def cannot_make_it(target: str, left: float, least: LeastTime) -> Refusal | None:
    """The code and details for a call with so much time left; None: it may make it."""
    if not least.is_more_than(left):
        return None
    return (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        f"Deadline Exceeded in the queue to {target}: {max(0.0, left):.3f} s were left, and such"
        f" calls take {least.seconds:.3f} s at the least, so it was not sent",
    )

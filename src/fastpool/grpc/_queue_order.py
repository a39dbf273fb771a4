"""By deadline: the queue's order in which the call goes first that has least time left.

A call without a deadline stands as if it had ten seconds, so that those in a hurry keep it away for
no longer. What cannot make it is not sent: a unary call is refused when it has less time left than
the calls of its method take at the least. The slot goes to one that can, and the server is spared
an answer that nobody waits for.
"""

from __future__ import annotations

import grpc

Refusal = tuple[grpc.StatusCode, str]

ORDERS = ("arrival", "deadline")
UNHURRIED = 10.0  # seconds; the core's FP_UNHURRIED
SAMPLE = 20  # calls of which the shortest tenth is looked at


class LeastTime:
    """What the calls of one method that went well take at the least: the second shortest of 20,
    taken anew after each 20. Thread-safe; threads that note at once may lose a measurement."""

    __slots__ = ("_recent", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0  # not known yet: none is refused
        self._recent: list[float] = []

    def note(self, seconds: float) -> None:
        """A call went well and took so long."""
        recent = self._recent
        recent.append(seconds)
        if len(recent) >= SAMPLE:
            self._recent = []
            self.seconds = sorted(recent)[len(recent) // 10]


def least_time(order: str, kind: str) -> LeastTime | None:
    """What is kept of a method of this kind; None: its calls are not measured."""
    return LeastTime() if order == "deadline" and kind == "unary_unary" else None


def cannot_make_it(target: str, left: float, least: LeastTime) -> Refusal | None:
    """The code and details for a call with so much time left; None: it may make it."""
    if left >= least.seconds:
        return None
    return (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        f"Deadline Exceeded in the queue to {target}: {max(0.0, left):.3f} s were left, and such"
        f" calls take {least.seconds:.3f} s at the least, so it was not sent",
    )

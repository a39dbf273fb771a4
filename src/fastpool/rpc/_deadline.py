"""When a call must be over, and how much of that time is left."""

from __future__ import annotations

import time

from ..calls import remaining

__all__ = ["Deadline", "seconds"]


def seconds(value: float | None, what: str) -> float | None:
    """``value`` if it is a length of time in seconds, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number of seconds or None, not {value!r}")
    if not value > 0:
        raise ValueError(f"{what} must be more than 0 s, not {value!r}")
    return None if value == float("inf") else float(value)


class Deadline:
    """``timeout`` seconds from now, or sooner where a ``fastpool.calls.budget`` ends sooner."""

    __slots__ = ("at", "seconds")

    def __init__(self, timeout: float | None) -> None:
        left = remaining()
        if left is not None and (timeout is None or left < timeout):
            timeout = left
        self.seconds = timeout
        self.at = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Seconds, at least 0; None: no end."""
        return None if self.at is None else max(0.0, self.at - time.monotonic())

    def missed(self, who: str) -> TimeoutError:
        """What is raised when it has passed."""
        return TimeoutError(f"{who}: no answer within {self.seconds:.3g} s")

"""The tries of one request for a connection whose checks fail."""

from __future__ import annotations

from time import monotonic
from typing import Any

from psycopg_pool.base import AttemptWithBackoff

__all__ = ["Tries"]


class Tries:
    """How long they go on, and how far they are apart: the second is at once, then after a second,
    two, four, as in the host's pool."""

    def __init__(self, seconds: float) -> None:
        self.deadline = monotonic() + seconds
        self.attempt: Any = None

    def left(self) -> float:
        """Seconds; 0 when the time is over."""
        return max(0.0, self.deadline - monotonic())

    def pause(self) -> float:
        """Seconds before the next one, or before the time is over."""
        if self.attempt is None:
            self.attempt = AttemptWithBackoff(timeout=self.left())
        else:
            self.attempt.update_delay(monotonic())
        return float(self.attempt.delay)

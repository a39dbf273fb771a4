"""What a breaker counts: the calls of the last seconds, in a window that slides in steps."""

from __future__ import annotations

from collections import deque

__all__ = ["Window"]

BUCKETS = 10


class Window:
    """The sums of the last ten steps. It has no lock: the breaker's is held around each call.

    A finaliser may use the breaker in the middle of a method, so each step of one is whole before
    the next begins: the worst is to count in a neighbouring bucket.
    """

    __slots__ = ("_bucket", "_buckets", "_ends", "_step", "calls", "failed", "slow", "streak")

    def __init__(self, seconds: float, now: float) -> None:
        self._step = seconds / BUCKETS
        self.clear(now)

    def clear(self, now: float) -> None:
        """Forgets all."""
        self.calls = self.failed = self.slow = 0
        self.streak = 0  # failures since the last call that was none, whenever they were
        self._bucket = [0, 0, 0]  # calls, failures, slow ones
        self._buckets = deque([self._bucket])
        self._ends = now + self._step  # of the last bucket

    def roll(self, now: float) -> None:
        """Begins the bucket of this moment, and lets those go that are out of the window."""
        if now < self._ends:
            return
        steps = int((now - self._ends) / self._step) + 1
        self._ends += steps * self._step
        for _ in range(min(steps, BUCKETS)):
            self._bucket = [0, 0, 0]
            self._buckets.append(self._bucket)
        while len(self._buckets) > BUCKETS:
            calls, failed, slow = self._buckets.popleft()
            self.calls -= calls
            self.failed -= failed
            self.slow -= slow

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """A call that is over."""
        if now >= self._ends:
            self.roll(now)
        self._bucket[0] += 1
        self.calls += 1
        if slow:
            self._bucket[2] += 1
            self.slow += 1
        if failed:
            self._bucket[1] += 1
            self.failed += 1
            self.streak += 1
        else:
            self.streak = 0

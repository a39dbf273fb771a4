"""A limit that finds its own size: for servers that do not say how many calls they take at once."""

from __future__ import annotations

from collections.abc import Collection

from ._classify import CHANNEL_CODES, TRANSPORT, Classifying, Failing, Failures, cancelled
from ._clock import seconds
from ._limit import Limit, whole

__all__ = ["AdaptiveLimit"]


SLOWLY = 0.1  # the pace after it has shrunk


class AdaptiveLimit(Limit):
    """A Limit whose size follows what the server takes: additive increase, multiplicative decrease,
    as TCP finds the rate of a network.

    It begins with ``initial`` calls at once.  While at least half of the size is in use it grows,
    up to ``most``: by one when as many calls have gone well as the size is, and after it has shrunk
    only when ten times as many have, then five, and so on, since each time that it is too big costs
    a call.  A call that the server refuses, or that breaks or expires, makes it shrink to
    ``decrease`` times what it was, down to ``least``; and so does one that took more than
    ``slow_after`` seconds, whatever came of it (None: however long).  It shrinks once for all calls
    that were sent before: they tell of the same overload.  A stream counts with its first message.

    ``failures``, ``codes`` and ``classify`` say which exceptions mean overload, as those of a
    CircuitBreaker.  What this side refuses and what is cancelled says nothing; any other exception
    is an answer.  ``max_waiting`` as of Limit.  Share one object among all that calls one server.
    """

    __module__ = "fastpool.calls"

    adapts = True

    def __init__(
        self,
        initial: int = 20,
        *,
        least: int = 1,
        most: int = 1000,
        slow_after: float | None = None,
        decrease: float = 0.9,
        failures: Failing = TRANSPORT,
        codes: Collection[str] = CHANNEL_CODES,
        classify: Classifying | None = None,
        max_waiting: int | None = None,
    ) -> None:
        whole("least", least, 1)
        whole("most", most, least)
        whole("initial", initial, least)
        if initial > most:
            raise ValueError(f"initial must be at most {most}, which is `most`, not {initial!r}")
        if not (isinstance(decrease, (int, float)) and 0 < decrease < 1):
            raise ValueError(f"decrease must be between 0 and 1, not {decrease!r}")
        super().__init__(initial, max_waiting=max_waiting)
        self._least, self._most = least, most
        self._slow_after = seconds(slow_after, "slow_after")
        self._decrease = float(decrease)
        self._overload = Failures("failures", failures, codes, classify)
        # All three are written under the lock.
        self._exact = float(initial)  # the size is the whole part
        self._shrunk_at = float("-inf")  # by the clock of the calls
        self._pace = 1.0  # growth while as many calls go well as the size is

    def __repr__(self) -> str:
        return f"<AdaptiveLimit: {self._units.in_use} of {self.size} in use>"

    @property
    def least(self) -> int:
        """The smallest size."""
        return self._least

    @property
    def most(self) -> int:
        """The biggest size."""
        return self._most

    def answered(self, sent: float, now: float) -> None:
        if self._slow_after is not None and now - sent > self._slow_after:
            self._lock.run(self._shrink, sent, now)
        elif 2 * (self._units.in_use + 1) >= self.size:  # its own permit has been given back
            self._lock.run(self._grow)

    def failed(self, error: BaseException, sent: float, now: float) -> None:
        if cancelled(error):
            return
        if self._overload.match(error):
            self._lock.run(self._shrink, sent, now)
        else:
            self.answered(sent, now)

    # ---- under the lock -------------------------------------------------------------------------

    def _grow(self) -> None:
        if self._become(min(self._most, self._exact + self._pace / self._exact)):
            self._pace = min(1.0, 2 * self._pace)

    def _shrink(self, sent: float, now: float) -> None:
        if sent >= self._shrunk_at:
            self._shrunk_at, self._pace = now, SLOWLY
            self._become(max(self._least, self._exact * self._decrease))

    def _become(self, exact: float) -> bool:
        """Whether it is another size."""
        self._exact = exact
        changed = int(exact) != self._units.size
        if changed:
            self._units.resize(int(exact))
        return changed

"""Connections that do worse than their siblings, found as Envoy finds hosts that do.

One that fails five calls in a row while others answer, or whose rate of success is far below the
mean of all, gets no calls for 30 s, and longer each time. How many calls ended on a connection is
what the pool counts anyway, so those that go well cost nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from statistics import fmean, pstdev
from typing import Any

IN_A_ROW = 5
FIRST_TIME, LONGEST = 30.0, 300.0  # seconds without calls
INTERVAL = 10.0  # seconds between two looks at rates
LEAST_HOSTS, LEAST_CALLS = 5, 100  # that had so many calls since the look before
DEVIATIONS, LEAST_DISTANCE = 1.9, 0.1  # below the mean


class Record:
    """What is remembered of one connection."""

    __slots__ = ("counted", "failed", "good", "others", "out_until", "row", "times")

    def __init__(self) -> None:
        self.failed = 0
        self.good = 0  # calls that did not fail, when one failed last
        self.row = 0
        self.others = 0  # calls that did not fail on the siblings, when the row began
        self.counted = (0, 0)  # ended and failed, at the last look
        self.times = 0
        self.out_until = 0.0


class Outliers:
    """Of one channel. `ended(connection)`: how many calls have ended on it, None when it is gone;
    `eject(connection, seconds)` gives it no calls for so long.

    Counts without a lock: a failure that is missed makes a row longer by one.
    """

    def __init__(
        self,
        all_of: Callable[[], Iterable[Any]],
        ended: Callable[[Any], int | None],
        eject: Callable[[Any, float], object],
    ) -> None:
        self._all_of = all_of
        self._ended = ended
        self._eject = eject
        self._look_at = 0.0

    def failed(self, connection: Any) -> None:
        """A call on it is about to end, and says that the connection or its backend is ill."""
        record: Record = connection.record
        good = (self._ended(connection) or 0) - record.failed
        if good > record.good or record.row == 0:
            record.row = 0
            record.others = self._good_of_others(connection)
        record.good = max(good, record.good)
        record.row += 1
        record.failed += 1
        if record.row >= IN_A_ROW and self._good_of_others(connection) > record.others:
            self._put_out(connection)
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + INTERVAL
            self._compare()

    def _good_of_others(self, connection: Any) -> int:
        others = [each for each in self._all_of() if each is not connection]
        return sum((self._ended(each) or 0) - each.record.failed for each in others)

    def _compare(self) -> None:
        rates = {}
        for connection in self._all_of():
            record, ended = connection.record, self._ended(connection) or 0
            before, failures = record.counted
            record.counted = (ended, record.failed)
            if ended - before >= LEAST_CALLS:
                rates[connection] = 1 - (record.failed - failures) / (ended - before)
        if len(rates) >= LEAST_HOSTS:
            distance = max(DEVIATIONS * pstdev(rates.values()), LEAST_DISTANCE)
            least = fmean(rates.values()) - distance
            for connection, rate in rates.items():
                if rate < least:
                    self._put_out(connection)

    def _put_out(self, connection: Any) -> None:
        record, now = connection.record, time.monotonic()
        if now < record.out_until:
            return
        if now > record.out_until + LONGEST:  # well for long
            record.times = 0
        record.times += 1
        record.row = 0
        seconds = min(record.times * FIRST_TIME, LONGEST)
        record.out_until = now + seconds
        self._eject(connection, seconds)

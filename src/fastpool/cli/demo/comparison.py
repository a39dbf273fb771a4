"""One comparison: several ways to call one server, in turn, round after round."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from ..tables import PlainView, Row
from .accounting import Accounts
from .clients import Way
from .load import Figures, Load, clock
from .servers import Server


class Pace(NamedTuple):
    """How a comparison is paced. Each turn sets its way up afresh, warms it up, and measures it."""

    threads: int
    rounds: int
    warm: float
    measured: float


class Run(NamedTuple):
    """What one turn of one way gave. Counts are the server's own."""

    figures: Figures
    errors: Counter[str]
    opened: int
    """Connections accepted, those of the warm-up included."""
    peak: int | None
    """The most that were open at once; None where the server cannot tell."""
    left: int | None
    """Connections still open when the way had closed everything."""
    accounts: Accounts | None
    """The accounts of pool and server; None for a way without a FastPool."""
    stats: str
    """What the way says of itself, in one line."""


class Result(NamedTuple):
    """All turns of one way."""

    way: Way
    runs: list[Run]

    def _median(self, value: Callable[[Run], float]) -> float:
        known = [x for x in map(value, self.runs) if x == x]  # NaN: a turn without calls
        return median(known) if known else float("nan")

    @property
    def rate(self) -> float:
        return self._median(lambda run: run.figures.rate)

    @property
    def evenness(self) -> float:
        return self._median(lambda run: run.figures.evenness)

    @property
    def p50(self) -> float:
        return self._median(lambda run: run.figures.p50)

    @property
    def opened(self) -> int:
        return round(self._median(lambda run: run.opened))

    @property
    def errors(self) -> Counter[str]:
        return sum((run.errors for run in self.runs), Counter())

    def row(self) -> Row:
        """Medians over the turns; the errors of all of them."""
        if not self.runs:
            return Row(self.way.label)
        return Row(
            self.way.label,
            self.rate,
            self.p50,
            self._median(lambda run: run.figures.p99),
            self.opened,
            self.errors.total(),
            self.evenness,
        )


def compare(
    title: str, ways: Sequence[Way], server: Server, pace: Pace, view: PlainView
) -> list[Result]:
    """Let each way have its turn in every round, each round beginning with another one, and show
    the table. Results are in the order of `ways`."""
    results = [Result(way, []) for way in ways]
    view.begin(title, [way.label for way in ways])
    try:
        for remaining in reversed(range(pace.rounds)):
            first = remaining % len(ways)
            for index in [*range(first, len(ways)), *range(first)]:
                result = results[index]

                def progress(rate: float, index: int = index, result: Result = result) -> None:
                    view.progress(index, result.row()._replace(rate=rate))

                result.runs.append(_run(result.way, server, pace, progress))
                if remaining:
                    view.progress(index, result.row())
                else:
                    view.complete(index, result.row())
    finally:
        view.end()
    return results


def _run(way: Way, server: Server, pace: Pace, progress: Callable[[float], None]) -> Run:
    before = server.mark()
    with way.open(server) as running:
        with Load(running.call, pace.threads) as load:
            time.sleep(pace.warm)
            begin, calls = clock(), load.calls()
            while (left := begin + pace.measured - clock()) > 0:
                time.sleep(min(left, 0.1))
                progress((load.calls() - calls) / (clock() - begin))
            end = clock()
        pool, stats = running.pool, running.stats() if running.stats else ""
        idle = pool.stats() if pool else None
        quiet = server.wait_until(lambda now: idle is None or now.open == idle.open)
    after = server.wait_until(lambda now: now.open in (0, None))
    return Run(
        figures=load.between(begin, end),
        errors=load.errors(),
        opened=after.accepted - before.accepted,
        peak=after.peak,
        left=after.open,
        accounts=Accounts(idle, quiet.open, pool.stats(), after.open) if pool and idle else None,
        stats=stats,
    )

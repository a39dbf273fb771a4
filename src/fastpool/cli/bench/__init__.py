"""`fastpool bench`: what a turn costs, ours and others', and what it is like to wait.

Every figure is from this run on this machine; the queues are the standard library's, the pools
those that happen to be installed. The repository's bench/ folder measures more, and longer.
"""

from __future__ import annotations

import os
import platform
import queue
import statistics
import sys
import textwrap
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from ... import __version__
from ..tables import WIDTH
from .competitors import COMPETITORS, NotRun, filled, pool_use, queue_use, warm
from .timing import CLOCK, Borrower, Crowd, Statement, Times, Update, run_crowds, time_statements

SIZE = 10  # of every pool in the first table
THREADS, RESOURCES, HOLD = 8, 2, 0.001  # of the second, which is run with HOLD and with 0
PAIR = "pool.put(pool.get())"
LEASE = "with pool.lease(): pass"
QUEUES: dict[str, Callable[[int], Any]] = {
    "queue.LifoQueue": queue.LifoQueue,
    "queue.Queue": queue.Queue,
    "queue.SimpleQueue": lambda size: queue.SimpleQueue(),  # it has no limit
}
_EVEN = 0.995  # below it a ratio is printed as less than 1, and is lost
_OURS = "FastPool with a factory"
_NO_POOL = "no pool, only threads"


class Comparison(NamedTuple):
    """One comparison: what is theirs and what is ours, by the names of their statements; or why
    there is none."""

    label: str
    theirs: str
    ours: str
    missing: str = ""


def run(seconds: float, say: Callable[[str], None], update: Update) -> None:
    """Both tables, in about `seconds`: `say` gets the lines, `update` the progress."""
    say(_conditions())
    with ExitStack() as stack:
        say("")
        lost = _one_thread(0.45 * seconds, stack, say, update)
    with ExitStack() as stack:
        say("")
        lost += _crowds(0.5 * seconds, stack, say, update)
    say("")
    text = "; ".join(lost) if lost else "nothing in this run"
    say(textwrap.fill(f"We lose: {text}.", WIDTH, subsequent_indent="  "))
    say("theirs/ours: above 1 fastpool is faster, below 1 slower; medians of many rounds.")
    say("All over dummies: of a real query, 100,000 ns or more, a pool is a small part.")


def _conditions() -> str:
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return (
        f"fastpool {__version__}, {platform.python_implementation()} {platform.python_version()}"
        f"{'' if gil else ' free-threaded'}, {platform.system()} {platform.machine()},"
        f" {os.cpu_count()} CPUs"
    )


# -- one thread ------------------------------------------------------------------------------------


def _one_thread(
    seconds: float, stack: ExitStack, say: Callable[[str], None], update: Update
) -> list[str]:
    """The first table; the comparisons in it that we lose, in words."""
    pool = stack.enter_context(pool_use(SIZE))
    statements = {
        "lifo": Statement(PAIR, queue_use(SIZE, "lifo")),
        "fifo": Statement(PAIR, queue_use(SIZE, "fifo")),
        "pool": Statement(PAIR, pool),
        "lease": Statement(LEASE, pool),
    }
    for name, build in QUEUES.items():
        statements[name] = Statement(PAIR, filled(build(SIZE), SIZE))
    same_order = {name: "lifo" if "Lifo" in name else "fifo" for name in QUEUES}
    leases = f"{LEASE}, ours; theirs is what their users write"
    groups = {
        f"{PAIR}, ours as a queue, in the same order": [
            Comparison(name, name, same_order[name]) for name in QUEUES
        ],
        f"{PAIR}, ours with a factory": [Comparison(name, name, "pool") for name in QUEUES],
        leases: [],
    }
    for competitor in COMPETITORS:
        try:
            theirs = warm(competitor, SIZE)
        except NotRun as reason:
            comparison = Comparison(competitor.name, "", "lease", str(reason))
        else:
            stack.callback(competitor.close, theirs)
            statements[competitor.name] = Statement(competitor.round_trip, theirs)
            comparison = Comparison(
                f"{competitor.name}: {competitor.round_trip}", competitor.name, "lease"
            )
        groups[leases].append(comparison)
    times = time_statements(statements, seconds, update)
    say(_columns(f"One thread, {CLOCK} of a turn", "theirs ns", "ours ns", "theirs/ours"))
    for title, comparisons in groups.items():
        say(title)
        for comparison in comparisons:
            say(_compared(comparison, times))
    compared = [
        comparison
        for comparisons in groups.values()
        for comparison in comparisons
        if not comparison.missing
    ]
    return [
        f"one thread, {comparison.theirs} / {comparison.ours} {_ratio(ratio)}"
        for comparison in compared
        if (ratio := times[comparison.theirs].over(times[comparison.ours])) < _EVEN
    ]


def _compared(comparison: Comparison, times: dict[str, Times]) -> str:
    if comparison.missing:
        return f"  {comparison.label}: not run: {comparison.missing}"[:WIDTH]
    theirs, ours = times[comparison.theirs], times[comparison.ours]
    return _columns(
        "  " + comparison.label,
        _nanoseconds(theirs.median),
        _nanoseconds(ours.median),
        _ratio(theirs.over(ours)),
    )


def _columns(label: str, *cells: str) -> str:
    return f"{label:<48}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, (10, 10, 12), strict=True)
    )


def _nanoseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(value: float) -> str:
    if value != value:  # NaN
        return "too noisy"
    return f"{value:.{2 if value < 10 else 0}f}x"


# -- many threads ----------------------------------------------------------------------------------


def _crowds(
    seconds: float, stack: ExitStack, say: Callable[[str], None], update: Update
) -> list[str]:
    """The second table; where our default loses, in words."""
    fair = stack.enter_context(pool_use(RESOURCES))
    barging = stack.enter_context(pool_use(RESOURCES, "throughput"))
    borrowers = {
        _OURS: Borrower(fair.get, fair.put),
        '  fairness="throughput"': Borrower(barging.get, barging.put),
    }
    for name, build in QUEUES.items():
        theirs = filled(build(RESOURCES), RESOURCES)
        borrowers[name] = Borrower(theirs.get, theirs.put)
    for competitor in COMPETITORS:
        try:
            theirs = warm(competitor, RESOURCES)
        except NotRun:
            continue  # the first table has said so
        stack.callback(competitor.close, theirs)
        borrowers[competitor.name] = Borrower(competitor.take(theirs), competitor.give(theirs))
    held = run_crowds(borrowers, THREADS, HOLD, seconds / 2, update)
    alone = {**borrowers, _NO_POOL: Borrower(object, id)}
    at_once = run_crowds(alone, THREADS, 0.0, seconds / 2, update)
    hold = f"held for {HOLD * 1000:g} ms"
    say(f"{f'{THREADS} threads, {RESOURCES} resources':<29}{hold:>30}{'given back at once':>21}")
    say(f"{'':<29}{'turns/s':>9}{'wait ms':>9}{'least/most':>12}{'turns/s':>12}{'wait ms':>9}")
    for name in alone:
        say(f"{name:<29}{_held(held.get(name))}{_at_once(at_once[name], name)}")
    say("wait: the longest of any thread; without a pool, for the interpreter or a CPU.")
    say("least/most: turns of the thread that had the fewest over those of the luckiest.")
    competitors = [
        name for name in borrowers if name in QUEUES or name in {r.name for r in COMPETITORS}
    ]
    return [*_lost(hold, held, competitors), *_lost("given back at once", at_once, competitors)]


def _lost(title: str, runs: dict[str, list[Crowd]], competitors: list[str]) -> list[str]:
    ours = runs[_OURS]
    rates = {name: _rate(ours) / _rate(runs[name]) for name in competitors}
    waits = {name: _wait(runs[name]) / _wait(ours) for name in competitors}
    measured = {"turns/s": rates, "wait": waits}
    lost = {
        what: [f"{name} {_ratio(ratio)}" for name, ratio in ratios.items() if ratio < _EVEN]
        for what, ratios in measured.items()
    }
    return [f"{title}, {what}: {', '.join(names)}" for what, names in lost.items() if names]


def _rate(runs: list[Crowd]) -> float:
    return statistics.median(run.rate for run in runs)


def _wait(runs: list[Crowd]) -> float:
    return statistics.median(run.worst for run in runs)


def _held(runs: list[Crowd] | None) -> str:
    if runs is None:
        return f"{'-':>9}{'-':>9}{'-':>12}"
    evenness = statistics.median(run.evenness for run in runs)
    return f"{_rate(runs):>9,.0f}{_wait(runs) * 1000:>9,.1f}{evenness:>12.2f}"


def _at_once(runs: list[Crowd], name: str) -> str:
    rate = "-" if name == _NO_POOL else f"{_rate(runs):,.0f}"
    return f"{rate:>12}{_wait(runs) * 1000:>9,.1f}"


# -- progress --------------------------------------------------------------------------------------


class Progress:
    """On stderr: one line that changes on a terminal, elsewhere one for each stage. The end clears
    what a terminal shows."""

    def __init__(self) -> None:
        self._moving = sys.stderr.isatty()
        self._stage = ""

    def update(self, text: str) -> None:
        stage = text.partition(":")[0]
        if self._moving:
            print(f"\r{text:<{WIDTH - 1}}", end="", file=sys.stderr, flush=True)
        elif stage != self._stage:
            print(stage, file=sys.stderr, flush=True)
        self._stage = stage

    def say(self, text: str) -> None:
        self.clear()
        print(text, flush=True)

    def clear(self) -> None:
        if self._moving and self._stage:
            print(f"\r{'':<{WIDTH - 1}}\r", end="", file=sys.stderr, flush=True)
        self._stage = ""

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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from ... import __version__
from ..machine import Elsewhere
from ..tables import WIDTH
from .competitors import COMPETITORS, NotRun, filled, pool_use, queue_use, warm
from .plot import Bar, Chart
from .timing import (
    CLOCK,
    Borrower,
    Crowd,
    Statement,
    Times,
    Update,
    paired,
    run_crowds,
    time_statements,
)

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


class Picture(NamedTuple):
    """What `plot.svg` draws of a run."""

    title: str
    charts: Sequence[Chart]
    notes: Sequence[str]


def run(seconds: float, say: Callable[[str], None], update: Update) -> Picture:
    """Both tables, in about `seconds`: `say` gets the lines, `update` the progress."""
    elsewhere = Elsewhere()
    say(_conditions())
    with ExitStack() as stack:
        say("")
        lost, alone = _one_thread(0.45 * seconds, stack, say, update)
    with ExitStack() as stack:
        say("")
        more, crowded = _crowds(0.5 * seconds, stack, say, update)
        lost += more
    say("")
    busy = elsewhere.sentence()
    if busy:
        say(textwrap.fill(busy, WIDTH, subsequent_indent="  "))
    text = "; ".join(lost) if lost else "nothing in this run"
    say(textwrap.fill(f"We lose: {text}.", WIDTH, subsequent_indent="  "))
    say("theirs/ours: above 1 fastpool is faster, below 1 slower; medians of many rounds.")
    say("All over dummies: of a real query, 100,000 ns or more, a pool is a small part.")
    notes = [_conditions(), "Above 1 fastpool is better. Medians of many rounds, over dummies."]
    notes += textwrap.wrap(busy, 110)
    return Picture("fastpool beside other pools", [alone, *crowded], notes)


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
) -> tuple[list[str], Chart]:
    """The first table; the comparisons in it that we lose, in words; its chart."""
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
    ratios = [
        (one, times[one.theirs].over(times[one.ours]))  # theirs above, ours below
        for one in compared
    ]
    lost = [
        f"one thread, {one.theirs} / {one.ours} {_ratio(ratio)}"
        for one, ratio in ratios
        if ratio < _EVEN
    ]
    kinds = {"lifo": "queue use", "fifo": "queue use", "pool": "with a factory", "lease": "a lease"}
    bars = [Bar(f"{one.theirs} / {kinds[one.ours]}", ratio) for one, ratio in ratios]
    return lost, Chart(f"One thread: {CLOCK} of a turn, theirs over ours", bars)


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
) -> tuple[list[str], list[Chart]]:
    """The second table; where our default loses, in words; its charts."""
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
    window = statistics.median(run.seconds for run in held[_OURS]) * 1000
    say(f"wait: the longest of any thread in a round of {window:.0f} ms; no pool: for a CPU.")
    say("least/most: turns of the thread that had the fewest over those of the luckiest.")
    competitors = [
        name for name in borrowers if name in QUEUES or name in {r.name for r in COMPETITORS}
    ]
    lost = [*_lost(hold, held, competitors), *_lost("given back at once", at_once, competitors)]
    crowd = f"{THREADS} threads on {RESOURCES} resources, {hold}"
    measured = _measured(held, competitors)
    charts = {"turns/s": "turns, ours over theirs", "wait": "longest wait, theirs over ours"}
    return lost, [
        Chart(f"{crowd}: {what}", [Bar(*each) for each in measured[name].items()])
        for name, what in charts.items()
    ]


def _measured(runs: dict[str, list[Crowd]], competitors: list[str]) -> dict[str, dict[str, float]]:
    """Of turns and of waits, how many times better ours is, in the median round."""
    ours = runs[_OURS]
    rates = {name: paired(ours, runs[name], lambda run: run.rate) for name in competitors}
    waits = {name: paired(runs[name], ours, lambda run: run.worst) for name in competitors}
    return {"turns/s": rates, "wait": waits}


def _lost(title: str, runs: dict[str, list[Crowd]], competitors: list[str]) -> list[str]:
    measured = _measured(runs, competitors)
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

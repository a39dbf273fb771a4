"""The measurements, one file per group of rows. Each row is a generator of figures.

A row takes an `Effort` and yields `Figure`s whose keys stand in `bench.targets.MUSTS`. What cannot
be measured here is a figure without a value, whose note says why: never a guess, never a win.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from bench.measure import NotRun, Series, paired_ratio, unpaired_ratio
from bench.targets import MUSTS


@dataclass(frozen=True)
class Effort:
    """How much to spend: the same measurement, made longer or shorter."""

    rounds: int  # interleaved rounds of one-thread loops
    windows: int  # undisturbed windows of parallel threads
    patience: float  # seconds to wait for those
    seconds: float  # length of one run under contention
    repeats: int  # such runs, of which the median counts


FULL = Effort(rounds=41, windows=15, patience=40.0, seconds=2.0, repeats=5)
QUICK = Effort(rounds=15, windows=7, patience=15.0, seconds=1.0, repeats=3)
GUARD = Effort(rounds=15, windows=5, patience=5.0, seconds=1.0, repeats=1)


@dataclass(frozen=True)
class Figure:
    """One measured number. `low` and `high` are the quartiles where there are any."""

    key: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


def of_ratio(
    key: str, above: Series, below: Series, *, paired: bool = True, **detail: Any
) -> Figure:
    """The figure `above / below`, with both medians kept for the record.

    `paired`: the samples were taken side by side, so that their ratios mean something one by one.
    """
    try:
        value, low, high = (paired_ratio if paired else unpaired_ratio)(above, below)
    except NotRun as reason:
        return Figure(key, None, note=str(reason))
    detail = {"above": above.median, "below": below.median, **detail}
    return Figure(key, value, low, high, detail=detail)


ROWS: dict[str, tuple[str, str]] = {
    "P1": ("pairs", "p1"),
    "P2": ("pairs", "p2"),
    "P3": ("pairs", "p3"),
    "P4": ("leases", "p4"),
    "P5": ("tasks", "p5"),
    "P6": ("parallel", "p6"),
    "P7": ("golang", "p7"),
    "P8": ("contention", "p8"),
    "P9": ("contention", "p9"),
    "P10": ("handoff", "p10"),
    "P11": ("turns", "p11"),
    "P12": ("capacity", "p12"),
    "P13": ("spike", "p13"),
    "P14": ("servers", "p14"),
    "P15": ("startup", "p15"),
    "R1": ("storm", "r1"),
    "B1": ("channels", "b1"),
    "O1": ("caches", "o1"),
    "O2": ("caches", "o2"),
    "O3": ("caches", "o3"),
    "K1": ("keyed", "k1"),
    "F2": ("fleet", "f2"),
    "F3": ("fleet", "f3"),
    "C1": ("calls", "c1"),
    "C2": ("sizes", "c2"),
    "C3": ("sizes", "c3"),
    "L1": ("limits", "l1"),
    "L2": ("limits", "l2"),
    "V1": ("observed", "v1"),
    "V2": ("observed", "v2"),
}


def measure(row: str, effort: Effort) -> Iterator[Figure]:
    """Figures of one row, a missing one for each that it did not give, with the reason."""
    wanted = [must.key for must in MUSTS if must.row == row]
    given: set[str] = set()
    reason = "the row gave no figure"
    try:
        module, function = ROWS[row]
        run: Callable[[Effort], Iterable[Figure]] = getattr(
            import_module(f"bench.cases.{module}"), function
        )
        for figure in run(effort):
            given.add(figure.key)
            yield figure
    except NotRun as why:
        reason = str(why)
    except Exception as error:  # a broken row must not hide the others
        reason = f"failed: {type(error).__name__}: {error}"
    for key in wanted:
        if key not in given:
            yield Figure(key, None, note=reason)

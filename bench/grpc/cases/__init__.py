"""The sixteen measurements, one file per group. Each is a generator of figures.

Contestants take turns inside one run, beginning with another one each round, and a figure is the
median of a contestant's turns. What cannot be measured has no value and says why.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Generic, TypeVar

from bench.grpc.adapter import NotBuilt
from bench.grpc.targets import MARKS
from bench.measure import NotRun

T = TypeVar("T")


@dataclass(frozen=True)
class Effort:
    """How much to spend: the same measurement, made longer or shorter."""

    turns: int  # of each contestant, where a turn takes a second or so
    calls: int  # of each contestant, where the cost of a call is measured
    seconds: float  # length of a run under load
    operations: int  # random ones
    targets: int  # that idle side by side


FULL = Effort(turns=5, calls=6_000, seconds=6.0, operations=20_000, targets=64)
QUICK = Effort(turns=2, calls=1_000, seconds=3.0, operations=2_000, targets=64)


@dataclass(frozen=True)
class Reading:
    """What one contestant gave. Without a value, `lack` is "not built", "not run" or "failed"."""

    value: float | None
    low: float | None = None
    high: float | None = None
    lack: str = ""
    why: str = ""
    samples: tuple[float, ...] = ()


NOTHING = Reading(None)  # there is no such thing to measure


@dataclass(frozen=True)
class Figure:
    """One line of the table: bare grpcio and ours, and what else is worth recording."""

    key: str
    bare: Reading = NOTHING
    ours: Reading = NOTHING
    detail: dict[str, Any] = field(default_factory=dict)


def missing(error: BaseException) -> Reading:
    """The reading of a contestant that could not give one."""
    if isinstance(error, NotBuilt):
        return Reading(None, lack="not built", why=str(error))
    if isinstance(error, NotRun):
        return Reading(None, lack="not run", why=str(error))
    return Reading(None, lack="failed", why=f"{type(error).__name__}: {error}")


def median_of(values: Iterable[float]) -> Reading:
    taken = tuple(values)
    low, high = taken[0], taken[0]
    if len(taken) > 1:
        low, _, high = statistics.quantiles(taken, n=4, method="inclusive")
    return Reading(statistics.median(taken), low, high, samples=taken)


class Turns(Generic[T]):
    """What each contestant gave in its turns, or why it gave nothing."""

    def __init__(self) -> None:
        self.results: dict[str, list[T]] = {}
        self.errors: dict[str, BaseException] = {}

    def median(self, name: str, value: Callable[[T], float]) -> Reading:
        if name in self.errors:
            return missing(self.errors[name])
        return median_of(map(value, self.results[name]))

    def worst(self, name: str, value: Callable[[T], float]) -> Reading:
        """The greatest, for what may not happen even once."""
        if name in self.errors:
            return missing(self.errors[name])
        taken = tuple(map(value, self.results[name]))
        return Reading(max(taken), min(taken), max(taken), samples=taken)


def take_turns(contestants: Mapping[str, Callable[[], T]], turns: int) -> Turns[T]:
    """Let each contestant run once a round. One that raises is out, and the others go on."""
    taken: Turns[T] = Turns()
    names = list(contestants)
    for turn in range(turns):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if name in taken.errors:
                continue
            try:
                taken.results.setdefault(name, []).append(contestants[name]())
            except Exception as error:
                taken.errors[name] = error
    return taken


ROWS: dict[str, tuple[str, str]] = {
    "G1": ("sharing", "g1"),
    "G2": ("cost", "g2"),
    "G3": ("limits", "g3"),
    "G4": ("limits", "g4"),
    "G5": ("limits", "g5"),
    "G6": ("bulk", "g6"),
    "G7": ("streams", "g7"),
    "G8": ("accounting", "g8"),
    "G9": ("rotation", "g9"),
    "G10": ("restart", "g10"),
    "G11": ("processes", "g11"),
    "G12": ("idle", "g12"),
    "G13": ("dead", "g13"),
    "G14": ("limits", "g14"),
    "G15": ("queue", "g15"),
    "G16": ("first", "g16"),
}


def measure(row: str, effort: Effort) -> Iterator[Figure]:
    """Figures of one row, and a missing one for each that it did not give, with the reason."""
    wanted = [mark.key for mark in MARKS if mark.row == row]
    given: set[str] = set()
    lack: Reading = Reading(None, lack="failed", why="the row gave no figure")
    try:
        module, function = ROWS[row]
        run: Callable[[Effort], Iterable[Figure]] = getattr(
            import_module(f"bench.grpc.cases.{module}"), function
        )
        for figure in run(effort):
            given.add(figure.key)
            yield figure
    except ImportError as error:
        lack = Reading(None, lack="not run", why=f"not installed: {error}")
    except Exception as error:  # a broken row must not hide the others
        lack = missing(error)
    for key in wanted:
        if key not in given:
            yield Figure(key, lack, lack)

"""Callers that take turns on a pool: what each of them got, and the table of it at 80 columns."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

CALLERS = (1, 4, 8, 16)
CONNECTIONS = 4


@dataclass(frozen=True)
class Turns:
    """What the callers of one run came to."""

    rate: float  # turns a second, of all callers
    least: int  # turns of the caller that got fewest
    most: int
    worst: float  # longest turn, in seconds, with its wait
    cpu: float  # microseconds of this process for each turn


def of_run(turns: Sequence[int], worst: Sequence[float], seconds: float, cpu: float) -> Turns:
    total = sum(turns)
    return Turns(total / seconds, min(turns), max(turns), max(worst), cpu / max(total, 1) * 1e6)


def by_threads(turn: Callable[[], object], callers: int, seconds: float) -> Turns:
    """So many threads that do nothing but take turns, for so many seconds."""
    turns, worst = [0] * callers, [0.0] * callers
    start, over = threading.Barrier(callers + 1), threading.Event()

    def run(caller: int) -> None:
        start.wait()
        while not over.is_set():
            asked = time.perf_counter()
            turn()
            worst[caller] = max(worst[caller], time.perf_counter() - asked)
            turns[caller] += 1

    threads = [threading.Thread(target=run, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    start.wait()
    began, cpu = time.perf_counter(), time.process_time()
    time.sleep(seconds)
    over.set()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    for thread in threads:
        thread.join()
    return of_run(turns, worst, took, cpu)


COLUMNS = "{:>7} {:<30}{:>9}{:>8}{:>13}{:>8}"
HEADS = ("callers", "pool", "turns/s", "x host", "least/most", "worst")


def head() -> str:
    return COLUMNS.format(*HEADS) + "\n" + "-" * 76


def compare(
    contestants: Mapping[str, Callable[[int, float], Turns]], rounds: int, seconds: float
) -> list[str]:
    """The rows of a table, printed as they come: for each number of callers each contestant.

    The first is the host's own, by which the others are divided, round by round.  Contestants take
    turns inside a round, beginning with another one each round; figures are medians.
    """
    rows = []
    names = list(contestants)
    for callers in CALLERS:
        found: dict[str, list[Turns]] = {name: [] for name in names}
        for round_ in range(rounds):
            first = round_ % len(names)
            for name in names[first:] + names[:first]:
                found[name].append(contestants[name](callers, seconds))
        own = found[names[0]]
        for name in names:
            mine = found[name]
            rows.append(row(callers, name, mine, own))
            print(rows[-1], flush=True)
    return rows


def row(callers: int, name: str, mine: Sequence[Turns], own: Sequence[Turns]) -> str:
    def median(field: str) -> float:
        return statistics.median(getattr(turns, field) for turns in mine)

    times = statistics.median(a.rate / b.rate for a, b in zip(mine, own))
    return COLUMNS.format(
        callers,
        name,
        f"{median('rate'):,.0f}",
        f"{times:.2f}",
        f"{median('least'):.0f}/{median('most'):.0f}",
        f"{median('worst') * 1e3:,.1f}",
    )

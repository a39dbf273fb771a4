"""B1: the buffered-channel pool, beside the one that people write around `queue.Queue`.

`FastPool(0, factory=..., max_idle=n)`. A pair in one thread, first while no more are open than are
kept, then where each return closes and each get opens anew: that is where ours pays for opening on
a thread of its own, so that the caller's timeout holds. Wall time there, since two threads share
the work; the resource costs nothing to make, which no connection does.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from typing import Any

from bench.adapter import Thing, fastpool
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Case, Series, pair_times

KEPT = 4
PAIRS = 200


class ChannelPool:
    """A queue for the idle ones; what does not fit is closed."""

    def __init__(self, kept: int) -> None:
        self.idle: queue.Queue[Thing] | None = queue.Queue(kept) if kept else None

    def get(self) -> Thing:
        try:
            if self.idle is not None:
                return self.idle.get_nowait()
        except queue.Empty:
            pass
        return Thing()

    def put(self, thing: Thing) -> None:
        try:
            if self.idle is not None:
                self.idle.put_nowait(thing)
                return
        except queue.Full:
            pass
        thing.close()


def wall(pool: Any) -> float:
    """Microseconds a pair."""
    begun = time.perf_counter()
    for _ in range(PAIRS):
        pool.put(pool.get())
    return (time.perf_counter() - begun) / PAIRS * 1e6


def b1(effort: Effort) -> Iterator[Figure]:
    ours, none = (fastpool().FastPool(0, factory=Thing, max_idle=kept) for kept in (KEPT, 0))
    theirs, nothing = ChannelPool(KEPT), ChannelPool(0)
    try:
        theirs.put(theirs.get())
        ours.put(ours.get())
        times = pair_times(
            {
                "theirs": Case("p.put(p.get())", {"p": theirs}),
                "ours": Case("p.put(p.get())", {"p": ours}),
            },
            rounds=effort.rounds,
        )
        taken: dict[str, list[float]] = {"theirs": [], "ours": []}
        for _ in range(max(3, effort.rounds // 4)):
            taken["theirs"].append(wall(nothing))
            taken["ours"].append(wall(none))
    finally:
        ours.close()
        none.close()
    yield of_ratio("B1a", times["theirs"], times["ours"])
    anew = {name: Series(tuple(each)) for name, each in taken.items()}
    yield Figure("B1b", anew["ours"].median)
    yield Figure("B1c", anew["theirs"].median)

"""A server that is killed under callers who take turns, and comes back: what a pool makes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

CALLERS = 8
PAUSE = 0.002  # seconds between the turns of a caller: it is no race
BEFORE, DOWN, AFTER = 0.5, 1.0, 3.0  # seconds


@dataclass(frozen=True)
class Outage:
    """What came of one; times in seconds from when the server answered again."""

    failed: int  # turns that raised, from its end on
    failed_after: int  # of these, begun when it was back
    first: float | None  # until the first turn that went well
    all: float | None  # until each caller had one; None: it had none

    def __str__(self) -> str:
        first, everybody = (
            "never" if each is None else f"{each * 1e3:,.0f} ms" for each in (self.first, self.all)
        )
        return f"{self.failed:>7,}{self.failed_after:>8}{first:>12}{everybody:>12}"


HEAD = f"{'pool':<38}{'errors':>7}{'after':>8}{'first turn':>12}{'all callers':>12}"


def outage(
    start: Callable[[], AbstractContextManager[object]],
    turn: Callable[[], object],
    before: float = BEFORE,
    down: float = DOWN,
    after: float = AFTER,
) -> Outage:
    """Callers take turns while the server that `start` runs is killed and started once more."""
    over = threading.Event()
    errors: list[list[float]] = [[] for _ in range(CALLERS)]  # when the turn had begun
    served: list[list[float]] = [[] for _ in range(CALLERS)]  # when it was over

    def run(caller: int) -> None:
        while not over.is_set():
            asked = time.monotonic()
            try:
                turn()
            except Exception:
                errors[caller].append(asked)
            else:
                served[caller].append(time.monotonic())
            time.sleep(PAUSE)

    threads = [threading.Thread(target=run, args=(caller,)) for caller in range(CALLERS)]
    with start():
        for thread in threads:
            thread.start()
        time.sleep(before)
        killed = time.monotonic()
    time.sleep(down)
    with start():
        back = time.monotonic()
        time.sleep(after)
        over.set()
        for thread in threads:
            thread.join()
    firsts = [min((at for at in times if at > back), default=None) for times in served]
    there = [at for at in firsts if at is not None]
    failed = [at for times in errors for at in times if at >= killed]
    return Outage(
        len(failed),
        sum(at >= back for at in failed),
        min(there) - back if there else None,
        max(there) - back if len(there) == CALLERS else None,
    )


def print_outages(
    start: Callable[[], AbstractContextManager[object]], turns: Mapping[str, Callable[[], object]]
) -> None:
    """A row for each pool; `turns`: what a caller does with it."""
    print(f"\nServer killed, back after {DOWN:g} s; {CALLERS} threads; `after`: errors since then")
    print(f"{HEAD}\n{'-' * len(HEAD)}", flush=True)
    for name, turn in turns.items():
        print(f"{name:<38}{outage(start, turn)}", flush=True)

"""How busy the machine was with others while something was measured, in one line."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

#: Of all the CPU time that there was: above it figures of waiting say little.
BUSY = 0.10


class _Used(NamedTuple):
    """CPU seconds that the machine has spent and that we and our children have; and the clock."""

    machine: float
    ours: float
    wall: float


class Elsewhere:
    """What other programs took of the machine's CPUs since this was made.

    Linux says it; elsewhere, and where /proc is hidden, ``sentence`` has nothing to say.
    """

    def __init__(self) -> None:
        self._begun = _used()

    def share(self) -> float | None:
        """From 0 to 1; None where it is not known, or too little time has passed to tell."""
        begun, now = self._begun, _used()
        if begun is None or now is None or now.wall - begun.wall < 0.2:
            return None
        others = (now.machine - begun.machine) - (now.ours - begun.ours)
        return min(max(others / ((now.wall - begun.wall) * (os.cpu_count() or 1)), 0.0), 1.0)

    def sentence(self) -> str:
        """A warning, or nothing on a machine that was ours."""
        share = self.share()
        if share is None or share < BUSY:
            return ""
        return (
            f"The machine was busy: other programs took {share:.0%} of its CPU time. Waits and "
            "absolute figures say little then; ratios are of rounds in which all take turns."
        )


def _used() -> _Used | None:
    try:
        with open("/proc/stat", encoding="ascii") as stat:
            user, nice, system, _, _, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    except (OSError, ValueError):
        return None
    ours = os.times()
    ticks = user + nice + system + irq + softirq + steal
    return _Used(
        ticks / os.sysconf("SC_CLK_TCK"),
        ours.user + ours.system + ours.children_user + ours.children_system,
        time.monotonic(),
    )

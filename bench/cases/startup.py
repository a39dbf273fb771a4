"""P15: what `import fastpool` costs beside `import asyncio`, and how big the wheel is.

Whole processes, turn by turn, with bytecode already written. What each import adds to a bare
interpreter is a difference of medians of CPU time; the figure is the ratio of the two, since one
and the same import takes 10 ms here and 35 ms there.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterator

from bench import child
from bench.cases import Effort, Figure
from bench.measure import NotRun, Series

DIST = child.ROOT / "dist"


def spent() -> float:
    """Seconds of CPU that child processes have cost so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(program: str, bytecode: str) -> float:
    """CPU of a child that keeps its bytecode in that folder, whatever our environment says."""
    begun = spent()
    child.python("-c", program, PYTHONPYCACHEPREFIX=bytecode, PYTHONDONTWRITEBYTECODE="")
    return spent() - begun


def wheel_megabytes() -> float:
    """Size of the newest wheel of this interpreter in dist/."""
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    tag = f"-{version}-{version}{getattr(sys, 'abiflags', '')}-"
    wheels = [wheel for wheel in DIST.glob("fastpool-*.whl") if tag in wheel.name]
    if not wheels:
        raise NotRun("no wheel of this interpreter in dist/ (make wheel)")
    return max(wheels, key=lambda wheel: wheel.stat().st_mtime).stat().st_size / 1e6


PROGRAMS = ("pass", "import fastpool", "import asyncio")


def p15(effort: Effort) -> Iterator[Figure]:
    rounds: list[list[float]] = []
    with tempfile.TemporaryDirectory() as bytecode:
        for round_ in range(effort.rounds // 2 + 2):
            spent_on = [seconds(program, bytecode) for program in PROGRAMS]
            if round_ >= 2:  # those before write the bytecode
                rounds.append(spent_on)
    bare, ours, asyncio = (Series(tuple(one)).median for one in zip(*rounds, strict=True))
    detail = {"above": ours - bare, "below": asyncio - bare}
    yield Figure("P15a", (ours - bare) / (asyncio - bare), detail=detail)
    yield Figure("P15b", wheel_megabytes())

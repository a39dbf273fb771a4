"""P15: what `import fastpool` adds to a bare interpreter, and how big the wheel is.

Whole processes, turn by turn, with bytecode already written: the difference of the medians of
their CPU time, which does not grow when the machine has other work.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterator

from bench import child
from bench.measure import NotRun, Series
from bench.rows import Effort, Figure

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


def p15(effort: Effort) -> Iterator[Figure]:
    bare, ours = [], []
    with tempfile.TemporaryDirectory() as bytecode:
        for round_ in range(effort.rounds // 2 + 2):
            pair = seconds("pass", bytecode), seconds("import fastpool", bytecode)
            if round_ >= 2:
                bare.append(pair[0])
                ours.append(pair[1])
    added = (Series(tuple(ours)).median - Series(tuple(bare)).median) * 1e3
    each = sorted((a - b) * 1e3 for a, b in zip(ours, bare, strict=True))
    quarter = len(each) // 4
    yield Figure("P15a", added, each[quarter], each[-1 - quarter])
    yield Figure("P15b", wheel_megabytes())

"""How many instructions the hot paths take, which the mood of a machine does not change.

Callgrind counts them; a figure is the ratio to `deque.append(pop())` in the same run, since how the
interpreter calls any method is in both. What it depends on besides our code is the interpreter and
the compiler: `recorded.json` has a list for each pair of them that was counted so far.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from bench import child
from bench.instructions.loops import EMPTY, REFERENCE, STATEMENTS
from bench.machine import build_flags
from bench.measure import NotRun

HERE = Path(__file__).parent
RECORDED = HERE / "recorded.json"

#: How much more than recorded may be; from one run to the next it is a thousandth.
SLACK = 0.03

#: Figure: the loop that it has around it.
FIGURES = {
    "queue pair": EMPTY,
    "pool pair": EMPTY,
    "lease": EMPTY,
    "async lease": "empty coroutine",
    "shared lease": EMPTY,
    "keyed lease": EMPTY,
    "semaphore": EMPTY,
    "object cache": EMPTY,
    "gRPC call": EMPTY,
}


def built_with() -> str:
    """The interpreter, its flags, and the compiler of our module."""
    from fastpool import _core

    found = re.search(
        rb"(GCC: \([^)\0]*\) |clang version )[\d.]+", Path(_core.__file__).read_bytes()
    )
    compiler = found[0].decode() if found else "an unknown compiler"
    version = platform.python_version() + sysconfig.get_config_var("ABIFLAGS")
    parts = [f"CPython {version}, {platform.python_compiler()}", *build_flags()]
    return f"{' '.join(parts)}; module: {compiler}; {platform.machine()}"


def recorded() -> dict[str, dict[str, float]]:
    return json.loads(RECORDED.read_text())


def record(ratios: dict[str, float]) -> None:
    every = recorded() | {built_with(): {name: round(each, 3) for name, each in ratios.items()}}
    RECORDED.write_text(json.dumps(dict(sorted(every.items())), indent=2) + "\n")


def count() -> dict[str, int]:
    """Instructions that each loop takes; NotRun where they cannot be counted."""
    if not shutil.which("valgrind"):
        raise NotRun("valgrind is not installed (Debian: valgrind)")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        command = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no"]
        command += [f"--callgrind-out-file={out}", sys.executable, "-S"]
        command += [str(HERE / "loops.py"), str(_marks(Path(folder)))]
        done = subprocess.run(
            command,
            env=child.environment() | {"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode == -signal.SIGILL:
            raise NotRun("this valgrind does not know all instructions of this machine")
        if done.returncode:
            raise RuntimeError(f"counting instructions failed:\n{done.stderr}")
        counts: dict[str, int] = {}
        for dump in Path(folder).glob("callgrind.out.*"):
            text = dump.read_text(errors="replace")
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
            total = re.search(r"^totals: (\d+)", text, re.MULTILINE)
            if name and total:
                counts[name[1]] = min(int(total[1]), counts.get(name[1], sys.maxsize))
        return counts


def crept(now: dict[str, float], before: dict[str, float]) -> list[str]:
    """A sentence for each figure that takes more instructions than recorded, beyond the slack."""
    return [
        f"{name}: {now[name]:.3f} of the reference, recorded {was:.3f} ({now[name] / was - 1:+.1%})"
        for name, was in before.items()
        if now[name] > was * (1 + SLACK)
    ]


def _marks(folder: Path) -> Path:
    """marks.c as a library."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise NotRun("no C compiler")
    library = folder / "marks.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "marks.c"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotRun(f"valgrind's header is not installed: {done.stderr.splitlines()[0]}")
    return library


def ratios(counts: dict[str, int]) -> dict[str, float]:
    """Each figure: its instructions over those of the reference, without the loops around them."""
    reference = counts[REFERENCE] - counts[EMPTY]
    return {name: (counts[name] - counts[around]) / reference for name, around in FIGURES.items()}


def each(counts: dict[str, int]) -> dict[str, float]:
    """Instructions of one statement, the reference first."""
    around = {REFERENCE: EMPTY, **FIGURES}
    return {name: (counts[name] - counts[loop]) / STATEMENTS for name, loop in around.items()}

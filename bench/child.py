"""Child processes that see the same packages as this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.adapter import fastpool
from bench.measure import NotRun

ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """This process's environment, with the suite and the package under test importable."""
    package = Path(fastpool().__file__).resolve().parents[1]
    path = [str(package), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def python(*arguments: str, **variables: str) -> str:
    """Standard output of this interpreter run with `arguments`; NotRun when it fails.

    `variables` are set in its environment on top of ours.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NotRun(f"the child process failed: {last}")
    return done.stdout

"""Programs that need an interpreter of their own: fork, signals, exit, leaks.

Each file beside this one is a program whose docstring says what it proves. It exits with 0 and
leaves stderr empty, or it failed; it may print figures, which a failure shows.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = sorted(path for path in HERE.glob("*.py") if not path.name.startswith("test_"))
COSTLY = {
    "lease_in_two_threads.py",
    "put_in_finaliser.py",
    "references_flat.py",
    "signal_storm.py",
    "signal_storm_in_hooks.py",
}  # a second of CPU or more
LONGEST = {"put_in_finaliser.py", "references_flat.py"}  # three and nine
HANGS = 600  # seconds: a program ends in a few, and on a slow, busy machine in a hundred


def _case(path: Path) -> object:
    marks = [pytest.mark.first] * (path.name in LONGEST)
    marks += [pytest.mark.light] * (path.name not in COSTLY)
    return pytest.param(path, marks=marks, id=path.stem)


@pytest.mark.process
@pytest.mark.parametrize("program", [_case(path) for path in PROGRAMS])
@pytest.mark.timeout(HANGS + 30)
def test_program(program: Path) -> None:
    """The program proves what its docstring says, silently."""
    assert ast.get_docstring(ast.parse(program.read_text())), "says what it proves"
    if "fork" in program.stem and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    if "exit_with_hanging" in program.stem and (3, 12) <= sys.version_info < (3, 12, 2):
        pytest.skip("3.12.0 and 3.12.1 start no thread at interpreter exit")
    start = time.monotonic()
    path = [str(HERE.parent), *(entry for entry in sys.path if entry)]
    done = subprocess.run(
        [sys.executable, "-W", "default", str(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    took = time.monotonic() - start
    story = f"{program.name} after {took:.1f} s\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, story
    assert not done.stderr, story

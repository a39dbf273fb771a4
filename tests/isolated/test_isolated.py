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
SLOW = {"references_flat.py": 60}  # seconds; the others end in a few


def _title(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("program", PROGRAMS, ids=_title)
@pytest.mark.timeout(150)
def test_program(program: Path) -> None:
    """The program proves what its docstring says, silently and promptly."""
    assert ast.get_docstring(ast.parse(program.read_text())), "says what it proves"
    if "fork" in program.stem and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    limit = SLOW.get(program.name, 30)
    start = time.monotonic()
    path = [str(HERE.parent), *(entry for entry in sys.path if entry)]
    done = subprocess.run(
        [sys.executable, "-W", "default", str(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * limit,
    )
    took = time.monotonic() - start
    story = f"{program.name} after {took:.1f} s\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, story
    assert not done.stderr, story
    assert took < limit, story

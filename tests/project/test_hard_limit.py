"""A run that hangs says where, though pytest captures what is written meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.helpers import LIMIT

pytestmark = pytest.mark.once  # the tests' own tools

TESTS = Path(__file__).parents[1]
HANGING = """
import signal, threading, pytest

@pytest.mark.timeout(0.5)
def test_that_hangs():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # pytest-timeout comes by it
    threading.Event().wait()
"""


@pytest.mark.process
@pytest.mark.light
@pytest.mark.skipif(not hasattr(os, "fork"), reason="pytest-timeout has no signal here")
@pytest.mark.parametrize("spread", [[], ["-n1"]], ids=["alone", "xdist"])
def test_stacks_of_a_hanging_test_are_printed(spread: list[str], tmp_path: Path) -> None:
    program = tmp_path / "test_hanging.py"
    program.write_text(HANGING)
    path = [str(TESTS), *(entry for entry in sys.path if entry)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider"]
        + ["-c", os.devnull, "--rootdir", str(tmp_path), "--maxfail=1", *spread, str(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT - 30,
    )
    assert done.returncode != 0
    assert "Timeout (" in done.stderr and "in test_that_hangs" in done.stderr, done

"""Programs with pools, and `fastpool top` looking at them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fastpool import debug

PROGRAM = Path(__file__).with_name("leak.py")

#: The line of it that leaks, as it is shown.
LEAK = next(
    f"leak.py:{number} in forget_to_release"
    for number, line in enumerate(PROGRAM.read_text().splitlines(), 1)
    if "THE LEAK" in line
)


class Program:
    """leak.py in a process of its own."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.pid = self.process.pid
        ready, _, self.address = self._read().partition(" ")
        assert ready == "ready"

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, what: str) -> None:
        """Have it done before this returns."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self._read() == "done"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runtime folder with nobody's sockets in it."""
    return tmp_path_factory.mktemp("r")


@pytest.fixture
def environment(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the programs and of the viewer: nobody else's sockets are found."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("TMPDIR", str(runtime))
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("FASTPOOL_DEBUG_SOCKET", "FASTPOOL_DEBUG_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return dict(os.environ)


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., Program]]:
    """`start(ADDRESS, TOKEN)` starts the program; keywords are variables of its environment."""
    with ExitStack() as stack:

        def start(*arguments: str, **variables: str) -> Program:
            program = Program(*arguments, environment=environment | variables)
            stack.callback(program.end)
            return program

        yield start


@pytest.fixture
def program(start: Callable[..., Program], runtime: Path) -> Program:
    """The program, with a socket."""
    return start(f"unix:{runtime}/s")


@pytest.fixture
def process(program: Program) -> Iterator[debug.Connection]:
    """A connection to it."""
    with debug.connect(program.address) as connection:
        yield connection


@pytest.fixture
def top(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`top("--once")` runs the command to its end."""

    def top(*arguments: Any, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fastpool", "top", "--interval", "0.1", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment | variables,
        )

    return top

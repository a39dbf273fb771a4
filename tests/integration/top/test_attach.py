"""Opening the socket of a process that has none, from outside: `sys.remote_exec` of 3.14."""

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
from integration.top.conftest import LEAK, Program
from support.helpers import eventually

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not hasattr(sys, "remote_exec"), reason="attaching needs Python 3.14"),
]

#: Runs a line of Python again and again, or not at all: it sleeps in C until its input ends.
BUSY = "import fastpool, time\nprint('ready', flush=True)\nwhile True: time.sleep(0.01)"
ASLEEP = BUSY.replace("while", "import sys; sys.stdin.buffer.raw.read(1)\nwhile")
WITHOUT = "import time\nprint('ready', flush=True)\nwhile True: time.sleep(0.01)"


Run = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def run(environment: dict[str, str]) -> Iterator[Run]:
    """`run(code)` starts it."""
    with ExitStack() as stack:

        def run(code: str, **variables: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment | variables,
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            return process

        yield run


def allowed(done: subprocess.CompletedProcess[str]) -> None:
    if "CAP_SYS_PTRACE" in done.stderr:
        pytest.skip("this system does not let one process look into another")


def left_behind(runtime: Path) -> list[Path]:
    """What the viewer leaves in the folder of temporary files."""
    return list(runtime.glob("fastpool-top-*"))


def test_a_process_without_a_socket_is_given_one(
    start: Callable[..., Program], top: Callable[..., Any], runtime: Path
) -> None:
    program = start()
    assert program.address == "-"
    # its main thread waits for a line in C, and comes to Python after each
    with subprocess.Popen(
        [sys.executable, "-m", "fastpool", "top", str(program.pid), "--once"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as viewer:
        while viewer.poll() is None and not list(runtime.glob("fastpool/*.sock")):
            program.tell("step")
        said, error = viewer.communicate()
    allowed(subprocess.CompletedProcess([], viewer.returncode, said, error))
    assert (viewer.returncode, error) == (0, "")
    assert f"process {program.pid}" in said and LEAK in said
    assert left_behind(runtime) == []
    assert top(program.pid, "--once").returncode == 0  # the socket is there now


def test_a_process_that_does_not_use_fastpool_is_left_alone(
    run: Run, top: Callable[..., Any], runtime: Path
) -> None:
    done = top(run(WITHOUT).pid)
    allowed(done)
    assert done.returncode == 1 and "it has not imported fastpool" in done.stderr
    assert left_behind(runtime) == []


def test_what_the_process_says_is_told(run: Run, top: Callable[..., Any], runtime: Path) -> None:
    (runtime / "fastpool").mkdir(mode=0o755)
    done = top(run(BUSY).pid)
    allowed(done)
    assert done.returncode == 1 and "must be a folder of this user's with mode 0700" in done.stderr


def test_a_process_that_forbids_it_is_not_attached_to(
    run: Run, top: Callable[..., Any], runtime: Path
) -> None:
    done = top(run(BUSY, PYTHON_DISABLE_REMOTE_DEBUG="1").pid)
    allowed(done)
    assert done.returncode == 1 and "It cannot be opened from here" in done.stderr
    assert "emote debugging" in done.stderr
    assert left_behind(runtime) == []


def test_what_is_no_python_is_not_attached_to(
    top: Callable[..., Any], environment: dict[str, str]
) -> None:
    with subprocess.Popen(["sleep", "1000"], env=environment) as sleeper:
        try:
            done = top(sleeper.pid)
        finally:
            sleeper.kill()
    allowed(done)
    assert done.returncode == 1 and "It cannot be opened from here" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_main_thread_that_waits_in_c_is_told(
    run: Run, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastpool.cli.top import attach

    monkeypatch.setattr(attach, "PATIENCE", 0.2)
    process = run(ASLEEP)
    with pytest.raises(attach.NotAttached) as why:
        attach.attach(process.pid)
    if "CAP_SYS_PTRACE" in str(why.value):
        pytest.skip("this system does not let one process look into another")
    assert "has come to no line of Python within 0.2 s" in str(why.value)
    (folder,) = left_behind(runtime)  # the process removes it when it gets there
    assert sorted(each.name for each in folder.iterdir()) == ["script.py"]
    assert os.stat(folder).st_mode & 0o077 == 0
    assert process.stdin is not None
    process.stdin.write(b"x")
    process.stdin.flush()
    eventually(lambda: left_behind(runtime) == [] and debug.sockets().get(process.pid))

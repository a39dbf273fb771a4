"""`fastpool top` without a terminal: the table, JSON, and what it says where nobody is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration.top.conftest import LEAK, Program

pytestmark = [
    pytest.mark.process,
    pytest.mark.once,
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets"),
]

Top = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., Program]


def ended(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It has said this on the standard error, and nothing on the other."""
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.startswith("fastpool top: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


# ---- what is shown -----------------------------------------------------------------------------


def test_one_table_names_the_code_that_leaks(program: Program, top: Top) -> None:
    program.tell("turn")
    done = top(program.address, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert f"process {program.pid}" in lines[0]
    assert max(map(len, lines)) <= 80
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert lines[2].split() == [
        *("POOL", "KIND", "USED/MAX", "IDLE", "WAIT", "P50/P99", "NEW/S", "T/O", "OLDEST")
    ]
    (orders,) = (line.split() for line in lines if line.startswith("orders "))
    assert orders[1:5] == ["FastPool", "2/3", "1", "0"] and orders[7] == "1"
    at = next(i for i, line in enumerate(lines) if line.startswith("orders: held for "))
    assert "by checkout-7, taken at" in lines[at]
    assert lines[at + 1].endswith(LEAK)
    assert lines[-1] == "The line that took a lease is known of pools with leak_after."


def test_every_kind_of_pool_has_its_queue(program: Program, top: Top) -> None:
    done = top(program.address, "--once")
    cells = {line.split()[0]: line.split()[1:5] for line in done.stdout.splitlines() if line}
    assert cells["servers"] == ["KeyedPool", "2/5", "0", "0"]
    assert cells["shared"] == ["SharedPool", "1/20", "0", "0"]
    assert cells["memory"] == ["Semaphore", "40/100", "-", "0"]
    assert cells["reports"] == ["WorkerPool", "0", "-", "0"]


def test_without_a_terminal_it_is_one_table(program: Program, top: Top) -> None:
    done = top(program.address)
    assert done.returncode == 0 and done.stdout.count("POOL ") == 1


def test_json_is_an_object_a_queue(program: Program, top: Top) -> None:
    done = top(program.address, "--once", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert set(rows) == {"orders", "servers", "shared", "memory", "reports"}
    orders = rows["orders"]
    assert (orders["pid"], orders["used"], orders["max"]) == (program.pid, 1, 3)
    assert orders["oldest"]["thread"] == "checkout-7" and orders["oldest"]["age"] > 0
    assert orders["oldest"]["place"].endswith(LEAK)
    assert orders["creates_per_s"] == 0.0 and orders["wait_p50"] is None


def test_json_goes_on_until_the_process_ends(program: Program, environment: Any) -> None:
    command = [sys.executable, "-m", "fastpool", "top", program.address]
    viewer = subprocess.Popen(
        [*command, "--json", "--interval", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert viewer.stdout is not None
    seen = [json.loads(viewer.stdout.readline()) for _ in range(11)]
    assert len({row["time"] for row in seen}) == 3  # of five pools
    program.end()
    _, said = viewer.communicate()
    assert viewer.returncode == 1
    assert "has closed the connection" in said


# ---- which process -----------------------------------------------------------------------------


def test_a_process_is_found_by_its_number(start: Start, top: Top) -> None:
    program = start(FASTPOOL_DEBUG_SOCKET="1")
    done = top(program.pid, "--once")
    assert done.returncode == 0 and f"process {program.pid}" in done.stdout


def test_the_only_process_need_not_be_named(start: Start, top: Top, runtime: Path) -> None:
    program = start(FASTPOOL_DEBUG_SOCKET="1")
    dead = start(FASTPOOL_DEBUG_SOCKET="1")
    dead.end()  # killed: its socket is left behind
    assert (runtime / "fastpool" / f"{dead.pid}.sock").exists()
    # the viewer's own socket is not meant, either
    done = top("--once", FASTPOOL_DEBUG_SOCKET="1")
    assert done.returncode == 0 and f"process {program.pid}" in done.stdout


def test_several_processes_are_listed(start: Start, top: Top) -> None:
    programs = [start(FASTPOOL_DEBUG_SOCKET="1") for _ in range(2)]
    done = top("--once")
    ended(done, 1, "say which", *(str(program.pid) for program in programs))
    assert done.stderr.count("leak.py") == 2


def test_nobody_there_says_how_to_open_a_socket(top: Top) -> None:
    ended(top(), 1, "No process with", "FASTPOOL_DEBUG_SOCKET=1", "fastpool.debug.serve()")


def test_a_process_without_a_socket_says_how_to_open_one(top: Top) -> None:
    done = top(os.getpid())
    ended(done, 1, f"{os.getpid()} has no debug socket", "FASTPOOL_DEBUG_SOCKET=1")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python can attach")
def test_an_old_python_says_what_attaching_needs(top: Top) -> None:
    ended(top(os.getpid()), 1, "Python 3.14")


def test_a_number_that_is_nobodys(top: Top) -> None:
    ended(top(2**40), 1, "There is no process 1099511627776")


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("/tmp/s", 2, ["unix:PATH", "process number"]),
        ("unix:/nowhere/s", 1, ["Nobody listens", "FASTPOOL_DEBUG_SOCKET=1"]),
        ("tcp:127.0.0.1:1", 1, ["Nobody listens"]),
        ("tcp:10.0.0.1:1", 2, ["loopback only", "ssh -L"]),
        ("unix:\x1b[2J", 1, ["Nobody listens at unix:?[2J"]),
    ],
)
def test_a_wrong_address_is_explained(top: Top, address: str, code: int, words: list[str]) -> None:
    ended(top(address, "--once"), code, *words)


# ---- being let in ------------------------------------------------------------------------------


def test_a_token_comes_from_the_environment_or_the_command(start: Start, top: Top) -> None:
    program = start("tcp:127.0.0.1:0", "sesame")
    assert top(program.address, FASTPOOL_DEBUG_TOKEN="sesame").returncode == 0
    assert top(program.address, "--token", "sesame").returncode == 0
    ended(top(program.address), 1, "wants a token", "FASTPOOL_DEBUG_TOKEN", "--token")
    ended(top(program.address, "--token", "x"), 1, "the token is wrong", "FASTPOOL_DEBUG_TOKEN")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")
def test_a_socket_of_another_user_is_explained(program: Program, top: Top, runtime: Path) -> None:
    (runtime / "s").chmod(0)
    ended(top(program.address), 1, "permission denied", "root")


def test_another_user_is_told_so(
    program: Program, environment: dict[str, str], runtime: Path
) -> None:
    """The same for root, who has to become somebody first."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    code = (
        "import contextlib, io, os, sys; from fastpool.cli import main\n"
        "with contextlib.redirect_stderr(io.StringIO()): main(['top', '/'])  # all is imported\n"
        "os.setuid(65534); sys.exit(main(['top', *sys.argv[1:]]))"
    )
    for target in (program.address, str(program.pid)):
        command = [sys.executable, "-c", code, target]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        ended(done, 1, "permission denied", "root")

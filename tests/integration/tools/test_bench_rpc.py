"""The measurements of fastpool.rpc: they run, count on the server's side, and can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rpc import report
from bench.rpc.clients import ROWS, Client, Contestant, locked_proxy, our_xmlrpc, proxy_per_call
from bench.rpc.round_trips import CALLERS, Result, Turn, measure
from bench.rpc.server import Server

pytestmark = [pytest.mark.process, pytest.mark.once]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def test_the_server_counts_connections(server: Server) -> None:
    contestants = [
        Contestant("ours", our_xmlrpc),
        Contestant("one", locked_proxy),
        Contestant("each", proxy_per_call),
    ]
    ours, one, each = measure(contestants, server, rounds=1, calls=2)
    assert [result.turns[0].errors for result in (ours, one, each)] == [0, 0, 0]
    assert 1 <= ours.turns[0].opened <= ours.turns[0].most + 1 <= 9
    assert one.turns[0].opened == 1
    assert each.turns[0].opened == 3 * CALLERS  # with the one to warm up


def test_wrong_answers_and_exceptions_are_errors(server: Server) -> None:
    def fail(number: int) -> int:
        raise OSError

    for ask in (lambda number: -1, fail):
        contestant = Contestant("wrong", lambda url, ask=ask: Client(ask, lambda: None))
        [result] = measure([contestant], server, rounds=1, calls=2)
        assert result.turns[0].errors == 2 * CALLERS


def test_a_contestant_that_is_not_installed_is_said_so(server: Server) -> None:
    def missing(url: str) -> Client:
        raise ModuleNotFoundError("no", name="nothing")

    [result] = measure([Contestant("missing", missing)], server, rounds=2, calls=1)
    assert (result.turns, result.why) == ([], "not installed: nothing")
    assert "missing: not installed: nothing" in report.table("X", [result])


def test_the_table_is_80_columns_wide_and_says_what_is_lost() -> None:
    turn = Turn(rate=12345.6, cpu=12345.6, errors=3, calls=1600, opened=1600, most=1600)
    for row, (_, contestants) in ROWS.items():
        results = [Result(contestant.name, [turn]) for contestant in contestants]
        lines = [*report.table(row, results).splitlines(), *report.legend(50, 9).splitlines()]
        assert max(map(len, lines)) <= report.WIDTH
    fast, slow = Result("fast", [turn]), Result("slow", [turn.__class__(1.0, 1, 0, 1, 1, 1)])
    assert report.lost({"X": [slow, fast]}) and not report.lost({"X": [fast, slow]})


@pytest.mark.long
def test_the_command_runs_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.rpc", "--quick", "--only", "X", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert "fastpool.rpc.xmlrpc" in done.stdout
    [path] = tmp_path.glob("rpc-*.json")
    ours, *_ = json.loads(path.read_text())["rows"]["X"]
    assert all(turn["errors"] == 0 and turn["most"] <= 8 for turn in ours["turns"])

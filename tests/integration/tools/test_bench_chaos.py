"""The chaos run of gRPC calls, for some seconds: its table, and that nothing is held at its end."""

from __future__ import annotations

import random
import socket
import subprocess
import sys

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from bench.grpc import chaos  # noqa: E402
from bench.grpc.bad_link import BadLink  # noqa: E402
from bench.grpc.clients import path  # noqa: E402
from bench.report import WIDTH  # noqa: E402
from integration.grpc.server import GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once, pytest.mark.costly]


def rows_of(printed: str) -> dict[str, list[str]]:
    lines = [line.strip("| ") for line in printed.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines[2:]]
    return {name: others for name, *others in cells}


@pytest.mark.long
def test_a_short_run_leaves_no_slot_and_no_queue() -> None:
    """Whatever the links and the server do: a row for each, and ours hold nothing at the end."""
    command = [sys.executable, "-m", "bench.grpc.chaos", "--seconds", "4", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= WIDTH
    rows = rows_of(done.stdout)
    assert set(rows) == set(chaos.CONTESTANTS)
    for name, row in rows.items():
        assert row[-1] == ("0, 0" if name.startswith("ours") else "-"), done.stdout
        assert int(row[0].replace(",", "")) > 0, done.stdout
    assert "the server is killed" in done.stderr


def test_an_outage_that_did_not_end_is_one() -> None:
    """A contestant whose calls never went well again has its last outage counted."""
    tally = chaos.Tally()
    tally.note("OK")
    tally.note("UNAVAILABLE")
    tally._last -= 7  # the call that went well was so many seconds ago
    tally.end()
    calls, lost, share, outages, median, longest, left = tally.cells()
    assert (calls, lost, share, outages, left) == ("2", "1", "50.00 %", "1", "-")
    assert median == longest and median.startswith("7.")


def test_acts_are_done_to_connections_that_are_open() -> None:
    """Chance picks none that has ended: each act hits something, with every contestant."""
    with GrpcServer() as server, BadLink(server.port) as link:
        dice = random.Random(1)
        assert link.one(dice) is None
        for number in (1, 2):
            with grpc.insecure_channel(link.target, [("number", number)]) as channel:
                assert channel.unary_unary(path("Say"))(b"x", timeout=60) == b"x"
                (link_of_it,) = [each for each in link.links if each.is_open]
                assert all(link.one(dice) is link_of_it for _ in range(20))
                link_of_it.half_close()
            eventually(lambda: link.one(dice) is None)


def test_a_link_that_has_ended_takes_no_more_connections() -> None:
    """A client that comes back just then is refused; taken in, its socket would be left open."""
    with socket.create_server(("127.0.0.1", 0)) as behind:
        with BadLink(behind.getsockname()[1]) as link:
            host, port = link.target.split(":")
            with socket.create_connection((host, int(port)), 10):
                eventually(lambda: link.links)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), 10).close()
    for each in link.links:
        assert each.near.fileno() == each.far.fileno() == -1

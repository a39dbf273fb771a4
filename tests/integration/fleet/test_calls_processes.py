"""`CallPolicy(limit=budget)` in two processes: the partner that they call counts the calls.

A call is out of its count before its process is told that it is over, so what the partner counts is
never more than there are permits; of a process that was killed it hears a moment later.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest

from fastpool.fleet import LocalBudget
from support.helpers import PATIENCE, eventually

pytestmark = [
    pytest.mark.once,  # what passes between processes; `contract/fleet` is tried on each
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="open file description locks"),
]

LIMIT = 6
KINDS = ("threads", "tasks")


class Partner(ThreadingTCPServer):
    """Counts the calls that are in it, by process.  While it is ``closed`` no call ends."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.lock = threading.Lock()
        self.inside: Counter[int] = Counter()
        self.served: Counter[int] = Counter()
        self.most = 0
        self.opened = threading.Event()
        self.opened.set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def enter(self, pid: int) -> None:
        with self.lock:
            self.inside[pid] += 1
            self.most = max(self.most, self.inside.total())

    def leave(self, pid: int) -> None:
        with self.lock:
            self.inside[pid] -= 1
            self.served[pid] += 1

    def handle_error(self, *_: Any) -> None:
        """A client that was killed."""


class Visit(StreamRequestHandler):
    server: Partner

    def handle(self) -> None:
        pid = int(self.rfile.readline())
        self.server.enter(pid)
        try:
            self.server.opened.wait(PATIENCE)
        finally:
            self.server.leave(pid)
        self.wfile.write(b"!")


@pytest.fixture
def partner() -> Iterator[Partner]:
    with Partner() as partner:
        yield partner
        partner.opened.set()
        partner.shutdown()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "partner.budget")


Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(path: str, partner: Partner) -> Iterator[Start]:
    """A process with twice as many callers as there are permits."""
    started: list[subprocess.Popen[bytes]] = []

    def start(kind: str) -> subprocess.Popen[bytes]:
        program = [sys.executable, str(Path(__file__).with_name("calling.py"))]
        port = str(partner.server_address[1])
        given = [path, str(LIMIT), port, str(2 * LIMIT), kind]
        started.append(subprocess.Popen([*program, *given]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_calls_in_force_are_never_above_the_limit(start: Start, partner: Partner) -> None:
    """Of threads in one process and tasks in the other, some hundred calls of each."""
    pids = [start(kind).pid for kind in KINDS]
    eventually(lambda: all(partner.served[pid] >= 300 for pid in pids))
    assert partner.most <= LIMIT
    partner.opened.clear()
    eventually(lambda: partner.inside.total() == LIMIT)  # and no more than these can begin
    assert partner.most == LIMIT


@pytest.mark.parametrize("kind", KINDS)
def test_killed_process_gives_its_permits_back(
    kind: str, start: Start, partner: Partner, path: str
) -> None:
    """Though all its calls were under way, and none of them has ended."""
    partner.opened.clear()
    dying = start(kind)
    eventually(lambda: partner.inside[dying.pid] == LIMIT)
    waiting = start(kind)
    wanted = waiting.pid, 2 * LIMIT
    eventually(lambda: wanted in [(m.pid, m.wanted) for m in LocalBudget.report(path).members])
    assert partner.inside[waiting.pid] == 0
    dying.kill()
    dying.wait()
    eventually(lambda: partner.inside[waiting.pid] == LIMIT)
    assert LocalBudget.report(path).in_force == LIMIT

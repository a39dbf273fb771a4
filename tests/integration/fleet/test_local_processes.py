"""LocalBudget with real processes: killed, stopped, forked, and a limit that changes.

Permits are counted where the truth is: as locks that another open file cannot take.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastpool.fleet import LocalBudget
from fastpool.fleet._permit_file import PERMITS, PermitFile
from integration.fleet.processes import Worker
from support.helpers import eventually

pytestmark = [
    pytest.mark.once,  # what passes between processes; `contract/fleet` is tried on each
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="open file description locks"),
]

LIMIT = 6


class Watch:
    """Counts the permits in force, all the time, and keeps the largest number."""

    def __init__(self, path: str) -> None:
        self.file = PermitFile(path, LIMIT)
        self.most = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def count(self) -> int:
        """Locks of others; none is taken for it."""
        return sum(self.file._is_locked(PERMITS + n) for n in range(4 * LIMIT))

    def _run(self) -> None:
        while not self.stop.is_set():
            self.most = max(self.most, self.count())
            time.sleep(0.001)  # not to be right: to leave the processor to others

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        self.file.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "orders.budget")


@pytest.fixture
def watch(path: str) -> Iterator[Watch]:
    """When the test ends, no more than the limit was ever in force."""
    watch = Watch(path)
    yield watch
    watch.close()
    assert watch.most <= LIMIT


@pytest.fixture
def start(path: str, watch: Watch) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start(slots: int = 0) -> Worker:
        workers.append(Worker(path, LIMIT, slots=slots))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


def test_sum_over_processes_is_never_above_the_limit(
    start: Callable[[], Worker], watch: Watch
) -> None:
    """Three of them want four each of six: they get two each."""
    workers = [start() for _ in range(3)]
    for worker in workers:
        worker.do("take 4")
    eventually(lambda: watch.count() == LIMIT)
    eventually(lambda: sum(worker.leased for worker in workers) == LIMIT)


def test_shared_pools_have_a_permit_for_each_resource(
    start: Callable[..., Worker], watch: Watch
) -> None:
    """Not for each of its two slots: the leases of two processes are on six resources, and when one
    process is killed the other opens more."""
    dying, waiting = start(slots=2), start(slots=2)
    dying.do("take 12")
    eventually(lambda: dying.leased == 12)
    waiting.do("take 12")
    assert waiting.leased == 0
    assert dying.do("stats").split()[1] == "6"
    dying.kill()
    eventually(lambda: waiting.leased == 12)
    assert watch.count() == LIMIT


def test_permits_of_a_killed_process_are_usable_at_once(
    start: Callable[[], Worker], watch: Watch
) -> None:
    """No lease has to run out: the kernel frees them."""
    dying, waiting = start(), start()
    dying.do("take 6")
    eventually(lambda: dying.leased == 6)
    waiting.do("take 6")
    assert waiting.leased == 0
    dying.kill()
    eventually(lambda: waiting.leased == 6)


def test_stopped_process_keeps_its_own_and_holds_up_nobody(
    start: Callable[[], Worker], watch: Watch
) -> None:
    """What it has is not taken; what is free goes to others meanwhile."""
    stopped, other = start(), start()
    stopped.do("take 4")
    eventually(lambda: stopped.leased == 4)
    stopped.signal(signal.SIGSTOP)
    other.do("take 6")
    eventually(lambda: other.leased == 2)
    assert watch.count() == LIMIT
    stopped.signal(signal.SIGCONT)
    stopped.do("give 4")
    eventually(lambda: other.leased == 6)


def test_share_of_a_stopped_process_goes_to_others(
    start: Callable[[], Worker], watch: Watch, path: str
) -> None:
    """It wanted all and had none yet when it was stopped."""
    stopped, other = start(), start()
    blocker = PermitFile(path, LIMIT)
    assert len(blocker.take(LIMIT, LIMIT, 0)) == LIMIT
    stopped.do("take 6")
    eventually(lambda: stopped.do("stats").split()[2] == "6")
    stopped.signal(signal.SIGSTOP)
    blocker.close()
    other.do("take 6")
    eventually(lambda: other.leased == 6)


def test_forked_child_has_none_of_its_parents_permits(
    start: Callable[[], Worker], watch: Watch
) -> None:
    """It borrows under permits of its own; when the parent is killed the child keeps none of the
    parent's."""
    parent, other = start(), start()
    parent.do("take 3")
    eventually(lambda: parent.leased == 3)
    said = {parent.do("fork"), parent.hear()}
    assert "child has borrowed" in said
    (child,) = (int(word) for word in said if word.isdigit())
    assert watch.count() == 4
    try:
        parent.kill()
        eventually(lambda: watch.count() == 1)  # the child's idle one
        other.do("take 6")
        eventually(lambda: other.leased == 6)
    finally:
        os.kill(child, signal.SIGKILL)


def test_shares_move_to_who_needs_them(start: Callable[[], Worker], watch: Watch) -> None:
    rich, poor = start(), start()
    rich.do("take 6")
    eventually(lambda: rich.leased == 6)
    poor.do("take 3")
    rich.do("give 6")
    eventually(lambda: poor.leased == 3)
    poor.do("give 3")
    rich.do("take 6")
    eventually(lambda: rich.leased == 6)


def test_limit_changes_for_all(start: Callable[[], Worker], watch: Watch, path: str) -> None:
    """Lowered, what is lent stays until it comes back; raised, who waits is served."""
    workers = [start(), start()]
    for worker in workers:
        worker.do("take 3")
    eventually(lambda: sum(worker.leased for worker in workers) == 6)
    budget = LocalBudget(path)
    budget.limit = 2
    for worker in workers:
        worker.do("give 3")
    eventually(lambda: watch.count() <= 2)
    for worker in workers:
        worker.do("take 3")
    eventually(lambda: sum(worker.leased for worker in workers) == 2)
    budget.limit = LIMIT
    eventually(lambda: sum(worker.leased for worker in workers) == 6)

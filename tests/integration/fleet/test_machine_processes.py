"""Processes of two machines that share one Redis: a member for each machine.  Its leader is killed,
stopped or forked.

A machine is a file. Leases are so long that no test could wait for the end of one: what is had
after a death was had without it. Resources are connections to a server that counts them.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.measure import NotRun
from fastpool import FastPool
from fastpool.fleet import LocalBudget, RedisBudget
from integration.drivers import killed_servers
from integration.fleet.counting_server import CountingServer
from integration.fleet.processes import Worker
from support.helpers import PATIENCE, eventually

redis = pytest.importorskip("redis")
pytestmark = [
    pytest.mark.servers,
    pytest.mark.process,
    pytest.mark.once,  # what passes between processes; `contract/fleet` is tried on each
    pytest.mark.skipif(sys.platform != "linux", reason="open file description locks"),
]
LIMIT = 6
databases = itertools.count()  # one for each test


class Fleet:
    """Machines, each a file, and their processes."""

    def __init__(self, folder: Path, url: str, server: CountingServer) -> None:
        self.folder, self.url, self.server = folder, url, server
        self.workers: list[Worker] = []
        self.slack = 0  # connections that may be open besides: see below

    def path(self, machine: str) -> str:
        return str(self.folder / f"{machine}.budget")

    def start(self, machine: str) -> Worker:
        where = f"{self.path(machine)}@{self.url}"
        self.workers.append(Worker(where, LIMIT, server=self.server.port))
        return self.workers[-1]

    def members(self) -> list[tuple[str, int]]:
        """As the engine knows them: what each is called, and has."""
        report = RedisBudget.report(self.url, "orders")
        return sorted((member.name, member.held) for member in report.members)

    def leads(self, worker: Worker) -> bool:
        return worker.do("leads") == "1"

    def two(self, machine: str) -> tuple[Worker, Worker]:
        """A process that leads, and another one; each has one resource that is idle."""
        one, other = self.start(machine), self.start(machine)
        for worker in (one, other):
            borrow(worker, 1)
            give(worker, 1)
        eventually(lambda: self.leads(one) != self.leads(other))
        return (one, other) if self.leads(one) else (other, one)

    def kill(self, worker: Worker) -> None:
        """The kernel frees its locks first, and closes its connections some microseconds later."""
        self.slack += int(worker.do("stats").split()[1])
        worker.kill()


def borrow(worker: Worker, n: int) -> None:
    before = worker.leased
    worker.do(f"take {n}")
    eventually(lambda: worker.leased == before + n)


def give(worker: Worker, n: int) -> None:
    worker.do(f"give {n}")


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """The URL of a Redis."""
    try:
        with killed_servers.running(killed_servers.Redis) as server:
            yield f"redis://127.0.0.1:{server.port}"
    except NotRun as reason:
        pytest.skip(str(reason))


@pytest.fixture
def fleet(engine: str, tmp_path: Path) -> Iterator[Fleet]:
    """The engine has learned already that there are no other members; in the end no more than the
    limit was ever open at once."""
    engine = f"{engine}/{next(databases)}"
    budget = RedisBudget(engine, "orders", LIMIT, ttl=0.3, grace=0.05)
    with FastPool(1, factory=Resource, budget=budget, timeout=PATIENCE) as pool:
        pool.acquire().release()
    eventually(lambda: not RedisBudget.report(engine, "orders").members)
    server = CountingServer()
    fleet = Fleet(tmp_path, engine, server)
    yield fleet
    for worker in fleet.workers:
        worker.end()
    server.close()
    assert server.most <= LIMIT + fleet.slack


class Resource:
    def close(self) -> None:
        pass


def test_machine_whose_last_process_ends_leaves_no_permit_to_its_lease(fleet: Fleet) -> None:
    """Its lease would last for minutes.  As long as others are there, they keep it."""
    leader, other = fleet.two("a")
    leader.quit()
    borrow(other, 1)
    ((_, held),) = fleet.members()
    assert held >= 1
    give(other, 1)
    eventually(lambda: fleet.leads(other))
    other.quit()
    assert fleet.members() == []


def test_machine_is_one_member_and_shares_are_those_of_machines(fleet: Fleet) -> None:
    """Three processes on one, one on the other: three permits each."""
    workers = [fleet.start("a") for _ in range(3)] + [fleet.start("b")]
    for worker in workers:
        worker.do("take 6")
    eventually(lambda: sum(worker.leased for worker in workers) == LIMIT)

    def leased() -> list[int]:
        """By each; and then each gives all back and wants as many again."""
        found = [worker.leased for worker in workers]
        for worker, n in zip(workers, found, strict=True):
            give(worker, n)
            worker.do(f"take {n}")
        return found

    eventually(lambda: leased() == [1, 1, 1, 3])
    eventually(lambda: [n for _, n in fleet.members()] == [3, 3])
    assert LocalBudget.report(fleet.path("a")).limit == 3


def test_recall_reaches_every_process(fleet: Fleet) -> None:
    """What is idle is closed wherever it is, and what is lent when it comes back."""
    one, other, poor = fleet.start("a"), fleet.start("a"), fleet.start("b")
    borrow(one, 3)
    borrow(other, 3)
    give(one, 2)
    poor.do("take 3")
    eventually(lambda: poor.leased == 2)
    give(other, 1)
    eventually(lambda: poor.leased == 3)
    assert (one.leased, other.leased) == (1, 2)


def test_permits_of_a_killed_process_are_its_siblings_at_once(fleet: Fleet) -> None:
    leader, dying = fleet.two("a")
    borrow(dying, 5)
    leader.do("take 6")
    eventually(lambda: leader.leased == 1)
    fleet.kill(dying)
    eventually(lambda: leader.leased == 6)
    assert [n for _, n in fleet.members()] == [LIMIT]


def test_killed_leader_is_followed_under_the_same_name(fleet: Fleet) -> None:
    """Its permits are usable at once, and the next leader gets more of the engine."""
    leader, heir = fleet.two("a")
    far = fleet.start("b")
    borrow(far, 3)
    borrow(leader, 2)
    before = [name for name, _ in fleet.members()]
    heir.do("take 6")
    fleet.kill(leader)
    eventually(lambda: heir.leased == 3)
    give(far, 3)
    eventually(lambda: heir.leased == 6)
    assert fleet.leads(heir)
    assert [name for name, _ in fleet.members()] == before


def test_stopped_leader_is_followed_and_yields_when_it_goes_on(fleet: Fleet) -> None:
    """It keeps what it has; what it says later the engine skips, and the file does not take."""
    leader, heir = fleet.two("a")
    far = fleet.start("b")
    borrow(leader, 2)
    borrow(far, 3)
    leader.signal(signal.SIGSTOP)
    heir.do("take 4")
    give(far, 3)
    eventually(lambda: heir.leased == 4)
    assert fleet.leads(heir)
    leader.signal(signal.SIGCONT)
    give(leader, 2)
    heir.do("take 2")
    eventually(lambda: heir.leased == 6)
    eventually(lambda: fleet.leads(leader) != fleet.leads(heir))


def test_forked_child_of_the_leader_does_not_lead(fleet: Fleet) -> None:
    """It has permits of its own; when the leader is killed one of those that are left leads."""
    leader, heir = fleet.two("a")
    borrow(leader, 2)
    fleet.slack += 2  # of these the child has copies, as long as it lives
    said = {leader.do("fork"), leader.hear()}
    (child,) = (int(word) for word in said if word.isdigit())
    try:
        fleet.kill(leader)
        heir.do("take 6")
        eventually(lambda: heir.leased == 6)
        assert len(fleet.members()) == 1
    finally:
        os.kill(child, signal.SIGKILL)


def test_last_process_to_leave_takes_the_machine_with_it(fleet: Fleet) -> None:
    """While another is there it hands over, and keeps nothing from it."""
    leader, heir = fleet.two("a")
    borrow(heir, 2)
    leader.do("close")
    eventually(lambda: fleet.leads(heir))
    borrow(heir, 4)
    assert len(fleet.members()) == 1
    give(heir, 6)
    heir.do("close")
    eventually(lambda: fleet.members() == [])
    assert LocalBudget.report(fleet.path("a")).limit == 0


def test_limit_of_the_file_follows_the_parent(fleet: Fleet) -> None:
    worker = fleet.start("a")
    borrow(worker, 6)
    RedisBudget(fleet.url, "orders").limit = 2
    eventually(lambda: LocalBudget.report(fleet.path("a")).limit == 2)
    give(worker, 6)
    worker.do("take 6")
    eventually(lambda: worker.leased == 2)
    RedisBudget(fleet.url, "orders").limit = LIMIT
    eventually(lambda: worker.leased == 6)

"""RedisBudget with a real Redis and real processes, which are killed, stopped, emptied, replaced.

What is open is counted where it counts: at a server to which every resource is a connection.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, SharedPool
from fastpool.fleet import RedisBudget
from integration.drivers import killed_servers
from integration.fleet.counting_server import CountingServer
from integration.fleet.processes import Worker
from support.helpers import PATIENCE, eventually

redis = pytest.importorskip("redis")
pytestmark = [
    pytest.mark.once,  # what passes between processes; `contract/fleet` is tried on each
    pytest.mark.servers,
    pytest.mark.process,
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
]
LIMIT = 6


@pytest.fixture
def server() -> Iterator[CountingServer]:
    server = CountingServer()
    yield server
    server.close()


@pytest.fixture
def start(engine: Any, server: CountingServer) -> Iterator[Callable[[], Worker]]:
    """Starts processes; in the end no more than the limit was ever open at once, unless one of them
    was paused for longer than its lease, by the test or by the machine."""
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker(f"redis://127.0.0.1:{engine.port}", LIMIT, server=server.port))
        return workers[-1]

    yield start
    lapses = sum(worker.lapses for worker in workers if worker.process.poll() is None)
    for worker in workers:
        worker.end()
    assert lapses or server.most <= LIMIT


def test_sum_over_processes_is_never_above_the_limit(
    start: Callable[[], Worker], server: CountingServer
) -> None:
    """Three of them want four each of six: they get two each."""
    workers = [start() for _ in range(3)]
    for worker in workers:
        worker.do("take 4")
    eventually(lambda: sum(worker.leased for worker in workers) == LIMIT)
    assert server.open == LIMIT


def in_force(engine: Any) -> int:
    """As the engine counts."""
    return RedisBudget.report(f"redis://127.0.0.1:{engine.port}", "orders").in_force


@pytest.mark.parametrize("how", ["quit", "leave"])
def test_process_that_ends_leaves_no_permit_to_its_lease(
    start: Callable[[], Worker], engine: Any, how: str
) -> None:
    """Whether or not it closes its pools, which have idle resources: who comes next in a deploy
    need not wait until the lease is over."""
    worker = start()
    worker.do("take 4")
    eventually(lambda: worker.leased == 4)
    worker.do("give 4")
    assert in_force(engine) == 4
    worker.quit(how)
    assert in_force(engine) == 0


def test_process_that_ends_keeps_what_is_lent_for_its_lease(
    start: Callable[[], Worker], engine: Any
) -> None:
    """Nobody knows when the borrower's connection is gone."""
    worker = start()
    worker.do("take 4")
    eventually(lambda: worker.leased == 4)
    worker.do("give 3")
    worker.quit()
    assert in_force(engine) == 1


def test_process_ends_though_the_engine_is_gone(start: Callable[[], Worker], engine: Any) -> None:
    worker = start()
    worker.do("take 2")
    eventually(lambda: worker.leased == 2)
    worker.do("give 2")
    engine.kill()
    worker.quit()


def test_shares_move_to_who_needs_them(start: Callable[[], Worker]) -> None:
    rich, poor = start(), start()
    rich.do("take 6")
    eventually(lambda: rich.leased == 6)
    poor.do("take 3")
    rich.do("give 6")
    eventually(lambda: poor.leased == 3)


def test_permits_of_a_killed_process_come_back(start: Callable[[], Worker]) -> None:
    """When its lease has run out."""
    dying, waiting = start(), start()
    dying.do("take 6")
    eventually(lambda: dying.leased == 6)
    waiting.do("take 6")
    dying.kill()
    eventually(lambda: waiting.leased == 6)


def test_process_that_was_stopped_beyond_its_lease_shrinks(
    start: Callable[[], Worker], server: CountingServer
) -> None:
    """Others have its permits by then; when it goes on it is told, and closes what comes back."""
    stopped, other = start(), start()
    stopped.do("take 4")
    eventually(lambda: stopped.leased == 4)
    stopped.signal(signal.SIGSTOP)
    other.do("take 6")
    eventually(lambda: other.leased == 6)
    stopped.signal(signal.SIGCONT)
    eventually(lambda: stopped.lapses >= 1)
    stopped.do("give 4")
    eventually(lambda: server.open == LIMIT)
    other.do("give 6")
    stopped.do("take 2")
    eventually(lambda: stopped.leased == 2)


def test_engine_that_lost_everything_learns_it_anew(
    start: Callable[[], Worker], engine: Any, server: CountingServer
) -> None:
    """Who has what is said by those who have it, and nothing is given out before."""
    one, other = start(), start()
    one.do("take 4")
    eventually(lambda: one.leased == 4)
    with redis.Redis(port=engine.port) as client:
        client.flushall()
    other.do("take 6")
    eventually(lambda: other.leased == 2)
    assert server.open == LIMIT
    assert one.leased == 4


def test_engine_that_is_down_costs_borrowers_nothing(
    start: Callable[[], Worker], engine: Any, server: CountingServer
) -> None:
    """What is open is lent on meanwhile; when it is back, and empty, all goes on."""
    one, other = start(), start()
    one.do("take 3")
    other.do("take 3")
    eventually(lambda: one.leased == other.leased == 3)
    engine.kill()
    for _ in range(3):
        one.do("give 3")
        one.do("take 3")
        eventually(lambda: one.leased == 3)
    engine.start()
    one.do("give 3")
    other.do("take 2")
    eventually(lambda: other.leased == 5)


def test_forked_child_is_a_member_of_its_own(
    start: Callable[[], Worker], server: CountingServer
) -> None:
    parent, other = start(), start()
    parent.do("take 3")
    eventually(lambda: parent.leased == 3)
    said = {parent.do("fork"), parent.hear()}
    assert "child has borrowed" in said
    (child,) = (int(word) for word in said if word.isdigit())
    os.kill(child, signal.SIGKILL)  # it reads from the same pipe as its parent
    other.do("take 3")
    eventually(lambda: other.leased == 3)  # when the lease of the child has ended
    assert parent.leased == 3


def test_replica_that_takes_over_goes_on(tmp_path: Any, engine: Any) -> None:
    """It may not know the latest, so it learns first; nobody loses what it has."""
    with killed_servers.running(killed_servers.Redis) as copy:
        second = redis.Redis(port=copy.port)
        second.replicaof("127.0.0.1", engine.port)
        eventually(lambda: second.info("replication")["master_link_status"] == "up")
        client = redis.Redis(port=engine.port, socket_timeout=1.0)
        budget = RedisBudget(client, "orders", LIMIT, ttl=2, grace=0.5)
        with FastPool(9, factory=object, budget=budget, timeout=PATIENCE) as pool:
            leases = [pool.acquire() for _ in range(4)]
            eventually(lambda: RedisBudget.report(second, "orders").in_force == 4)
            engine.kill()
            second.replicaof("NO", "ONE")
            client.connection_pool.connection_kwargs["port"] = copy.port
            client.connection_pool.reset()  # as Sentinel's does
            leases += [pool.acquire() for _ in range(2)]  # when it has learned
            assert RedisBudget.report(second, "orders").in_force == LIMIT
            for lease in leases:
                lease.release()
        client.close()
        second.close()


def test_every_kind_of_pool_has_its_part(engine: Any) -> None:
    """And what they share is one member, which leaves with the last of them."""
    url = f"redis://127.0.0.1:{engine.port}"
    budget = RedisBudget(url, "orders", LIMIT, ttl=2, grace=0.5)
    options: dict[str, Any] = {"budget": budget, "timeout": PATIENCE}
    with (
        FastPool(4, factory=object, **options) as plain,
        SharedPool(object, slots=1, items=(0, 4), **options) as shared,
        KeyedPool(lambda key: object(), **options) as keyed,
    ):
        leases: list[Any] = []
        for _ in range(2):
            leases += [plain.acquire(), shared.acquire(), keyed.acquire("one")]
        (member,) = RedisBudget.report(url, "orders").members
        assert (member.held, member.name) == (6, budget.member)
        for lease in leases:
            lease.release()
    eventually(lambda: not RedisBudget.report(url, "orders").members)


def test_async_pool_borrows_too(engine: Any) -> None:
    import asyncio

    class Resource:
        async def aclose(self) -> None:
            pass

    async def create() -> Resource:
        return Resource()

    async def main() -> None:
        budget = RedisBudget(
            f"redis://127.0.0.1:{engine.port}", "orders", LIMIT, ttl=2, grace=0.5, guaranteed=1
        )
        pool: Any = FastPool(4, factory=create, budget=budget, timeout=PATIENCE)
        async with pool.lease(), pool.lease():
            assert pool.stats().budget.allowance >= 2
        await pool.aclose()

    asyncio.run(main())

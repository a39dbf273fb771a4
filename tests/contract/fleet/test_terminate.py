"""What is lent and may not be open any more ends under its borrowers: every kind of pool.

A resource is a real connection to a server that counts, and the budget does what the test says.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, SharedPool
from fastpool.fleet._sockets import end_socket
from integration.fleet.counting_server import CountingServer
from support.budgets import ScriptedBudget
from support.helpers import PATIENCE, ThreadRunner, eventually, wait_for_scheduler


@pytest.fixture
def server() -> Iterator[CountingServer]:
    server = CountingServer()
    yield server
    eventually(lambda: server.open == 0)
    server.close()


Connect = Callable[..., socket.socket]


@pytest.fixture
def connect(server: CountingServer) -> Connect:
    def connect(key: object = None) -> socket.socket:
        end = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        assert end.recv(1) == b"!"  # counted
        return end

    return connect


KINDS: dict[str, Callable[..., Any]] = {
    "pool": lambda make, **o: FastPool(5, factory=make, **o),
    "pool-caller": lambda make, **o: FastPool(5, factory=make, create_in="caller", **o),
    "pool-throughput": lambda make, **o: FastPool(5, factory=make, fairness="throughput", **o),
    "shared": lambda make, **o: SharedPool(make, items=(0, 5), slots=1, **o),
    "keyed": lambda make, **o: KeyedPool(make, max_total=5, **o),
}


class Kind:
    def __init__(self, name: str, connect: Connect) -> None:
        self.args = ("one",) if name == "keyed" else ()
        self.budget = ScriptedBudget()
        self.pool = KINDS[name](connect, budget=self.budget, timeout=PATIENCE)

    def take(self, timeout: float = PATIENCE) -> Any:
        return self.pool.acquire(*self.args, timeout=timeout)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, connect: Connect) -> Iterator[Kind]:
    kind = Kind(request.param, connect)
    yield kind
    kind.pool.close()


def is_over(lease: Any) -> bool:
    """Whether the other end is closed, as its borrower sees."""
    lease.resource.setblocking(False)
    try:
        return lease.resource.recv(1) == b""
    except BlockingIOError:
        return False


def test_idle_ones_go_first_and_then_what_is_lent(kind: Kind, server: CountingServer) -> None:
    """Of three lent and two idle one may stay: the server counts one, and a borrower goes on."""
    member = kind.budget.member
    member.allow(5)
    leases = [kind.take() for _ in range(5)]
    for lease in (leases.pop(), leases.pop()):
        lease.release()
    eventually(lambda: kind.pool.stats().idle == 2)
    member.allow(1)
    member.terminate(end_socket)
    eventually(lambda: server.open == 1)
    assert sum(is_over(lease) for lease in leases) == 2
    eventually(lambda: member.has_open(3))  # two until their borrowers give them back
    for lease in leases:
        lease.release()
    eventually(lambda: member.has_open(1))
    kind.take().release()
    assert server.open == 1 and kind.pool.stats().open == 1


def test_nothing_lent_ends_where_closing_what_is_idle_is_enough(
    kind: Kind, server: CountingServer
) -> None:
    member = kind.budget.member
    member.allow(5)
    leases = [kind.take() for _ in range(4)]
    for lease in (leases.pop(), leases.pop()):
        lease.release()
    eventually(lambda: kind.pool.stats().idle == 2)
    member.allow(2)
    for _ in range(3):
        member.terminate(end_socket)
    wait_for_scheduler()
    eventually(lambda: server.open == 2)
    assert not any(is_over(lease) for lease in leases)
    for lease in leases:
        lease.release()


def test_each_ends_once(kind: Kind) -> None:
    """The budget says so at each of its looks, until they have come back."""
    ended: list[Any] = []
    member = kind.budget.member
    member.allow(3)
    leases = [kind.take() for _ in range(3)]
    member.allow(1)
    for _ in range(5):
        member.terminate(ended.append)
    eventually(lambda: len(ended) == 2)
    member.allow(0)
    for _ in range(5):
        member.terminate(ended.append)
    eventually(lambda: len(ended) == 3)
    wait_for_scheduler()
    assert sorted(map(id, ended)) == sorted(id(lease.resource) for lease in leases)
    for lease in leases:
        lease.release()
    eventually(lambda: member.has_open(0))


def test_what_has_ended_is_not_lent_again(kind: Kind, server: CountingServer) -> None:
    """Though its permit is there again before it comes back."""
    member = kind.budget.member
    member.allow(2)
    lease = kind.take()
    ended = lease.resource
    member.allow(0)
    member.terminate(end_socket)
    eventually(lambda: server.open == 0)
    member.allow(2)
    lease.release()
    with kind.pool.lease(*kind.args) as resource:
        assert resource is not ended
    eventually(lambda: ended.fileno() < 0)  # by the pool, as ever
    eventually(lambda: member.has_open(1))


def test_who_waits_is_served_after_that(kind: Kind, runner: ThreadRunner) -> None:
    """Callers wait meanwhile, and the pool is full again when there are permits."""
    member = kind.budget.member
    member.allow(5)
    leases = [kind.take() for _ in range(5)]
    member.allow(0)
    member.terminate(end_socket)
    callers = [runner.start(kind.take) for _ in range(5)]
    eventually(lambda: kind.pool.stats().waiting == 5)
    for lease in leases:
        lease.discard()
    eventually(lambda: member.has_open(0))
    member.allow(5)
    leases = [caller.result() for caller in callers]
    assert not any(is_over(lease) for lease in leases)
    assert kind.pool.stats().leased == 5
    for lease in leases:
        lease.release()


def test_borrower_in_the_middle_of_a_read_goes_on_at_once(kind: Kind, runner: ThreadRunner) -> None:
    member = kind.budget.member
    member.allow(1)

    def read() -> bytes:
        with kind.pool.lease(*kind.args) as resource:
            resource.settimeout(None)
            return bytes(resource.recv(1))

    reader = runner.start(read)
    reader.parked()
    member.allow(0)
    member.terminate(end_socket)
    assert reader.result() == b""
    eventually(lambda: member.has_open(0))


def test_what_the_function_raises_is_logged(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """The others end all the same, and what did not is closed when it comes back."""
    ended: list[Any] = []
    member = kind.budget.member
    member.allow(3)
    leases = [kind.take() for _ in range(3)]

    def end(resource: Any) -> None:
        ended.append(resource)
        raise ValueError("not like that")

    with caplog.at_level(logging.WARNING, "fastpool"):
        member.allow(0)
        member.terminate(end)
        eventually(lambda: caplog.text.count("terminate failed") == 3)
    assert len(ended) == 3 and "not like that" in caplog.text
    for lease in leases:
        lease.release()
    eventually(lambda: member.has_open(0))


def test_all_leases_of_a_shared_resource_end_with_it(
    connect: Connect, server: CountingServer
) -> None:
    budget = ScriptedBudget()
    with SharedPool(connect, items=(0, 2), slots=3, budget=budget, timeout=PATIENCE) as pool:
        budget.member.allow(2)
        leases = [pool.acquire() for _ in range(6)]
        budget.member.allow(1)
        budget.member.terminate(end_socket)
        eventually(lambda: server.open == 1)
        assert sum(is_over(lease) for lease in leases) == 3
        assert budget.member.has_open(2)
        for lease in leases:
            lease.release()
        eventually(lambda: budget.member.has_open(1))


def test_leases_that_take_permits_end_with_their_resources(
    connect: Connect, server: CountingServer
) -> None:
    """``units="slots"``: those resources end whose leases are the fewest that are enough, once
    each; they count until they are given back, and the others go on."""
    budget = ScriptedBudget()
    with SharedPool(
        connect, items=(0, 3), slots=4, budget=budget, units="slots", timeout=PATIENCE
    ) as pool:
        budget.member.allow(12)
        leases = [pool.acquire() for _ in range(12)]
        of: dict[Any, list[Any]] = {}
        for lease in leases:
            of.setdefault(lease.resource, []).append(lease)
        loads = dict(zip(of, (1, 3, 4), strict=True))
        for resource, load in loads.items():
            for lease in of[resource][load:]:
                lease.release()
                leases.remove(lease)
        for allowed, ended in (8, ()), (6, (3,)), (5, (3,)), (3, (3, 4)):
            budget.member.allow(allowed)
            for _ in range(3):
                budget.member.terminate(end_socket)
            wait_for_scheduler()
            eventually(lambda ended=ended: server.open == 3 - len(ended))  # type: ignore[misc]
            assert budget.member.has_open(8)
            over = [lease for lease in leases if is_over(lease)]
            assert len(over) == sum(ended)
        for lease in leases:
            lease.release()
        eventually(lambda: server.open == 1 and pool.stats().open == 1)
        pool.acquire().release()


def test_lease_that_waits_for_a_permit_is_not_of_what_has_ended(
    connect: Connect, runner: ThreadRunner
) -> None:
    budget = ScriptedBudget()
    with SharedPool(
        connect, items=(0, 3), slots=4, budget=budget, units="slots", timeout=PATIENCE
    ) as pool:
        budget.member.allow(2)
        leases = [pool.acquire() for _ in range(2)]
        ended = leases[0].resource
        caller = runner.start(pool.acquire)
        caller.parked()
        budget.member.allow(0)
        budget.member.terminate(end_socket)
        eventually(lambda: is_over(leases[0]))
        budget.member.allow(3)
        lease = caller.result()
        assert lease.resource is not ended
        for each in (lease, *leases):
            each.release()


def test_what_comes_back_meanwhile_is_left_to_its_close_hook(
    connect: Connect, runner: ThreadRunner
) -> None:
    """One worker after the other: while the first waits all come back, and are being closed."""
    go_on, close_now, through = threading.Event(), threading.Event(), threading.Event()
    ended: list[Any] = []

    def close(resource: Any) -> None:
        close_now.wait(PATIENCE)
        resource.close()

    def end(resource: Any) -> None:
        ended.append(resource)
        go_on.wait(PATIENCE)

    budget = ScriptedBudget()
    with FastPool(5, factory=connect, close=close, budget=budget, timeout=PATIENCE) as pool:
        workers = budget.member.share._whole().offload_threads
        workers.limit = 1
        budget.member.allow(5)
        leases = [pool.acquire() for _ in range(5)]
        budget.member.allow(0)
        budget.member.terminate(end)
        eventually(lambda: len(ended) == 1)
        returns = [runner.start(lease.release) for lease in leases]
        eventually(lambda: pool.stats().closing == 5)
        go_on.set()
        workers.submit(through.set)
        assert through.wait(PATIENCE)
        close_now.set()
        for one in returns:
            one.result()
        eventually(lambda: budget.member.has_open(0))
    assert len(ended) == 1


def test_what_is_to_go_anyway_ends_in_the_place_of_others(
    connect: Connect, server: CountingServer
) -> None:
    """Of three that were flushed while lent two may stay: one ends."""
    budget = ScriptedBudget()
    with FastPool(5, factory=connect, budget=budget, timeout=PATIENCE) as pool:
        budget.member.allow(3)
        leases = [pool.acquire() for _ in range(3)]
        pool.flush()
        budget.member.allow(2)
        for _ in range(3):
            budget.member.terminate(end_socket)
        eventually(lambda: server.open == 2)
        wait_for_scheduler()
        assert sum(is_over(lease) for lease in leases) == 1
        for lease in leases:
            lease.release()


POOLS_OF_TASKS: dict[str, Callable[..., Any]] = {
    "pool": lambda make, **o: FastPool(5, factory=make, **o),
    "shared": lambda make, **o: SharedPool(make, items=(0, 5), slots=1, **o),
    "keyed": lambda make, **o: KeyedPool(make, max_total=5, **o),
}


class Stream:
    """Of asyncio, as a resource."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self.reader, self.writer = reader, writer

    def get_extra_info(self, name: str) -> Any:
        return self.writer.get_extra_info(name)

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


@pytest.mark.parametrize("of", POOLS_OF_TASKS)
@pytest.mark.parametrize("loops", [1, 2])
def test_borrowers_on_event_loops_go_on_at_once(
    of: str, loops: int, server: CountingServer, runner: ThreadRunner
) -> None:
    """Tasks that read; the function is called on the loop of the resource."""
    where: list[Any] = []

    async def make(key: object = None) -> Stream:
        stream = Stream(*await asyncio.open_connection("127.0.0.1", server.port))
        assert await stream.reader.read(1) == b"!"
        stream.loop = asyncio.get_running_loop()  # type: ignore[attr-defined]
        return stream

    def end(stream: Any) -> None:
        where.append(asyncio.get_running_loop() is stream.loop)
        end_socket(stream)

    budget = ScriptedBudget()
    pool = POOLS_OF_TASKS[of](make, budget=budget, timeout=PATIENCE)
    args = ("one",) if of == "keyed" else ()

    async def use() -> bytes:
        async with pool.lease(*args) as stream:
            return bytes(await stream.reader.read(1))

    async def main() -> list[bytes]:
        tasks = [asyncio.create_task(use()) for _ in range(2)]
        read = await asyncio.gather(*tasks)
        while pool.stats().open:  # or a transport that closes would outlive its loop
            await asyncio.sleep(0.001)
        return read

    budget.member.allow(2 * loops)
    runs = [runner.start(lambda: asyncio.run(main())) for _ in range(loops)]
    eventually(lambda: server.open == 2 * loops and pool.stats().leased == 2 * loops)
    budget.member.allow(0)
    budget.member.terminate(end)
    for run in runs:
        assert run.result() == [b"", b""]
    eventually(lambda: budget.member.has_open(0))
    assert where == [True] * 2 * loops
    pool.close()


def test_closed_loop_has_nothing_to_end(server: CountingServer) -> None:
    async def make() -> Stream:
        stream = Stream(*await asyncio.open_connection("127.0.0.1", server.port))
        assert await stream.reader.read(1) == b"!"
        return stream

    budget = ScriptedBudget()
    pool: Any = FastPool(5, factory=make, budget=budget, timeout=PATIENCE)
    budget.member.allow(1)
    loop = asyncio.new_event_loop()
    lease = loop.run_until_complete(pool.aacquire())
    stream = lease.resource
    loop.close()
    budget.member.allow(0)
    budget.member.terminate(end_socket)
    pool.close()
    eventually(lambda: pool.stats().open == 0)
    transport = stream.writer.transport
    transport.get_extra_info("socket")._sock.close()
    transport._sock, transport._closing = None, True  # its finaliser would say that it is open

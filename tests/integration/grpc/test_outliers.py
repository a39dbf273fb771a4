"""Connections that do worse than their siblings get no calls for a while."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.grpc import _outliers, aio_shared, shared, stats, wait_ready  # noqa: E402
from fastpool.grpc._outliers import IN_A_ROW, LEAST_CALLS, LONGEST, Outliers, Record  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402
from support.loops import eventually as aeventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

INTERNAL = grpc.StatusCode.INTERNAL


class Host:
    """A connection without one."""

    def __init__(self) -> None:
        self.record = Record()
        self.ended = 0


class Hosts:
    """Several, and what is said of them, on a clock of its own."""

    def __init__(self, n: int) -> None:
        self.now = 1000.0
        self.all = [Host() for _ in range(n)]
        self.out: list[tuple[int, float]] = []
        self.outliers = Outliers(lambda: self.all, lambda host: host.ended, self._eject)

    def _eject(self, host: Host, seconds: float) -> None:
        self.out.append((self.all.index(host), seconds))

    def goes_well(self, index: int, n: int = 1) -> None:
        self.all[index].ended += n

    def fails(self, index: int, n: int = 1) -> None:
        for _ in range(n):
            self.outliers.failed(self.all[index])
            self.all[index].ended += 1


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    made = Hosts(6)
    monkeypatch.setattr(_outliers.time, "monotonic", lambda: made.now)
    return made


def test_failures_in_a_row_put_one_out_while_others_do_well(hosts: Hosts) -> None:
    hosts.fails(0, IN_A_ROW - 1)
    hosts.goes_well(1)
    assert hosts.out == []
    hosts.fails(0)
    assert hosts.out == [(0, 30)]


def test_failures_of_all_put_out_none(hosts: Hosts) -> None:
    """The server is ill, or restarted: no connection is better than another."""
    for _ in range(3 * IN_A_ROW):
        for index in range(6):
            hosts.fails(index)
    assert hosts.out == []


def test_a_call_that_goes_well_ends_the_row(hosts: Hosts) -> None:
    for _ in range(5):
        hosts.fails(0, IN_A_ROW - 1)
        hosts.goes_well(1)
        hosts.goes_well(0)
    assert hosts.out == []


def test_one_that_fails_again_and_again_is_out_for_longer_each_time(hosts: Hosts) -> None:
    for _ in range(12):
        hosts.goes_well(0)
        hosts.fails(0)
        hosts.goes_well(1)
        hosts.fails(0, 2 * IN_A_ROW)
        hosts.now += hosts.out[-1][1]
    assert [seconds for _, seconds in hosts.out] == [30 * n for n in range(1, 11)] + [300, 300]
    hosts.now += LONGEST + 1
    hosts.goes_well(1)
    hosts.fails(0, 2 * IN_A_ROW)
    assert hosts.out[-1] == (0, 30)


def a_while(hosts: Hosts, failures: int) -> None:
    """All do well; of the first one's calls so many fail, never two in a row."""
    for index in range(6):
        hosts.goes_well(index, LEAST_CALLS)
    for _ in range(failures):
        hosts.goes_well(0)
        hosts.fails(0)
    hosts.now += 60


@pytest.mark.parametrize(("failures", "out"), [(4, set()), (100, {0})])
def test_one_with_a_far_lower_rate_of_success_is_put_out(
    hosts: Hosts, failures: int, out: set[int]
) -> None:
    """Though never so many fail in a row."""
    for _ in range(3):
        a_while(hosts, failures)
    assert {index for index, _ in hosts.out} == out


# ---- on channels --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as server:
        yield server
    gc.collect()
    assert stats() == ()


def test_a_connection_that_is_put_out_gets_no_calls_until_its_time_is_over(
    server: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_outliers, "FIRST_TIME", 1.0)
    with shared(server.target, connections=2) as channel:
        wait_ready(channel, 20)
        say = channel.unary_unary(f"/{SERVICE}/Say")
        inner = channel._live()
        ended = inner.pool.ended
        say(b"x", timeout=20)
        (ill,) = [each for each in inner.connected() if ended(each)]
        (well,) = [each for each in inner.connected() if each is not ill]
        inner.penalize(ill)  # so that the other one has a call that goes well
        for _ in range(IN_A_ROW):
            inner.note_outcome(ill, INTERNAL)
            say(b"x", timeout=20)
        assert ended(well) >= IN_A_ROW
        before = ended(ill)
        assert not any(isinstance(each, threading.Timer) for each in threading.enumerate())
        inner.verdicts.pardon(ill)  # no penalty, but out
        for _ in range(5):
            say(b"x", timeout=20)
        assert ended(ill) == before
        eventually(lambda: say(b"x", timeout=20) and ended(ill) > before)


def test_the_same_for_tasks(server: GrpcServer) -> None:
    async def main() -> None:
        async with aio_shared(server.target, connections=2) as channel:
            say = channel.unary_unary(f"/{SERVICE}/Say")
            await say(b"x", timeout=20)
            dispatcher = channel._live().dispatcher()
            await aeventually(lambda: dispatcher.pool.stats().open == 2)
            ended = dispatcher.pool.ended
            (ill,) = [each for each in dispatcher.live if ended(each)]
            dispatcher._eject(ill, 1.0)
            before = ended(ill)
            for _ in range(5):
                await say(b"x", timeout=20)
            assert ended(ill) == before

            async def comes_back() -> None:
                while ended(ill) == before:
                    await say(b"x", timeout=20)

            await asyncio.wait_for(comes_back(), 20)

    asyncio.run(main())

"""Connections whose packets are lost: no end is ever heard of them, and calls go on elsewhere."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from bench.grpc.bad_link import BadLink  # noqa: E402
from fastpool.grpc import aio_shared, shared, stats, wait_ready  # noqa: E402
from fastpool.grpc._sync.liveness import CONNECT_TIMEOUTS  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402
from support.loops import eventually as aeventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once]

DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED
SOON = 0.5  # seconds that a call has


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as server:
        yield server
    gc.collect()
    assert stats() == ()


@pytest.fixture
def link(server: GrpcServer) -> Iterator[BadLink]:
    with BadLink(server.port) as link:
        yield link


def say(channel: Any, method: str = "Say") -> Any:
    return channel.unary_unary(f"/{SERVICE}/{method}")


def in_use(link: BadLink) -> Any:
    """That which carries the calls when they come one by one."""
    return max(link.links, key=lambda each: each.carried)


def goes(method: Any, timeout: float = SOON) -> bool:
    try:
        method(b"x", timeout=timeout)
    except grpc.RpcError as error:
        assert error.code() is DEADLINE, error
        return False
    return True


async def agoes(method: Any, timeout: float = SOON) -> bool:
    try:
        await method(b"x", timeout=timeout)
    except grpc.aio.AioRpcError as error:
        assert error.code() is DEADLINE, error
        return False
    return True


@pytest.mark.parametrize("connections", [1, (1, 8)], ids=["one", "default"])
def test_calls_go_by_a_fresh_connection_when_one_is_dead(link: BadLink, connections: Any) -> None:
    """The dead one is given up, and as many are open as before."""
    with shared(link.target, connections=connections) as channel:
        method = say(channel)
        assert eventually(lambda: goes(method))
        link.swallow()
        assert not goes(method)
        eventually(lambda: goes(method))
        eventually(lambda: stats()[0].connections == 1)


@pytest.mark.parametrize("connections", [1, (1, 8)], ids=["one", "default"])
def test_calls_of_tasks_go_by_a_fresh_connection(link: BadLink, connections: Any) -> None:
    async def main() -> None:
        async with aio_shared(link.target, connections=connections) as channel:
            method = say(channel)
            while not await agoes(method):
                pass
            link.swallow()
            assert not await agoes(method)
            while not await agoes(method):
                pass
            await aeventually(lambda: stats()[0].connections == 1)

    asyncio.run(asyncio.wait_for(main(), 40))


def test_calls_go_by_healthy_siblings_meanwhile(link: BadLink) -> None:
    """One call is lost, and those that come after it are not."""
    with shared(link.target, connections=4) as channel:
        wait_ready(channel, 20)
        method = say(channel)
        method(bytes(100_000), timeout=20)
        link.swallow(in_use(link))
        assert not goes(method)
        assert all(goes(method, 10) for _ in range(5))
        eventually(lambda: len(link.links) >= 5)  # and at last it is replaced


def test_calls_of_tasks_go_by_healthy_siblings(link: BadLink) -> None:
    async def main() -> None:
        async with aio_shared(link.target, connections=4) as channel:
            method, slow = say(channel), say(channel, "Wait")
            await asyncio.gather(*(slow(b"100", timeout=20) for _ in range(40)))
            await aeventually(lambda: len(link.links) == 4)
            await method(bytes(100_000), timeout=20)
            link.swallow(in_use(link))
            assert not await agoes(method)
            assert [await agoes(method, 10) for _ in range(5)] == [True] * 5
            await aeventually(lambda: len(link.links) >= 5)

    asyncio.run(asyncio.wait_for(main(), 40))


def test_slow_answers_of_a_live_server_cost_no_connection(link: BadLink) -> None:
    """The connection is asked whether it is there, and answers."""
    with shared(link.target) as channel:
        slow, quick = say(channel, "Wait"), say(channel)
        eventually(lambda: goes(quick))
        for _ in range(5):
            with pytest.raises(grpc.RpcError) as caught:
                slow(b"60000", timeout=0.1)
            assert caught.value.code() is DEADLINE
        assert goes(quick, 10)
        assert len(link.links) <= 2 and stats()[0].connections == 1


def test_a_server_that_stands_still_costs_one_connection_at_most(link: BadLink) -> None:
    """New connections are no better, so there is no other one after the other."""
    with shared(link.target) as channel:
        method = say(channel)
        eventually(lambda: goes(method))
        link.swallow(all=True)
        begun = time.monotonic()
        for _ in range(8):
            assert not goes(method)
        tried = (time.monotonic() - begun) / CONNECT_TIMEOUTS[0]
        assert len(link.links) <= 3 + tried and stats()[0].connections == 1
        link.all_lost = False
        eventually(lambda: goes(method))

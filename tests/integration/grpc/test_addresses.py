"""Targets of several addresses: connections are spread over them, and calls go where it is well."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.grpc import aio_shared, shared, stats, wait_ready  # noqa: E402
from fastpool.grpc._addresses import Addresses  # noqa: E402
from fastpool.grpc._channel_key import Key  # noqa: E402
from fastpool.grpc._options import parse  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402
from support.loops import eventually as aeventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]


@pytest.fixture
def servers() -> Iterator[list[GrpcServer]]:
    pytest.importorskip("grpc_health.v1", reason="grpcio-health-checking is not installed")
    with GrpcServer(health=True) as one, GrpcServer(health=True) as other:
        yield [one, other]
    gc.collect()
    assert stats() == ()


def target_of(servers: list[GrpcServer]) -> str:
    return f"ipv4:{','.join(each.target for each in servers)}"


def say(channel: Any, method: str = "Say") -> Any:
    return channel.unary_unary(f"/{SERVICE}/{method}")


def peers(servers: list[GrpcServer]) -> list[int]:
    """How many connections have carried calls, at each."""
    return [each.counts().peers for each in servers]


# ---- which one first ----------------------------------------------------------------------------


def test_each_connection_begins_where_fewest_do() -> None:
    addresses = Addresses("ipv4:a:1,b:1,c:1")
    taken: list[str | None] = []
    for _ in range(7):
        taken.append(addresses.pick(taken))
    assert sorted(map(taken.count, ["a:1", "b:1", "c:1"])) == [2, 2, 3]
    assert addresses.pick(["a:1", "b:1", "a:1"]) == "c:1"
    assert addresses.target("b:1") == "ipv4:b:1,c:1,a:1"
    assert addresses.free(["a:1", "c:1"]) == "b:1" and addresses.free(taken) is None


@pytest.mark.parametrize("target", ["host:1", "dns:///host:1", "ipv4:1.2.3.4:5", "unix:/a/b"])
def test_a_target_of_one_address_is_left_as_it_is(target: str) -> None:
    assert Addresses(target).pick([]) is None
    assert Addresses("ipv4:a:1,b:1", spread=False).pick([]) is None


def test_connections_begin_their_channels_at_different_servers() -> None:
    first = {Addresses("ipv4:a:1,b:1").pick([]) for _ in range(100)}
    assert first == {"a:1", "b:1"}


def test_further_connections_to_a_name_take_any_of_its_addresses() -> None:
    """The first takes the one that it would take without us."""
    key = Key("sync", "host:1", None, (), None, parse("test"))
    assert not key.beside(False, None).shuffled
    assert key.beside(True, None).shuffled


# ---- calls --------------------------------------------------------------------------------------


def test_connections_are_spread(servers: list[GrpcServer]) -> None:
    with shared(target_of(servers), connections=4, streams_per_connection=1) as channel:
        wait_ready(channel, 20)
        calls = [say(channel, "Wait").future(b"200", timeout=20) for _ in range(4)]
        assert [call.result() for call in calls] == [b"200"] * 4
        assert peers(servers) == [2, 2]


def test_connections_of_tasks_are_spread(servers: list[GrpcServer]) -> None:
    async def main() -> None:
        async with aio_shared(target_of(servers), connections=4) as channel:
            method = say(channel, "Wait")
            await asyncio.gather(*(method(b"200", timeout=20) for _ in range(40)))
            dispatcher = channel._live().dispatcher()
            await aeventually(lambda: dispatcher.pool.stats().open == 4)
            await asyncio.gather(*(method(b"200", timeout=20) for _ in range(40)))
            assert peers(servers) == [2, 2]

    asyncio.run(main())


def lent(pool: Any, connections: Any, server: GrpcServer) -> int:
    """Calls of the connections that begin at this server. Falls when one of them is closed."""
    return sum(pool.ended(each) for each in connections if each.address == server.target)


def settled(verdicts: Any, connections: Any, ill: GrpcServer) -> bool:
    """There is another connection than those to the ill server, and those get no calls."""
    bad = {each for each in connections if each.address == ill.target}
    return bad <= verdicts._avoided and len(connections) > len(bad)


@pytest.mark.parametrize("connections", [1, (1, 8), 4])
def test_a_server_that_does_not_serve_gets_no_calls(
    servers: list[GrpcServer], connections: Any
) -> None:
    """Whichever it is, and be it the one with the only connection."""
    for ill in servers:
        ill.set_health("", False)
        with shared(target_of(servers), connections=connections, health="") as channel:
            method, inner = say(channel), channel._live()
            method(b"x", timeout=20)
            eventually(lambda inner=inner, ill=ill: settled(inner.verdicts, inner.connected(), ill))
            before = lent(inner.pool, inner.connected(), ill)
            for _ in range(10):
                method(b"x", timeout=20)
            assert lent(inner.pool, inner.connected(), ill) <= before
        ill.set_health("", True)


@pytest.mark.parametrize("connections", [1, (1, 8), 4])
def test_it_gets_no_calls_of_tasks(servers: list[GrpcServer], connections: Any) -> None:
    async def main(ill: GrpcServer) -> None:
        target = target_of(servers)
        async with aio_shared(target, connections=connections, health="") as channel:
            method, dispatcher = say(channel), channel._live().dispatcher()
            await method(b"x", timeout=20)
            await aeventually(lambda: settled(dispatcher.verdicts, dispatcher.live, ill))
            before = lent(dispatcher.pool, dispatcher.live, ill)
            for _ in range(10):
                await method(b"x", timeout=20)
            assert lent(dispatcher.pool, dispatcher.live, ill) <= before

    for ill in servers:
        ill.set_health("", False)
        asyncio.run(main(ill))
        ill.set_health("", True)

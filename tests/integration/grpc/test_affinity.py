"""Calls with the same value of a metadata key go to the same connection."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from fastpool.grpc._affinity import ranked, value_of  # noqa: E402
from support.helpers import eventually  # noqa: E402
from support.loops import eventually as aeventually  # noqa: E402

LONG = 60.0
ONE, MANY, JOIN, CHAT = (f"/fastpool.test.Peer/{name}" for name in ("One", "Many", "Join", "Chat"))
FOUR: dict[str, Any] = {"connections": 4, "affinity": "user"}
USERS = [f"user-{number}" for number in range(12)]


class Peer(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio has no types
    """Answers with the name of the peer, which is that of the connection; `hold` waits."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.held = 0
        self._server = grpc.server(futures.ThreadPoolExecutor(32))
        self._server.add_generic_rpc_handlers((self,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: Any) -> Any:
        kinds = {
            ONE: grpc.unary_unary_rpc_method_handler(self._one),
            MANY: grpc.unary_stream_rpc_method_handler(self._many),
            JOIN: grpc.stream_unary_rpc_method_handler(self._join),
            CHAT: grpc.stream_stream_rpc_method_handler(self._chat),
        }
        return kinds[details.method]

    def _one(self, request: bytes, context: Any) -> bytes:
        if request == b"hold":
            self.held += 1
            assert self.gate.wait(LONG)
        peer: str = context.peer()
        return peer.encode()

    def _many(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield self._one(request, context)

    def _join(self, requests: Any, context: Any) -> bytes:
        return self._one(b"".join(requests), context)

    def _chat(self, requests: Any, context: Any) -> Iterator[bytes]:
        yield self._one(b"".join(requests), context)

    def close(self) -> None:
        self.gate.set()
        self._server.stop(None).wait()


@pytest.fixture
def peer() -> Iterator[Peer]:
    server = Peer()
    yield server
    server.close()
    gc.collect()
    assert fg.stats() == ()


def key(user: str) -> tuple[tuple[str, str], ...]:
    return (("user", user),)


class Threads:
    """The connections that carry calls of each kind, for a value of the key."""

    def __init__(self, target: str, **parameters: Any) -> None:
        self.channel: Any = fg.shared(target, **parameters)

    def peers(self, user: str) -> set[bytes]:
        c, rest = self.channel, {"timeout": LONG, "metadata": key(user)}
        return {
            c.unary_unary(ONE)(b"", **rest),
            c.unary_unary(ONE)(b"", LONG, key(user)),
            c.unary_unary(ONE).with_call(b"", **rest)[0],
            c.unary_unary(ONE).future(b"", **rest).result(),
            *c.unary_stream(MANY)(b"", **rest),
            c.stream_unary(JOIN)(iter([b""]), **rest),
            *c.stream_stream(CHAT)(iter([b""]), **rest),
        }

    def quiet(self) -> None:
        eventually(lambda: fg.stats()[0].in_use == 0)

    def close(self) -> None:
        self.channel.close()


class Tasks:
    """The same of tasks."""

    def __init__(self, target: str, **parameters: Any) -> None:
        self.runner = asyncio.Runner()
        self.channel: Any = fg.aio_shared(target, **parameters)

    def peers(self, user: str) -> set[bytes]:
        c, rest = self.channel, {"timeout": LONG, "metadata": key(user)}

        async def ask() -> set[bytes]:
            return {
                await c.unary_unary(ONE)(b"", **rest),
                await c.unary_unary(ONE)(b"", timeout=LONG, metadata=grpc.aio.Metadata(*key(user))),
                *[each async for each in c.unary_stream(MANY)(b"", **rest)],
                await c.stream_unary(JOIN)(iter([b""]), **rest),
                *[each async for each in c.stream_stream(CHAT)(iter([b""]), **rest)],
            }

        return self.runner.run(ask())

    def quiet(self) -> None:
        self.runner.run(aeventually(lambda: fg.stats()[0].in_use == 0))

    def close(self) -> None:
        self.runner.run(self.channel.close())
        self.runner.close()


Open = Callable[..., Any]


@pytest.fixture(params=[Threads, Tasks], ids=["threads", "tasks"])
def opened(request: pytest.FixtureRequest) -> Open:
    """``with opened(target, **options) as client:``; no slot is held at the end."""

    @contextmanager
    def client(target: str, **parameters: Any) -> Iterator[Any]:
        made = request.param(target, **parameters)
        try:
            yield made
            made.quiet()
        finally:
            made.close()

    return client


def test_calls_of_a_key_go_to_one_connection(opened: Open, peer: Peer) -> None:
    """Calls of every kind, again and again; and the keys are spread over the connections."""
    with opened(peer.target, **FOUR) as client:
        homes = {user: client.peers(user) for user in USERS}
        assert all(len(peers) == 1 for peers in homes.values())
        assert len(set.union(*homes.values())) > 1
        assert {user: client.peers(user) for user in USERS} == homes


def test_calls_without_the_key_go_anywhere(opened: Open, peer: Peer) -> None:
    """As on any shared channel."""
    with opened(peer.target, connections=1, affinity="other") as client:
        assert len(client.peers("x")) == 1


def test_it_is_hedged_as_well(opened: Open, peer: Peer) -> None:
    """Its first call goes to the connection of its key."""
    with opened(peer.target, hedge={ONE: LONG}, **FOUR) as client:
        for user in USERS:
            assert len(client.peers(user)) == 1


def test_a_full_one_sends_its_calls_to_the_next(peer: Peer) -> None:
    """To the same one each time, and back when it has room."""
    with fg.shared(peer.target, streams_per_connection=1, **FOUR) as channel:
        one = channel.unary_unary(ONE)
        rest: dict[str, Any] = {"timeout": LONG, "metadata": key("a")}
        home = one(b"", **rest)
        holds = one.future(b"hold", **rest)
        eventually(lambda: peer.held == 1)
        second = {one(b"", **rest) for _ in range(5)}
        assert len(second) == 1 and second != {home}
        peer.gate.set()
        assert holds.result() == home
        eventually(lambda: fg.stats()[0].in_use == 0)
        assert one(b"", **rest) == home


def test_a_full_one_of_tasks(peer: Peer) -> None:
    """The same on an event loop."""

    async def main() -> None:
        async with fg.aio_shared(peer.target, streams_per_connection=1, **FOUR) as channel:
            one = channel.unary_unary(ONE)
            rest: dict[str, Any] = {"timeout": LONG, "metadata": key("a")}
            home = await one(b"", **rest)
            holds = one(b"hold", **rest)
            await aeventually(lambda: peer.held == 1)
            second = {await one(b"", **rest) for _ in range(5)}
            assert len(second) == 1 and second != {home}
            peer.gate.set()
            assert await holds == home
            assert await one(b"", **rest) == home

    asyncio.run(main())


def test_servers_are_ranked_alike_by_every_channel() -> None:
    """Where the target has several addresses, a key goes to the same server whoever calls."""
    servers = [Peer(), Peer(), Peer()]
    try:
        orders = [servers, servers[::-1]]
        found = []
        for order in orders:
            target = "ipv4:" + ",".join(each.target for each in order)
            with fg.shared(target, connections=3, affinity="user") as channel:
                fg.wait_ready(channel, LONG)
                live = channel._live().connected()
                found.append([ranked(user.encode(), live)[0].address for user in USERS])
        assert found[0] == found[1]
        assert len(set(found[0])) > 1
    finally:
        for each in servers:
            each.close()


class Fake:
    def __init__(self, ordinal: int, address: str | None = None) -> None:
        self.ordinal = ordinal
        self.address = address


def test_one_that_goes_moves_its_own_keys_only() -> None:
    """The others stay where they are."""
    four = [Fake(ordinal) for ordinal in range(4)]
    values = [b"%d" % number for number in range(400)]
    before = {value: ranked(value, four)[0] for value in values}
    shares = [sum(each is one for each in before.values()) for one in four]
    assert min(shares) > 50 and max(shares) < 150
    for value, home in before.items():
        if home is not four[2]:
            assert ranked(value, [*four[:2], four[3]])[0] is home


def test_what_is_the_value_of_a_key() -> None:
    """Text and bytes, the last of several; binary keys too."""
    metadata = (("a", "x"), ("b-bin", b"\x00"), ("a", "y"))
    assert value_of(metadata, "a") == b"y"
    assert value_of(metadata, "b-bin") == b"\x00"
    assert value_of(metadata, "c") is value_of(None, "a") is None

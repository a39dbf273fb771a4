"""What a user does with each new connection before it takes calls."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from bench.grpc.bad_link import BadLink  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402
from support.loops import eventually as aeventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once]

SAY, COUNT = f"/{SERVICE}/Say", f"/{SERVICE}/Count"
LONG = 60.0
TWO: dict[str, Any] = {"connections": (1, 2), "streams_per_connection": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as server:
        yield server
    gc.collect()
    assert fg.stats() == ()


class Warm:
    """Makes a call on each channel, and does not return before it may."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.may_end = threading.Event()

    def __call__(self, channel: Any) -> None:
        self.replies.append(channel.unary_unary(SAY)(b"warm", timeout=LONG))
        assert self.may_end.wait(LONG)

    async def of_tasks(self, channel: Any) -> None:
        self.replies.append(await channel.unary_unary(SAY)(b"warm", timeout=LONG))
        await aeventually(self.may_end.is_set)


def test_a_connection_takes_no_calls_before_it_is_warm(server: GrpcServer) -> None:
    """And the first one, which connects with its first call, is not warmed up."""
    warm = Warm()
    with fg.shared(server.target, warm_up=warm, **TWO) as channel:
        holds = channel.unary_stream(COUNT)(b"...", timeout=LONG)
        next(holds)
        call = channel.unary_unary(SAY).future(b"x", timeout=LONG)
        eventually(lambda: warm.replies == [b"warm"])
        assert not call.done() and fg.stats()[0].connections == 1
        warm.may_end.set()
        assert call.result() == b"x"
        assert fg.stats()[0].connections == 2 and warm.replies == [b"warm"]
        holds.cancel()


def test_one_of_tasks_neither(server: GrpcServer) -> None:
    """The same on an event loop, by a coroutine function."""
    warm = Warm()

    async def main() -> None:
        async with fg.aio_shared(server.target, warm_up=warm.of_tasks, **TWO) as channel:
            holds = channel.unary_stream(COUNT)(b"...", timeout=LONG)
            await holds.read()
            call = channel.unary_unary(SAY)(b"x", timeout=LONG)
            await aeventually(lambda: warm.replies == [b"warm"])
            assert not call.done() and fg.stats()[0].connections == 1
            warm.may_end.set()
            assert await call == b"x"
            assert fg.stats()[0].connections == 2 and warm.replies == [b"warm"]
            holds.cancel()

    asyncio.run(main())


def test_one_that_takes_the_place_of_another_is_warmed_up(server: GrpcServer) -> None:
    """By age, and where the other one has gone silent."""
    warm = Warm()
    warm.may_end.set()
    with fg.shared(server.target, warm_up=warm, connections=1, max_age=0.2) as channel:
        say = channel.unary_unary(SAY)
        eventually(lambda: say(b"x", timeout=LONG) == b"x" and bool(warm.replies))
    warm.replies.clear()
    with BadLink(server.port) as link:
        with fg.shared(link.target, warm_up=warm, connections=1) as channel:
            assert channel.unary_unary(SAY)(b"x", timeout=LONG) == b"x"
            link.swallow()
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(SAY)(b"x", timeout=0.2)
            eventually(lambda: bool(warm.replies))


def test_one_of_tasks_that_takes_the_place_of_another(server: GrpcServer) -> None:
    """The same on an event loop."""
    warm = Warm()
    warm.may_end.set()

    async def main() -> None:
        rotating = fg.aio_shared(server.target, warm_up=warm.of_tasks, connections=1, max_age=0.2)
        async with rotating as channel:
            assert await channel.unary_unary(SAY)(b"x", timeout=LONG) == b"x"
            await aeventually(lambda: bool(warm.replies))
        warm.replies.clear()
        with BadLink(server.port) as link:
            async with fg.aio_shared(link.target, warm_up=warm.of_tasks, connections=1) as channel:
                assert await channel.unary_unary(SAY)(b"x", timeout=LONG) == b"x"
                link.swallow()
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(SAY)(b"x", timeout=0.2)
                await aeventually(lambda: bool(warm.replies))

    asyncio.run(main())


def broken(channel: Any) -> None:
    raise ZeroDivisionError


def test_one_that_cannot_be_warmed_up_is_used(
    server: GrpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Better than none; the log says why."""
    with fg.shared(server.target, warm_up=broken, **TWO) as channel:
        holds = channel.unary_stream(COUNT)(b"...", timeout=LONG)
        next(holds)
        with caplog.at_level(logging.ERROR, "fastpool"):
            assert channel.unary_unary(SAY)(b"x", timeout=LONG) == b"x"
        holds.cancel()
    assert "warm_up raised; the connection is used as it is" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_one_of_tasks_is_used_as_well(server: GrpcServer, caplog: pytest.LogCaptureFixture) -> None:
    """The same on an event loop, where a plain function will do."""

    async def main() -> None:
        async with fg.aio_shared(server.target, warm_up=broken, **TWO) as channel:
            holds = channel.unary_stream(COUNT)(b"...", timeout=LONG)
            await holds.read()
            assert await channel.unary_unary(SAY)(b"x", timeout=LONG) == b"x"
            holds.cancel()

    with caplog.at_level(logging.ERROR, "fastpool"):
        asyncio.run(main())
    assert "warm_up raised; the connection is used as it is" in caplog.text


def test_a_coroutine_function_is_for_tasks() -> None:
    """Nobody would await it on a channel of threads."""

    async def warm(channel: Any) -> None:
        pass

    with pytest.raises(TypeError, match=r"use aio_shared\(\)"):
        fg.shared("127.0.0.1:1", warm_up=warm)

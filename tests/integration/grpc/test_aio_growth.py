"""`aio_shared`: how one more connection is opened, and who gets a slot in the last moment."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from fastpool.grpc._aio import calls as aio_calls  # noqa: E402
from fastpool.grpc._aio import loop_connections  # noqa: E402
from fastpool.grpc._channel_key import Key  # noqa: E402
from fastpool.grpc._sync import connections  # noqa: E402
from integration.grpc.aio_channels import (  # noqa: E402
    ONE_SLOT,
    count,
    in_queue,
    in_use,
    occupied,
    quiet,
    say,
    turns,
    waiting,
)
from integration.grpc.server import GrpcServer  # noqa: E402
from support.loops import eventually, run_in  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

CODE = grpc.StatusCode
TWO: Any = {"connections": (1, 2), "streams_per_connection": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as server:
        yield server


class Dials:
    """What each connection after the first is made by: `script` says whether it raises, leads
    nowhere for `patience` seconds, or is what it should be, which is also what comes after."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *script: str, patience: float = 0.05
    ) -> None:
        self.script = ["well", *script]
        self.made: list[Any] = []
        dial = Key.dial

        def dialled(key: Key) -> Any:
            what = self.script.pop(0) if self.script else "well"
            next_is_lost = self.script[:1] == ["lost"]
            monkeypatch.setattr(
                loop_connections, "CONNECT_TIMEOUT", patience if next_is_lost else 60.0
            )
            if what == "raise":
                self.made.append(None)
                raise OSError("no sockets are left")
            self.made.append(dial(key._replace(target="127.0.0.1:1") if what == "lost" else key))
            return self.made[-1]

        monkeypatch.setattr(Key, "dial", dialled)


def test_threads_and_tasks_give_a_connection_the_same_time() -> None:
    """What connects in 6 s, as over a slow line, does so for both."""
    assert loop_connections.CONNECT_TIMEOUT == connections.CONNECT_TIMEOUT == 20.0


# ---- one more connection ------------------------------------------------------------------------


@pytest.mark.parametrize("script", [("raise", "raise"), ("lost", "lost")], ids=lambda it: it[0])
def test_one_that_cannot_be_had_is_tried_again_while_calls_wait(
    server: GrpcServer, monkeypatch: pytest.MonkeyPatch, script: tuple[str, ...]
) -> None:
    """No call is given one that is not connected, and what did not connect is closed."""
    dials = Dials(monkeypatch, *script)

    async def main() -> None:
        async with fg.aio_shared(server.target, **TWO) as channel:
            async with occupied(channel):
                call = await waiting(say(channel)(b"x"))
                assert await call == b"x"  # though the first one is in use still
                assert fg.stats()[0].connections == 2
            states = [each.get_state() for each in dials.made if each is not None]
            shut = grpc.ChannelConnectivity.SHUTDOWN
            assert states.count(shut) == script.count("lost") and states[-1] is not shut
            await quiet()

    run_in("asyncio", main())
    assert len(dials.made) >= 2 + len(script)


def test_closing_leaves_no_connection_that_was_being_opened(
    server: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dials = Dials(monkeypatch, "lost", patience=60.0)

    async def main() -> None:
        channel = fg.aio_shared(server.target, **TWO)
        stream = count(channel)(b"...")
        await stream.read()
        call = await waiting(say(channel)(b"x"))
        await eventually(lambda: len(dials.made) == 2)
        await channel.close()
        assert call.cancelled() and stream.done()
        await eventually(lambda: len(asyncio.all_tasks()) == 1)  # this one, and no opening
        shut = grpc.ChannelConnectivity.SHUTDOWN
        assert [each.get_state() for each in dials.made] == [shut, shut]

    run_in("asyncio", main())


def test_there_is_one_connection_for_bulk(server: GrpcServer) -> None:
    """However many calls wait for it, and others do not wait with them."""

    async def main() -> None:
        path = "/fastpool.test.Echo/Count"
        options: Any = {"connections": (1, 4), "streams_per_connection": 1, "bulk": [path]}
        async with fg.aio_shared(server.target, **options) as channel:
            dispatcher = channel._live().dispatcher(path)
            stream = count(channel)(b"...")
            await stream.read()
            late = await waiting(count(channel)(b"ab"))
            assert not dispatcher.opening
            assert await say(channel)(b"x") == b"x"
            assert (in_queue(), dispatcher.most) == (1, 1)
            stream.cancel()
            assert [message async for message in late] == [b"a", b"b"]
            await quiet()

    run_in("asyncio", main())


def test_one_that_has_ended_is_not_opened_any_more(server: GrpcServer) -> None:
    async def main() -> None:
        async with fg.aio_shared(server.target) as channel:
            connection = loop_connections.AioConnection(channel._live().dispatcher())
            connection.end()
            with pytest.raises(grpc.aio.UsageError):
                connection.dial()
            assert connection.channel is None and not connection.ready

    run_in("asyncio", main())


# ---- which connection ---------------------------------------------------------------------------


class Passing(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc] # grpcio has no types
    async def intercept_unary_unary(self, go_on: Any, details: Any, request: Any) -> Any:
        return await go_on(details, request)


@pytest.mark.parametrize("interceptors", [(), (Passing(),)], ids=["plain", "intercepted"])
@pytest.mark.parametrize("code", [CODE.UNAVAILABLE, CODE.UNIMPLEMENTED])
def test_unavailable_alone_makes_a_connection_unattractive(
    server: GrpcServer, monkeypatch: pytest.MonkeyPatch, interceptors: Any, code: Any
) -> None:
    """A server that answers, even by an error, is there."""
    Dials(monkeypatch, "lost")

    async def main() -> None:
        options: Any = {"connections": 2, "interceptors": interceptors}
        async with fg.aio_shared(server.target, **options) as channel:
            dispatcher = channel._entry.connections.dispatcher()
            assert await say(channel)(b"x") == b"x"
            (good,) = (each for each in dispatcher.live if each.channel is not None)
            (lost,) = (each for each in dispatcher.live if each is not good)
            lost.dial()
            chosen, other = (lost, good) if code is CODE.UNAVAILABLE else (good, lost)
            call_slots = [dispatcher.take() for _ in range(2)]
            (busy,) = (call_slot for call_slot in call_slots if call_slot.connection is other)
            for call_slot in call_slots:
                if call_slot is not busy:
                    call_slot()  # which makes the chosen one the least loaded
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await say(channel, "Say" if chosen is lost else "Nothing")(b"x", timeout=10)
            assert caught.value.code() is code
            await eventually(lambda: in_use() == 1)
            await turns()
            with_least = dispatcher.take()
            assert (with_least.connection is chosen) == (code is not CODE.UNAVAILABLE)
            for call_slot in (with_least, busy):
                call_slot()

    run_in("asyncio", main())


# ---- who gets a slot ----------------------------------------------------------------------------


def test_a_newcomer_does_not_overtake_the_queue(server: GrpcServer) -> None:
    """Even one that comes at the very moment when a slot is free."""
    sent: list[str] = []

    def serialize(text: str) -> bytes:
        sent.append(text)
        return text.encode()

    async def main() -> None:
        async with fg.aio_shared(server.target, **ONE_SLOT) as channel:
            method = channel.unary_unary("/fastpool.test.Echo/Say", serialize)
            stream = count(channel)(b"...")
            await stream.read()
            calls = [await waiting(method("first"))]

            def newcomer(_: Any) -> None:
                assert in_use() == 0
                calls.append(method("second"))

            stream.add_done_callback(newcomer)
            stream.cancel()
            await eventually(lambda: len(calls) == 2)
            assert await asyncio.gather(*calls) == [b"first", b"second"]
            await quiet()

    run_in("asyncio", main())
    assert sent == ["first", "second"]


def test_after_a_queue_calls_are_begun_at_once_again(server: GrpcServer) -> None:
    async def main() -> None:
        async with fg.aio_shared(server.target, **ONE_SLOT) as channel:
            async with occupied(channel) as free:
                call = await waiting(say(channel)(b"x"))
                free()
                assert await call == b"x"
            await quiet()
            call = say(channel)(b"y")
            assert (in_use(), in_queue()) == (1, 0)
            assert isinstance(call, grpc.aio._call.UnaryUnaryCall)  # grpc's own, none of ours
            assert await call == b"y"

    run_in("asyncio", main())


def test_a_slot_of_the_last_moment_is_given_back_and_nothing_is_sent(
    server: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def serialize(request: bytes) -> bytes:
        sent.append(request)
        return request

    async def main() -> None:
        async with fg.aio_shared(server.target, **ONE_SLOT) as channel:
            method = channel.unary_unary("/fastpool.test.Echo/Say", serialize)
            async with occupied(channel) as free:
                late = await waiting(method(b"late", timeout=1000))
                monotonic = time.monotonic
                ahead = SimpleNamespace(monotonic=lambda: monotonic() + 1001)
                monkeypatch.setattr(aio_calls, "time", ahead)
                free()
                with pytest.raises(fg.AioLocalError) as caught:
                    await late
                assert caught.value.code() is CODE.DEADLINE_EXCEEDED
                monkeypatch.undo()
            assert await method(b"next") == b"next"

    run_in("asyncio", main())
    assert sent == [b"next"]


def test_a_call_that_has_ended_is_not_kept_by_its_deadline(server: GrpcServer) -> None:
    def courses() -> int:
        gc.collect()
        return sum(isinstance(each, aio_calls.Course) for each in gc.get_objects())

    async def main() -> None:
        async with fg.aio_shared(server.target, **ONE_SLOT) as channel:
            before = courses()
            for end in ("cancelled", "answered"):
                async with occupied(channel) as free:
                    call = await waiting(say(channel)(b"x", timeout=3600))
                    if end == "cancelled":
                        call.cancel()
                    else:
                        free()
                        assert await call == b"x"
                    del call, free
                await quiet()
            await turns()
            assert courses() <= before

    run_in("asyncio", main())

"""`aio_shared`: call objects behave as grpc.aio's own, begun at once or after a wait in the
queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from fastpool.grpc._aio import wait_queue  # noqa: E402
from integration.grpc.aio_channels import (  # noqa: E402
    ONE_SLOT,
    all_of,
    chat,
    count,
    in_use,
    join,
    occupied,
    quiet,
    say,
    waiting,
)
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.loops import eventually  # noqa: E402

CODE = grpc.StatusCode

pytestmark = [
    pytest.mark.process,
    pytest.mark.light,
    pytest.mark.parametrize("waits", [False, True], ids=["at once", "in the queue"]),
]


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as server:
        yield server


@pytest.fixture
def using(server: GrpcServer, on_loop: Callable[..., Any]) -> Callable[..., Any]:
    """``using(main)``: runs ``main(channel)``, a channel of one slot; afterwards it is free."""

    def use(main: Any) -> None:
        async def body() -> None:
            async with fg.aio_shared(server.target, **ONE_SLOT) as channel:
                await main(channel)
                await quiet()
            assert fg.stats() == ()

        on_loop(body())

    return use


def test_unary_unary(using: Callable[..., Any], waits: bool) -> None:
    async def main(channel: Any) -> None:
        method = channel.unary_unary(f"/{SERVICE}/Say", str.encode, bytes.decode)
        assert isinstance(method, grpc.aio.UnaryUnaryMultiCallable)
        async with occupied(channel, waits) as free:
            call = method("x", timeout=10, metadata=(("k", "v"),), wait_for_ready=True)
            told: list[Any] = []
            call.add_done_callback(told.append)
            if waits:
                await waiting(call)
                assert type(call).__module__.startswith("fastpool.")
                assert "in the queue" in repr(call)
            else:  # nothing is wrapped where nobody waits
                assert type(call).__module__ == "grpc.aio._call"
            assert isinstance(call, grpc.aio.UnaryUnaryCall)
            assert not call.done() and not call.cancelled() and in_use() == 1
            assert 5 < call.time_remaining() <= 10
            free()
            assert await call == "x"
            assert await call == "x"  # as often as one likes
            assert await call.code() is CODE.OK and await call.details() == ""
            assert isinstance(await call.initial_metadata(), grpc.aio.Metadata)
            assert isinstance(await call.trailing_metadata(), grpc.aio.Metadata)
            await call.wait_for_connection()
            assert call.done() and not call.cancelled() and not call.cancel()
            assert told == [call]
            call.add_done_callback(told.append)
            assert told == [call, call] and "OK" in repr(call)

    using(main)


def test_unary_stream(using: Callable[..., Any], waits: bool) -> None:
    async def main(channel: Any) -> None:
        method = count(channel)
        assert isinstance(method, grpc.aio.UnaryStreamMultiCallable)
        told: list[Any] = []
        async with occupied(channel, waits) as free:
            call = method(b"abc", timeout=10)
            call.add_done_callback(told.append)
            if waits:
                await waiting(call)
            assert isinstance(call, grpc.aio.UnaryStreamCall) and not call.done()
            assert 5 < call.time_remaining() <= 10
            free()
            assert await all_of(call) == [b"a", b"b", b"c"]
            assert await call.code() is CODE.OK
            assert call.done() and told == [call]
        async with occupied(channel, waits) as free:
            call = method(b"ab")
            free()
            assert [await call.read() for _ in range(3)] == [b"a", b"b", grpc.aio.EOF]
            with pytest.raises(grpc.aio.UsageError):  # not both ways
                call.__aiter__()
            assert call.time_remaining() is None

    using(main)


async def letters(text: bytes) -> AsyncIterator[bytes]:
    for letter in text:
        yield bytes([letter])


def test_stream_unary(using: Callable[..., Any], waits: bool) -> None:
    async def main(channel: Any) -> None:
        method = join(channel)
        assert isinstance(method, grpc.aio.StreamUnaryMultiCallable)
        for requests in (iter([b"a", b"b"]), letters(b"ab")):
            async with occupied(channel, waits) as free:
                call = method(requests, 10)  # these take their timeout by position, too
                assert isinstance(call, grpc.aio.StreamUnaryCall) and call.time_remaining() > 5
                free()
                assert await call == b"ab"
        async with occupied(channel, waits) as free:
            call = method()
            free()
            for letter in (b"a", b"b", b"c"):
                await call.write(letter)
            await call.done_writing()
            assert await call == b"abc" and await call.code() is CODE.OK
            with pytest.raises(asyncio.InvalidStateError):
                await call.write(b"d")
        await quiet()
        free()
        assert await method(letters(b"xy")) == b"xy"  # held by nothing but the await

    using(main)


def test_stream_stream(using: Callable[..., Any], waits: bool) -> None:
    async def main(channel: Any) -> None:
        method = chat(channel)
        assert isinstance(method, grpc.aio.StreamStreamMultiCallable)
        async with occupied(channel, waits) as free:
            call = method(letters(b"abc"), timeout=10)
            assert isinstance(call, grpc.aio.StreamStreamCall)
            free()
            assert await all_of(call) == [b"a", b"b", b"c"]
        async with occupied(channel, waits) as free:
            call = method()
            free()
            await call.wait_for_connection()
            for letter in (b"a", b"b"):
                await call.write(letter)
                assert await call.read() == letter
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is CODE.OK

    using(main)


def test_errors_of_the_server(using: Callable[..., Any], waits: bool) -> None:
    async def main(channel: Any) -> None:
        for send in (say, count):
            async with occupied(channel, waits) as free:
                call = send(channel, "Missing")(b"", timeout=10)
                free()
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await (call if send is say else all_of(call))
                assert caught.value.code() is await call.code() is CODE.UNIMPLEMENTED
                assert not getattr(caught.value, "local", False)

    using(main)


def test_the_deadline_of_a_call_that_is_sent(using: Callable[..., Any], waits: bool) -> None:
    async def main(channel: Any) -> None:
        async with occupied(channel, waits) as free:
            call = say(channel, "Wait")(b"60000", timeout=0.3)
            if waits:
                await waiting(call)
            free()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is CODE.DEADLINE_EXCEEDED

    using(main)


def test_cancel(using: Callable[..., Any], waits: bool, server: GrpcServer) -> None:
    async def main(channel: Any) -> None:
        for send in (say, count):
            async with occupied(channel, waits):
                call = send(channel, "Wait" if send is say else "Count")(b"60000")
                told: list[Any] = []
                call.add_done_callback(told.append)
                if waits:
                    await waiting(call)
                assert call.cancel() and not call.cancel()
                assert call.done() and call.cancelled() and told == [call]
                with pytest.raises(asyncio.CancelledError):
                    await (call if send is say else all_of(call))
                assert await call.code() is CODE.CANCELLED
                assert "ancelled" in await call.details()
            await quiet()
        await eventually(lambda: server.counts().running == 0)

    using(main)


def test_a_cancelled_task_takes_its_call_along(
    using: Callable[..., Any], waits: bool, server: GrpcServer
) -> None:
    async def main(channel: Any) -> None:
        for wait in (
            lambda: say(channel, "Wait")(b"60000"),
            lambda: all_of(count(channel)(b"...")),
        ):
            async with occupied(channel, waits):

                async def one(wait: Any = wait) -> None:
                    await wait()

                task = asyncio.ensure_future(one())
                await eventually(lambda: in_use() == 1)
                if waits:
                    await waiting(task)
                else:
                    await eventually(lambda: server.counts().running == 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await quiet()
        await eventually(lambda: server.counts().running == 0)

    using(main)


def test_who_asks_for_the_code_does_not_take_it_along(
    using: Callable[..., Any], waits: bool
) -> None:
    async def main(channel: Any) -> None:
        async with occupied(channel, waits) as free:
            call = say(channel, "Wait")(b"10")
            asking = asyncio.ensure_future(call.code())
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            free()
            assert await call == b"10"

    using(main)


def test_wrong_arguments(using: Callable[..., Any], waits: bool) -> None:
    async def main(channel: Any) -> None:
        async with occupied(channel, waits):
            for wrong in ({"timeuot": 1}, {"request": b"", "foo": 1}):
                with pytest.raises(TypeError):
                    say(channel)(b"x", **wrong)
            with pytest.raises(TypeError):
                count(channel)(b"x", 1.0)  # by keyword alone, as in grpc
        await quiet()
        async with occupied(channel, waits) as free:  # what grpc itself finds wrong
            with pytest.raises(grpc.aio.UsageError):
                call = say(channel)(b"x", credentials="none")
                free()
                await call

    using(main)


@pytest.mark.parametrize(
    ("request_", "options"),
    [("text", {}), (b"x", {"metadata": (("Bad Key", "v"),)})],
    ids=["no bytes", "bad metadata"],
)
def test_a_request_that_cannot_be_sent_gives_its_slot_back(
    using: Callable[..., Any],
    waits: bool,
    request_: Any,
    options: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """grpc's own call has no status then, ever; those in the queue look for such calls now and
    then."""
    monkeypatch.setattr(wait_queue, "LOOK", wait_queue.LOOK / 10)

    async def main(channel: Any) -> None:
        async with occupied(channel, waits) as free:
            call = say(channel)(request_, **options)
            free()
            with pytest.raises(Exception) as caught:
                await call
            assert not isinstance(caught.value, (grpc.RpcError, TimeoutError))
            assert not call.done()
            assert await say(channel)(b"y", timeout=10) == b"y"
            assert call.done()

    using(main)

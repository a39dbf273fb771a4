"""`aio_shared`: streams hold a slot until their status; those that nobody wants give it back."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from integration.grpc.aio_channels import (  # noqa: E402
    ONE_SLOT,
    chat,
    count,
    in_queue,
    in_use,
    join,
    occupied,
    quiet,
    say,
    waiting,
)
from integration.grpc.server import GrpcServer  # noqa: E402
from support.loops import eventually  # noqa: E402

pytestmark = pytest.mark.process


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as server:
        yield server


@pytest.fixture
def using(server: GrpcServer, on_loop: Callable[..., Any]) -> Callable[..., Any]:
    """``using(main, ...)``: runs ``main(channel)``; afterwards no slot is held, and no handler runs
    at the server. The garbage collector rests meanwhile: nothing may depend on it."""

    def use(main: Any, **more: Any) -> None:
        async def body() -> None:
            async with fg.aio_shared(server.target, **{**ONE_SLOT, **more}) as channel:
                await main(channel)
                await quiet()
                await eventually(lambda: server.counts().running == 0)

        gc.disable()
        try:
            on_loop(body())
        finally:
            gc.enable()

    return use


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x"
        await asyncio.sleep(0.001)


def test_a_stream_holds_its_slot_until_its_status(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        stream = count(channel)(b"ab")
        assert [await stream.read() for _ in range(2)] == [b"a", b"b"]
        await eventually(stream.done)  # the status has come, though nobody has read it
        assert in_use() == 0
        stream = count(channel)(b"...")
        await stream.read()
        call = await waiting(say(channel)(b"x"))
        assert in_use() == 1
        stream.cancel()
        assert await call == b"x"

    using(main)


@pytest.mark.parametrize("first", ["at once", "in the queue"])
@pytest.mark.parametrize("end", ["read", "cancelled", "dropped", "deadline"])
def test_a_stream_is_counted_until_its_end(using: Callable[..., Any], first: str, end: str) -> None:
    """However it ends, and whether or not it has stood in the queue."""

    async def main(channel: Any) -> None:
        async with occupied(channel, first == "in the queue") as free:
            before = int(first == "in the queue")
            assert fg.stats()[0].streams == before
            stream = count(channel)(
                b"ab" if end == "read" else b"...", timeout=0.3 if end == "deadline" else None
            )
            free()
            if end != "deadline":
                await stream.read()
                assert [each.streams for each in fg.stats()] == [1]
            if end == "read":
                assert [await stream.read() for _ in "12"] == [b"b", grpc.aio.EOF]
            elif end == "cancelled":
                stream.cancel()
            elif end == "deadline":
                await stream.code()
            del stream
            await eventually(lambda: fg.stats()[0].streams == 0)
            await say(channel)(b"x")
            assert fg.stats()[0].streams == 0

    using(main)


@pytest.mark.parametrize("style", ["break", "read", "dropped", "raise", "aclose"])
def test_abandoned_streams_of_replies(using: Callable[..., Any], style: str) -> None:
    async def one(channel: Any) -> None:
        if style == "read":
            assert await count(channel)(b"...").read() == b"first"
        elif style == "dropped":
            stream = count(channel)(b"...")
            await stream.read()
        elif style == "aclose":
            messages = count(channel)(b"...").__aiter__()
            assert await messages.__anext__() == b"first"
            await messages.aclose()
        else:
            async for message in count(channel)(b"..."):
                assert message == b"first"
                if style == "raise":
                    raise KeyError
                break

    async def main(channel: Any) -> None:
        for _ in range(5):
            try:
                await one(channel)
            except KeyError:
                pass
            assert await say(channel)(b"x", timeout=10) == b"x"  # the one slot is free at once

    using(main)


def test_an_iterator_that_is_closed_ends_its_call(using: Callable[..., Any]) -> None:
    """Whoever has the call still."""

    async def main(channel: Any) -> None:
        stream = count(channel)(b"...")
        messages = stream.__aiter__()
        assert await anext(messages) == b"first"
        await messages.aclose()
        await eventually(stream.done)
        assert stream.cancelled()

    using(main)


def test_abandoned_streams_of_requests(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        for _ in range(3):
            call = join(channel)()
            await call.write(b"x")
            del call
            await say(channel)(b"x", timeout=10)
            talk = chat(channel)()
            await talk.write(b"x")
            assert await talk.read() == b"x"
            del talk
            await say(channel)(b"x", timeout=10)
            async for message in chat(channel)(endless()):
                assert message == b"x"
                break
            await say(channel)(b"x", timeout=10)

    using(main)


def test_a_done_callback_does_not_keep_a_stream_alive(using: Callable[..., Any]) -> None:
    told: list[Any] = []

    async def main(channel: Any) -> None:
        stream = count(channel)(b"...")
        stream.add_done_callback(told.append)
        await stream.read()
        del stream
        await quiet()

    using(main)
    assert len(told) == 1 and told[0].cancelled()


def test_streams_that_are_dropped_in_queue(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        async with occupied(channel):
            stream = await waiting(count(channel)(b"..."))
            del stream
            await eventually(lambda: in_queue() == 0)

            async def look() -> None:
                async for _ in count(channel)(b"..."):
                    pass

            task = asyncio.ensure_future(look())
            await eventually(lambda: in_queue() == 1)
            task.cancel()
            await asyncio.wait([task])
            await eventually(lambda: in_queue() == 0)

    using(main)


def test_a_stream_that_waited_is_guarded_too(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        for _ in range(3):
            async with occupied(channel) as free:
                stream = await waiting(count(channel)(b"..."))
                free()
                async for _message in stream:
                    break
                del stream
            assert await say(channel)(b"x", timeout=10) == b"x"

    using(main)


def test_dropped_by_another_thread(using: Callable[..., Any]) -> None:
    """By the garbage collector, say, which runs wherever it likes: the loop does the rest."""

    async def main(channel: Any) -> None:
        kept = [count(channel)(b"...")]
        await kept[0].read()
        seen = []
        kept[0].add_done_callback(lambda _: seen.append(threading.get_ident()))
        thread = threading.Thread(target=kept.clear)
        thread.start()
        await asyncio.to_thread(thread.join)
        await quiet()
        assert seen == [threading.get_ident()]

    using(main)


def test_a_hundred_breaks_at_a_limit_of_the_servers_own(on_loop: Callable[..., Any]) -> None:
    """grpc's own streams would all go on, and nothing else would begin."""

    async def main(target: str) -> None:
        options: Any = {"connections": 1, "streams_per_connection": 4}
        async with fg.aio_shared(target, **options) as channel:
            for _ in range(100):
                async for _message in count(channel)(b"...", timeout=30):
                    break
            assert await say(channel)(b"x", timeout=5) == b"x"
            await quiet()

    with GrpcServer(streams=4, patient=True) as server:
        on_loop(main(server.target))


def test_requests_that_fail_end_their_call(using: Callable[..., Any]) -> None:
    class Broken(Exception):
        pass

    async def requests() -> AsyncIterator[bytes]:
        yield b"a"
        raise Broken

    async def main(channel: Any) -> None:
        for send in (join, chat):
            call = send(channel)(requests())
            with pytest.raises(asyncio.CancelledError):
                await (call if send is join else anext(_skip(call)))
            await quiet()

    async def _skip(call: Any) -> AsyncIterator[Any]:
        async for message in call:
            if message != b"a":
                yield message

    using(main)


def test_a_server_that_dies(server: GrpcServer, using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        calls = [say(channel, "Wait")(b"60000") for _ in range(3)]
        streams = [count(channel)(b"...") for _ in range(3)]
        for stream in streams:
            await stream.read()
        await eventually(lambda: server.counts().running == 6)
        server.kill()
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        for stream in streams:
            with pytest.raises(grpc.aio.AioRpcError):
                await stream.read()
        await quiet()
        server.start()
        assert await say(channel)(b"x", timeout=20, wait_for_ready=True) == b"x"

    using(main, streams_per_connection=8)

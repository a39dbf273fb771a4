"""`aio_shared`: calls in the queue for a slot: deadlines, limits, cancelled waiters, exact
release."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from integration.calls.server import SERVICE as SCRIPT  # noqa: E402
from integration.calls.server import ScriptServer  # noqa: E402
from integration.grpc.aio_channels import (  # noqa: E402
    ONE_SLOT,
    all_of,
    chat,
    count,
    in_queue,
    in_use,
    join,
    occupied,
    quiet,
    say,
    turns,
    waiting,
)
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.loops import eventually, run_in  # noqa: E402

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as server:
        yield server


@pytest.fixture
def script() -> Iterator[ScriptServer]:
    server = ScriptServer()
    yield server
    server.close()


@pytest.fixture
def using(server: GrpcServer, on_loop: Callable[..., Any]) -> Callable[..., Any]:
    """``using(main, ...)``: runs ``main(channel)``, of one slot; afterwards it is free."""

    def use(main: Any, target: str = "", **more: Any) -> None:
        async def body() -> None:
            channel = fg.aio_shared(target or server.target, **{**ONE_SLOT, **more})
            async with channel:
                await main(channel)
                await quiet()

        on_loop(body())
        assert fg.stats() == ()

    return use


# ---- how a wait ends ----------------------------------------------------------------------------


def test_a_deadline_that_passes_in_queue(using: Callable[..., Any], script: ScriptServer) -> None:
    """The error is grpc's own kind, marked local, and the server never hears of the call."""

    async def main(channel: Any) -> None:
        stream = channel.unary_stream(f"/{SCRIPT}/Count")(b"first hang")
        assert await stream.read() == b"first"
        call = channel.unary_unary(f"/{SCRIPT}/Say")(b"OK", timeout=0.05)
        told: list[Any] = []
        call.add_done_callback(told.append)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error: Any = caught.value
        assert error.local and error.code() is await call.code() is CODE.DEADLINE_EXCEEDED
        assert "in the queue" in error.details() == await call.details()
        assert list(await call.trailing_metadata()) == list(error.trailing_metadata()) == []
        assert call.done() and not call.cancelled() and told == [call]
        copy = pickle.loads(pickle.dumps(error))
        assert (copy.code(), copy.details(), copy.local) == (error.code(), error.details(), True)
        assert in_use() == 1 and in_queue() == 0
        stream.cancel()
        assert await channel.unary_unary(f"/{SCRIPT}/Say")(b"OK OK") == b"OK 1"
        assert script.seen[b"OK"] == 0

    using(main, script.target)


def test_the_rest_of_the_deadline_goes_to_the_server(
    using: Callable[..., Any], script: ScriptServer
) -> None:
    async def main(channel: Any) -> None:
        stream = channel.unary_stream(f"/{SCRIPT}/Count")(b"first hang")
        await stream.read()
        call = await waiting(channel.unary_unary(f"/{SCRIPT}/Say")(b"OK", timeout=60))
        await asyncio.sleep(0.3)
        left = call.time_remaining()
        stream.cancel()
        await call
        assert left < 59.8 and 30 < script.deadlines[-1] < 59.9  # type: ignore[operator]

    using(main, script.target)


def test_queue_timeout(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        async with occupied(channel):
            for timeout in (None, 30):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await say(channel)(b"x", timeout=timeout)
                error: Any = caught.value
                assert error.local and error.code() is CODE.RESOURCE_EXHAUSTED
                assert "queue_timeout" in error.details()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await say(channel)(b"x", timeout=0.01)
            assert caught.value.code() is CODE.DEADLINE_EXCEEDED

    using(main, queue_timeout=0.1)


def test_max_queue(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        async with occupied(channel) as free:
            first = await waiting(say(channel)(b"1"))
            second = await waiting(say(channel)(b"2"), 2)
            for send in (say, count, join, chat):
                call = send(channel)(b"x" if send in (say, count) else iter([b"x"]))
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await (call if send in (say, join) else all_of(call))
                error: Any = caught.value
                assert error.local and error.code() is await call.code() is CODE.RESOURCE_EXHAUSTED
            assert in_queue() == 2
            free()
            assert [await first, await second] == [b"1", b"2"]

    using(main, max_queue=2)


def test_calls_for_whom_connections_are_opened_are_not_in_queue(server: GrpcServer) -> None:
    """As many as there will be slots for go through; more than that are too many."""

    async def main() -> None:
        slots: Any = {"connections": (1, 4), "streams_per_connection": 1}
        async with fg.aio_shared(server.target, **slots, max_queue=0) as channel:
            calls = [say(channel, "Wait")(b"300", timeout=30) for _ in range(4)]
            assert await asyncio.gather(*calls) == [b"300"] * 4

    asyncio.run(main())


def test_a_done_callback_that_raises_stops_no_close(server: GrpcServer) -> None:
    """All calls in the queue are cancelled, and none is sent."""
    sent: list[bytes] = []

    def send(request: bytes) -> bytes:
        sent.append(request)
        return request

    async def main() -> None:
        async with fg.aio_shared(server.target, **ONE_SLOT) as channel, occupied(channel):
            method = channel.unary_unary(f"/{SERVICE}/Say", send)
            calls = [method(b"%d" % n) for n in range(3)]
            for call in calls:
                call.add_done_callback(lambda call: 1 / 0)
            await waiting(calls[0], 3)
            await channel.close()
            assert [call.cancelled() for call in calls] == [True] * 3
        assert sent == []

    asyncio.run(main())


def test_any_number_may_wait_at_the_defaults(server: GrpcServer) -> None:
    async def main() -> None:
        async with fg.aio_shared(server.target) as channel:
            calls = [say(channel)(b"x", timeout=60) for _ in range(1_500)]
            assert await asyncio.gather(*calls) == [b"x"] * 1_500

    asyncio.run(main())


def test_what_a_refused_stream_says(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        async with occupied(channel):
            call = chat(channel)(timeout=0.01)
            for act in (call.read, lambda: call.write(b"x"), call.wait_for_connection):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await act()
                assert caught.value.code() is CODE.DEADLINE_EXCEEDED
            await call.done_writing()
            assert not call.cancel()

    using(main)


# ---- the order, and who leaves it ---------------------------------------------------------------


def test_first_come_first_served(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        ends: list[int] = []
        async with occupied(channel) as free:
            calls = []
            for i in range(8):
                call = say(channel)(b"%d" % i)
                call.add_done_callback(lambda _, i=i: ends.append(i))
                calls.append(await waiting(call, i + 1))
            free()
            await asyncio.gather(*calls)
        assert ends == list(range(8))

    using(main)


def test_a_cancelled_waiter_passes_its_slot_on(using: Callable[..., Any]) -> None:
    """Also at the very moment when it is given one, which is not yet when its task runs."""

    async def main(channel: Any) -> None:
        for moments in range(6):
            async with occupied(channel) as free:
                first = await waiting(say(channel, "Wait")(b"60000"))
                second = await waiting(say(channel)(b"2"), 2)
                free()
                await turns(moments)
                first.cancel()
                assert await second == b"2"
                with pytest.raises(asyncio.CancelledError):
                    await first
            await quiet()

    using(main)


def test_a_waiter_cancelled_before_it_is_in_queue(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        async with occupied(channel):
            call = say(channel)(b"x")
            assert call.cancel()
            assert await call.code() is CODE.CANCELLED
            assert call.cancelled()
            await turns()
            assert in_queue() == 0

    using(main)


def test_calls_that_nobody_awaits_run_all_the_same(using: Callable[..., Any]) -> None:
    """As grpc's own."""

    async def main(channel: Any) -> None:
        done: list[Any] = []
        async with occupied(channel) as free:
            call = await waiting(say(channel)(b"x"))
            call.add_done_callback(lambda call: done.append(call.done()))
            del call
            gc.collect()
            free()
            await quiet()
        assert done == [True]

    using(main)


def test_contexts_are_those_of_the_caller(using: Callable[..., Any]) -> None:
    from contextvars import ContextVar

    name: ContextVar[str] = ContextVar("name", default="nobody")
    seen = []

    def serialize(text: str) -> bytes:
        seen.append(name.get())
        return text.encode()

    async def main(channel: Any) -> None:
        method = channel.unary_unary("/fastpool.test.Echo/Say", serialize)
        async with occupied(channel) as free:
            calls = []
            for n in (1, 2, 3):
                name.set(f"in the queue {n}")
                calls.append(await waiting(method("x"), n))
            name.set("later")
            free()
            await asyncio.gather(*calls)
        name.set("at once")
        await quiet()
        await method("x")

    using(main)
    assert seen == ["in the queue 1", "in the queue 2", "in the queue 3", "at once"]


# ---- more of everything -------------------------------------------------------------------------


def test_a_burst_opens_connections_up_to_the_most(on_loop: Callable[..., Any]) -> None:
    async def main() -> None:
        options: Any = {"connections": (1, 3), "streams_per_connection": 4}
        async with fg.aio_shared(server.target, **options) as channel:
            streams = [count(channel)(b"...") for _ in range(40)]
            await eventually(lambda: in_use() == 12)
            assert in_queue() == 28
            for stream in streams:
                assert await stream.read() == b"first"
                assert in_use() <= 12
                stream.cancel()
            await quiet()
            assert fg.stats()[0].connections == 3

    with GrpcServer() as server:
        on_loop(main())
        # How many handlers it had at once says less: they end some time after they are cancelled.
        assert server.counts().peers == 3


@pytest.mark.parametrize(("waiting", "more"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_as_many_connections_are_opened_as_those_in_queue_need(
    server: GrpcServer, waiting: int, more: int
) -> None:
    """One for every four that wait, where a connection carries four; not one for each of them."""

    async def main() -> None:
        options: Any = {"connections": (1, 8), "streams_per_connection": 4}
        async with fg.aio_shared(server.target, **options) as channel:
            streams = [count(channel)(b"...") for _ in range(4)]
            for stream in streams:
                await stream.read()
            assert fg.stats()[0].connections == 1
            streams += [count(channel)(b"...") for _ in range(waiting)]
            assert in_queue() == waiting
            for stream in streams[4:]:
                assert await stream.read() == b"first"
            assert fg.stats()[0].connections == 1 + more
            for stream in streams:
                stream.cancel()
            await quiet()

    run_in("asyncio", main())


def test_no_cap_no_queue(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        calls = [say(channel, "Wait")(b"1") for _ in range(200)]
        assert in_use() == 200 and in_queue() == 0  # none ends before the loop goes on
        await asyncio.gather(*calls)

    using(main, streams_per_connection=None)

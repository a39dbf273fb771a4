"""`aio_shared`: connections are replaced, given up and avoided, and no call fails for it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from integration.grpc.aio_channels import (  # noqa: E402
    ONE_SLOT,
    all_of,
    chat,
    count,
    in_use,
    join,
    quiet,
    say,
    turns,
)
from integration.grpc.server import GrpcServer  # noqa: E402
from support import helpers as in_thread  # noqa: E402
from support.helpers import ThreadRunner  # noqa: E402
from support.loops import eventually, kind_in_turn, run_in  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once]

LONG = 50.0  # seconds that only a bug takes, of a test that does much


def test_rotation_by_age(on_loop: Callable[..., Any]) -> None:
    """Every connection is replaced under load, and streams that are open at the time run on."""
    failed: list[BaseException] = []

    async def main(server: GrpcServer) -> None:
        over = False

        async def work(call: Callable[[], Any]) -> None:
            while not over:
                try:
                    await call()
                except Exception as error:
                    failed.append(error)

        async with fg.aio_shared(server.target, max_age=0.2) as channel:
            pour = count(channel, "Pour")
            runner = [work(lambda: say(channel, "Wait")(b"10")) for _ in range(4)]
            runner += [work(lambda: all_of(pour(b"20 10 20"))) for _ in range(2)]
            working = asyncio.gather(*runner)
            while server.counts().peers < 4:
                await asyncio.sleep(0.02)
            over = True
            await working
            await quiet()
            await eventually(lambda: fg.stats()[0].connections == 1)
            await eventually(lambda: server.counts().open in (1, None))

    with GrpcServer() as server:
        on_loop(main(server), within=LONG)
    assert failed == []


def test_what_does_not_drain_is_ended(
    on_loop: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main(target: str) -> None:
        async with fg.aio_shared(target, max_age=0.2, drain_timeout=0.3) as channel:
            stream = count(channel)(b"...")
            await stream.read()
            old = next(iter(channel._entry.connections.dispatcher().live))
            await eventually(stream.done)
            assert stream.cancelled() and old.ended
            assert await say(channel)(b"x", timeout=10) == b"x"

    with GrpcServer() as server:
        on_loop(main(server.target))
    assert "drain within 0.3 s" in caplog.text


def test_connections_that_are_not_needed_are_given_up(on_loop: Callable[..., Any]) -> None:
    async def main(server: GrpcServer) -> None:
        options: Any = {"connections": (1, 4), "streams_per_connection": 2, "shrink_after": 0.05}
        async with fg.aio_shared(server.target, **options) as channel:
            for peers in (4, 7):
                # All four are in use until the streams end, however long it takes to get there.
                streams = [count(channel)(b"...") for _ in range(8)]
                for stream in streams:
                    assert await stream.read() == b"first"
                assert server.counts().peers == peers
                assert fg.stats()[0].connections == 4
                for stream in streams:
                    stream.cancel()
                del stream
                streams.clear()  # what refers to a call keeps its connection open, in grpc
                await eventually(lambda: fg.stats()[0].connections == 1)
                await eventually(lambda: server.counts().open in (1, None))
            assert await say(channel)(b"x", timeout=10) == b"x"

    with GrpcServer() as server:
        on_loop(main(server), within=LONG)


def test_a_connection_that_fails_fast_attracts_no_calls(on_loop: Callable[..., Any]) -> None:
    async def main(server: GrpcServer) -> None:
        async with fg.aio_shared(server.target, connections=2) as channel:
            assert await say(channel)(b"x", timeout=10) == b"x"
            dispatcher = channel._entry.connections.dispatcher()
            first = next(each for each in dispatcher.live if each.channel is not None)
            server.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await say(channel)(b"x", timeout=10)
            call_slot = dispatcher.take()  # the other one, though both carry nothing
            assert call_slot.connection is not first
            call_slot()

    with GrpcServer() as server:
        on_loop(main(server))


def test_a_restart_with_patient_calls(on_loop: Callable[..., Any]) -> None:
    async def main(server: GrpcServer) -> None:
        soon: Any = {"reconnect_backoff": (0.05, 0.2)}
        async with fg.aio_shared(server.target, **ONE_SLOT, **soon) as channel:
            method = say(channel)
            assert await method(b"x") == b"x"
            server.kill()
            # What is sent before that is known may have been done by the server, for all one knows.
            await eventually(lambda: channel.get_state() is not grpc.ChannelConnectivity.READY)
            call = method(b"y", timeout=30, wait_for_ready=True)
            await turns()
            await asyncio.to_thread(server.start)
            assert await call == b"y"

    with GrpcServer() as server:
        on_loop(main(server))


# ---- everything at once -------------------------------------------------------------------------


async def one(channel: Any, rng: random.Random) -> bool:
    """Some call that ends in some way; whether the server has answered."""
    kind = rng.randrange(8)
    if kind == 0:
        await say(channel)(b"x", timeout=10)
    elif kind == 1:
        await say(channel, "Wait")(b"5", timeout=rng.uniform(0.0005, 0.009))
    elif kind == 2:
        async with asyncio.timeout(rng.uniform(0.0001, 0.004)):
            await say(channel, "Wait")(b"20", timeout=10)
    elif kind == 3:
        say(channel, "Wait")(b"2", timeout=10)  # and nobody awaits it
    elif kind == 4:
        call = say(channel, "Wait")(b"20", timeout=10)
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        call.cancel()
    elif kind == 5:
        async for _ in count(channel)(rng.choice((b"abc", b"...")), timeout=1):  # or a death
            if rng.random() < 0.5:
                break
    elif kind == 6:
        call = join(channel)(timeout=10)
        await call.write(b"x")
        if rng.random() < 0.5:
            await call.done_writing()
            await call
    else:
        async for _ in chat(channel)(iter([b"a", b"b"]), timeout=10):
            if rng.random() < 0.3:
                break
    return kind not in (3, 4)


EXPECTED = (grpc.RpcError, TimeoutError, asyncio.InvalidStateError)


@pytest.mark.timeout(300)
def test_no_slot_is_lost(runner: ThreadRunner) -> None:
    """Random calls from two loops while the server dies now and then: all comes back, and after it
    all slots can be used at once."""
    slots: Any = {"connections": (1, 3), "streams_per_connection": 4, "max_queue": 20}
    answered: list[int] = []  # the loops of the calls that were
    over, barrier = threading.Event(), threading.Barrier(3)

    async def random_calls(channel: Any, loop: int, rng: random.Random) -> None:
        task = asyncio.current_task()
        while not over.is_set():
            try:
                if await one(channel, rng):
                    answered.append(loop)
            except EXPECTED:
                await asyncio.sleep(0.001)  # those that fail fast let the others be heard
            except asyncio.CancelledError:  # grpc's own
                assert task is not None and not task.cancelling()

    async def together() -> None:
        await asyncio.to_thread(barrier.wait, LONG)

    async def work(target: str, loop: int) -> None:
        rng = random.Random(loop)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # of cancelled calls
        try:
            async with fg.aio_shared(target, **slots, reconnect_backoff=(0.05, 0.2)) as channel:
                await asyncio.gather(*[random_calls(channel, loop, rng) for _ in range(16)])
                await quiet()
                await together()
                streams = [count(channel)(b"...", wait_for_ready=True) for _ in range(12)]
                for stream in streams:
                    assert await stream.read() == b"first"
                await together()
                assert in_use() == 24
                await together()
                for stream in streams:
                    stream.cancel()
                await quiet()
        except BaseException:
            barrier.abort()
            raise

    with GrpcServer() as server:
        working = [
            runner.start(run_in, kind_in_turn(i), work(server.target, i), 2 * LONG)
            for i in range(2)
        ]

        def more_answers() -> None:
            """Of both loops, whatever became of the connections that they had."""
            due = [answered.count(loop) + 80 for loop in range(2)]
            in_thread.eventually(
                lambda: (
                    not all(each.running for each in working)
                    or all(answered.count(loop) >= due[loop] for loop in range(2))
                ),
                LONG,
            )

        try:
            for _ in range(3):
                more_answers()
                server.kill()
                server.start()
            more_answers()
        finally:
            over.set()
        for _ in range(3):
            barrier.wait(LONG)
        runner.finish(LONG)
    assert fg.stats() == ()

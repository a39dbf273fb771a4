"""`aio_shared`: event loops after each other, beside each other, and in forked children."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from integration.grpc.aio_channels import ONE_SLOT, count, in_queue, in_use, say, turns, waiting  # noqa: E402
from integration.grpc.server import GrpcServer  # noqa: E402
from support.helpers import ThreadRunner  # noqa: E402
from support.loops import eventually, kind_in_turn, run_in  # noqa: E402

pytestmark = pytest.mark.process

LONG = 50.0  # seconds that only a bug takes, of a test with several loops


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as server:
        yield server


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    """At the end of each test no handle is left, nor one of a test that failed for the next."""
    assert fg.stats() == ()
    yield
    gc.collect()
    left = fg.stats()
    for thing in gc.get_objects() if left else ():
        if isinstance(thing, fg.AioSharedChannel) and not thing.closed:
            run_in("asyncio", close(thing))
    assert left == ()


async def close(channel: Any) -> None:
    await channel.close()


def test_one_loop_after_the_other(server: GrpcServer) -> None:
    """The same handle and the same stub; the dead loop's connections go, whatever they carried."""
    channel = fg.aio_shared(server.target, **ONE_SLOT)
    method, stream = say(channel), count(channel)

    async def main(n: int) -> None:
        assert await method(b"%d" % n) == b"%d" % n
        if n % 2:
            left.append(stream(b"..."))  # holds the one slot when its loop ends
            await left[-1].read()

    left: list[Any] = []
    for n in range(6):
        run_in(kind_in_turn(n), main(n))
        stats = fg.stats()[0]
        assert stats.connections == 1 and stats.in_use <= 1
    left.clear()
    run_in("asyncio", close(channel))
    assert server.counts().peers == 6


@pytest.mark.timeout(270)
def test_loops_beside_each_other(server: GrpcServer, runner: ThreadRunner) -> None:
    """Each has connections of its own, and slots of its own."""
    loops, all_hold, all_seen = 3, threading.Barrier(4), threading.Barrier(4)
    channel = fg.aio_shared(server.target, **ONE_SLOT)
    method, stream = say(channel), count(channel)

    async def main() -> None:
        try:
            held = stream(b"...")
            assert await held.read() == b"first"
            await asyncio.to_thread(all_hold.wait, LONG)
            await asyncio.to_thread(all_seen.wait, LONG)
            held.cancel()
            for i in range(20):
                assert await method(b"%d" % i, timeout=LONG) == b"%d" % i
        except BaseException:  # the others would wait for it
            all_hold.abort()
            all_seen.abort()
            raise

    try:
        running = runner.together(loops, lambda i: run_in(kind_in_turn(i), main(), LONG))
        all_hold.wait(LONG)
        assert in_use() == loops
        all_seen.wait(LONG)
        for task in running:
            task.result(LONG)
    finally:
        all_seen.abort()
        run_in("asyncio", close(channel))
    assert server.counts().peers == loops


def test_a_handle_made_before_any_loop(server: GrpcServer, on_loop: Callable[..., Any]) -> None:
    channel = fg.aio_shared(server.target)
    assert fg.stats()[0].connections == 0
    method = say(channel)

    async def main() -> None:
        assert await method(b"x") == b"x"
        await channel.close()

    on_loop(main())


def test_without_a_running_loop(server: GrpcServer) -> None:
    """As grpc's own, which take the loop of the thread."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        channel = fg.aio_shared(server.target)
        call = say(channel)(b"x")
        assert loop.run_until_complete(call) == b"x"
        loop.run_until_complete(channel.close())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_calls_of_a_dead_loop_hold_nothing_up(server: GrpcServer) -> None:
    channel = fg.aio_shared(server.target, **ONE_SLOT)
    left: list[Any] = []

    async def begin() -> None:
        left.append(count(channel)(b"..."))
        await left[0].read()
        left.append(say(channel)(b"x"))
        await eventually(lambda: in_queue() == 1)

    async def go_on() -> None:
        assert await say(channel)(b"y", timeout=10) == b"y"
        assert (in_use(), in_queue()) == (0, 0)
        await channel.close(grace=30)

    loop = asyncio.SelectorEventLoop()
    loop.run_until_complete(begin())  # and nothing on it is cancelled
    loop.close()
    run_in("asyncio", go_on())
    left.clear()


# ---- close -------------------------------------------------------------------------------------


def test_close_cancels_and_refuses(server: GrpcServer, on_loop: Callable[..., Any]) -> None:
    async def main() -> None:
        channel = fg.aio_shared(server.target, **ONE_SLOT)
        method = say(channel)
        running = say(channel, "Wait")(b"60000")
        await eventually(lambda: server.counts().running == 1)
        queued = await waiting(method(b"x"))
        await channel.close()
        await channel.close()  # once more is nothing
        assert running.done() and queued.done()
        for call in (running, queued):
            with pytest.raises(asyncio.CancelledError):
                await call
        for act in (lambda: method(b"x"), lambda: say(channel), lambda: count(channel)(b"x")):
            with pytest.raises(grpc.aio.UsageError):
                act()
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
        assert channel.closed and "closed" in repr(channel)
        with pytest.raises(grpc.aio.UsageError):
            await channel.channel_ready()
        await eventually(lambda: server.counts().running == 0)

    on_loop(main())


def test_close_with_a_grace(server: GrpcServer, on_loop: Callable[..., Any]) -> None:
    """Refuses what is new, waits for what runs and for what is in the queue, and no longer."""

    async def main() -> None:
        channel = fg.aio_shared(server.target, **ONE_SLOT)
        method = say(channel, "Wait")
        calls = [method(b"100") for _ in range(3)]  # one after the other
        await eventually(lambda: server.counts().running == 1 and in_queue() == 2)
        closing = asyncio.ensure_future(channel.close(grace=30))
        await asyncio.sleep(0)
        with pytest.raises(grpc.aio.UsageError):
            method(b"x")
        await closing
        assert [call.done() for call in calls] == [True] * 3
        assert [await call for call in calls] == [b"100"] * 3

    on_loop(main())


def test_a_grace_is_a_number_of_seconds(server: GrpcServer, on_loop: Callable[..., Any]) -> None:
    """As for threads: a mistake closes nothing."""

    async def main() -> None:
        async with fg.aio_shared(server.target) as channel:
            for wrong in (-1, float("nan")):
                with pytest.raises(ValueError, match="grace"):
                    await channel.close(wrong)
            with pytest.raises(TypeError, match="grace"):
                await channel.close("soon")
            assert await say(channel)(b"x", timeout=20) == b"x"  # and the handle is open still

    on_loop(main())


def test_a_grace_is_not_spent_on_calls_that_have_no_end(server: GrpcServer) -> None:
    """Those whose request cannot be sent: grpc gives them no status, ever."""

    async def main() -> None:
        channel = fg.aio_shared(server.target, **ONE_SLOT)
        call = say(channel)("text, and no bytes")
        with pytest.raises(Exception) as caught:
            await call
        assert not isinstance(caught.value, (grpc.RpcError, TimeoutError)) and in_use() == 1
        await channel.close(grace=3600)
        assert call.done()

    run_in("asyncio", main())


def test_a_grace_that_is_over(server: GrpcServer, on_loop: Callable[..., Any]) -> None:
    async def main() -> None:
        channel = fg.aio_shared(server.target, **ONE_SLOT)
        stream = count(channel)(b"...")
        await stream.read()
        queued = await waiting(say(channel)(b"x"))
        await channel.close(grace=0.05)
        assert stream.cancelled() and queued.cancelled()
        await eventually(lambda: server.counts().running == 0)

    on_loop(main())


class Jumping(asyncio.SelectorEventLoop):
    """Its time is the test's to advance, beside what passes anyway."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def test_a_grace_lasts_as_long_as_it_was_given(server: GrpcServer) -> None:
    """No shorter for what is still running, and no longer."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Jumping)
        channel = fg.aio_shared(server.target, **ONE_SLOT)
        stream = count(channel)(b"...")
        await stream.read()
        closing = asyncio.ensure_future(channel.close(grace=1000))
        await turns()
        loop.ahead += 900
        for _ in range(5):
            loop.ahead += 1  # so that whoever looks now and then has looked
            await turns()
        assert not closing.done() and not stream.done()
        loop.ahead += 200
        await eventually(closing.done)
        assert stream.cancelled()
        await closing

    with asyncio.Runner(loop_factory=Jumping) as asyncio_runner:
        asyncio_runner.run(main())


def test_close_from_another_loop(server: GrpcServer, runner: ThreadRunner) -> None:
    channel = fg.aio_shared(server.target, **ONE_SLOT)
    running, closed = threading.Event(), threading.Event()
    ends: list[str] = []

    async def work() -> None:
        calls = [say(channel, "Wait")(b"100"), say(channel, "Wait")(b"100")]
        running.set()
        for call in calls:
            assert await call == b"100"
            ends.append("call")
        await asyncio.to_thread(closed.wait, 20)

    async def close_it() -> None:
        await asyncio.to_thread(running.wait, 20)
        await channel.close(grace=30)
        ends.append("close")
        closed.set()

    runner.start(run_in, "asyncio", work())
    run_in("asyncio", close_it())
    runner.finish()
    assert sorted(ends) == ["call", "call", "close"]


def test_a_loop_that_comes_while_the_channel_is_being_closed_is_refused(
    server: GrpcServer,
) -> None:
    """By another thread, which has not come to say so to this handle's calls."""
    channel = fg.aio_shared(server.target)
    method = say(channel)

    async def main() -> None:
        assert await method(b"x") == b"x"
        await channel._live().aclose(None)

    async def later() -> None:
        with pytest.raises(grpc.aio.UsageError):
            method(b"y")
        assert not channel._live().dispatchers()
        await channel.close()

    run_in("asyncio", main())
    run_in("asyncio", later())


def test_the_last_handle_closes(server: GrpcServer, on_loop: Callable[..., Any]) -> None:
    async def main() -> None:
        one, other = fg.aio_shared(server.target), fg.aio_shared(server.target)
        method = say(one)
        assert await method(b"x") == b"x"
        assert [each.references for each in fg.stats()] == [2]
        await one.close()
        with pytest.raises(grpc.aio.UsageError):
            method(b"x")
        assert await say(other)(b"x") == b"x"
        different = fg.aio_shared(server.target, connections=2)
        assert len(fg.stats()) == 2
        await different.close()
        await other.close()
        assert fg.stats() == ()

    on_loop(main())
    assert server.counts().peers == 1


def test_collected_unclosed(server: GrpcServer, on_loop: Callable[..., Any]) -> None:
    """Released, and its connection is closed; a stub keeps it alive."""

    async def main() -> None:
        method = say(fg.aio_shared(server.target))
        assert await method(b"x") == b"x"
        gc.collect()
        assert fg.stats()[0].references == 1 and server.counts().open in (1, None)
        del method
        gc.collect()
        assert fg.stats() == ()
        await eventually(lambda: server.counts().open in (0, None))

    on_loop(main())


# ---- fork --------------------------------------------------------------------------------------


FORKING = """
import asyncio, gc, os, sys, threading, time
import fastpool.grpc as fg
from integration.grpc.aio_channels import say
from integration.grpc.server import GrpcServer

async def first(method):
    assert await method(b"x", timeout=10) == b"x"

async def refused(method):
    try:
        await method(b"x", timeout=10)
    except RuntimeError as error:
        assert "forked while" in str(error)
    else:
        raise AssertionError("it was not refused")

def fork(use, method):
    pid = os.fork()
    if not pid:
        status = 1
        try:
            asyncio.run(use(method))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0

async def used(target):
    async with fg.aio_shared(target) as channel:
        await first(say(channel))

with GrpcServer() as server:
    asyncio.run(used(server.target))  # and closed
    gc.collect()  # what closes in the background holds locks of grpc's, which a child would inherit
    while any(thread.name.endswith("-close") for thread in threading.enumerate()):
        time.sleep(0.01)
    method = say(fg.aio_shared(server.target))
    for _ in range(3):
        fork(first, method)
    asyncio.run(first(method))
    fork(refused, method)
    asyncio.run(first(method))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_children() -> None:
    """They connect anew. While its parent has a channel of grpc.aio that was used, a child cannot,
    whoever asks: grpc would hang there, and this says so."""
    here = Path(__file__).parent
    path = [str(here.parents[1]), str(here.parents[2]), *sys.path]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr[-2000:]

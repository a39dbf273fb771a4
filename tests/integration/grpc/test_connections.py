"""The connections of a shared channel: when there are more, fewer, new ones, and what ends them."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.grpc import (  # noqa: E402
    NotReady,
    shared,
    stats,
    wait_ready,
)
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import ThreadRunner, eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once]

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    """One whose peers the test counts."""
    server = GrpcServer()
    yield server
    server.close()
    gc.collect()
    assert stats() == ()


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def say(channel: Any) -> Any:
    return channel.unary_unary(path("Say"))


def streams(channel: Any, n: int) -> list[Any]:
    """So many that hold a slot each."""
    opened = [channel.unary_stream(path("Count"))(b"...", timeout=60) for _ in range(n)]
    for each in opened:
        assert next(each) == b"first"
    return opened


def pool_of(channel: Any) -> Any:
    return channel._live().pool


# -- how many ----------------------------------------------------------------------------------


def test_more_are_opened_when_all_slots_are_taken_and_no_sooner(server: GrpcServer) -> None:
    """And they are connected before they are given calls."""
    with shared(server.target, connections=(1, 3), streams_per_connection=2) as channel:
        held = streams(channel, 2)
        assert server.counts().peers == 1 and stats()[0].connections == 1
        held += streams(channel, 3)
        assert server.counts().peers == 3 and stats()[0].connections == 3
        held += streams(channel, 1)
        assert stats()[0].in_use == 6 and stats()[0].connections == 3
        for each in held:
            each.cancel()
        eventually(lambda: stats()[0].in_use == 0)


def test_calls_wait_for_no_connection_that_does_not_come(server: GrpcServer) -> None:
    """One more cannot be had: the call gets a slot of those there are, as soon as one is free."""
    with shared(server.target, connections=(1, 2), streams_per_connection=1) as channel:
        (held,) = streams(channel, 1)
        dialled: list[Any] = []
        connections = channel._live()
        dial = type(connections.key).dial

        def lost(key: Any) -> Any:
            dialled.append(dial(key._replace(target="127.0.0.1:1")))
            return dialled[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(connections.key), "dial", lost)
            future: list[bytes] = []
            caller = threading.Thread(target=lambda: future.append(say(channel)(b"x", timeout=30)))
            caller.start()
            eventually(lambda: len(dialled) >= 2)  # it goes on trying
            held.cancel()
            caller.join(30)
            assert future == [b"x"]
        eventually(lambda: pool_of(channel).stats().creating == 0)
        for each in dialled:
            with pytest.raises(ValueError, match="closed channel"):
                say(each)(b"x")


def test_connections_that_are_not_needed_are_closed(server: GrpcServer) -> None:
    options: dict[str, Any] = {"connections": (1, 3), "streams_per_connection": 1}
    with shared(server.target, **options, shrink_after=0.05) as channel:
        for each in streams(channel, 3):
            each.cancel()
        eventually(lambda: stats()[0].connections == 1)
        assert say(channel)(b"x", timeout=10) == b"x"


def test_a_fixed_number_is_kept(server: GrpcServer) -> None:
    with shared(server.target, connections=3) as channel:
        wait_ready(channel, 10)
        assert stats()[0].connections == 3
        if server.counts().open is not None:
            assert server.counts().open == 3


def test_wait_ready_for_some(server: GrpcServer) -> None:
    """It opens what is missing, up to the most there may be."""
    with shared(server.target, connections=(1, 4)) as channel:
        wait_ready(channel, 10)
        assert stats()[0].connections == 1
        wait_ready(channel, 10, connections=3)
        assert stats()[0].connections == 3
        wait_ready(channel, 10, connections=9)
        assert stats()[0].connections == 4
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="connections must be None or > 0"):
            wait_ready([], 1, connections=wrong)
    with shared("127.0.0.1:1", connections=2) as channel:
        with pytest.raises(NotReady, match="TRANSIENT_FAILURE"):
            wait_ready(channel, 0.3)


def test_bulk_has_a_connection_to_itself(server: GrpcServer) -> None:
    """Of its own slots, opened when it is needed; and small calls never go there."""
    count = path("Count")
    with shared(server.target, bulk=[count], streams_per_connection=2) as channel:
        assert say(channel)(b"x", timeout=10) == b"x"
        assert server.counts().peers == 1
        held = streams(channel, 2)
        assert server.counts().peers == 2
        (now,) = stats()
        assert (now.connections, now.in_use, now.streams) == (2, 2, 2)
        for _ in range(5):
            assert say(channel)(b"x", timeout=10) == b"x"
        assert pool_of(channel).stats().leases == 0 and server.counts().peers == 2
        for each in held:
            each.cancel()
    with shared(server.target, bulk=[count]) as one, shared(server.target) as other:
        assert [each.references for each in stats()] == [1, 1]
        assert one.target == other.target


# -- errors ------------------------------------------------------------------------------------


def test_one_that_fails_fast_does_not_attract_calls(server: GrpcServer) -> None:
    """Its calls end at once, so it would always be the least loaded."""
    with shared(server.target, connections=2, streams_per_connection=20) as channel:
        wait_ready(channel, 10)
        good, bad = channel._live().connected()
        stub = say(channel)
        assert stub(b"x", timeout=10) == b"x"
        tried: list[int] = []

        def broken(*args: Any, **kwargs: Any) -> Any:
            tried.append(1)
            return lost(b"x", timeout=10)

        with grpc.insecure_channel("127.0.0.1:1") as nowhere:
            lost = say(nowhere)
            for each in (good, bad):
                each.multicallable(stub.method.number)
            bad.set_call(stub.method.number, broken)
            held = {lease.resource: lease for lease in [pool_of(channel).acquire() for _ in "12"]}
            held.pop(bad).release()  # which makes it the least loaded
            with pytest.raises(grpc.RpcError) as caught:
                stub(b"x", timeout=10)
            assert caught.value.code() is UNAVAILABLE and len(tried) == 1
            for _ in range(5):
                assert stub(b"x", timeout=10) == b"x"
            assert len(tried) == 1
            held.pop(good).release()


def test_a_restart_of_the_server_is_survived(server: GrpcServer) -> None:
    with shared(server.target, reconnect_backoff=(0.05, 0.2)) as channel:
        stub = say(channel)
        assert stub(b"x", timeout=10) == b"x"
        server.kill()
        with pytest.raises(grpc.RpcError) as caught:
            stub(b"x", timeout=10)
        assert caught.value.code() is UNAVAILABLE
        server.start()
        assert stub(b"x", timeout=10, wait_for_ready=True) == b"x"
        assert stats()[0].in_use == 0


# -- replacement -------------------------------------------------------------------------------


def test_old_ones_are_replaced_and_no_call_notices(server: GrpcServer) -> None:
    """The new one is connected before the old one drains; a stream ends where it began."""
    go_on = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"first"
        go_on.wait(60)
        yield b"last"

    with shared(server.target, connections=(1, 4), max_age=0.2) as channel:
        talk = channel.stream_stream(path("Chat"))(requests(), timeout=60)
        assert next(talk) == b"first"
        stub = say(channel)
        while server.counts().peers < 4:
            for _ in range(5):
                assert stub(b"x", timeout=10) == b"x"
            time.sleep(0.01)
        go_on.set()
        assert list(talk) == [b"last"]
        eventually(lambda: stats()[0].connections <= 2)


def test_what_does_not_drain_in_time_is_cut_off(
    server: GrpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    with shared(server.target, connections=1, max_age=0.2, drain_timeout=0.1) as channel:
        (held,) = streams(channel, 1)
        with pytest.raises(grpc.RpcError) as caught:
            next(held)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        eventually(lambda: stats()[0].in_use == 0)
        assert "calls still run on a connection that was to drain within 0.1 s" in caplog.text
        assert say(channel)(b"x", timeout=10) == b"x"


def test_subscribers_are_told_of_the_new_one(server: GrpcServer) -> None:
    heard: list[Any] = []
    with shared(server.target, connections=1) as channel:
        channel.subscribe(heard.append, try_to_connect=True)
        eventually(lambda: heard and heard[-1] is grpc.ChannelConnectivity.READY)
        (old,) = channel._live().connected()
        pool_of(channel).replace()
        eventually(lambda: old not in channel._live().live)
        server.kill()
        eventually(lambda: heard[-1] is not grpc.ChannelConnectivity.READY)
        server.start()
        wait_ready(channel, 10)
        eventually(lambda: heard[-1] is grpc.ChannelConnectivity.READY)
        channel.unsubscribe(heard.append)
        channel.unsubscribe(heard.append)


# -- the end -----------------------------------------------------------------------------------


def test_close_with_grace_waits_for_calls_and_refuses_new_ones(
    server: GrpcServer, runner: ThreadRunner
) -> None:
    """And is over with them, long before the grace is."""
    channel, go_on = shared(server.target), threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"a"
        go_on.wait(60)
        yield b"b"

    join = channel.stream_unary(path("Join"))
    future, other = join.future(requests(), timeout=60), runner.start(join, requests(), 60)
    eventually(lambda: server.counts().running == 2)
    closing = runner.start(channel.close, 3600)
    eventually(lambda: channel.closed)
    with pytest.raises(ValueError, match="closed channel"):
        join(iter([b"x"]))
    closing.parked()
    assert not future.done()
    go_on.set()
    closing.result()
    assert future.done() and future.result() == b"ab" and other.result() == b"ab"
    channel.close(10)  # again: nothing


def test_what_outlives_the_grace_is_cancelled(server: GrpcServer) -> None:
    channel = shared(server.target, connections=(1, 2), streams_per_connection=1)
    held = streams(channel, 2)
    channel.close(0.05)
    for each in held:
        with pytest.raises(grpc.RpcError) as caught:
            next(each)
        assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_many_threads_close_one_handle_once(server: GrpcServer, runner: ThreadRunner) -> None:
    channel = shared(server.target)
    held = streams(channel, 1)
    runner.together(4, lambda _: channel.close(0.05))
    runner.finish()
    with pytest.raises(grpc.RpcError):
        next(held[0])
    assert stats() == ()


def test_a_grace_is_a_number_of_seconds(server: GrpcServer) -> None:
    with shared(server.target) as channel:
        for wrong in (-1, float("nan")):
            with pytest.raises(ValueError, match="grace"):
                channel.close(wrong)
        with pytest.raises(TypeError, match="grace"):
            channel.close("soon")
        assert say(channel)(b"x", timeout=10) == b"x"  # and the handle is open still


def test_a_done_callback_may_close_the_channel(server: GrpcServer) -> None:
    """It runs in the thread that brings the ends of calls, for which a close waits: grpc's own
    channel would wait for ever."""
    channel = shared(server.target)
    (held,) = streams(channel, 1)
    closed = threading.Event()

    def close(_: Any) -> None:
        channel.close()
        closed.set()

    say(channel).future(b"x", timeout=10).add_done_callback(close)
    assert closed.wait(10)
    with pytest.raises(grpc.RpcError):
        next(held)

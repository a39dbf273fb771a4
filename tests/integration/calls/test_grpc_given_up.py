"""Calls over gRPC under a policy that are given up: between two tries, dropped, never sent."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import (  # noqa: E402
    CallPolicy,
    CircuitBreaker,
    Limit,
    Overloaded,
    Retry,
)
from integration.calls.channels import Pauses, count, in_loop, until  # noqa: E402
from integration.calls.server import SERVICE, ScriptServer  # noqa: E402
from support.helpers import PATIENCE, ThreadRunner, eventually  # noqa: E402

CODE = grpc.StatusCode


def test_a_stream_that_is_dropped_between_two_tries_is_cancelled_once(
    script: ScriptServer, wrap: Callable[..., Any]
) -> None:
    limit, breaker = Limit(1), CircuitBreaker(min_calls=1)
    policy = CallPolicy(retry=Retry(3, throttle=None), limit=limit, breaker=breaker)
    for n in range(1, 6):
        stream = count(wrap(policy))(b"UNAVAILABLE %d" % n)
        eventually(lambda n=n: policy.stats().retries == n)  # its first try has failed
        del stream
        gc.collect()
        eventually(lambda n=n: policy.stats().cancelled == n)
    assert policy.stats().calls == 5 and limit.stats().in_use == 0
    assert (breaker.state, breaker.stats().calls) == ("closed", 0)

    async def main(channel: Any) -> None:
        stream = count(channel)(b"UNAVAILABLE")
        await until(lambda: policy.stats().retries == 6)
        del stream
        gc.collect()
        await until(lambda: policy.stats().cancelled == 6)

    in_loop(script, policy, main)
    assert policy.stats().calls == 6 and limit.stats().in_use == 0
    assert (breaker.state, breaker.stats().calls) == ("closed", 0)


def test_a_stream_that_is_dropped_while_its_next_try_is_decided_is_cancelled_once(
    script: ScriptServer, wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC's thread is about to ask for another try, and then there is nobody to make it."""
    deciding, dropped = threading.Event(), threading.Event()

    def random() -> float:
        deciding.set()
        assert dropped.wait(PATIENCE)
        return 0.5

    monkeypatch.setattr("fastpool.calls._retry.random", random)
    policy = CallPolicy(retry=Retry(3))
    script.gate.clear()
    stream = count(wrap(policy))(b"later-UNAVAILABLE")
    script.gate.set()  # not before there is a stream: else this thread would decide
    assert deciding.wait(PATIENCE)
    del stream
    gc.collect()
    dropped.set()
    eventually(lambda: policy.stats().cancelled == 1)
    assert policy.stats().calls == 1


def test_a_stream_that_was_tried_again_ends_once(
    script: ScriptServer, wrap: Callable[..., Any]
) -> None:
    """When it is dropped after its end, too."""
    policy = CallPolicy(retry=Retry(3, backoff=1e-9))
    assert list(count(wrap(policy))(b"UNAVAILABLE OK")) == [b"OK 2", b"last"]

    async def main(channel: Any) -> None:
        stream = count(channel)(b"UNAVAILABLE OK .")
        assert [message async for message in stream] == [b"OK 2", b"last"]
        del stream
        gc.collect()
        await asyncio.sleep(0)

    in_loop(script, policy, main)
    gc.collect()
    eventually(lambda: policy.stats().calls == 2)
    assert (policy.stats().succeeded, policy.stats().cancelled) == (2, 0)


@pytest.mark.parametrize("when", ["before", "in the pause"])
def test_a_cancelled_stream_is_not_tried_again(
    script: ScriptServer, wrap: Callable[..., Any], when: str
) -> None:
    """It was between two tries when it was cancelled: its last failure is its end."""
    limit, breaker = Limit(1), CircuitBreaker(min_calls=1)
    streams: list[Any] = []
    clock = Pauses(lambda: streams[-1].cancel())
    policy = CallPolicy(retry=Retry(3), limit=limit, breaker=breaker, clock=clock)
    streams.append(count(wrap(policy))(b"UNAVAILABLE OK"))
    eventually(lambda: policy.stats().retries == 1)
    if when == "before":
        streams[0].cancel()
    with pytest.raises(grpc.RpcError) as caught:
        next(streams[0])
    assert caught.value.code() is CODE.UNAVAILABLE
    assert script.seen[b"UNAVAILABLE OK"] == 1 and clock.pauses == (when != "before")
    assert (policy.stats().calls, policy.stats().failed) == (1, 1)
    assert breaker.state == "open" and limit.stats().in_use == 0


@pytest.mark.parametrize("when", ["before", "in the pause"])
def test_a_cancelled_stream_of_a_task_is_not_tried_again(script: ScriptServer, when: str) -> None:
    limit, breaker = Limit(1), CircuitBreaker(min_calls=1)
    streams: list[Any] = []
    clock = Pauses(lambda: streams[-1].cancel())
    policy = CallPolicy(retry=Retry(3), limit=limit, breaker=breaker, clock=clock)

    async def main(channel: Any) -> None:
        streams.append(count(channel)(b"UNAVAILABLE OK"))
        await until(lambda: policy.stats().retries == 1)
        if when == "before":
            streams[0].cancel()
        with pytest.raises(grpc.RpcError) as caught:
            await streams[0].read()
        assert caught.value.code() is CODE.UNAVAILABLE

    in_loop(script, policy, main)
    assert script.seen[b"UNAVAILABLE OK"] == 1 and clock.pauses == (when != "before")
    assert (policy.stats().calls, policy.stats().failed) == (1, 1)
    assert breaker.state == "open" and limit.stats().in_use == 0


@pytest.mark.parametrize("kind", ["thread", "task"])
def test_a_stream_whose_second_try_finds_no_permit_keeps_none(
    script: ScriptServer, wrap: Callable[..., Any], kind: str
) -> None:
    """And its end is that of the call, with the first failure as its cause."""
    limit, breaker = Limit(1, max_waiting=0), CircuitBreaker(min_calls=1)
    held: list[Any] = []
    clock = Pauses(lambda: held.append(limit.take_nowait()))
    policy = CallPolicy(retry=Retry(3), limit=limit, breaker=breaker, clock=clock)

    def check(error: BaseException) -> None:
        assert isinstance(error, Overloaded) and isinstance(error, grpc.RpcError)
        assert isinstance(error.__cause__, grpc.RpcError)
        assert error.__cause__.code() is CODE.UNAVAILABLE
        assert "was tried 2 times" in "".join(error.__notes__)

    async def main(channel: Any) -> None:
        with pytest.raises(Overloaded) as caught:
            await count(channel)(b"UNAVAILABLE OK").read()
        check(caught.value)

    if kind == "task":
        in_loop(script, policy, main)
    else:
        with pytest.raises(Overloaded) as caught:
            next(count(wrap(policy))(b"UNAVAILABLE OK"))
        check(caught.value)
        del caught  # with it the stream
    gc.collect()
    held.pop().release()
    assert limit.stats().in_use == 0 and breaker.state == "open"
    stats = policy.stats()
    assert (stats.calls, stats.failed, stats.overloaded, stats.cancelled) == (1, 1, 1, 0)


def test_calls_that_cannot_be_sent_keep_no_permit_and_end(wrap: Callable[..., Any]) -> None:
    """A request that cannot be serialised, on each way to send one."""
    limit, breaker = Limit(1), CircuitBreaker(min_calls=10)
    policy = CallPolicy(limit=limit, breaker=breaker, retry=Retry(3))
    channel = wrap(policy)

    def unfit(request: Any) -> bytes:
        raise ValueError("unfit")

    unary = channel.unary_unary(f"/{SERVICE}/Say", unfit)
    for n, send in enumerate(
        (unary, unary.with_call, unary.future, channel.unary_stream(f"/{SERVICE}/Count", unfit)), 1
    ):
        kept = []  # with it the frames of the call
        with pytest.raises(Exception) as caught:
            send(b"OK")
        kept.append(caught)
        assert limit.stats().in_use == 0, send
        assert (policy.stats().calls, policy.stats().failed) == (n, n)
    assert breaker.stats().calls == 4


def test_a_stream_that_cannot_be_sent_is_not_tried_again(wrap: Callable[..., Any]) -> None:
    """Whatever the error says: its end is that of the call."""

    def unfit(request: Any) -> bytes:
        raise ValueError("unfit")

    policy = CallPolicy(retry=Retry(3, on=Exception, codes=["INTERNAL", "UNKNOWN"]))
    stub = wrap(policy).unary_stream(f"/{SERVICE}/Count", unfit)
    with pytest.raises(grpc.RpcError):
        stub(b"OK")
    stats = policy.stats()
    assert (stats.calls, stats.failed, stats.retries) == (1, 1, 0)


def test_a_stream_of_a_task_that_cannot_be_begun_keeps_no_permit_and_ends_once(
    script: ScriptServer,
) -> None:
    """Neither while its user keeps it, nor when it is dropped."""
    limit = Limit(1)
    policy = CallPolicy(limit=limit, retry=Retry(3, on=Exception))

    async def main(channel: Any) -> None:
        stream = count(channel)(b"OK", nonsense=1)
        with pytest.raises(TypeError):
            await stream.read()
        assert (limit.stats().in_use, policy.stats().failed) == (0, 1)
        del stream
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)

    in_loop(script, policy, main)
    gc.collect()
    stats = policy.stats()
    assert (stats.calls, stats.failed, stats.cancelled, stats.retries) == (1, 1, 0, 0)


def test_a_stream_that_is_dropped_in_another_thread_is_cancelled(
    script: ScriptServer, runner: ThreadRunner
) -> None:
    """The loop of its channel is told."""
    limit = Limit(1)
    policy = CallPolicy(limit=limit)

    async def main(channel: Any) -> None:
        streams = [count(channel)(b"first hang")]
        assert await streams[0].read() == b"first"
        runner.start(lambda: (streams.clear(), gc.collect())).result()
        await until(lambda: policy.stats().cancelled == 1)
        await until(lambda: script.open == 0)
        assert limit.stats().in_use == 0

    in_loop(script, policy, main)


def test_a_call_without_a_stream_is_told_of_its_own_end_only(
    script: ScriptServer, wrap: Callable[..., Any]
) -> None:
    """An interceptor's stream that cannot be followed is over for good when it is dropped."""

    class Plain(grpc.UnaryStreamClientInterceptor):
        def intercept_unary_stream(self, proceed: Any, details: Any, request: Any) -> Any:
            return (message for message in proceed(details, request))

    breaker = CircuitBreaker(min_calls=10)
    policy = CallPolicy(limit=Limit(1), breaker=breaker)
    with grpc.insecure_channel(script.target) as channel:
        inside = policy.wrap(grpc.intercept_channel(channel, Plain()))
        left = count(inside)(b"first hang")
        assert next(left) == b"first"
        del left
        gc.collect()
        assert (policy.stats().cancelled, policy.stats().calls) == (1, 1)
        assert list(count(inside)(b"OK")) == [b"OK 1", b"last"]
        gc.collect()
        assert (policy.stats().succeeded, policy.stats().calls) == (1, 2)
        assert policy.stats().limit.in_use == 0 and breaker.stats().calls == 2

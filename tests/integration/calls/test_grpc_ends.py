"""What a policy is told of calls over gRPC, once each: streams, tries, their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import (  # noqa: E402
    CallPolicy,
    CircuitBreaker,
    Retry,
    RetryThrottle,
)
from integration.calls.channels import Pauses, count, in_loop, say  # noqa: E402
from integration.calls.server import ScriptServer  # noqa: E402
from support.helpers import PATIENCE, eventually  # noqa: E402

CODE = grpc.StatusCode


@pytest.mark.parametrize("request_", [b"OK", b"first UNAVAILABLE"], ids=["well", "failed"])
def test_breaker_counts_a_stream_once(
    script: ScriptServer, wrap: Callable[..., Any], request_: bytes
) -> None:
    """By its first message or its end, whichever is there first."""
    for kind in ("thread", "task"):
        breaker = CircuitBreaker(min_calls=10)
        policy = CallPolicy(breaker=breaker)

        def listen(policy: CallPolicy = policy) -> list[bytes]:
            return list(count(wrap(policy))(request_))

        async def alisten(channel: Any) -> None:
            async for _ in count(channel)(request_):
                pass

        try:
            listen() if kind == "thread" else in_loop(script, policy, alisten)
        except grpc.RpcError as error:
            assert error.code() is CODE.UNAVAILABLE
        eventually(lambda policy=policy: policy.stats().calls == 1)
        assert breaker.stats().calls == 1  # a failure, if its end came in before the message
        assert policy.stats().succeeded == (request_ == b"OK")


class Ended(grpc.RpcError):  # type: ignore[misc]
    """A stream that is over, as grpc has it, while its messages lie ready to be taken."""

    def __init__(self, code: Any) -> None:
        self._code = code
        self._messages = iter([b"first", b"last"])

    def add_callback(self, callback: Any) -> bool:
        return False

    def code(self) -> Any:
        return self._code

    def __next__(self) -> bytes:
        return next(self._messages)


@pytest.mark.parametrize("code", [CODE.OK, CODE.NOT_FOUND, CODE.UNAVAILABLE], ids=str)
def test_breaker_counts_a_stream_once_that_ended_before_its_first_message_was_taken(
    script: ScriptServer, code: Any
) -> None:
    """Then its end has told, and the message is no second call."""

    class Ready(grpc.UnaryStreamClientInterceptor):
        def intercept_unary_stream(self, proceed: Any, details: Any, request: Any) -> Any:
            return Ended(code)

    breaker = CircuitBreaker(min_calls=10)
    policy = CallPolicy(breaker=breaker)
    with grpc.insecure_channel(script.target) as channel:
        stream = count(policy.wrap(grpc.intercept_channel(channel, Ready())))(b"OK")
        assert list(stream) == [b"first", b"last"]
    stats = breaker.stats()
    assert (stats.calls, stats.failures) == (1, code is CODE.UNAVAILABLE)
    assert policy.stats().calls == 1


def test_a_heard_stream_that_fails_is_no_retry_and_takes_nothing_from_the_throttle(
    script: ScriptServer, wrap: Callable[..., Any]
) -> None:
    for kind in ("thread", "iterated", "read"):
        script.gate.clear()
        throttle = RetryThrottle()
        policy = CallPolicy(retry=Retry(3, throttle=throttle))

        def listen(policy: CallPolicy = policy) -> None:
            stream = count(wrap(policy))(b"first later UNAVAILABLE")
            assert next(stream) == b"first"
            script.gate.set()
            with pytest.raises(grpc.RpcError):
                next(stream)

        async def alisten(channel: Any, kind: str = kind) -> None:
            stream = count(channel)(b"first later UNAVAILABLE")
            get = stream.read if kind == "read" else stream.__anext__
            assert await get() == b"first"
            script.gate.set()
            with pytest.raises(grpc.RpcError):
                await get()

        listen() if kind == "thread" else in_loop(script, policy, alisten)
        eventually(lambda policy=policy: policy.stats().calls == 1)
        assert (policy.stats().failed, policy.stats().retries) == (1, 0)
        assert throttle.tokens == 10.0
    assert script.seen[b"first later UNAVAILABLE"] == 3


def test_a_first_message_that_is_read_reaches_the_breaker(script: ScriptServer) -> None:
    """A message, and not the end of a stream that has none."""
    breaker = CircuitBreaker(min_calls=10)

    async def main(channel: Any) -> None:
        stream = count(channel)(b"first later UNAVAILABLE")
        assert await stream.read() == b"first"
        assert breaker.stats().calls == 1
        stream = count(channel)(b"first later UNAVAILABLE")
        assert await anext(stream) == b"first"
        assert breaker.stats().calls == 2

    in_loop(script, CallPolicy(breaker=breaker), main)


@pytest.mark.parametrize("kind", ["thread", "task"])
def test_each_try_is_sent_with_its_share_of_the_time(
    script: ScriptServer, wrap: Callable[..., Any], kind: str
) -> None:
    """At most ``attempt_timeout``, and what is left of the whole."""
    sent: list[float] = []

    class Note(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
            sent.append(details.timeout)
            return proceed(details, request)

    class AioNote(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
            sent.append(details.timeout)
            return await proceed(details, request)

    clock = Pauses(lambda: setattr(clock, "now", clock.now + 350.0))
    retry = Retry(3, attempt_timeout=400.0, throttle=None)
    policy = CallPolicy(timeout=1000.0, retry=retry, clock=clock)

    async def main() -> None:
        channel = grpc.aio.insecure_channel(script.target, interceptors=[AioNote()])
        async with policy.wrap(channel, idempotent=True) as wrapped:
            with pytest.raises(grpc.RpcError):
                await say(wrapped)(b"UNAVAILABLE")

    if kind == "task":
        asyncio.run(asyncio.wait_for(main(), PATIENCE))
    else:
        with grpc.insecure_channel(script.target) as channel:
            wrapped = policy.wrap(grpc.intercept_channel(channel, Note()), idempotent=True)
            with pytest.raises(grpc.RpcError):
                say(wrapped)(b"UNAVAILABLE")
    assert sent == [400.0, 400.0, 300.0]

"""What a shared channel refuses by itself is no word about the server: for breakers and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import CallPolicy, CircuitBreaker, Retry  # noqa: E402
from fastpool.grpc import aio_shared, shared  # noqa: E402
from integration.calls.server import ScriptServer  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

ONE: Any = {"connections": 1, "streams_per_connection": 1}
REFUSED = [
    ({"max_queue": 0}, 30, "RESOURCE_EXHAUSTED"),
    ({"queue_timeout": 0.01}, 30, "RESOURCE_EXHAUSTED"),
    ({}, 0.05, "DEADLINE_EXCEEDED"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as server:
        yield server


def methods(channel: Any) -> tuple[Any, Any]:
    return (
        channel.unary_unary(f"/{SERVICE}/Say"),
        channel.unary_stream(f"/{SERVICE}/Count"),
    )


@pytest.mark.parametrize(("options", "timeout", "code"), REFUSED)
def test_a_breaker_does_not_count_it(
    server: GrpcServer, options: Any, timeout: float, code: str
) -> None:
    """Neither for threads nor for tasks, neither of calls nor of streams."""
    breaker = CircuitBreaker(min_calls=1)
    policy = CallPolicy(breaker=breaker)
    with shared(server.target, **ONE, **options) as channel:
        held = channel.unary_stream(f"/{SERVICE}/Count")(b"...", timeout=60)
        assert next(held) == b"first"
        say, count = methods(policy.wrap(channel))
        for call in (lambda: say(b"x", timeout), lambda: list(count(b"x", timeout))):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code().name == code
        held.cancel()

    async def main() -> None:
        async with aio_shared(server.target, **ONE, **options) as channel:
            held = channel.unary_stream(f"/{SERVICE}/Count")(b"...", timeout=60)
            assert await held.read() == b"first"
            say, count = methods(policy.wrap(channel))
            for call in (say(b"x", timeout=timeout), count(b"x", timeout=timeout).read()):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code().name == code
            held.cancel()

    asyncio.run(main())
    eventually(lambda: policy.stats().failed == 4)
    assert (breaker.state, breaker.stats().calls) == ("closed", 0)


def test_it_is_tried_again_where_there_may_be_capacity_in_a_while(server: GrpcServer) -> None:
    """Though nobody said that it does no harm to make the call twice: it was not made."""
    policy = CallPolicy(retry=Retry(3, backoff=0.01, throttle=None))

    with shared(server.target, **ONE, max_queue=0) as channel:
        held = channel.unary_stream(f"/{SERVICE}/Count")(b"...", timeout=60)
        assert next(held) == b"first"
        say, _ = methods(policy.wrap(channel))
        with pytest.raises(grpc.RpcError):
            say(b"x", 30)
        assert policy.stats().retries == 2
        held.cancel()

    async def main() -> None:
        async with aio_shared(server.target, **ONE, max_queue=0) as channel:
            held = channel.unary_stream(f"/{SERVICE}/Count")(b"...", timeout=60)
            assert await held.read() == b"first"
            say, _ = methods(policy.wrap(channel))
            with pytest.raises(grpc.aio.AioRpcError):
                await say(b"x", timeout=30)
            held.cancel()

    asyncio.run(main())
    assert policy.stats().retries == 4


def test_a_stream_of_a_shared_channel_that_fails_is_counted(script: ScriptServer) -> None:
    """And tried again, as on a plain channel."""
    breaker = CircuitBreaker(min_calls=1)
    policy = CallPolicy(breaker=breaker, retry=Retry(2, backoff=0.01, throttle=None))
    with shared(script.target) as channel:
        wrapped = policy.wrap(channel, idempotent=True)
        stream = wrapped.unary_stream("/fastpool.test.Script/Count")(b"UNAVAILABLE")
        with pytest.raises(grpc.RpcError):
            list(stream)
        eventually(lambda: policy.stats().failed == 1)
    assert (policy.stats().retries, breaker.state) == (1, "open")

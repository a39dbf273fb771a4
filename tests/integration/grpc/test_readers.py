"""A stream is over when its reader is, and its slot is free then, whatever grpc says of it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import CallPolicy, CircuitBreaker, Limit, Retry  # noqa: E402
from fastpool.grpc import aio_shared, shared, stats  # noqa: E402
from integration.calls.channels import count, in_loop, until  # noqa: E402
from integration.calls.server import ScriptServer  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402
from support.loops import eventually as aeventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

CODE = grpc.StatusCode
ENDLESS = b"..."  # one message, and nothing more
BAD: Any = (("key", 5),)  # metadata that no call can be sent with


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as server:
        yield server
    gc.collect()
    assert stats() == ()


def raises(message: bytes) -> Any:
    raise ValueError("no message that we know")


def streams(channel: Any, deserializer: Any = None) -> Any:
    return channel.unary_stream(f"/{SERVICE}/Count", None, deserializer)


def chats(channel: Any, deserializer: Any = None) -> Any:
    send = channel.stream_stream(f"/{SERVICE}/Chat", None, deserializer)
    return lambda request, **more: send(forever(request), **more)


def forever(request: bytes) -> Iterator[bytes]:
    while True:
        yield request


def in_use() -> int:
    return sum(each.in_use for each in stats())


# ---- what cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [streams, chats])
@pytest.mark.parametrize("options", [(), (("SingleThreadedUnaryStream", 1),)])
def test_a_message_that_cannot_be_read_ends_the_stream(
    server: GrpcServer, kind: Any, options: Any
) -> None:
    with shared(server.target, options=options) as channel:
        stream = kind(channel, raises)(ENDLESS, timeout=60)
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is CODE.INTERNAL
        eventually(lambda: in_use() == 0 and server.counts().running == 0)
        assert stream.code() is CODE.INTERNAL


def test_a_message_that_cannot_be_read_ends_the_stream_of_a_policy(script: ScriptServer) -> None:
    breaker, limit = CircuitBreaker(min_calls=1), Limit(1)
    policy = CallPolicy(breaker=breaker, limit=limit, retry=Retry(3))
    with policy.wrap(grpc.insecure_channel(script.target)) as channel:
        stream = channel.unary_stream("/fastpool.test.Script/Count", None, raises)(b"first hang")
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is CODE.INTERNAL
        eventually(lambda: limit.stats().in_use == 0 and script.open == 0)
        assert policy.stats().failed == 1
        del stream
        gc.collect()
        assert policy.stats().calls == 1


# ---- streams that no other thread looks after ---------------------------------------------------


SINGLE = (("SingleThreadedUnaryStream", 1),)


@pytest.mark.parametrize("end", ["dropped", "cancelled", "expired"])
@pytest.mark.parametrize("begun", [True, False])
def test_a_stream_without_a_thread_gives_its_slot_back(
    server: GrpcServer, end: str, begun: bool
) -> None:
    with shared(server.target, options=SINGLE, connections=1, streams_per_connection=1) as channel:
        stream = streams(channel)(ENDLESS, timeout=60 if end != "expired" else 0.5)
        if begun:
            assert next(stream) == b"first"
        if end == "cancelled":
            stream.cancel()
        elif end == "dropped":
            del stream
            gc.collect()
        assert channel.unary_unary(f"/{SERVICE}/Say")(b"x", timeout=10) == b"x"
        eventually(lambda: in_use() == 0)


@pytest.mark.parametrize("end", ["dropped", "cancelled", "expired"])
@pytest.mark.parametrize("begun", [True, False])
def test_a_stream_without_a_thread_gives_its_permit_back(
    server: GrpcServer, end: str, begun: bool
) -> None:
    """Also one that is kept, and that nobody reads when its deadline passes."""
    limit = Limit(1)
    with CallPolicy(limit=limit).wrap(grpc.insecure_channel(server.target, SINGLE)) as channel:
        stream = streams(channel)(ENDLESS, timeout=60 if end != "expired" else 0.5)
        if begun:
            assert next(stream) == b"first"
        if end == "cancelled":
            stream.cancel()
        elif end == "dropped":
            del stream
            gc.collect()
        eventually(lambda: limit.stats().in_use == 0)


# ---- what cannot be sent ------------------------------------------------------------------------


def test_bad_metadata_under_a_policy(script: ScriptServer, wrap: Callable[..., Any]) -> None:
    limit = Limit(1)
    policy = CallPolicy(limit=limit, retry=Retry(3))
    with pytest.raises((TypeError, ValueError)):
        list(count(wrap(policy))(b"first", metadata=BAD))
    assert limit.stats().in_use == 0 and policy.stats().failed == 1

    async def main(channel: Any) -> None:
        for how in (lambda it: it.__aiter__().__anext__(), lambda it: it.read()):
            stream = count(channel)(b"first", metadata=BAD)
            with pytest.raises((TypeError, ValueError)):
                await how(stream)
            await until(lambda: limit.stats().in_use == 0)
            assert stream.done()

    in_loop(script, policy, main)
    assert policy.stats().calls == policy.stats().failed == 3


def test_bad_metadata_of_tasks(server: GrpcServer) -> None:
    async def main() -> None:
        async with aio_shared(server.target) as channel:
            stream = streams(channel)(ENDLESS, metadata=BAD)
            with pytest.raises((TypeError, ValueError)):
                await stream.read()
            await aeventually(lambda: in_use() == 0)
            del stream

    asyncio.run(main())

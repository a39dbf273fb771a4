"""An AdaptiveLimit before gRPC servers that refuse what is too much, unannounced."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import AdaptiveLimit, CallPolicy, Limit  # noqa: E402

SAY, COUNT = "/fastpool.test.Small/Say", "/fastpool.test.Small/Count"
CAPACITY = 4
CALLERS, ROUNDS = 16, 40
LONG = 60.0

# Many calls until it has settled; `contract/calls/test_adaptive_limit.py` is tried on each.
pytestmark = pytest.mark.once


class Small(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio has no types
    """Takes CAPACITY calls at once, and refuses with RESOURCE_EXHAUSTED while there are more.

    How many there are it reads from the limit, which is in this process: so it makes no difference
    how fast the machine is.
    """

    def __init__(self) -> None:
        self.refused = 0
        self.limit: Any = None
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(CALLERS))
        self._server.add_generic_rpc_handlers((self,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: Any) -> Any:
        if details.method == SAY:
            return grpc.unary_unary_rpc_method_handler(self._say)
        return grpc.unary_stream_rpc_method_handler(self._count)

    def _say(self, request: bytes, context: Any) -> bytes:
        if self.limit.stats().in_use > CAPACITY:
            with self._lock:
                self.refused += 1
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
        return request

    def _count(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield self._say(request, context)

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def small() -> Iterator[Small]:
    server = Small()
    yield server
    server.close()


def by_threads(policy: CallPolicy, target: str, streams: bool) -> None:
    with policy.wrap(grpc.insecure_channel(target)) as channel:
        say, count = channel.unary_unary(SAY), channel.unary_stream(COUNT)

        def calls() -> None:
            for _ in range(ROUNDS):
                try:
                    if streams:
                        list(count(b"x", timeout=LONG))
                    else:
                        say(b"x", timeout=LONG)
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

        with futures.ThreadPoolExecutor(CALLERS) as callers:
            for each in [callers.submit(calls) for _ in range(CALLERS)]:
                each.result()


def by_tasks(policy: CallPolicy, target: str, streams: bool) -> None:
    async def main() -> None:
        async with policy.wrap(grpc.aio.insecure_channel(target)) as channel:
            say, count = channel.unary_unary(SAY), channel.unary_stream(COUNT)

            async def calls() -> None:
                for _ in range(ROUNDS):
                    try:
                        if streams:
                            async for _ in count(b"x", timeout=LONG):
                                pass
                        else:
                            await say(b"x", timeout=LONG)
                    except grpc.aio.AioRpcError as error:
                        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

            await asyncio.gather(*(calls() for _ in range(CALLERS)))

    asyncio.run(main())


@pytest.mark.parametrize("streams", [False, True], ids=["unary", "streams"])
@pytest.mark.parametrize("run", [by_threads, by_tasks], ids=["threads", "tasks"])
@pytest.mark.parametrize("initial", [1, CALLERS])
def test_it_finds_what_the_server_takes(
    small: Small, run: Any, initial: int, streams: bool
) -> None:
    """From below and from above: it ends near the capacity, and few calls are refused."""
    limit = small.limit = AdaptiveLimit(initial)
    run(CallPolicy(limit=limit), small.target, streams)
    # One more is how it finds out; further ones where the last callers were too few to use it up.
    assert CAPACITY - 1 <= limit.size <= CAPACITY + 2
    assert limit.stats().in_use == 0
    assert small.refused < CALLERS * ROUNDS / 2, small.refused


def test_a_limit_that_is_too_big_is_refused_most_of_the_time(small: Small) -> None:
    """What the test above would see without adapting: the server is as small as it says."""
    small.limit = Limit(CALLERS)
    by_threads(CallPolicy(limit=small.limit), small.target, streams=False)
    assert small.refused > CALLERS * ROUNDS / 2, small.refused

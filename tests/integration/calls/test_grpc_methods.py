"""Policies and limits of single methods of a gRPC channel, by threads and tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import CallPolicy, CircuitBreaker, Limit, LimitStats, Retry  # noqa: E402
from integration.calls.server import SERVICE, ScriptServer  # noqa: E402

SAY, COUNT = f"/{SERVICE}/Say", f"/{SERVICE}/Count"
QUICK: dict[str, Any] = {"backoff": 0, "throttle": None}
LONG = 30.0


@pytest.fixture(scope="module")
def script() -> Iterator[ScriptServer]:
    server = ScriptServer()
    yield server
    server.close()


def by_threads(script: ScriptServer, policy: CallPolicy, requests: Any, **given: Any) -> list[Any]:
    """What becomes of each (path, request): the answers, or the name of the code."""
    ends = []
    with policy.wrap(grpc.insecure_channel(script.target), **given) as channel:
        for path, request in requests:
            try:
                if path == COUNT:
                    ends.append(list(channel.unary_stream(path)(request, timeout=LONG)))
                else:
                    ends.append(channel.unary_unary(path)(request, timeout=LONG))
            except grpc.RpcError as error:
                ends.append(error.code().name)
    return ends


def by_tasks(script: ScriptServer, policy: CallPolicy, requests: Any, **given: Any) -> list[Any]:
    async def main() -> list[Any]:
        ends: list[Any] = []
        async with policy.wrap(grpc.aio.insecure_channel(script.target), **given) as channel:
            for path, request in requests:
                try:
                    if path == COUNT:
                        stream = channel.unary_stream(path)(request, timeout=LONG)
                        ends.append([message async for message in stream])
                    else:
                        ends.append(await channel.unary_unary(path)(request, timeout=LONG))
                except grpc.aio.AioRpcError as error:
                    ends.append(error.code().name)
        return ends

    return asyncio.run(main())


@pytest.fixture(params=[by_threads, by_tasks], ids=["threads", "tasks"])
def outcomes(request: pytest.FixtureRequest, script: ScriptServer) -> Callable[..., list[Any]]:
    script.seen.clear()
    return lambda *args, **given: request.param(script, *args, **given)


def test_a_method_has_a_policy_of_its_own(outcomes: Callable[..., list[Any]]) -> None:
    """In place of that of the channel; its calls are in its own statistics."""
    policy, own = CallPolicy(), CallPolicy(retry=Retry(2, **QUICK))
    requests = [(SAY, b"UNAVAILABLE OK"), (COUNT, b"UNAVAILABLE OK ")]
    ends = outcomes(policy, requests, idempotent=True, methods={SAY: own})
    assert ends == [b"OK 2", "UNAVAILABLE"]
    assert (own.stats().calls, own.stats().retries, policy.stats().calls) == (1, 1, 1)


def test_a_method_comes_before_its_service(outcomes: Callable[..., list[Any]]) -> None:
    """Which comes before the policy of the channel; `CallPolicy()` is none at all."""
    tried = CallPolicy(retry=Retry(2, **QUICK))
    requests = [(SAY, b"UNAVAILABLE OK"), (COUNT, b"UNAVAILABLE OK ")]
    methods = {SERVICE: tried, COUNT: CallPolicy()}
    ends = outcomes(CallPolicy(), requests, idempotent=[SERVICE], methods=methods)
    assert ends == [b"OK 2", "UNAVAILABLE"]


def test_methods_that_are_not_named_go_by_the_channels(outcomes: Callable[..., list[Any]]) -> None:
    """A breaker of one method says nothing about the others."""
    breaker = CircuitBreaker(consecutive_failures=1)
    requests = [(COUNT, b"UNAVAILABLE  "), (SAY, b"OK"), (COUNT, b"OK  ")]
    ends = outcomes(CallPolicy(), requests, methods={COUNT: CallPolicy(breaker=breaker)})
    assert ends == ["UNAVAILABLE", b"OK 1", "UNAVAILABLE"]
    assert breaker.state == "open"


def test_each_method_has_a_limit_of_its_own(outcomes: Callable[..., list[Any]]) -> None:
    """Made by a callable that is given its name, once."""
    names = []

    def limit_of(name: str) -> Limit:
        names.append(name)
        return Limit(7 if name == SAY else 3)

    policy = CallPolicy(limit=limit_of)
    ends = outcomes(policy, [(SAY, b"OK"), (COUNT, b"OK  "), (SAY, b"OK")])
    assert ends == [b"OK 1", [b"OK 1", b"last"], b"OK 2"]
    assert names == [SAY, COUNT]
    assert policy.stats().limit is None
    assert policy.stats().limits == {SAY: LimitStats(7, 0, 0, 0), COUNT: LimitStats(3, 0, 0, 0)}


def test_a_full_method_refuses_no_other(script: ScriptServer) -> None:
    """Each waits for its own permits only."""
    policy = CallPolicy(limit=lambda name: Limit(1, max_waiting=0))
    with policy.wrap(grpc.insecure_channel(script.target)) as channel:
        stream = channel.unary_stream(COUNT)(b"first hang", timeout=LONG)
        assert next(stream) == b"first"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_stream(COUNT)(b"OK   ", timeout=LONG)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert channel.unary_unary(SAY)(b"OK   ", timeout=LONG) == b"OK 1"
        stream.cancel()


def test_functions_have_limits_of_their_own_too() -> None:
    """By their qualified names, or the one that is given."""
    policy = CallPolicy(limit=lambda name: Limit(len(name)))
    assert policy(name="abc")(lambda: 1)() == policy(name="de")(lambda: 1)() == 1
    assert {name: each.size for name, each in policy.stats().limits.items()} == {"abc": 3, "de": 2}


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"methods": {"a/b/c": CallPolicy()}}, ValueError, "methods: 'a/b/c' is neither"),
        ({"methods": {SAY: None}}, TypeError, "must be a CallPolicy, not None"),
        ({"methods": [SAY]}, TypeError, "methods must be a mapping"),
    ],
)
def test_wrong_arguments(given: Any, error: type[Exception], says: str) -> None:
    """What was given, and what may be."""
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(error, match=says):
            CallPolicy().wrap(channel, **given)


def test_wrong_limits() -> None:
    """A class is given a size, not a name; and what is made must be a Limit."""
    for wrong in (3, Limit):
        with pytest.raises(TypeError, match=r"limit must be a Limit, a callable \(name\)"):
            CallPolicy(limit=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must return a Limit, not 5"):
        CallPolicy(limit=lambda name: 5)(lambda: 1)  # type: ignore[arg-type, return-value]

"""What a server says beside its status code: for breakers and retries of wrapped channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import CallPolicy, CircuitBreaker, Retry, RetryEvent  # noqa: E402
from integration.calls.channels import Pauses, count, in_loop, say  # noqa: E402
from integration.calls.server import ScriptServer  # noqa: E402

KINDS = pytest.mark.parametrize("kind", ["thread", "task"])


@pytest.fixture(scope="module")
def script() -> Iterator[ScriptServer]:
    server = ScriptServer()
    yield server
    server.close()


def ask(kind: str, script: ScriptServer, policy: CallPolicy, method: Any, request: bytes) -> Any:
    """The answer, or its code."""
    script.seen.clear()
    if kind == "thread":
        with policy.wrap(grpc.insecure_channel(script.target), idempotent=True) as channel:
            try:
                answer = method(channel)(request)
                return answer if method is say else next(answer)
            except grpc.RpcError as error:
                return error.code().name
    found = []

    async def main(channel: Any) -> None:
        try:
            answer = method(channel)(request)
            found.append(await (answer if method is say else anext(answer)))
        except grpc.RpcError as error:
            found.append(error.code().name)

    in_loop(script, policy, main)
    return found[0]


def says_the_script(error: Any) -> bool | None:
    """By the details, and by the trailers."""
    if not isinstance(error, grpc.RpcError):
        return None
    trailers = dict(error.trailing_metadata() or ())
    return error.details() == "as the script says" and "grpc-retry-pushback-ms" in trailers


@KINDS
@pytest.mark.parametrize("method", [say, count])
@pytest.mark.parametrize(("step", "counts"), [("ABORTED:1", True), ("UNAVAILABLE", False)])
def test_classifier_looks_at_details_and_trailers(
    kind: str,
    script: ScriptServer,
    method: Callable[[Any], Any],
    step: str,
    counts: bool,
) -> None:
    breaker = CircuitBreaker(min_calls=1, classify=says_the_script)
    retry = Retry(2, backoff=1e-6, throttle=None, classify=says_the_script)
    policy = CallPolicy(timeout=60, breaker=breaker, retry=retry)
    answer = ask(kind, script, policy, method, step.encode())
    assert answer == step.partition(":")[0]
    assert sum(script.seen.values()) == (2 if counts else 1)
    assert (breaker.state == "open") is counts


@KINDS
@pytest.mark.parametrize("ignore", [grpc.RpcError, lambda error: error.code().name == "ABORTED"])
def test_ignored_errors_of_grpc_count_as_neither(
    kind: str, script: ScriptServer, ignore: Any
) -> None:
    breaker = CircuitBreaker(min_calls=1, codes=["ABORTED"], ignore=ignore)
    assert ask(kind, script, CallPolicy(breaker=breaker), say, b"ABORTED") == "ABORTED"
    assert breaker.stats().calls == 0


@KINDS
@pytest.mark.parametrize("method", [say, count])
def test_slow_calls_of_channels_are_counted(kind: str, script: ScriptServer, method: Any) -> None:
    """Until the answer, and of a stream until its first message."""
    breaker = CircuitBreaker(min_calls=1, slow_after=1e-9)
    answer = ask(kind, script, CallPolicy(breaker=breaker), method, b"OK")
    assert isinstance(answer, bytes)
    assert breaker.state == "open"


@KINDS
def test_answers_of_channels_are_tried_again(kind: str, script: ScriptServer) -> None:
    """The hook is told of each; the answer to `with_call` is looked at, too."""
    told: list[RetryEvent] = []
    retry = Retry(3, backoff=0, on_result=lambda answer: answer == b"OK 1", on_retry=told.append)
    policy = CallPolicy(retry=retry, timeout=60)
    assert ask(kind, script, policy, say, b"OK") == b"OK 2"
    assert [(event.tries, event.result) for event in told] == [(1, b"OK 1")]
    if kind == "thread":
        with policy.wrap(grpc.insecure_channel(script.target), idempotent=True) as channel:
            script.seen.clear()
            assert say(channel).with_call(b"OK")[0] == b"OK 2"
            assert say(channel).future(b"OK").result() == b"OK 3"


@KINDS
@pytest.mark.parametrize("method", [say, count])
def test_hook_is_told_of_each_further_try_of_a_channel(
    kind: str, script: ScriptServer, method: Any
) -> None:
    told: list[RetryEvent] = []
    policy = CallPolicy(retry=Retry(3, backoff=0, on_retry=told.append), timeout=60)
    ask(kind, script, policy, method, b"UNAVAILABLE OK")
    assert [(event.tries, event.error.code().name) for event in told] == [(1, "UNAVAILABLE")]


@KINDS
@pytest.mark.parametrize("method", [say, count])
@pytest.mark.parametrize(("step", "pause"), [("~2750", 2.75), ("~250", 0.25), (":1500", 1.5)])
def test_server_says_how_long_to_wait(
    kind: str, script: ScriptServer, method: Any, step: str, pause: float
) -> None:
    """By RetryInfo among its details, or by a pushback."""
    told: list[RetryEvent] = []
    clock = Pauses(lambda: None)
    retry = Retry(3, backoff=9, on_retry=told.append)
    policy = CallPolicy(retry=retry, clock=clock)
    answer = ask(kind, script, policy, method, f"UNAVAILABLE{step} OK".encode())
    assert isinstance(answer, bytes)
    assert [event.pause for event in told] == [pause]
    assert clock.pauses == 1


@KINDS
@pytest.mark.parametrize("step", ["~60001", ":60001"])
def test_server_is_not_waited_for_too_long(kind: str, script: ScriptServer, step: str) -> None:
    clock = Pauses(lambda: None)
    policy = CallPolicy(retry=Retry(3), clock=clock)
    request = f"UNAVAILABLE{step}".encode()
    assert ask(kind, script, policy, say, request) == "UNAVAILABLE"
    assert clock.pauses == 0

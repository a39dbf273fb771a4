"""What users of gRPC see of a policy: callbacks, the state of a call, errors and what they say."""

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
    CircuitOpen,
    DeadlineExceeded,
    Limit,
    Retry,
)
from integration.calls.channels import Pauses, count, in_loop, say, until  # noqa: E402
from integration.calls.server import ScriptServer  # noqa: E402
from support.helpers import PATIENCE  # noqa: E402

CODE = grpc.StatusCode


# ---- callbacks ----------------------------------------------------------------------------------


def test_callbacks_are_given_what_the_user_holds(
    script: ScriptServer, wrap: Callable[..., Any]
) -> None:
    """And not grpc's call inside; also of a stream that could not be opened."""
    breaker = CircuitBreaker()
    policy = CallPolicy(breaker=breaker)
    stream = count(wrap(policy))(b"OK")
    given: list[Any] = []
    told = threading.Event()
    stream.add_done_callback(lambda done: (given.append(done), told.set()))
    assert list(stream) == [b"OK 1", b"last"]
    assert told.wait(PATIENCE) and given == [stream]

    async def main(channel: Any) -> None:
        breaker.trip()
        refused = count(channel)(b"OK")
        refused.add_done_callback(given.append)
        await until(lambda: given[1:] == [refused])
        assert refused.done() and not refused.cancelled()

    in_loop(script, policy, main)


def test_a_stream_of_a_task_says_when_it_is_done_and_cancelled(script: ScriptServer) -> None:
    async def main(channel: Any) -> None:
        stream = count(channel)(b"first hang")
        assert await stream.read() == b"first"
        assert not stream.done() and not stream.cancelled()
        assert stream.cancel()
        await until(stream.done)
        assert stream.cancelled()

    in_loop(script, CallPolicy(), main)


def test_time_remaining_is_known_while_a_call_waits_in_queue(script: ScriptServer) -> None:
    limit = Limit(1)
    held = limit.take_nowait()
    assert held is not None

    async def main(channel: Any) -> None:
        call = say(channel)(b"OK")
        await until(lambda: limit.stats().waiting == 1)
        assert 30 < call.time_remaining() <= 1000
        held.release()
        assert await call == b"OK 1"

    in_loop(script, CallPolicy(limit=limit, timeout=1000), main)


# ---- errors -------------------------------------------------------------------------------------


def test_nobody_is_told_of_a_failure_that_nobody_asked_for(
    script: ScriptServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As with grpc's own calls."""
    policy = CallPolicy()

    async def main(channel: Any) -> None:
        calls = [say(channel)(b"NOT_FOUND"), count(channel)(b"OK", nonsense=1)]
        await until(lambda: policy.stats().failed == 2 and all(call.done() for call in calls))
        calls.clear()
        gc.collect()
        await asyncio.sleep(0)

    in_loop(script, policy, main)
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_what_an_inner_policy_refuses_is_no_word_of_the_other_side(
    script: ScriptServer, wrap: Callable[..., Any]
) -> None:
    """Though it is an RpcError with a code that would count, were it a server's."""
    inner_breaker, outer_breaker = CircuitBreaker("inner"), CircuitBreaker("outer", min_calls=1)
    outer = CallPolicy(breaker=outer_breaker, retry=Retry(3, throttle=None))
    channel = outer.wrap(wrap(CallPolicy(breaker=inner_breaker)), idempotent=True)
    inner_breaker.trip()
    with pytest.raises(CircuitOpen) as caught:
        say(channel)(b"OK")
    assert caught.value.breaker == "inner"
    assert outer_breaker.state == "closed" and outer.stats().retries == 0
    assert outer.stats().refused == 0 and script.seen[b"OK"] == 0


class Remote(grpc.RpcError):  # type: ignore[misc]
    """What a peer of another make may raise."""

    def __init__(self, code: Any, details: str = "", trailing: Any = ()) -> None:
        self._said = code, details, trailing

    def code(self) -> Any:
        return self._said[0]

    def details(self) -> str:
        return self._said[1]

    def trailing_metadata(self) -> Any:
        return self._said[2]


def tries(error: BaseException, **options: Any) -> int:
    """How often a call is made that always fails so."""
    calls = 0

    def ask() -> None:
        nonlocal calls
        calls += 1
        raise error

    policy = CallPolicy(retry=Retry(3, throttle=None), clock=Pauses(lambda: None))
    with pytest.raises(type(error)):
        policy(**options)(ask)()
    return calls


def test_pushback_that_cannot_be_read_means_never() -> None:
    for value, wanted in (("soon", 1), ("-1", 1), ("5", 3), ("0", 3)):
        trailing = [("other", "x"), ("grpc-retry-pushback-ms", value)]
        assert tries(Remote(CODE.UNAVAILABLE, trailing=trailing), idempotent=True) == wanted, value
    assert tries(Remote(CODE.UNAVAILABLE, trailing=None), idempotent=True) == 3


def test_only_unavailable_says_that_there_was_no_connection() -> None:
    text = "failed to connect to all addresses; last error: UNKNOWN"
    assert tries(Remote(CODE.UNAVAILABLE, text)) == 3
    assert tries(Remote(CODE.UNAVAILABLE, "lost: " + text)) == 1
    assert tries(Remote(CODE.INTERNAL, text)) == 1
    assert tries(Remote(None, text)) == 1


def test_errors_of_this_side_keep_their_cause_and_notes(
    script: ScriptServer, wrap: Callable[..., Any]
) -> None:
    """Also where they become an RpcError."""
    limit = Limit(1)
    held: list[Any] = []

    def in_the_pause() -> None:
        held.append(limit.take_nowait())
        clock.now += 4.999

    clock = Pauses(in_the_pause)
    policy = CallPolicy(timeout=5.0, retry=Retry(3), limit=limit, clock=clock)

    def check(error: Any) -> None:
        assert (error.phase, error.code()) == ("limit", CODE.DEADLINE_EXCEEDED)
        assert error.__cause__.code() is CODE.UNAVAILABLE
        assert "was tried 2 times" in "".join(error.__notes__)
        held.pop().release()

    with pytest.raises(DeadlineExceeded) as caught:
        say(wrap(policy))(b"UNAVAILABLE OK")
    check(caught.value)

    async def main(channel: Any) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            await say(channel)(b"UNAVAILABLE OK .")
        check(caught.value)

    in_loop(script, policy, main)
    assert limit.stats().in_use == 0

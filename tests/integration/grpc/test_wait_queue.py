"""Calls that wait in the queue for a slot: deadlines, limits, and what was never sent."""

from __future__ import annotations

import gc
import pickle
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.grpc import LocalError, shared, stats  # noqa: E402
from fastpool.grpc._sync import methods  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import ThreadRunner, eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
ONE = {"connections": 1, "streams_per_connection": 1}
HOUR = 3600.0


@pytest.fixture(scope="module")
def echo() -> Iterator[GrpcServer]:
    server = GrpcServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def balanced() -> Iterator[None]:
    yield
    gc.collect()
    assert stats() == ()


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def say(channel: Any, serializer: Any = None) -> Any:
    return channel.unary_unary(path("Say"), serializer)


def hold(channel: Any) -> Any:
    """A call that has the only slot, until it is cancelled."""
    call = channel.unary_stream(path("Count"))(b"...", timeout=60)
    assert next(call) == b"first"
    return call


def waiting(n: int) -> Any:
    return lambda: stats()[0].waiting == n


class Sent:
    """A serializer that counts: what it did not see was never sent."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, request: bytes) -> bytes:
        self.calls += 1
        return request


def kinds(channel: Any, sent: Any) -> dict[str, Any]:
    unary = channel.unary_unary(path("Say"), sent)
    join = channel.stream_unary(path("Join"), sent)
    chat = channel.stream_stream(path("Chat"), sent)
    count = channel.unary_stream(path("Count"), sent)
    return {
        "unary": lambda timeout: unary(b"x", timeout),
        "by keyword": lambda timeout: unary(b"x", timeout=timeout),
        "with_call": lambda timeout: unary.with_call(b"x", timeout=timeout),
        "future": lambda timeout: unary.future(b"x", timeout=timeout).result(),
        "unary_stream": lambda timeout: list(count(b"a", timeout=timeout)),
        "stream_unary": lambda timeout: join(iter([b"a"]), timeout=timeout),
        "stream_unary future": lambda timeout: join.future(iter([b"a"]), timeout=timeout).result(),
        "stream_stream": lambda timeout: list(chat(iter([b"a"]), timeout=timeout)),
    }


KINDS = (
    "unary",
    "by keyword",
    "with_call",
    "future",
    "unary_stream",
    "stream_unary",
    "stream_unary future",
    "stream_stream",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_covers_the_queue_and_what_expires_is_not_sent(
    echo: GrpcServer, kind: str
) -> None:
    with shared(echo.target, **ONE) as channel:
        held, sent = hold(channel), Sent()
        begun = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            kinds(channel, sent)[kind](0.1)
        assert 0.09 <= time.monotonic() - begun < 30
        error = caught.value
        assert isinstance(error, LocalError) and error.local and error.code() is DEADLINE
        assert sent.calls == 0 and stats()[0].waiting == 0 and stats()[0].in_use == 1
        held.cancel()
        eventually(lambda: stats()[0].in_use == 0)
        kinds(channel, sent)[kind](10)
        assert sent.calls == 1


def test_what_gives_a_future_or_a_stream_gives_one_that_has_failed(echo: GrpcServer) -> None:
    """It does not raise by itself, as grpc's own do not."""
    with shared(echo.target, **ONE, max_queue=0) as channel:
        held = hold(channel)
        future = say(channel).future(b"x", timeout=10)
        eventually(future.done)
        assert future.code() is EXHAUSTED
        stream = channel.unary_stream(path("Count"))(b"abc", timeout=10)
        assert stream.code() is EXHAUSTED and not stream.is_active()
        for read in (lambda: next(stream), lambda: list(stream), future.result):
            with pytest.raises(LocalError):
                read()
        held.cancel()


def test_the_rest_of_the_time_goes_to_the_call(echo: GrpcServer, runner: ThreadRunner) -> None:
    """It gets what the line has left of it."""
    seen: list[float] = []

    class Note(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
            seen.append(details.timeout)
            return proceed(details, request)

    original = grpc.insecure_channel
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            grpc,
            "insecure_channel",
            lambda *args, **kw: grpc.intercept_channel(original(*args, **kw), Note()),
        )
        channel = shared(echo.target, **ONE)
    with channel:
        for call in (lambda stub: stub(b"x", HOUR), lambda stub: stub(b"x", timeout=HOUR)):
            held = hold(channel)
            task = runner.start(call, say(channel))
            eventually(waiting(1))
            time.sleep(0.05)
            held.cancel()
            assert task.result() == b"x"
            assert HOUR - 30 < seen.pop() <= HOUR - 0.05


@pytest.mark.parametrize("took", [5.0, 6.0])
def test_a_slot_of_the_last_moment_is_given_back_and_nothing_is_sent(
    echo: GrpcServer, monkeypatch: pytest.MonkeyPatch, took: float
) -> None:
    """No time of the call's own is left when it comes to be sent."""
    with shared(echo.target, **ONE) as channel:
        for by in ("position", "keyword"):
            now, sent = iter([100.0, 100.0 + took]), Sent()
            monkeypatch.setattr(methods, "time", SimpleNamespace(monotonic=now.__next__))
            join = channel.stream_unary(path("Join"), sent)
            with pytest.raises(LocalError, match="was not sent") as caught:
                if by == "position":
                    join(iter([b"x"]), 5.0)
                else:
                    join(iter([b"x"]), timeout=5.0)
            monkeypatch.undo()
            assert caught.value.code() is DEADLINE
            assert (stats()[0].in_use, sent.calls) == (0, 0)
            assert join(iter([b"x"]), timeout=10) == b"x"


def test_those_who_wait_are_served_in_their_order(echo: GrpcServer, runner: ThreadRunner) -> None:
    order: list[int] = []
    with shared(echo.target, **ONE) as channel:
        held = hold(channel)

        def call(number: int) -> None:
            say(channel, lambda request: order.append(number) or request)(b"x", timeout=30)

        tasks = []
        for number in range(5):
            tasks.append(runner.start(call, number))
            eventually(waiting(number + 1))
        held.cancel()
        for task in tasks:
            task.result()
        assert order == [0, 1, 2, 3, 4]


def test_a_queue_that_is_full_refuses(echo: GrpcServer, runner: ThreadRunner) -> None:
    with shared(echo.target, **ONE, max_queue=1) as channel:
        held, sent = hold(channel), Sent()
        task = runner.start(lambda: say(channel)(b"x", timeout=30))
        eventually(waiting(1))
        with pytest.raises(LocalError, match="queue is full: max_queue is 1") as caught:
            say(channel, sent)(b"x", timeout=3600)
        assert caught.value.code() is EXHAUSTED and sent.calls == 0
        held.cancel()
        assert task.result() == b"x"
    with shared(echo.target, **ONE, max_queue=0) as channel:
        assert say(channel)(b"x", timeout=10) == b"x"
        held = hold(channel)
        with pytest.raises(LocalError):
            say(channel)(b"x", timeout=10)
        held.cancel()


def test_queue_timeout_bounds_the_queue_alone(echo: GrpcServer) -> None:
    """RESOURCE_EXHAUSTED, since the call's own deadline has not passed; if it has, that counts."""
    with shared(echo.target, **ONE, queue_timeout=0.05) as channel:
        held = hold(channel)
        for timeout in (None, 30):
            with pytest.raises(LocalError, match="queue_timeout") as caught:
                say(channel)(b"x", timeout=timeout)
            assert caught.value.code() is EXHAUSTED
        with pytest.raises(LocalError) as caught:
            say(channel)(b"x", timeout=0.01)
        assert caught.value.code() is DEADLINE
        held.cancel()
        eventually(lambda: stats()[0].in_use == 0)
        wait = channel.unary_unary(path("Wait"))
        assert wait(b"200", timeout=10) == b"200"  # a call that runs is not bounded by it


def test_timeouts_that_are_over_before_they_begin(echo: GrpcServer) -> None:
    with shared(echo.target, **ONE) as channel:
        held = hold(channel)
        for timeout in (0, -1):
            with pytest.raises(LocalError) as caught:
                say(channel)(b"x", timeout=timeout)
            assert caught.value.code() is DEADLINE
        held.cancel()


def test_closing_refuses_those_who_wait(echo: GrpcServer, runner: ThreadRunner) -> None:
    channel = shared(echo.target, **ONE)
    held = hold(channel)
    tasks = [runner.start(lambda: say(channel)(b"x", timeout=30)) for _ in range(3)]
    eventually(waiting(3))
    channel.close()
    for task in tasks:
        with pytest.raises(ValueError, match="closed channel"):
            task.result()
    with pytest.raises(grpc.RpcError):
        next(held)


def test_no_caller_is_lost_whatever_becomes_of_the_others(
    echo: GrpcServer, runner: ThreadRunner, fast_switching: None
) -> None:
    """Deadlines that pass in the queue and in the call, at the same moment as slots come free."""
    with shared(echo.target, connections=(1, 2), streams_per_connection=2) as channel:
        wait = channel.unary_unary(path("Wait"))

        def work(index: int) -> dict[str, int]:
            ends = {"ok": 0, "late": 0}
            for number in range(40):
                try:
                    wait(b"2", timeout=0.001 * (1 + (index + number) % 12))
                    ends["ok"] += 1
                except grpc.RpcError as error:
                    assert error.code() is DEADLINE
                    ends["late"] += 1
            return ends

        results = [task.result() for task in runner.together(10, work)]
        assert sum(each["ok"] + each["late"] for each in results) == 400
        assert sum(each["late"] for each in results) > 0
        eventually(lambda: (stats()[0].in_use, stats()[0].waiting) == (0, 0))
        futures = [wait.future(b"1", timeout=10) for _ in range(4)]  # every slot is usable
        assert [each.result() for each in futures] == [b"1"] * 4


def test_the_error_is_a_call_that_has_ended() -> None:
    error = LocalError(EXHAUSTED, "the queue is full")
    assert isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call)
    assert error.done() and not error.running() and not error.cancel() and not error.is_active()
    assert error.details() == "the queue is full" and error.exception() is error
    assert "RESOURCE_EXHAUSTED" in str(error) and "the queue is full" in str(error)
    with pytest.raises(LocalError):
        error.result()
    told: list[Any] = []
    error.add_done_callback(told.append)
    assert told == [error]
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code(), copy.details()) == (EXHAUSTED, "the queue is full")

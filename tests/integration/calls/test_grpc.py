"""`CallPolicy.wrap` around real channels of threads, with a server that fails on demand."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import (  # noqa: E402
    CallPolicy,
    CircuitBreaker,
    CircuitOpen,
    DeadlineExceeded,
    Limit,
    Overloaded,
    Retry,
    budget,
)
from integration.calls.server import SERVICE, ScriptServer  # noqa: E402
from support.helpers import PATIENCE, ThreadRunner, eventually  # noqa: E402

NOWHERE = "127.0.0.1:1"  # nobody listens there
QUICK = {"backoff": 1e-6, "throttle": None}
CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def script() -> Iterator[ScriptServer]:
    server = ScriptServer()
    yield server
    server.close()


@pytest.fixture
def wrap(script: ScriptServer) -> Iterator[Callable[..., Any]]:
    """Make a channel under a policy of these parts; the policy is its `policy`."""
    channels = []

    def make(target: str = "", idempotent: Any = True, **parts: Any) -> Any:
        policy = CallPolicy(**parts)
        channel = policy.wrap(grpc.insecure_channel(target or script.target), idempotent=idempotent)
        channel.policy = policy
        channels.append(channel)
        return channel

    script.seen.clear()
    script.deadlines.clear()
    yield make
    for channel in channels:
        channel.close()
    gc.collect()
    for channel in channels:  # no permit was lost, however the calls ended
        limit = channel.policy._limit
        if limit is not None:
            eventually(lambda limit=limit: limit.stats().in_use == 0)
    eventually(lambda: script.open == 0)


def say(channel: Any) -> Any:
    return channel.unary_unary(f"/{SERVICE}/Say")


def count(channel: Any) -> Any:
    return channel.unary_stream(f"/{SERVICE}/Count")


# ---- a real channel -----------------------------------------------------------------------------


def test_all_kinds_of_methods_work(wrap: Callable[..., Any]) -> None:
    channel = wrap(timeout=30, retry=Retry(), breaker=CircuitBreaker(), limit=Limit(2))
    assert isinstance(channel, grpc.Channel)
    unary = channel.unary_unary(f"/{SERVICE}/Say", str.encode, bytes.decode)
    assert isinstance(unary, grpc.UnaryUnaryMultiCallable)
    assert unary("OK", 10) == "OK 1"
    assert unary("OK", timeout=10, metadata=(("k", "v"),), wait_for_ready=True) == "OK 2"
    reply, call = unary.with_call("OK")
    assert (reply, call.code()) == ("OK 3", CODE.OK)
    future = unary.future("OK", timeout=10)
    assert isinstance(future, grpc.Future) and future.result(10) == "OK 4"

    stream = count(channel)
    assert isinstance(stream, grpc.UnaryStreamMultiCallable)
    answers = stream(b"OK", timeout=10)
    assert isinstance(answers, grpc.Call) and isinstance(answers, grpc.Future)
    assert list(answers) == [b"OK 5", b"last"]
    assert (answers.code(), answers.details(), answers.done()) == (CODE.OK, "", True)

    joined = channel.stream_unary(f"/{SERVICE}/Join")
    assert isinstance(joined, grpc.StreamUnaryMultiCallable)
    assert joined(iter([b"OK", b"OK"]), timeout=10) == b"OK 1"
    assert joined.with_call(iter([b"OK", b"OK"]))[0] == b"OK 2"
    assert joined.future(iter([b"OK", b"OK"])).result(10) == b"OK 3"

    chat = channel.stream_stream(f"/{SERVICE}/Chat")
    assert isinstance(chat, grpc.StreamStreamMultiCallable)
    assert list(chat(iter([b"OK", b"OK"]), timeout=10)) == [b"OK 6", b"OK 7"]
    eventually(lambda: channel.policy.stats().succeeded == 9)
    assert channel.policy.stats().calls == 9


def test_requests_may_be_given_by_name(wrap: Callable[..., Any]) -> None:
    """As grpc calls them."""
    channel = wrap(timeout=30)
    joined = channel.stream_unary(f"/{SERVICE}/Join")
    assert joined(request_iterator=iter([b"OK"]), timeout=10) == b"OK 1"
    assert joined.with_call(request_iterator=iter([b"OK"]))[0] == b"OK 2"
    assert joined.future(request_iterator=iter([b"OK"])).result(10) == b"OK 3"
    chat = channel.stream_stream(f"/{SERVICE}/Chat")
    assert list(chat(request_iterator=iter([b"OK"]), timeout=10)) == [b"OK 4"]
    say = channel.unary_unary(f"/{SERVICE}/Say")
    assert say(request=b"OK", timeout=10) == b"OK 5"


def test_generated_stubs_pass_their_private_argument(wrap: Callable[..., Any]) -> None:
    channel = wrap(timeout=30)
    for turn in range(2):  # the second finds the method registered
        stub = channel.unary_unary(
            f"/{SERVICE}/Say",
            request_serializer=str.encode,
            response_deserializer=bytes.decode,
            _registered_method=True,
        )
        assert stub("OK") == f"OK {turn + 1}"


def test_interceptors_go_outside_and_inside(script: ScriptServer, wrap: Any) -> None:
    seen = []

    class Note(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
        def __init__(self, name: str) -> None:
            self.name = name

        def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
            seen.append(self.name)
            return proceed(details, request)

        def intercept_unary_stream(self, proceed: Any, details: Any, request: Any) -> Any:
            return (message for message in proceed(details, request))  # no longer a grpc.Call

    outside = grpc.intercept_channel(wrap(retry=Retry(3, **QUICK)), Note("out"))
    assert say(outside)(b"UNAVAILABLE UNAVAILABLE OK") == b"OK 3"
    assert seen == ["out"]
    seen.clear()
    with grpc.insecure_channel(script.target) as channel:
        limit = Limit(1)
        policy = CallPolicy(retry=Retry(3, **QUICK), limit=limit)
        inside = policy.wrap(grpc.intercept_channel(channel, Note("in")), idempotent=True)
        assert say(inside)(b"UNAVAILABLE UNAVAILABLE OK .") == b"OK 3"
        assert seen == ["in"] * 3
        assert list(count(inside)(b"UNAVAILABLE OK")) == [b"OK 2", b"last"]
        assert limit.stats().in_use == 0
        left = count(inside)(b"first hang")
        assert next(left) == b"first" and limit.stats().in_use == 1
        del left
        gc.collect()
        assert limit.stats().in_use == 0


def test_the_rest_is_the_channels_own(wrap: Callable[..., Any]) -> None:
    heard: list[Any] = []
    with wrap() as channel:
        channel.subscribe(heard.append, try_to_connect=True)
        eventually(lambda: grpc.ChannelConnectivity.READY in heard)
        channel.unsubscribe(heard.append)
        grpc.channel_ready_future(channel).result(10)
        # grpc's thread that watches the channel does not bear its closing.
        eventually(lambda: not channel._channel._connectivity_state.polling)
    with pytest.raises(ValueError, match="closed channel"):
        say(channel)(b"OK")
    assert channel.policy.stats().failed == 1


# ---- retries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["call", "with_call", "stream"])
def test_an_idempotent_method_is_tried_again(
    script: ScriptServer, wrap: Callable[..., Any], how: str
) -> None:
    channel = wrap(retry=Retry(3, **QUICK), idempotent=[f"/{SERVICE}/Say", f"/{SERVICE}/Count"])
    request = b"UNAVAILABLE UNAVAILABLE OK"
    if how == "call":
        assert say(channel)(request) == b"OK 3"
    elif how == "with_call":
        assert say(channel).with_call(request)[0] == b"OK 3"
    else:
        assert list(count(channel)(request)) == [b"OK 3", b"last"]
    assert channel.policy.stats().retries == 2


@pytest.mark.parametrize(
    ("idempotent", "tries"),
    [((), 1), ([f"/{SERVICE}/Say"], 2), ([SERVICE], 2), ([f"{SERVICE}/Say"], 2), (["x.Y"], 1)]
    + [(True, 2), (False, 1), ([f"/{SERVICE}/Other"], 1)],
)
def test_only_methods_that_are_named_are_tried_again(
    script: ScriptServer, wrap: Callable[..., Any], idempotent: Any, tries: int
) -> None:
    channel = wrap(retry=Retry(2, **QUICK), idempotent=idempotent)
    with pytest.raises(grpc.RpcError) as caught:
        say(channel)(b"UNAVAILABLE")
    assert caught.value.code() is CODE.UNAVAILABLE
    assert script.seen[b"UNAVAILABLE"] == tries


def test_other_codes_are_answers(script: ScriptServer, wrap: Callable[..., Any]) -> None:
    channel = wrap(retry=Retry(3, **QUICK))
    for code in (CODE.NOT_FOUND, CODE.RESOURCE_EXHAUSTED, CODE.INTERNAL):
        with pytest.raises(grpc.RpcError) as caught:
            say(channel)(code.name.encode())
        assert caught.value.code() is code and script.seen[code.name.encode()] == 1
    channel = wrap(retry=Retry(3, codes=["INTERNAL"], **QUICK))
    assert say(channel)(b"INTERNAL OK") == b"OK 2"


def test_what_could_not_connect_is_tried_again_whatever_it_is(wrap: Callable[..., Any]) -> None:
    channel = wrap(NOWHERE, idempotent=False, retry=Retry(3, **QUICK))
    with pytest.raises(grpc.RpcError) as caught:
        say(channel)(b"OK")
    assert caught.value.code() is CODE.UNAVAILABLE
    assert channel.policy.stats().retries == 2
    assert "was tried 3 times" in "".join(caught.value.__notes__)


def test_the_servers_pushback_is_obeyed(
    script: ScriptServer, wrap: Callable[..., Any], clock: Any
) -> None:
    pauses = []

    class Clock:
        now = 1.0

        def advance(self, seconds: float) -> None:
            pauses.append(seconds)

    channel = wrap(retry=Retry(5, backoff=5, throttle=None), clock=Clock())
    assert say(channel)(b"UNAVAILABLE:250 UNAVAILABLE:1500 OK") == b"OK 3"
    assert pauses == [0.25, 1.5]
    for never in (b"UNAVAILABLE:-1 OK", b"UNAVAILABLE:soon OK"):
        with pytest.raises(grpc.RpcError) as caught:
            say(channel)(never)
        assert script.seen[never] == 1
        assert "the server asks not to" in "".join(caught.value.__notes__)


def test_a_stream_is_not_tried_again_after_its_first_message(
    script: ScriptServer, wrap: Callable[..., Any]
) -> None:
    channel = wrap(retry=Retry(3, **QUICK))
    answers = count(channel)(b"first UNAVAILABLE")
    assert next(answers) == b"first"
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert caught.value.code() is CODE.UNAVAILABLE
    assert script.seen[b"first UNAVAILABLE"] == 1
    eventually(lambda: channel.policy.stats().failed == 1)


def test_a_stream_that_is_sent_is_sent_once(script: ScriptServer, wrap: Callable[..., Any]) -> None:
    channel = wrap(retry=Retry(3, **QUICK))
    with pytest.raises(grpc.RpcError):
        channel.stream_unary(f"/{SERVICE}/Join")(iter([b"UNAVAILABLE", b"OK"]))
    with pytest.raises(grpc.RpcError):
        list(channel.stream_stream(f"/{SERVICE}/Chat")(iter([b"UNAVAILABLE OK OK"])))
    with pytest.raises(grpc.RpcError):
        say(channel).future(b"UNAVAILABLE OK .").result(10)
    assert set(script.seen.values()) == {1} and channel.policy.stats().retries == 0


# ---- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "caller", "outer", "least", "most"),
    [
        (1000, None, None, 600, 1000),
        (1000, 200, None, 100, 200),
        (200, 1000, None, 100, 200),
        (1000, None, 200, 100, 200),
        (None, 1000, 200, 100, 200),
        (None, None, 200, 100, 200),
    ],
)
def test_the_smallest_budget_is_the_deadline_that_is_sent(
    script: ScriptServer, wrap: Any, policy: Any, caller: Any, outer: Any, least: Any, most: Any
) -> None:
    channel = wrap(timeout=policy)
    with budget(outer):
        say(channel)(b"OK", timeout=caller)
        list(count(channel)(b"OK", timeout=caller))
    assert len(script.deadlines) == 2
    # gRPC rounds a little up on the way.
    assert all(least < left < 1.05 * most for left in script.deadlines)  # type: ignore[operator]


def test_a_hanging_try_is_ended_and_followed_by_another(
    script: ScriptServer, wrap: Callable[..., Any]
) -> None:
    channel = wrap(retry=Retry(3, attempt_timeout=0.02, codes=["DEADLINE_EXCEEDED"], **QUICK))
    with pytest.raises(grpc.RpcError) as caught:
        say(channel)(b"hang")
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED
    assert channel.policy.stats().retries == 2
    eventually(lambda: script.open == 0)


def test_no_time_left_is_an_error_of_both_kinds(wrap: Callable[..., Any]) -> None:
    channel = wrap()
    for send in (say(channel), say(channel).future, count(channel)):
        with budget(0), pytest.raises(DeadlineExceeded) as caught:
            send(b"OK")
        assert isinstance(caught.value, grpc.RpcError)
        assert caught.value.code() is CODE.DEADLINE_EXCEEDED
        assert caught.value.call.startswith(f"/{SERVICE}/")


# ---- breaker ------------------------------------------------------------------------------------


def test_what_is_refused_here_is_an_rpc_error(wrap: Callable[..., Any]) -> None:
    breaker = CircuitBreaker("script")
    channel = wrap(breaker=breaker)
    breaker.trip()
    for send in (say(channel), say(channel).with_call, say(channel).future, count(channel)):
        with pytest.raises(CircuitOpen) as caught:
            send(b"OK")
        error: Any = caught.value
        assert isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call)
        assert error.code() is CODE.UNAVAILABLE and "is open" in error.details()
        assert error.trailing_metadata() == () and not error.is_active()
        assert "CircuitOpen(" in repr(error)
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is CircuitOpen and str(copy) == str(error)


@pytest.mark.parametrize("name", [code.name for code in CODE if code is not CODE.OK])
def test_which_codes_count(wrap: Callable[..., Any], name: str) -> None:
    breaker = CircuitBreaker(min_calls=1)
    channel = wrap(breaker=breaker)
    with pytest.raises(grpc.RpcError):
        say(channel)(name.encode())
    channel_codes = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
    assert (breaker.state == "open") == (name in channel_codes)
    assert breaker.stats().calls == (name not in (*channel_codes, "CANCELLED"))


@pytest.mark.parametrize("how", ["future", "stream", "abandoned"])
def test_cancelling_counts_as_nothing(
    script: ScriptServer, wrap: Callable[..., Any], how: str
) -> None:
    breaker = CircuitBreaker(min_calls=1, failures=Exception)
    channel = wrap(breaker=breaker, limit=Limit(1))
    call = say(channel).future(b"hang") if how == "future" else count(channel)(b"hang")
    eventually(lambda: script.open == 1)
    if how != "abandoned":
        call.cancel()
    del call
    gc.collect()
    eventually(lambda: channel.policy.stats().cancelled == 1)
    assert breaker.stats().calls == 0 and breaker.state == "closed"


def test_a_stream_is_told_by_its_first_message(
    script: ScriptServer, wrap: Callable[..., Any], clock: Any
) -> None:
    """A probe that is a long stream does not keep everybody else waiting."""
    breaker = CircuitBreaker(clock=clock)
    channel = wrap(breaker=breaker)
    breaker.trip()
    clock.advance(5)
    answers = count(channel)(b"first hang")
    assert breaker.state == "half-open"
    assert next(answers) == b"first"
    assert breaker.state == "closed"
    answers.cancel()
    eventually(lambda: channel.policy.stats().cancelled == 1)
    assert breaker.stats().calls == 0


def test_streams_that_fail_open_it(wrap: Callable[..., Any]) -> None:
    breaker = CircuitBreaker(min_calls=2)
    channel = wrap(breaker=breaker)
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            list(count(channel)(b"UNAVAILABLE"))
    eventually(lambda: breaker.state == "open")


def test_one_breaker_for_each_method(wrap: Callable[..., Any]) -> None:
    channel = wrap(breaker=lambda name: CircuitBreaker(name, min_calls=1))
    with pytest.raises(grpc.RpcError):
        say(channel)(b"UNAVAILABLE")
    with pytest.raises(CircuitOpen):
        say(channel)(b"OK")  # the same, though the stub is another
    assert list(count(channel)(b"OK")) == [b"OK 1", b"last"]
    states = {name: one.state for name, one in channel.policy.stats().breakers.items()}
    assert states == {f"/{SERVICE}/Say": "open", f"/{SERVICE}/Count": "closed"}


# ---- limit --------------------------------------------------------------------------------------


def test_the_limit_holds_for_calls_and_streams(
    script: ScriptServer, wrap: Callable[..., Any], runner: ThreadRunner
) -> None:
    limit = Limit(3, max_waiting=1)
    channel = wrap(limit=limit)
    future = say(channel).future(b"hang")
    stream = count(channel)(b"first hang")
    assert next(stream) == b"first"
    other = count(channel)(b"hang")
    eventually(lambda: script.open == 3)
    assert limit.stats().in_use == 3
    waiting = runner.start(say(channel), b"OK")
    eventually(lambda: limit.stats().waiting == 1)
    for send in (say(channel), say(channel).future, count(channel)):
        with pytest.raises(Overloaded) as caught:
            send(b"OK")
        assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
    stream.cancel()
    assert waiting.result() == b"OK 1"
    future.cancel()
    other.cancel()
    eventually(lambda: limit.stats().in_use == 0)
    assert channel.policy.stats().overloaded == 3


def test_who_waits_too_long_is_never_sent(script: ScriptServer, wrap: Callable[..., Any]) -> None:
    channel = wrap(limit=Limit(1), breaker=CircuitBreaker(min_calls=1))
    holding = count(channel)(b"first hang")
    assert next(holding) == b"first"
    with pytest.raises(DeadlineExceeded) as caught:
        say(channel)(b"OK", timeout=0.01)
    assert caught.value.phase == "limit" and caught.value.code() is CODE.DEADLINE_EXCEEDED
    assert script.seen[b"OK"] == 0
    holding.cancel()
    assert say(channel)(b"OK") == b"OK 1"


@pytest.mark.parametrize("how", ["deadline", "cancel", "abandon", "end", "fail", "close"])
def test_a_stream_gives_its_permit_back(
    script: ScriptServer, wrap: Callable[..., Any], how: str
) -> None:
    limit = Limit(1)
    channel = wrap(limit=limit)
    requests = {"end": b"OK", "fail": b"UNAVAILABLE"}
    stream = count(channel)(
        requests.get(how, b"first hang"), timeout=0.2 if how == "deadline" else None
    )
    if how in ("end", "fail", "deadline"):
        try:
            list(stream)
        except grpc.RpcError:
            assert how != "end"
    else:
        assert next(stream) == b"first"
        assert limit.stats().in_use == 1
    if how == "cancel":
        stream.cancel()
    if how == "close":
        channel.close()
    if how == "abandon":
        del stream
    eventually(lambda: limit.stats().in_use == 0)


def test_many_threads_lose_no_permit(
    script: ScriptServer, wrap: Callable[..., Any], runner: ThreadRunner
) -> None:
    limit = Limit(4)
    channel = wrap(limit=limit, retry=Retry(2, **QUICK), breaker=CircuitBreaker(), timeout=30)
    sender, receiver = say(channel), count(channel)

    def run(index: int) -> int:
        ends = 0
        for turn in range(12):
            kind = (index + turn) % 6
            try:
                if kind == 0:
                    sender(b"OK")
                elif kind == 1:
                    sender(b"NOT_FOUND")
                elif kind == 2:
                    sender.future(b"hang").cancel()
                elif kind == 3:
                    next(receiver(b"first hang"))  # and forgets it
                elif kind == 4:
                    list(receiver(b"OK"))
                else:
                    sender(b"hang", timeout=0.02)
            except grpc.RpcError:
                pass
            ends += 1
        return ends

    runner.together(8, run)
    assert sum(runner.finish()) == 96
    gc.collect()
    eventually(lambda: limit.stats().in_use == 0)
    eventually(lambda: channel.policy.stats().calls == 96)
    assert limit.stats().waiting == 0


def test_callbacks_come_from_no_thread_that_holds_the_limit(wrap: Callable[..., Any]) -> None:
    """A done callback that makes a call of its own is served."""
    channel = wrap(limit=Limit(1))
    served = threading.Event()

    def again(future: Any) -> None:
        threading.Thread(target=lambda: (say(channel)(b"OK"), served.set()), daemon=True).start()

    say(channel).future(b"OK").add_done_callback(again)
    assert served.wait(PATIENCE)

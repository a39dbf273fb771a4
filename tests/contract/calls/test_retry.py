"""`Retry` and `RetryThrottle`: what is tried again, when, and when no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpool import PoolTimeout
from fastpool.calls import (
    CallPolicy,
    CircuitBreaker,
    CircuitOpen,
    Retry,
    RetryThrottle,
    remaining,
)
from fastpool.testing import ManualClock


class Flaky:
    """Fails with the exceptions of its script, one a call, then goes well."""

    def __init__(self, *script: BaseException) -> None:
        self.script = list(script)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if len(self.script) >= self.calls:
            raise self.script[self.calls - 1]
        return self.calls


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The dice always show 1, so that pauses are the longest; the list gets them."""
    monkeypatch.setattr("fastpool.calls._retry.random", lambda: 1.0)
    return []


class Clock(ManualClock):
    """Keeps a list of its pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def advance(self, seconds: float, settle: float = 5.0) -> None:
        self.pauses.append(round(seconds, 6))
        super().advance(seconds, settle)


def put(policy: CallPolicy, flaky: Flaky, idempotent: bool = True) -> Callable[[], int]:
    return policy(idempotent=idempotent)(flaky)


def test_an_idempotent_call_is_tried_again(clock: ManualClock) -> None:
    flaky = Flaky(ConnectionError(), TimeoutError())
    policy = CallPolicy(retry=Retry(3), clock=clock)
    assert put(policy, flaky)() == 3
    assert policy.stats().retries == 2
    assert (policy.stats().calls, policy.stats().succeeded) == (1, 1)


def test_what_is_not_named_idempotent_is_called_once(clock: ManualClock) -> None:
    flaky = Flaky(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        put(CallPolicy(retry=Retry(3), clock=clock), flaky, idempotent=False)()
    assert flaky.calls == 1


def test_what_was_refused_before_it_was_sent_is_tried_again(clock: ManualClock) -> None:
    flaky = Flaky(ConnectionRefusedError())
    assert put(CallPolicy(retry=Retry(3), clock=clock), flaky, idempotent=False)() == 2

    class Busy(Exception):
        pass

    flaky = Flaky(Busy(), ConnectionRefusedError())
    with pytest.raises(ConnectionRefusedError):  # since `refused` says what counts instead
        put(CallPolicy(retry=Retry(3, refused=Busy), clock=clock), flaky, idempotent=False)()
    assert flaky.calls == 2


@pytest.mark.parametrize(
    "error",
    [ValueError("answer"), PoolTimeout("p", "wait", 1, {}), CircuitOpen("inner", "b", 1.0)],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_passed_on_at_once(clock: ManualClock, error: Exception) -> None:
    flaky = Flaky(error)
    with pytest.raises(type(error)) as caught:
        put(CallPolicy(retry=Retry(3), clock=clock), flaky)()
    assert flaky.calls == 1 and caught.value is error
    assert not hasattr(error, "__notes__")


def test_on_says_which(clock: ManualClock) -> None:
    flaky = Flaky(LookupError("try again"), LookupError("never"))
    retry = Retry(5, on=lambda error: "again" in str(error))
    with pytest.raises(LookupError, match="never"):
        put(CallPolicy(retry=retry, clock=clock), flaky)()
    assert flaky.calls == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_who_was_interrupted_does_not_try_again(clock: ManualClock, error: BaseException) -> None:
    flaky = Flaky(error)
    policy = CallPolicy(retry=Retry(3, on=BaseException), clock=clock)
    with pytest.raises(type(error)):
        put(policy, flaky)()
    assert flaky.calls == 1 and policy.stats().cancelled == 1


def test_the_last_failure_is_raised_and_says_how_often(clock: ManualClock) -> None:
    errors = [ConnectionError(str(number)) for number in range(3)]
    flaky = Flaky(*errors)
    with pytest.raises(ConnectionError) as caught:
        CallPolicy(retry=Retry(3), clock=clock)(idempotent=True, name="ask")(flaky)()
    assert caught.value is errors[2] and flaky.calls == 3
    (note,) = caught.value.__notes__
    assert note.startswith("fastpool.calls: ask was tried 3 times in ")


def test_an_exception_object_that_is_raised_again_has_one_note(clock: ManualClock) -> None:
    always = ConnectionError()
    flaky = Flaky(*[always] * 30)
    call = put(CallPolicy(retry=Retry(3, throttle=None), clock=clock), flaky)
    for _ in range(10):
        with pytest.raises(ConnectionError):
            call()
    assert flaky.calls == 30 and len(always.__notes__) == 1


def test_pauses_double_up_to_the_longest(pauses: list[float]) -> None:
    clock, flaky = Clock(), Flaky(*[ConnectionError()] * 6)
    retry = Retry(7, backoff=0.1, max_backoff=1.0, throttle=None)
    assert put(CallPolicy(retry=retry, clock=clock), flaky)() == 7
    assert clock.pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@given(failed=st.integers(1, 5000), backoff=st.floats(1e-6, 1e6), most=st.floats(1e-6, 1e6))
def test_pauses_are_drawn_over_the_whole_width(failed: int, backoff: float, most: float) -> None:
    retry = Retry(backoff=backoff, max_backoff=most)
    widest = min(most, backoff * 2.0 ** min(failed - 1, 900))
    drawn = [retry.pause(failed) for _ in range(40)]
    assert all(0 <= pause <= widest for pause in drawn)
    # Full jitter: 40 draws in one half are a chance of 2 in 10 ** 12.
    assert min(drawn) <= widest / 2 <= max(drawn)


def test_no_pause_is_begun_that_the_budget_does_not_allow(pauses: list[float]) -> None:
    clock, flaky = Clock(), Flaky(*[ConnectionError()] * 9)
    policy = CallPolicy(timeout=1.0, retry=Retry(9, backoff=0.4, throttle=None), clock=clock)
    with pytest.raises(ConnectionError) as caught:
        put(policy, flaky)()
    assert clock.pauses == [0.4]  # the next, 0.8, would end after 1.2 s
    (note,) = caught.value.__notes__
    assert "tried 2 times" in note and "the 0.6 s left end before the next try" in note


def test_a_try_has_its_own_share_of_the_time(clock: ManualClock) -> None:
    seen = []

    @CallPolicy(timeout=10, retry=Retry(3, attempt_timeout=4), clock=clock)(idempotent=True)
    def call() -> None:
        seen.append(remaining())
        clock.advance(4)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        call()
    assert seen[0] == 4.0 and seen[1] == pytest.approx(4.0, abs=0.2)
    assert 1.5 < seen[2] <= 2.0  # what is left of the ten


def test_a_hanging_try_leaves_time_for_another(run: Callable[..., Any]) -> None:
    calls = 0

    @CallPolicy(retry=Retry(2, attempt_timeout=0.01, backoff=1e-6))(idempotent=True)
    async def call() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()
        return "well"

    assert run(call()) == "well" and calls == 2


def test_the_throttle_is_that_of_grpc() -> None:
    """A token a failure, a tenth back for a success, retries above the half."""
    throttle = RetryThrottle(tokens=10, ratio=0.1)
    assert [throttle.failed() for _ in range(6)] == [True] * 4 + [False] * 2
    assert throttle.tokens == 4.0
    for _ in range(20):
        throttle.succeeded()
    assert throttle.tokens == pytest.approx(6.0)
    assert not throttle.failed()  # 5 are not more than the half
    for _ in range(1000):
        throttle.succeeded()
    assert throttle.tokens == 10.0
    for _ in range(100):
        throttle.failed()
    assert throttle.tokens == 0.0


def test_retries_do_not_multiply_an_outage(clock: ManualClock) -> None:
    """Of 1,000 calls to a dead service nearly none is tried again; without a throttle all are."""
    sent = {}
    for throttle in (RetryThrottle(), None):
        flaky = Flaky(*[ConnectionError()] * 4000)
        policy = CallPolicy(retry=Retry(3, throttle=throttle), clock=clock)
        call = put(policy, flaky)
        for _ in range(1000):
            with pytest.raises(ConnectionError):
                call()
        sent[throttle is None] = flaky.calls
        assert policy.stats().throttled == (0 if throttle is None else 999)
    assert sent == {False: 1003, True: 3000}


def test_the_throttle_is_shared_by_what_shares_the_retry(clock: ManualClock) -> None:
    retry = Retry(2)
    one, other = (CallPolicy(retry=retry, clock=clock) for _ in range(2))
    flaky = Flaky(*[ConnectionError()] * 100)
    for _ in range(10):
        with pytest.raises(ConnectionError):
            put(one, flaky)()
    with pytest.raises(ConnectionError) as caught:
        put(other, flaky)()
    assert "RetryThrottle" in "".join(caught.value.__notes__)
    assert other.stats().retries == 0


def test_no_try_follows_when_the_breaker_has_opened_meanwhile(clock: ManualClock) -> None:
    breaker = CircuitBreaker(clock=clock)

    class Trips(Flaky):
        def __call__(self) -> int:
            if self.calls == 1:
                breaker.trip()
            return super().__call__()

    flaky = Trips(*[ConnectionError()] * 9)
    with pytest.raises(ConnectionError):
        put(CallPolicy(retry=Retry(9), breaker=breaker, clock=clock), flaky)()
    assert flaky.calls == 2


def test_the_breaker_sees_a_call_once_whatever_the_tries(clock: ManualClock) -> None:
    breaker = CircuitBreaker(clock=clock)
    policy = CallPolicy(retry=Retry(3, throttle=None), breaker=breaker, clock=clock)
    put(policy, Flaky(ConnectionError(), ConnectionError()))()
    assert (breaker.stats().calls, breaker.stats().failures) == (1, 0)
    with pytest.raises(ConnectionError):
        put(policy, Flaky(*[ConnectionError()] * 3))()
    assert (breaker.stats().calls, breaker.stats().failures) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"attempts": 0}, ValueError, "attempts must be a whole number of at least 1, not 0"),
        ({"attempts": "3"}, ValueError, "attempts"),
        ({"backoff": -0.1}, ValueError, "backoff must be at least 0 s, not -0.1"),
        ({"backoff": None}, TypeError, "backoff must be a number of seconds, not None"),
        ({"max_backoff": "1"}, TypeError, "max_backoff"),
        ({"attempt_timeout": -1}, ValueError, "attempt_timeout must be more than 0 s"),
        ({"on": 3}, TypeError, "on must be an exception class"),
        ({"on": int}, TypeError, "on must be an exception class"),
        ({"codes": ["UNAVAILABEL"]}, ValueError, "no gRPC status code is called UNAVAILABEL"),
        ({"refused": "x"}, TypeError, "refused must be an exception class"),
        ({"throttle": 5}, TypeError, "throttle must be a RetryThrottle"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Retry(**arguments)
    for wrong in ({"tokens": 0}, {"tokens": 1001}, {"ratio": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RetryThrottle(**wrong)

"""`Retry` beyond growing pauses: other pauses, results that are tried again, what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastpool.calls import CallPolicy, CircuitBreaker, Limit, Retry, RetryEvent
from fastpool.testing import ManualClock

KINDS = pytest.mark.parametrize("kind", ["thread", "task"])


class Clock(ManualClock):
    """Keeps a list of its pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def advance(self, seconds: float, settle: float = 5.0) -> None:
        self.pauses.append(round(seconds, 6))
        super().advance(seconds, settle)


class Script:
    """Returns what it is told, or raises it, one a call; the last one for ever."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = outcomes
        self.calls = 0

    def __call__(self) -> Any:
        outcome = self.outcomes[min(self.calls, len(self.outcomes) - 1)]
        self.calls += 1
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def put(
    kind: str, policy: CallPolicy, function: Callable[[], Any], idempotent: bool = True
) -> Callable[[], Any]:
    """The function under the policy, as threads or as tasks call it."""
    if kind == "thread":
        return policy(idempotent=idempotent, name="ask")(function)

    async def awaited() -> Any:
        return function()

    call: Any = policy(idempotent=idempotent, name="ask")(awaited)
    return lambda: asyncio.run(call())


# ---- pauses -------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    ("options", "pauses"),
    [
        ({"backoff": 0.5, "multiplier": 1, "jitter": False}, [0.5, 0.5, 0.5]),
        ({"backoff": 0.5, "multiplier": 3, "jitter": False}, [0.5, 1.5, 4.5]),
        ({"backoff": 0.5, "max_backoff": 0.75, "jitter": False}, [0.5, 0.75, 0.75]),
        ({"backoff": 0}, []),
        ({"backoff": 0, "jitter": False}, []),
    ],
)
def test_pauses_are_as_long_as_the_options_say(
    kind: str, options: dict[str, Any], pauses: list[float]
) -> None:
    clock, script = Clock(), Script(ConnectionError())
    policy = CallPolicy(retry=Retry(4, throttle=None, **options), clock=clock)
    with pytest.raises(ConnectionError):
        put(kind, policy, script)()
    assert script.calls == 4
    assert clock.pauses == pauses


def test_pauses_with_jitter_grow_by_the_multiplier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastpool.calls._retry.random", lambda: 0.5)
    retry = Retry(backoff=1.0, multiplier=3, max_backoff=20.0)
    assert [retry.pause(n) for n in (1, 2, 3, 4, 10**6)] == [0.5, 1.5, 4.5, 10.0, 10.0]
    assert Retry(backoff=1.0, multiplier=100, max_backoff=20.0).pause(10**6) == 10.0


@KINDS
def test_no_try_without_a_pause_is_begun_after_the_time(kind: str) -> None:
    clock = Clock()
    calls = []

    def fail() -> None:
        calls.append(1)
        clock.advance(2)
        raise ConnectionError

    policy = CallPolicy(timeout=3.0, retry=Retry(9, backoff=0, throttle=None), clock=clock)
    with pytest.raises(ConnectionError):
        put(kind, policy, fail)()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"multiplier": 0.5}, "multiplier must be"), ({"backoff": -1}, "backoff must be at least 0")],
)
def test_bad_pauses_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Retry(**wrong)


# ---- results ------------------------------------------------------------------------------------


def unready(result: Any) -> bool:
    return bool(result == "not yet")


@KINDS
def test_result_that_is_unwanted_is_tried_again(kind: str) -> None:
    clock, script = Clock(), Script("not yet", ConnectionError(), "not yet", "ready")
    policy = CallPolicy(retry=Retry(9, throttle=None, on_result=unready), clock=clock)
    assert put(kind, policy, script)() == "ready"
    assert script.calls == 4
    stats = policy.stats()
    assert (stats.calls, stats.succeeded, stats.retries) == (1, 1, 3)


@KINDS
def test_last_result_is_returned_as_it_is(kind: str) -> None:
    """When there are no tries left, or no time."""
    script = Script("not yet")
    policy = CallPolicy(retry=Retry(3, throttle=None, on_result=unready), clock=Clock())
    assert put(kind, policy, script)() == "not yet"
    assert script.calls == 3
    short = Retry(3, backoff=9, max_backoff=9, jitter=False, throttle=None, on_result=unready)
    assert put(kind, CallPolicy(timeout=8, retry=short, clock=Clock()), script)() == "not yet"
    assert script.calls == 4


@KINDS
def test_result_of_what_is_not_idempotent_is_final(kind: str) -> None:
    script = Script("not yet", "ready")
    policy = CallPolicy(retry=Retry(3, on_result=unready), clock=Clock())
    assert put(kind, policy, script, idempotent=False)() == "not yet"


@KINDS
def test_unwanted_results_are_throttled_and_are_answers_to_a_breaker(kind: str) -> None:
    script, breaker = Script("not yet"), CircuitBreaker(min_calls=1)
    retry = Retry(99, backoff=0, on_result=unready)
    policy = CallPolicy(retry=retry, breaker=breaker, clock=Clock())
    assert put(kind, policy, script)() == "not yet"
    assert script.calls == 5
    assert policy.stats().throttled == 1
    assert (breaker.stats().calls, breaker.stats().failures) == (1, 0)


@KINDS
def test_question_that_fails_keeps_the_result(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def broken(result: Any) -> bool:
        raise ZeroDivisionError

    policy = CallPolicy(retry=Retry(3, on_result=broken), clock=Clock())
    assert put(kind, policy, Script("ready"))() == "ready"
    assert "ZeroDivisionError" in caplog.text


# ---- what is told -------------------------------------------------------------------------------


@KINDS
def test_hook_is_told_of_each_further_try_before_its_pause(kind: str) -> None:
    clock, told = Clock(), []
    error = ConnectionError("down")
    retry = Retry(
        9,
        backoff=1,
        jitter=False,
        throttle=None,
        on_result=unready,
        on_retry=lambda event: told.append((event, list(clock.pauses))),
    )
    script = Script(error, "not yet", "ready")
    assert put(kind, CallPolicy(retry=retry, clock=clock), script)() == "ready"
    assert told == [
        (RetryEvent("ask", 1, 1.0, error), []),
        (RetryEvent("ask", 2, 2.0, None, "not yet"), [1.0]),
    ]


@KINDS
def test_hook_is_not_told_of_the_end(kind: str) -> None:
    told: list[RetryEvent] = []
    policy = CallPolicy(retry=Retry(2, backoff=0, on_retry=told.append))
    with pytest.raises(ConnectionError):
        put(kind, policy, Script(ConnectionError()))()
    assert [event.tries for event in told] == [1]


@KINDS
def test_hook_that_fails_is_logged_and_the_call_goes_on(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: RetryEvent) -> None:
        raise ZeroDivisionError

    policy = CallPolicy(retry=Retry(3, backoff=0, on_retry=broken))
    assert put(kind, policy, Script(ConnectionError(), 5))() == 5
    assert "ZeroDivisionError" in caplog.text


@KINDS
def test_hook_holds_no_permit_of_the_limit(kind: str) -> None:
    limit, seen = Limit(1), []
    retry = Retry(2, backoff=0, on_retry=lambda event: seen.append(limit.stats().in_use))
    assert put(kind, CallPolicy(retry=retry, limit=limit), Script(ConnectionError(), 5))() == 5
    assert seen == [0]


@pytest.mark.parametrize("option", ["on_result", "on_retry"])
def test_callables_of_a_retry_are_plain_ones(option: str) -> None:
    async def waits(about: Any) -> bool:
        return True

    for wrong in (5, waits):
        options: dict[str, Any] = {option: wrong}
        with pytest.raises(TypeError, match=option):
            Retry(**options)

"""How a call ends: what its error says, what breaker, throttle and statistics are told of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contract.calls.scripted_calls import KINDS, Pausing, called, failing
from fastpool.calls import (
    CallError,
    CallPolicy,
    CircuitBreaker,
    DeadlineExceeded,
    Limit,
    Overloaded,
    Retry,
    RetryThrottle,
    budget,
)
from support.helpers import PATIENCE

# ---- a try that failed, and then no other -------------------------------------------------------


@KINDS
@pytest.mark.parametrize("where", ["start", "limit", "overload"])
def test_breaker_counts_the_failed_try_before_one_that_never_began(kind: str, where: str) -> None:
    """The first try failed; the second ran out of time, in its pause or in the queue, or was
    refused a permit.  The failure is the breaker's, the cause of what is raised, and the only try
    counted."""
    limit = Limit(1, max_waiting=0 if where == "overload" else None)
    taken = []

    def in_the_pause() -> None:
        if where == "start":
            clock.now += 5.0  # to the very end of the time
        else:
            taken.append(limit.take_nowait())  # somebody else is faster
        if where == "limit":
            clock.now += 4.999

    clock = Pausing(in_the_pause)
    breaker = CircuitBreaker(min_calls=1)
    throttle = RetryThrottle()
    retry = Retry(3, throttle=throttle)
    policy = CallPolicy(timeout=5.0, retry=retry, breaker=breaker, limit=limit, clock=clock)
    lost = ConnectionResetError("lost")
    with pytest.raises(CallError) as caught:
        called(policy, kind, failing(lost))
    assert clock.pauses == 1 and caught.value.__cause__ is lost
    assert breaker.state == "open"
    stats = policy.stats()
    assert (stats.calls, stats.failed, stats.retries) == (1, 1, 1)
    if where == "overload":
        assert isinstance(caught.value, Overloaded)
        assert (stats.overloaded, stats.expired) == (1, 0)
    else:
        assert isinstance(caught.value, DeadlineExceeded)
        assert (caught.value.phase, caught.value.timeout) == (where, 5.0)
        assert caught.value.elapsed == clock.now - 100.0
        assert (stats.overloaded, stats.expired) == (0, 1)
    if where == "start":
        assert caught.value.attempts == 1  # type: ignore[attr-defined]
    for permit in taken:
        permit.release()


@KINDS
def test_breaker_is_not_told_of_a_call_that_never_left_the_queue(kind: str) -> None:
    """Not as a success either: it says nothing of the other side."""
    limit, breaker = Limit(1), CircuitBreaker(min_calls=1)
    held = limit.take_nowait()
    policy = CallPolicy(timeout=0.001, limit=limit, breaker=breaker)
    with pytest.raises(DeadlineExceeded) as caught:
        called(policy, kind, lambda: pytest.fail("it was called"))
    assert caught.value.phase == "limit" and caught.value.__cause__ is None
    assert (breaker.state, breaker.stats().calls) == ("closed", 0)
    assert held is not None
    held.release()


@KINDS
def test_a_probe_that_ran_out_of_time_in_queue_frees_capacity_for_the_next(
    clock: Any, kind: str
) -> None:
    limit, breaker = Limit(1), CircuitBreaker(clock=clock)
    held = limit.take_nowait()
    assert held is not None
    breaker.trip()
    clock.advance(5)
    with pytest.raises(DeadlineExceeded):
        called(CallPolicy(timeout=0.001, limit=limit, breaker=breaker), kind, lambda: "never")
    held.release()
    assert called(CallPolicy(limit=limit, breaker=breaker), kind, lambda: "well") == "well"
    assert breaker.state == "closed"


@KINDS
def test_breaker_goes_by_the_last_try_of_a_call(kind: str) -> None:
    """A connection was lost, and then the other side answered: it is there."""
    breaker = CircuitBreaker(min_calls=1)
    policy = CallPolicy(retry=Retry(3), breaker=breaker, clock=Pausing())
    with pytest.raises(LookupError):
        called(policy, kind, failing(ConnectionError(), LookupError("no such key")))
    stats = breaker.stats()
    assert (stats.state, stats.calls, stats.failures) == ("closed", 1, 0)


@KINDS
def test_a_pause_that_would_end_with_the_time_is_not_begun(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastpool.calls._retry.random", lambda: 1.0)
    clock = Pausing()
    policy = CallPolicy(timeout=2.0, retry=Retry(3, backoff=2.0), clock=clock)
    lost = ConnectionError()
    with pytest.raises(ConnectionError) as caught:
        called(policy, kind, failing(lost))
    assert caught.value is lost and clock.pauses == 0
    (note,) = lost.__notes__
    assert "ask was tried once in " in note and "the 2 s left end before the next try" in note


def test_a_task_whose_clock_stands_does_not_sleep_in_its_pauses() -> None:
    """As in a thread, the pause is only told to the clock."""
    told: list[float] = []

    class Clock(Pausing):
        def advance(self, seconds: float) -> None:
            told.append(seconds)

    policy = CallPolicy(retry=Retry(2, backoff=1e6, max_backoff=1e6), clock=Clock())

    async def ask() -> str:
        return script()

    script = failing(ConnectionError())

    async def main() -> str:
        return await asyncio.wait_for(policy(idempotent=True)(ask)(), PATIENCE)

    assert asyncio.run(main()) == "well"
    assert len(told) == 1


# ---- what else is told --------------------------------------------------------------------------


@KINDS
def test_throttle_gets_its_share_back_for_a_call_that_goes_well(kind: str) -> None:
    throttle = RetryThrottle(tokens=10, ratio=0.25)
    policy = CallPolicy(retry=Retry(3, throttle=throttle), clock=Pausing())
    assert called(policy, kind, failing(ConnectionError(), ConnectionError())) == "well"
    assert throttle.tokens == 8.25
    assert called(policy, kind, failing()) == "well"
    assert throttle.tokens == 8.5


@KINDS
@pytest.mark.parametrize("error", [ValueError(), Overloaded("nested", 1, 0)], ids=["plain", "ours"])
def test_throttle_loses_nothing_by_an_error_that_is_not_tried_again(
    kind: str, error: Exception
) -> None:
    throttle = RetryThrottle(tokens=10)
    policy = CallPolicy(retry=Retry(3, throttle=throttle), clock=Pausing())
    with pytest.raises(type(error)):
        called(policy, kind, failing(error))
    assert throttle.tokens == 10.0


@pytest.mark.parametrize(
    "error",
    [
        DeadlineExceeded("nested", "start", 1.0, 1.0),
        DeadlineExceeded("nested", "limit", 1.0, 1.0),
        DeadlineExceeded("nested", "call", 1.0, 1.0),
        Overloaded("nested", 1, 0),
    ],
    ids=["start", "limit", "call", "overload"],
)
def test_what_a_nested_policy_refuses_is_a_failure_of_the_outer_call_only(error: Any) -> None:
    """The counters of reasons are for what this policy has refused by itself."""
    policy = CallPolicy()
    with pytest.raises(type(error)):
        called(policy, "thread", failing(error))
    stats = policy.stats()
    assert (stats.calls, stats.failed, stats.expired, stats.overloaded) == (1, 1, 0, 0)


@pytest.mark.parametrize("on", [Exception, (Exception,), lambda error: True])
def test_what_was_not_sent_for_want_of_time_or_capacity_is_never_tried_again(on: Any) -> None:
    """The reason is on this side, and holds for the next try as well."""
    policy = CallPolicy(retry=Retry(3, on=on, refused=on), clock=Pausing())
    for error in (
        DeadlineExceeded("nested", "start", 1.0, 1.0),
        DeadlineExceeded("nested", "limit", 1.0, 1.0),
        Overloaded("nested", 1, 0),
    ):
        with pytest.raises(CallError):
            called(policy, "thread", failing(error))
    assert policy.stats().retries == 0


def test_calls_are_all_that_ended_whichever_way() -> None:
    policy = CallPolicy()
    called(policy, "thread", failing())
    with pytest.raises(ValueError):
        called(policy, "thread", failing(ValueError()))
    with pytest.raises(asyncio.CancelledError):
        called(policy, "thread", failing(asyncio.CancelledError()))  # type: ignore[arg-type]
    stats = policy.stats()
    assert (stats.succeeded, stats.failed, stats.cancelled, stats.calls) == (1, 1, 1, 3)


def test_a_call_that_could_not_begin_says_so() -> None:
    with budget(0), pytest.raises(DeadlineExceeded) as caught:
        called(CallPolicy(), "thread", failing())
    assert (caught.value.phase, caught.value.attempts, caught.value.elapsed) == ("start", 0, 0.0)

"""`AdaptiveLimit`: it grows while calls go well, and shrinks when the server has too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from threading import Barrier
from typing import Any

import pytest

from fastpool.calls import AdaptiveLimit, CallPolicy, CircuitBreaker, Overloaded, Retry
from fastpool.testing import ManualClock
from support.helpers import ThreadRunner


def ends_with(error: BaseException | None) -> None:
    if error is not None:
        raise error


class Caller:
    """Calls that end as they are told, one by one, by a thread or by tasks."""

    def __init__(self, tasks: bool, limit: AdaptiveLimit, **parts: Any) -> None:
        self.clock = ManualClock()
        self.lasts = 0.0  # seconds of a call
        self.policy = CallPolicy(limit=limit, clock=self.clock, **parts)
        self._runner = asyncio.Runner() if tasks else None
        self._plain = self.policy(self._call)
        self._awaited = self.policy(self._acall)

    def _call(self, error: BaseException | None) -> None:
        self.clock.advance(self.lasts)
        ends_with(error)

    async def _acall(self, error: BaseException | None) -> None:
        self._call(error)

    def __call__(self, error: BaseException | None = None, n: int = 1) -> None:
        for _ in range(n):
            self.clock.advance(1.0)
            try:
                if self._runner is None:
                    self._plain(error)
                else:
                    self._runner.run(self._awaited(error))
            except BaseException as raised:
                if raised is not error:
                    raise

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()


@pytest.fixture(params=[False, True], ids=["threads", "tasks"])
def calls(request: pytest.FixtureRequest) -> Iterator[Callable[..., Caller]]:
    made: list[Caller] = []

    def call(limit: AdaptiveLimit, **parts: Any) -> Caller:
        made.append(Caller(request.param, limit, **parts))
        return made[-1]

    yield call
    for each in made:
        each.close()


def test_it_grows_by_one_for_each_round_of_calls_that_go_well(calls: Callable[..., Caller]) -> None:
    """Slowly, and not above `most`."""
    limit = AdaptiveLimit(1, most=3)
    call = calls(limit)
    sizes = []
    for _ in range(8):
        call()
        sizes.append(limit.size)
    assert sizes[0] == 2  # one call of one
    assert sizes == sorted(sizes) and sizes[-1] <= 3


def test_it_grows_slowly_after_it_has_shrunk(calls: Callable[..., Caller]) -> None:
    """Else each few calls one would be too many again; and sooner the longer all goes well."""
    limit = AdaptiveLimit(2, most=4)
    call = calls(limit)
    call(ConnectionError())
    took = []
    while limit.size < 2:
        call()
        took.append(limit.size)
    assert len(took) >= 2
    second = AdaptiveLimit(1, most=4)
    calls(second)()
    assert second.size == 2  # at once, since nothing has failed


def test_it_does_not_grow_while_it_is_not_used(calls: Callable[..., Caller]) -> None:
    """Calls one by one say nothing about twenty at once."""
    limit = AdaptiveLimit(20)
    calls(limit)(n=100)
    assert limit.size == 20


def test_it_shrinks_when_the_server_has_too_many(calls: Callable[..., Caller]) -> None:
    """To nine tenths at each, and not below `least`."""
    limit = AdaptiveLimit(20, least=3)
    call = calls(limit)
    call(ConnectionError())
    assert limit.size == 18
    call(TimeoutError())
    assert limit.size == 16
    call(ConnectionError(), n=100)
    assert limit.size == limit.least == 3


def test_by_how_much_is_an_option(calls: Callable[..., Caller]) -> None:
    """`decrease` is what is left of it."""
    limit = AdaptiveLimit(20, decrease=0.5)
    calls(limit)(ConnectionError())
    assert limit.size == 10


def test_slow_calls_are_too_many(calls: Callable[..., Caller]) -> None:
    """Also those that end with an answer of the server's."""
    limit = AdaptiveLimit(20, slow_after=0.5)
    call = calls(limit)
    call.lasts = 0.4
    call()
    assert limit.size == 20
    call.lasts = 0.6
    call()
    assert limit.size == 18
    call(KeyError("an answer"))
    assert limit.size == 16


def test_which_failures_say_so_is_an_option(calls: Callable[..., Caller]) -> None:
    """By class, by a callable, and by `classify` before both."""
    limit = AdaptiveLimit(20, failures=KeyError)
    call = calls(limit)
    call(ConnectionError())
    assert limit.size == 20
    call(KeyError())
    assert limit.size == 18
    limit = AdaptiveLimit(20, classify=lambda error: "busy" in str(error))
    call = calls(limit)
    call(ValueError("wrong"))
    call(ConnectionError("gone"))
    assert limit.size == 20
    call(ValueError("busy"))
    assert limit.size == 18


@pytest.mark.parametrize("error", [CancelledError(), KeyboardInterrupt()], ids=repr)
def test_what_the_caller_ends_says_nothing(error: BaseException) -> None:
    """It neither grows nor shrinks for it."""
    limit = AdaptiveLimit(1, most=2)

    @CallPolicy(limit=limit)
    def call() -> None:
        raise error

    for _ in range(5):
        with pytest.raises(type(error)):
            call()
    assert limit.size == 1


def test_what_is_refused_here_says_nothing(calls: Callable[..., Caller]) -> None:
    """An open breaker knows of calls that ended before."""
    limit = AdaptiveLimit(20)
    breaker = CircuitBreaker(consecutive_failures=1)
    call = calls(limit, breaker=breaker)
    call(ConnectionError())
    assert (limit.size, breaker.state) == (18, "open")
    for _ in range(5):
        with pytest.raises(Exception, match="open"):
            call(n=1)
    assert limit.size == 18


def test_each_try_counts(calls: Callable[..., Caller]) -> None:
    """A call that goes well at last tells of the tries that did not."""
    limit = AdaptiveLimit(100)
    call = calls(limit, retry=Retry(3, backoff=1.0, jitter=False, throttle=None))
    call(ConnectionRefusedError())
    assert limit.size == 72


def test_calls_sent_before_tell_of_the_same_overload(runner: ThreadRunner) -> None:
    """Fifty that fail together make it shrink once, not to nothing."""
    limit = AdaptiveLimit(50)
    together = Barrier(50)

    @CallPolicy(limit=limit)
    def call() -> None:
        together.wait(30)  # all of them have been sent
        raise ConnectionError

    def one(_: int) -> None:
        with pytest.raises(ConnectionError):
            call()

    runner.together(50, one)
    runner.finish()
    assert limit.size == 45
    assert limit.stats().in_use == 0


def test_who_waits_is_served_when_it_grows() -> None:
    """And the queue has its own bound, as that of any Limit."""
    limit = AdaptiveLimit(1, most=2, max_waiting=0)
    inside = []

    @CallPolicy(limit=limit)
    def outer() -> None:
        with pytest.raises(Overloaded):
            inner()

    @CallPolicy(limit=limit)
    def inner() -> None:
        inside.append(limit.stats().in_use)

    outer()
    assert (limit.size, inside) == (2, [])
    CallPolicy(limit=limit)(inner)()
    assert inside == [2]


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"initial": 0}, ValueError, "initial must be a whole number of at least 1"),
        ({"initial": 2.5}, ValueError, "whole number"),
        ({"initial": 2000}, ValueError, "at most 1000, which is `most`"),
        ({"least": 0}, ValueError, "least must be"),
        ({"least": 30, "most": 20}, ValueError, "most must be a whole number of at least 30"),
        ({"decrease": 1}, ValueError, "between 0 and 1"),
        ({"slow_after": 0}, ValueError, "more than 0 s"),
        ({"slow_after": "1"}, TypeError, "a number of seconds"),
        ({"codes": ["BUSY"]}, ValueError, "BUSY"),
        ({"max_waiting": -1}, ValueError, "max_waiting"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], error: type[Exception], says: str) -> None:
    """What was given, and what may be."""
    with pytest.raises(error, match=says):
        AdaptiveLimit(**wrong)


def test_it_is_seen() -> None:
    """By `repr`, by its attributes, and in the statistics of policies."""
    limit = AdaptiveLimit(5, least=2, most=9, max_waiting=3)
    assert repr(limit) == "<AdaptiveLimit: 0 of 5 in use>"
    assert (limit.size, limit.least, limit.most, limit.max_waiting) == (5, 2, 9, 3)
    policy = CallPolicy(limit=limit)
    assert policy.stats().limit == limit.stats()

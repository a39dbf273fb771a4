"""`CircuitBreaker`: when it opens, who is let through then, and what counts."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpool import PoolClosed, PoolTimeout
from fastpool.calls import CallPolicy, CircuitBreaker, CircuitOpen, DeadlineExceeded, Retry
from fastpool.testing import ManualClock
from support.helpers import PATIENCE, ThreadRunner


class Remote:
    """A service that fails when told to."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.failure: BaseException | None = None
        self.calls = 0
        self.ask = CallPolicy(breaker=breaker)(self._answer)

    def _answer(self) -> str:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        return "well"

    def fail(self, times: int = 1, failure: BaseException | None = None) -> None:
        self.failure = ConnectionError("down") if failure is None else failure
        for _ in range(times):
            with pytest.raises(type(self.failure)):
                self.ask()
        self.failure = None

    def refuses(self) -> CircuitOpen:
        before = self.calls
        with pytest.raises(CircuitOpen) as caught:
            self.ask()
        assert self.calls == before
        return caught.value


def made(clock: ManualClock, **options: Any) -> tuple[CircuitBreaker, Remote]:
    breaker = CircuitBreaker("db", **{"min_calls": 4, "clock": clock, **options})
    return breaker, Remote(breaker)


def test_it_opens_when_the_share_of_failures_is_reached(clock: ManualClock) -> None:
    breaker, remote = made(clock)
    for _ in range(3):
        remote.ask()
    remote.fail(2)
    assert breaker.state == "closed"  # 2 of 5
    remote.fail()  # 3 of 6
    assert breaker.state == "open"
    assert remote.refuses().retry_after == 5.0


def test_it_does_not_open_before_there_were_enough_calls(clock: ManualClock) -> None:
    breaker, remote = made(clock)
    remote.fail(3)
    assert breaker.state == "closed"
    remote.fail()
    assert breaker.state == "open"


def test_a_success_may_be_the_call_without_which_there_were_too_few(clock: ManualClock) -> None:
    breaker, remote = made(clock)
    remote.fail(3)
    remote.ask()  # 3 of 4
    assert breaker.state == "open"
    remote.refuses()


def test_the_window_slides(clock: ManualClock) -> None:
    """What failed longer ago than the window is forgotten, bucket by bucket."""
    breaker, remote = made(clock, window=10.0, min_calls=5)
    remote.fail(3)
    clock.advance(5)
    remote.ask()
    assert (breaker.stats().calls, breaker.stats().failures) == (4, 3)
    clock.advance(5)  # the failures are 10 s old
    remote.fail(2)
    assert breaker.state == "closed"
    assert (breaker.stats().calls, breaker.stats().failures) == (3, 2)
    clock.advance(100)
    assert (breaker.stats().calls, breaker.stats().failures) == (0, 0)


def test_after_its_time_one_call_is_the_probe_and_closes_it(clock: ManualClock) -> None:
    breaker, remote = made(clock, open_for=2.0)
    remote.fail(4)
    clock.advance(1.5)
    assert remote.refuses().retry_after == 0.5
    clock.advance(0.5)
    remote.ask()
    assert breaker.state == "closed"
    remote.fail(3)  # with an empty window
    assert breaker.state == "closed"


def test_a_probe_that_fails_opens_it_again(clock: ManualClock) -> None:
    breaker, remote = made(clock, open_for=2.0)
    remote.fail(4)
    clock.advance(2)
    remote.fail()
    assert breaker.state == "open"
    assert remote.refuses().retry_after == 2.0
    assert breaker.stats().opened == 2


def test_of_many_threads_one_is_the_probe(clock: ManualClock, runner: ThreadRunner) -> None:
    """The report's peers let all sixteen through."""
    breaker, remote = made(clock)
    remote.fail(4)
    clock.advance(5)
    done, begun = threading.Event(), []

    @CallPolicy(breaker=breaker)
    def probe() -> None:
        begun.append(1)
        assert done.wait(PATIENCE)

    def run(_: int) -> str:
        try:
            probe()
        except CircuitOpen as error:
            assert "a probe is under way" in str(error)
            if breaker.stats().refused == 15:
                done.set()
            return "refused"
        return "through"

    runner.together(16, run)
    assert sorted(runner.finish()) == ["refused"] * 15 + ["through"]
    assert len(begun) == 1 and breaker.state == "closed"


def test_of_many_tasks_one_is_the_probe(clock: ManualClock, run: Callable[..., Any]) -> None:
    breaker, remote = made(clock)
    remote.fail(4)
    clock.advance(5)

    async def main() -> list[Any]:
        @CallPolicy(breaker=breaker)
        async def probe() -> str:
            await asyncio.sleep(0)
            return "through"

        return await asyncio.gather(*(probe() for _ in range(16)), return_exceptions=True)

    results = run(main())
    assert results.count("through") == 1
    assert sum(isinstance(result, CircuitOpen) for result in results) == 15


def test_it_is_not_locked_during_a_call(runner: ThreadRunner) -> None:
    """Eight calls are under way at once; with a lock around the call the barrier would break."""
    barrier = threading.Barrier(8)

    @CallPolicy(breaker=CircuitBreaker())
    def call(_: int) -> None:
        barrier.wait(PATIENCE)

    runner.together(8, call)
    runner.finish()


CANCELLED = [asyncio.CancelledError(), concurrent.futures.CancelledError(), KeyboardInterrupt()]


@pytest.mark.parametrize("error", CANCELLED, ids=repr)
def test_cancelling_counts_as_nothing(clock: ManualClock, error: BaseException) -> None:
    breaker, remote = made(clock, failures=Exception)
    remote.fail(10, error)
    assert breaker.stats().calls == 0
    remote.fail(4)
    clock.advance(5)
    remote.fail(1, error)  # the probe
    assert breaker.state == "half-open"
    remote.ask()  # and the next one is the probe
    assert breaker.state == "closed"


def test_an_answer_of_the_application_is_a_success(clock: ManualClock) -> None:
    breaker, remote = made(clock)
    remote.fail(10, LookupError("no such key"))
    stats = breaker.stats()
    assert (stats.state, stats.calls, stats.failures) == ("closed", 10, 0)
    breaker.trip()
    clock.advance(5)
    remote.fail(1, LookupError("no such key"))  # it answers: the probe went well
    assert breaker.state == "closed"


def test_which_exceptions_count(clock: ManualClock) -> None:
    class Gone(Exception):
        pass

    cut_off = DeadlineExceeded("ask", "call", 1.0, 1.0)
    in_queue = DeadlineExceeded("ask", "limit", 1.0, 1.0)
    pool_timeout = PoolTimeout("pool", "wait", 1.0, {})
    cases: list[tuple[Any, BaseException, bool]] = [
        ({}, ConnectionResetError(), True),
        ({}, TimeoutError(), True),
        ({}, EOFError(), True),
        ({}, FileNotFoundError(), False),
        ({}, cut_off, True),
        ({}, in_queue, False),
        ({}, pool_timeout, False),  # a TimeoutError, but of this side
        ({"failures": PoolTimeout}, pool_timeout, True),
        ({"failures": Gone}, Gone(), True),
        ({"failures": (Gone, OSError)}, FileNotFoundError(), True),
        ({"failures": Gone}, ConnectionError(), False),
        ({"failures": lambda error: str(error) == "bad"}, Gone("bad"), True),
        ({"failures": lambda error: str(error) == "bad"}, Gone("good"), False),
        ({"failures": Exception}, PoolClosed("pool", "closed"), False),
    ]
    for options, error, counts in cases:
        breaker, remote = made(clock, min_calls=1, **options)
        remote.fail(1, error)
        assert (breaker.state == "open") is counts, (options, error)


NEVER_COUNTED = [KeyboardInterrupt, asyncio.CancelledError, concurrent.futures.CancelledError]


@pytest.mark.parametrize(
    "kind", NEVER_COUNTED, ids=lambda kind: f"{kind.__module__}.{kind.__name__}"
)
@pytest.mark.parametrize("option", ["failures", "on", "refused"])
def test_classes_that_never_count_are_refused(option: str, kind: type[BaseException]) -> None:
    """Rather than accepted without an effect, alone or among others."""
    made: Any = CircuitBreaker if option == "failures" else Retry
    for named in (kind, (ConnectionError, kind)):
        with pytest.raises(TypeError, match=rf"{option}: {kind.__name__} says that the caller"):
            made(**{option: named})
    made(**{option: BaseException})  # a base of what counts


def test_what_was_begun_in_another_state_changes_nothing(
    clock: ManualClock, runner: ThreadRunner
) -> None:
    breaker, remote = made(clock)
    inside, go_on = threading.Event(), threading.Event()

    def call() -> None:
        inside.set()
        assert go_on.wait(PATIENCE)
        raise ConnectionError

    slow = runner.start(CallPolicy(breaker=breaker)(call))
    assert inside.wait(PATIENCE)
    remote.fail(4)
    clock.advance(5)
    remote.ask()
    assert breaker.state == "closed"
    go_on.set()
    with pytest.raises(ConnectionError):
        slow.result()
    assert breaker.stats().calls == 0


def test_a_probe_that_does_not_come_back_is_replaced(
    clock: ManualClock, runner: ThreadRunner
) -> None:
    breaker, remote = made(clock, open_for=5.0)
    remote.fail(4)
    clock.advance(5)
    inside, go_on = threading.Event(), threading.Event()

    def call() -> None:
        inside.set()
        assert go_on.wait(PATIENCE)
        raise ConnectionError

    hanging = runner.start(CallPolicy(breaker=breaker)(call))
    assert inside.wait(PATIENCE)
    clock.advance(4)
    assert remote.refuses().retry_after == 1.0
    clock.advance(1)
    remote.ask()
    assert breaker.state == "closed"
    go_on.set()
    with pytest.raises(ConnectionError):
        hanging.result()
    assert breaker.state == "closed" and breaker.stats().failures == 0


def test_changes_are_told_and_logged(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    told = []
    breaker, remote = made(clock, on_change=lambda *change: told.append(change))
    with caplog.at_level(logging.INFO, "fastpool"):
        remote.fail(4)
        clock.advance(5)
        remote.ask()
    steps = [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]
    assert told == [(breaker, *step) for step in steps]
    assert [record.getMessage() for record in caplog.records] == [
        "circuit breaker db: closed -> open, 4 of 4 calls failed",
        "circuit breaker db: open -> half-open, a probe is under way",
        "circuit breaker db: half-open -> closed, the probe went well",
    ]


def test_callbacks_run_under_no_lock_and_in_order(clock: ManualClock, runner: ThreadRunner) -> None:
    """While one hangs, calls and further changes go on; they are told when it is over."""
    told, inside, go_on = [], threading.Event(), threading.Event()

    def slow(breaker: CircuitBreaker, before: str, after: str) -> None:
        told.append((before, after))
        if len(told) == 1:
            inside.set()
            assert go_on.wait(PATIENCE)

    breaker, remote = made(clock, on_change=slow)
    tripping = runner.start(breaker.trip)
    assert inside.wait(PATIENCE)

    def others() -> None:
        assert remote.refuses()
        breaker.reset()
        assert remote.ask() == "well"
        assert breaker.stats().state == "closed"

    runner.start(others).result()
    assert told == [("closed", "open")]
    go_on.set()
    tripping.result()
    assert told == [("closed", "open"), ("open", "closed")]


def test_a_callback_may_use_the_breaker(clock: ManualClock) -> None:
    told = []

    def change(breaker: CircuitBreaker, before: str, after: str) -> None:
        told.append(after)
        if after == "open":
            breaker.reset()

    breaker, _ = made(clock, on_change=change)
    breaker.trip()
    assert told == ["open", "closed"] and breaker.state == "closed"


def test_a_callback_that_fails_is_logged_and_harms_nobody(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    breaker, remote = made(clock, on_change=lambda *change: 1 / 0)
    remote.fail(4)
    assert breaker.state == "open"
    assert "circuit breaker db: on_change failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_by_hand(clock: ManualClock) -> None:
    breaker, remote = made(clock)
    breaker.trip()
    assert "tripped by hand" in str(remote.refuses())
    breaker.reset()
    assert remote.ask() == "well"
    assert breaker.stats().opened == 1


def test_the_snapshot(clock: ManualClock) -> None:
    breaker, remote = made(clock)
    remote.ask()
    stats = breaker.stats()
    assert (stats.name, stats.state, stats.calls, stats.retry_after) == ("db", "closed", 1, 0.0)
    remote.fail(3)
    for _ in range(3):
        remote.refuses()
    clock.advance(2)
    stats = breaker.stats()
    assert (stats.state, stats.retry_after) == ("open", 3.0)
    assert (stats.opened, stats.refused) == (1, 3)
    assert repr(breaker) == "<CircuitBreaker 'db': open>"


def test_without_a_name_they_are_numbered() -> None:
    one, other = CircuitBreaker(), CircuitBreaker()
    assert one.name.startswith("breaker-") and one.name != other.name


class Exact:
    """A clock whose sums have no rounding, as long as the steps are quarters."""

    def __init__(self) -> None:
        self.now = 1000.0

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Model:
    """A breaker as a list of what happened, for calls that are over at once."""

    def __init__(self, ratio: float, least: int, now: float) -> None:
        self.ratio, self.least = ratio, least
        self.state, self.since, self.seen = "closed", now, list[tuple[float, bool]]()

    def window(self, now: float) -> list[bool]:
        """Ten buckets of a second, the first of which began when it was last emptied."""
        first = int(now - self.since) - 9
        return [failed for when, failed in self.seen if int(when - self.since) >= first]

    def turn(self, state: str, now: float) -> None:
        self.state, self.since, self.seen = state, now, []

    def call(self, fails: bool, now: float) -> str:
        if self.state == "open" and now < self.since + 3:
            return "refused"
        if self.state == "open":
            self.turn("open" if fails else "closed", now)
        else:
            self.seen.append((now, fails))
            window = self.window(now)
            enough = any(window) and len(window) >= self.least
            if enough and sum(window) >= self.ratio * len(window):
                self.turn("open", now)
        return "failed" if fails else "well"


@settings(max_examples=200, deadline=None)
@given(
    ratio=st.sampled_from([0.25, 0.5, 1.0]),
    least=st.integers(1, 5),
    steps=st.lists(
        st.one_of(st.booleans(), st.sampled_from([0.25, 1.0, 2.75, 3.0, 7.5, 20.0])), max_size=80
    ),
)
def test_it_does_what_its_model_does(ratio: float, least: int, steps: list[bool | float]) -> None:
    clock = Exact()
    options = {"failure_ratio": ratio, "min_calls": least, "window": 10.0, "open_for": 3.0}
    breaker = CircuitBreaker(clock=clock, **options)
    model = Model(ratio, least, clock.now)

    @CallPolicy(breaker=breaker)
    def call(fails: bool) -> str:
        if fails:
            raise ConnectionError
        return "well"

    for step in steps:
        if not isinstance(step, bool):
            clock.advance(step)
            continue
        try:
            got = call(step)
        except CircuitOpen:
            got = "refused"
        except ConnectionError:
            got = "failed"
        assert got == model.call(step, clock.now)
        assert breaker.state == model.state
        window = model.window(clock.now)
        if model.state == "closed":
            stats = breaker.stats()
            assert (stats.calls, stats.failures) == (len(window), sum(window))

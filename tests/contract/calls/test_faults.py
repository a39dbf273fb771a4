"""The call layer at bad moments: interrupts, late awakenings, many threads at one instant."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from fastpool import PoolError
from fastpool.calls import (
    CallError,
    CallPolicy,
    CircuitBreaker,
    CircuitOpen,
    DeadlineExceeded,
    Limit,
    Retry,
    budget,
    remaining,
)
from fastpool.testing import ManualClock
from support.helpers import PATIENCE, ThreadRunner, eventually
from support.signal_injection import interrupt


class LateClock(ManualClock):
    """Who sleeps by it wakes late."""

    def advance(self, seconds: float) -> None:
        super().advance(seconds + 1.0)


@pytest.mark.costly
def test_an_interrupted_call_keeps_no_permit() -> None:
    """A signal handler may raise at any moment of a call, and the limit is as it was."""
    point, more = 0, True
    while more:
        point += 1
        limit = Limit(2)
        policy = CallPolicy(
            limit=limit, timeout=PATIENCE, breaker=CircuitBreaker(), retry=Retry(backoff=1e-6)
        )
        fails = iter([ConnectionRefusedError, None])

        @policy
        def call(fails: Any = fails) -> int:
            if error := next(fails):
                raise error()  # nobody keeps it: its traceback holds whatever the call had
            return 1

        more = interrupt(point, call)
        gc.collect()
        stats = limit.stats()
        assert (stats.in_use, stats.waiting) == (0, 0), point
        assert remaining() is None, point  # nor is what comes later bound by the time of this call
    assert point > 20


def test_an_interrupted_budget_is_over() -> None:
    point, more = 0, True
    while more:
        point += 1

        def block() -> None:
            with budget(5.0):
                pass

        more = interrupt(point, block)
        gc.collect()
        assert remaining() is None, point
    assert point > 5


@pytest.mark.costly
def test_an_interrupted_wait_for_a_permit_is_no_wait_any_more(runner: ThreadRunner) -> None:
    """Its position in the queue and in the statistics is gone."""
    point, more = 0, True
    while more:
        point += 1
        limit = Limit(1)
        policy = CallPolicy(limit=limit, timeout=0.001)
        gate, inside = threading.Event(), threading.Event()

        def hold(inside: Any = inside, gate: Any = gate) -> None:
            inside.set()
            gate.wait(PATIENCE)

        holder = runner.start(CallPolicy(limit=limit)(hold))
        assert inside.wait(PATIENCE)

        def late(policy: CallPolicy = policy) -> None:
            with pytest.raises(DeadlineExceeded):
                policy(int)()

        more = interrupt(point, late)
        gc.collect()
        assert limit.stats().waiting == 0 and limit.stats().in_use == 1
        gate.set()
        holder.result()
        assert limit.stats().in_use == 0
    assert point > 5


def test_a_permit_that_is_dropped_goes_back() -> None:
    """And its queue with its limit, without a word."""
    limit = Limit(1)
    permit = limit.take_nowait()
    assert limit.stats().in_use == 1
    del permit
    gc.collect()
    assert limit.stats().in_use == 0
    permit = limit.take_nowait()
    permit.release()
    with pytest.raises(PoolError, match="has been released"):
        permit.release()
    assert limit.stats().in_use == 0
    permit = limit.take_nowait()
    del limit
    gc.collect()
    permit.release()


@pytest.mark.parametrize("kind", ["thread", "task"])
def test_no_try_is_begun_after_the_time(kind: str) -> None:
    """Whoever pauses between two tries may wake late: then the failure is raised, with the time."""
    calls: list[float | None] = []
    policy = CallPolicy(
        timeout=5.0,
        retry=Retry(attempts=9, backoff=4.0, max_backoff=4.5, throttle=None),
        clock=LateClock(),
    )

    def fail() -> None:
        calls.append(remaining())
        raise ConnectionResetError("gone")

    async def afail() -> None:
        fail()

    with pytest.raises((DeadlineExceeded, ConnectionResetError)) as caught:
        for _ in range(200):  # until the jitter has chosen a pause that ends just in time
            try:
                if kind == "thread":
                    policy(idempotent=True)(fail)()
                else:
                    asyncio.run(policy(idempotent=True)(afail)())
            except DeadlineExceeded:
                raise
            except ConnectionResetError:
                pass
    assert all(left is None or left > 0 for left in calls), calls
    error = caught.value
    assert isinstance(error, DeadlineExceeded) and error.phase == "start"
    assert isinstance(error.__cause__, ConnectionResetError)


def test_a_budget_ends_with_a_call_that_could_not_begin() -> None:
    """A policy with a timeout needs a task; where there is none the caller's own time is as it
    was."""

    @CallPolicy(timeout=5.0)
    async def call() -> None:
        pytest.fail("it was called")

    coroutine = call()
    with pytest.raises(RuntimeError):
        coroutine.send(None)
    assert remaining() is None


@pytest.mark.parametrize(
    ("ratio", "calls", "failures"), [(0.07, 100, 7), (0.1, 10, 1), (0.57, 100, 57), (1.0, 3, 3)]
)
def test_the_ratio_is_met_exactly(ratio: float, calls: int, failures: int) -> None:
    """So many failures of so many calls open it, and not one fewer."""
    for failed, state in ((failures - 1, "closed"), (failures, "open")):
        breaker = CircuitBreaker(failure_ratio=ratio, min_calls=calls)
        for _ in range(calls - failed):
            breaker.succeeded(breaker.admit("x"))
        for _ in range(failed):
            breaker.failed(breaker.admit("x"), ConnectionResetError())
        assert breaker.state == state


def test_one_probe_of_sixteen_threads(runner: ThreadRunner) -> None:
    """Half-open, whoever comes at the same instant: one goes through, fifteen are refused, and
    those do not wait for the one."""
    for _ in range(20):
        clock = ManualClock()
        breaker = CircuitBreaker(open_for=1.0, clock=clock)
        breaker.trip()
        clock.advance(2.0)
        inside, gate = [], threading.Event()

        def probe(inside: Any = inside, gate: Any = gate) -> None:
            inside.append(1)
            gate.wait(PATIENCE)

        call = CallPolicy(breaker=breaker)(probe)

        def attempt(_: int, call: Any = call) -> bool:
            try:
                call()
            except CircuitOpen:
                return False
            return True

        tasks = runner.together(16, attempt)
        eventually(lambda tasks=tasks: sum(not task.running for task in tasks) == 15)
        eventually(lambda inside=inside: inside == [1])
        assert breaker.state == "half-open"
        gate.set()
        assert sum(task.result() for task in tasks) == 1
        assert breaker.state == "closed" and breaker.stats().refused == 15


def test_an_old_success_is_of_another_time() -> None:
    """It closes no breaker that has opened since, is no probe's, and counts in no later window."""
    clock = ManualClock()
    breaker = CircuitBreaker(open_for=1.0, clock=clock)
    old = breaker.admit("x")
    breaker.trip()
    breaker.succeeded(old)
    assert breaker.state == "open"
    clock.advance(2.0)
    probe = breaker.admit("x")
    breaker.succeeded(old)
    assert breaker.state == "half-open"
    breaker.succeeded(probe)
    breaker.succeeded(old)
    assert breaker.state == "closed" and breaker.stats().calls == 0


def test_a_task_waits_in_queue_no_longer_than_its_time() -> None:
    """What it calls is not begun; its position in the queue is gone."""
    limit = Limit(1)
    held = limit.take_nowait()

    @CallPolicy(timeout=0.01, limit=limit)
    async def call() -> None:
        pytest.fail("it was called")

    with pytest.raises(DeadlineExceeded) as caught:
        asyncio.run(asyncio.wait_for(call(), PATIENCE))
    assert caught.value.phase == "limit" and limit.stats().waiting == 0
    held.release()


def test_reset_forgets_the_window_and_what_is_still_under_way(clock: Any) -> None:
    breaker = CircuitBreaker(min_calls=3, clock=clock)
    before = breaker.admit("x")
    breaker.failed(breaker.admit("x"), ConnectionError())
    assert (breaker.stats().calls, breaker.stats().failures) == (1, 1)
    breaker.reset()
    assert (breaker.stats().calls, breaker.stats().failures) == (0, 0)
    breaker.failed(before, ConnectionError())
    assert breaker.stats().calls == 0
    for _ in range(2):
        breaker.failed(breaker.admit("x"), ConnectionError())
    assert breaker.state == "closed"


def test_probe_that_ends_after_a_reset_changes_nothing(clock: Any) -> None:
    breaker = CircuitBreaker(min_calls=1, clock=clock)
    breaker.trip()
    clock.advance(5)
    probe = breaker.admit("x")
    breaker.reset()
    breaker.failed(probe, ConnectionError())
    assert (breaker.state, breaker.stats().calls) == ("closed", 0)


def test_an_old_call_that_is_cancelled_does_not_end_the_probe(clock: Any) -> None:
    breaker = CircuitBreaker(clock=clock)
    old = breaker.admit("x")
    breaker.trip()
    clock.advance(5)
    breaker.admit("x")
    breaker.failed(old, asyncio.CancelledError())
    breaker.forget(old)
    with pytest.raises(CallError, match="a probe is under way"):
        breaker.admit("x")


def test_changes_by_hand_are_told_once_each(clock: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An open breaker that is tripped again stays open, for a new while."""
    told: list[tuple[str, str]] = []
    breaker = CircuitBreaker(
        open_for=5.0, on_change=lambda _, *change: told.append(change), clock=clock
    )
    with caplog.at_level("INFO", "fastpool"):
        breaker.reset()
        assert told == []
        breaker.trip()
        clock.advance(3)
        breaker.trip()
        assert breaker.stats().retry_after == 5.0
        breaker.reset()
    assert told == [("closed", "open"), ("open", "closed")]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_an_open_breaker_has_no_window(clock: Any) -> None:
    breaker = CircuitBreaker(min_calls=2, clock=clock)
    for _ in range(2):
        breaker.failed(breaker.admit("x"), ConnectionError())
    stats = breaker.stats()
    assert (stats.state, stats.calls, stats.failures) == ("open", 0, 0)
    clock.advance(60)
    assert (breaker.state, breaker.stats().retry_after) == ("open", 0.0)


def test_many_refusals_are_each_counted_once(clock: Any, runner: ThreadRunner) -> None:
    breaker = CircuitBreaker(clock=clock)
    policy = CallPolicy(breaker=breaker)
    breaker.trip()
    barrier = threading.Barrier(4)

    def ask(_: int) -> None:
        barrier.wait(PATIENCE)
        for _ in range(50):
            with pytest.raises(CallError):
                policy(int)()

    runner.together(4, ask)
    runner.finish()
    assert breaker.stats().refused == policy.stats().refused == 200

"""Background creations that fail: tried again after pauses that grow, differ, and end with success.

The opener's own time stands still here, and moves when a pause is over: nothing is waited for.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from fastpool._runtime import scheduler
from fastpool.pool import _creation, _policy
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, states, wait_for_scheduler

FIRST = (0.05, 0.1)
"""Seconds: the bounds of the first pause."""


class Pauses(list[float]):
    """The pauses asked for, in seconds.  Each is over as soon as the scheduler gets to it, unless
    they are ``held``: then when the test calls ``end()``."""

    def __init__(self) -> None:
        super().__init__()
        self.now = time.monotonic()
        self.held = False
        self._due: list[tuple[float, Any, tuple[Any, ...]]] = []

    def monotonic(self) -> float:
        return self.now

    def call_at(self, at: float, call: Any, *args: Any) -> None:
        self.append(at - self.now)
        self._due.append((at, call, args))
        if not self.held:
            scheduler.call_soon(self._pass)

    def end(self) -> None:
        """Let the oldest pause be over, and what follows be done."""
        scheduler.call_soon(self._pass)
        wait_for_scheduler()

    def _pass(self) -> None:
        at, call, args = self._due.pop(0)
        self.now = max(self.now, at)
        call(*args)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    """For pools with ``create_timeout=None``: no other deadline is the opener's."""
    pauses = Pauses()
    monkeypatch.setattr(_creation, "time", pauses)
    scheduler_stand_in = SimpleNamespace(call_soon=scheduler.call_soon, call_at=pauses.call_at)
    monkeypatch.setattr(_creation, "scheduler", scheduler_stand_in)
    return pauses


def failing(times: int) -> Maker:
    maker = Maker()
    maker.script.extend(OSError(number) for number in range(times))
    return maker


def test_pauses_double_from_a_tenth_of_a_second_to_ten(accounted: Any, pauses: Pauses) -> None:
    """Each is at least half of what is due by then, and at most all of it."""
    pool, maker = accounted(1, maker=failing(12), min_idle=1, create_timeout=None)
    eventually(lambda: states(pool) == {"idle": 1})
    assert maker.calls == 13 and len(pauses) == 12
    for failures, pause in enumerate(pauses):
        most = min(10.0, 0.1 * 2**failures)
        assert most / 2 - 1e-6 <= pause <= most + 1e-6, pauses


def test_pauses_have_a_bound_however_often_it_failed() -> None:
    """After an outage of days as well."""
    assert all(5 <= _policy.backoff(10**n) <= 10 for n in range(1, 6))


def test_pauses_are_jittered(accounted: Any, pauses: Pauses) -> None:
    """Many pools whose server has come back do not all dial at once."""
    pool, _ = accounted(1, maker=failing(10), min_idle=1, create_timeout=None)
    eventually(lambda: states(pool) == {"idle": 1})
    shares = {round(pause / min(10, 0.1 * 2**n), 3) for n, pause in enumerate(pauses)}
    assert len(shares) > 3, shares


def test_success_starts_the_pauses_anew(accounted: Any, pauses: Pauses) -> None:
    """What failed before the last success has no part in the next pause."""
    pool, maker = accounted(1, maker=failing(5), min_idle=1, create_timeout=None)
    eventually(lambda: states(pool) == {"idle": 1})
    maker.script.append(OSError("again"))
    pool.discard(pool.get(timeout=0))
    eventually(lambda: states(pool) == {"idle": 1})
    assert len(pauses) == 6
    assert FIRST[0] - 1e-6 <= pauses[5] <= FIRST[1] + 1e-6, pauses


def test_nothing_is_tried_in_the_background_during_a_pause(accounted: Any, pauses: Pauses) -> None:
    """Whatever makes the pool look for what is missing: the pause is for all of it."""
    pauses.held = True
    pool, maker = accounted(2, maker=failing(1), min_idle=2, max_creating=1, create_timeout=None)
    eventually(lambda: len(pauses) == 1)
    pool.resume()  # it looks
    wait_for_scheduler()
    assert (maker.calls, states(pool)) == (1, {})
    pauses.end()
    eventually(lambda: states(pool) == {"idle": 2})


def test_borrower_does_not_wait_for_the_end_of_a_pause(accounted: Any, pauses: Pauses) -> None:
    """The pause is for the background: who asks is served by a try of his own."""
    pauses.held = True
    pool, maker = accounted(1, maker=failing(1), min_idle=1, create_timeout=None)
    eventually(lambda: len(pauses) == 1)
    pool.put(pool.get(timeout=PATIENCE))
    assert maker.calls == 2


def test_failure_that_a_borrower_was_told_of_adds_no_pause(
    accounted: Any, pauses: Pauses, clock: Any
) -> None:
    """Only a failure that nobody hears of holds the background back."""
    pauses.held = True
    pool, maker = accounted(1, maker=failing(2), min_idle=1, create_timeout=None, clock=clock)
    eventually(lambda: len(pauses) == 1)
    with pytest.raises(OSError):
        pool.get(timeout=PATIENCE)
    clock.advance(0)  # waits for the worker that has told it
    assert len(pauses) == 1 and maker.calls == 2


def test_failure_without_a_wish_asks_for_no_pause(
    accounted: Any, pauses: Pauses, clock: Any, runner: ThreadRunner
) -> None:
    """A pool that keeps nothing idle has nothing to try again in the background."""
    pool, maker = accounted(2, create_timeout=None, clock=clock)
    resource = pool.get()
    maker.gate.clear()
    waiter = runner.start(pool.get)
    eventually(lambda: maker.running == 1)
    pool.put(resource)  # so nobody waits for the one that is being made
    assert waiter.result() is resource
    maker.script.append(OSError("nobody hears of it"))
    maker.gate.set()
    clock.advance(0)  # waits for the worker
    assert pool.stats().create_failures == 1 and pauses == []
    pool.put(resource)


@pytest.mark.parametrize("how", ["min_idle", "timeout=0"])
def test_try_that_failed_is_repeated_when_its_pause_is_over(
    accounted: Any, pauses: Pauses, how: str
) -> None:
    """By the end of the pause itself, whether or not anything else happens to the pool."""
    pauses.held = True
    options = {"min_idle": 1} if how == "min_idle" else {}
    pool, maker = accounted(1, maker=failing(1), create_timeout=None, **options)
    if how == "timeout=0":
        with pytest.raises(Exception, match="pool"):
            pool.get(timeout=0)
    eventually(lambda: len(pauses) == 1)
    wait_for_scheduler()
    assert maker.calls == 1
    pauses.end()
    eventually(lambda: states(pool) == {"idle": 1})


def test_the_pause_begins_with_the_permit_that_came_back(
    accounted: Any, pauses: Pauses, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one step: the scheduler that comes just then would try again at once."""
    back = _creation.Creator._return_permit
    scheduler_threads = []

    def return_permit(creator: Any, attempt: Any) -> None:
        back(creator, attempt)
        scheduler_threads.append(runner.start(creator.refill))
        scheduler_threads[-1].thread.join(0.1)

    monkeypatch.setattr(_creation.Creator, "_return_permit", return_permit)
    pauses.held = True
    _, maker = accounted(1, maker=failing(1), min_idle=1, create_timeout=None)
    eventually(lambda: len(pauses) == 1)
    scheduler_threads[0].result()
    assert maker.calls == 1


def test_warm_that_failed_creates_no_more(accounted: Any, pauses: Pauses, clock: Any) -> None:
    """Its caller has been told: what it wanted is not made behind its back."""
    pauses.held = True
    maker = failing(1)
    pool, _ = accounted(4, maker=maker, max_creating=1, create_timeout=None, clock=clock)
    with pytest.raises(OSError):
        pool.warm(3)
    clock.advance(0)
    if pauses:
        pauses.end()
    clock.advance(0)
    assert (maker.calls, states(pool)) == (1, {})
    pool.put(pool.get())
    clock.advance(0)
    assert (maker.calls, states(pool)) == (2, {"idle": 1})

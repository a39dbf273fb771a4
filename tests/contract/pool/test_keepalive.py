"""Keepalive: which resource is checked in the background, when, and what that does to it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from support.helpers import PATIENCE, ThreadRunner, eventually, states, wait_for_scheduler


@pytest.fixture
def kept(clock: Any, accounted: Any) -> Any:
    """``kept(n, ...)``: a pool with n idle resources, checked every 60 seconds, and its checks."""

    def make(n: int, **options: Any) -> tuple[Any, Any, list[Any]]:
        seen: list[Any] = []
        options = {"check_after": 1e6, "check": seen.append} | options
        pool, maker = accounted(n, keepalive=60, clock=clock, **options)
        for resource in [pool.get() for _ in range(n)]:
            pool.put(resource)
        return pool, maker, seen

    return make


def test_keepalive_check_does_not_restart_idle_time(clock: Any, kept: Any) -> None:
    """A resource that nobody uses is closed in time, however often it is found well."""
    pool, _, seen = kept(1, idle_timeout=100)
    clock.advance(61)
    assert len(seen) == 1 and states(pool) == {"idle": 1}
    clock.advance(40)
    eventually(lambda: pool.stats().closed == {"idle": 1})


def test_keepalive_check_does_not_lengthen_a_life(clock: Any, kept: Any) -> None:
    """Neither is it a new resource afterwards, nor one that was used."""
    pool, _, _ = kept(1, idle_timeout=None, max_lifetime=100)
    clock.advance(61)
    assert states(pool) == {"idle": 1} and pool.stats().uses == 1
    clock.advance(40)
    eventually(lambda: pool.stats().closed == {"lifetime": 1})


def test_keepalive_checks_again_after_its_interval(clock: Any, kept: Any) -> None:
    """Once in every interval, from its end on."""
    _, _, seen = kept(1, idle_timeout=None)
    for wait, checks in [(59, 0), (1, 1), (59, 1), (1, 2), (60, 3)]:
        clock.advance(wait)
        assert len(seen) == checks
        clock.advance(0)
        assert len(seen) == checks, "twice in one interval"


def test_use_restarts_the_interval(clock: Any, kept: Any) -> None:
    """What was used just now need not be kept alive."""
    pool, _, seen = kept(1, idle_timeout=None)
    clock.advance(50)
    pool.put(pool.get())
    clock.advance(59)
    assert seen == []
    clock.advance(1)
    assert len(seen) == 1


def test_keepalive_begins_with_what_has_been_idle_longest(clock: Any, kept: Any) -> None:
    """And takes every one in turn, none of them twice."""
    pool, maker, seen = kept(3, idle_timeout=None)
    first, second, third = maker.all
    clock.advance(5)
    taken = [pool.get() for _ in range(3)]
    for resource in (second, third, first):
        pool.put(resource)
        clock.advance(5)
    assert set(taken) == {first, second, third}
    clock.advance(60)
    for _ in range(5):
        clock.advance(0)
    assert seen == [second, third, first]


def test_keepalive_check_counts_as_a_check(clock: Any, kept: Any) -> None:
    """A borrower's own is due when ``check_after`` has passed since then."""
    pool, _, seen = kept(1, idle_timeout=None, check_after=50)
    clock.advance(61)
    assert len(seen) == 1
    clock.advance(49)
    pool.put(pool.get())
    assert len(seen) == 1
    clock.advance(50)
    pool.put(pool.get())
    assert len(seen) == 2


@pytest.mark.parametrize("result", [False, 0, "", OSError(), KeyboardInterrupt()], ids=repr)
def test_keepalive_closes_what_fails_its_check(clock: Any, kept: Any, result: Any) -> None:
    """With the reason of any failed check; the pool's threads go on."""

    def check(resource: Any) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    pool, maker, _ = kept(1, check=check)
    clock.advance(61)
    eventually(lambda: pool.stats().closed == {"check": 1})
    assert maker.closed == 1 and states(pool) == {}


@pytest.mark.parametrize("result", [None, True, 1, "well"], ids=repr)
def test_keepalive_keeps_what_passes_its_check(clock: Any, kept: Any, result: Any) -> None:
    """None and whatever is true is good news."""
    pool, _, _ = kept(1, check=lambda resource: result)
    clock.advance(61)
    assert states(pool) == {"idle": 1} and pool.stats().closed_total == 0


def test_keepalive_has_one_resource_away_at_a_time(clock: Any, kept: Any) -> None:
    """Also if the pool is looked after again while the check is under way."""
    gate, inside = threading.Event(), []

    def check(resource: Any) -> None:
        inside.append(resource)
        assert gate.wait(3 * PATIENCE)

    pool, maker, _ = kept(3, check=check, max_creating=4, idle_timeout=None, hook_timeout=None)
    clock.advance(61, settle=0)
    eventually(lambda: len(inside) == 1)
    for _ in range(3):
        clock.advance(0, settle=0)
    assert states(pool) == {"checking": 1, "idle": 2}
    gate.set()
    eventually(lambda: [clock.advance(0), len(inside) == 3][1])
    assert set(inside) == set(maker.all)


def test_keepalive_starts_nothing_while_somebody_waits(
    clock: Any, kept: Any, runner: ThreadRunner
) -> None:
    """Of a suspended pool both can be: one who waits, and what is idle."""
    pool, _, seen = kept(1, idle_timeout=None)
    pool.suspend()
    waiter = runner.start(pool.get)
    eventually(lambda: pool.stats().waiting == 1)
    clock.advance(61)
    assert seen == [] and states(pool) == {"idle": 1}
    pool.resume()
    pool.put(waiter.result())
    clock.advance(61)
    assert len(seen) == 1


def test_resource_away_for_its_check_is_not_made_up_for(clock: Any, kept: Any) -> None:
    """It counts for ``min_idle``: a pool does not grow by checking."""
    gate, inside = threading.Event(), threading.Event()

    def check(resource: Any) -> None:
        inside.set()
        assert gate.wait(3 * PATIENCE)

    # nothing is lent before: what `min_idle` lacks meanwhile would be made up for
    pool, maker, _ = kept(0, check=check, min_idle=1, idle_timeout=None)
    eventually(lambda: states(pool) == {"idle": 1})
    clock.advance(61, settle=0)
    assert inside.wait(PATIENCE)
    pool.resume()  # looks for what is missing
    wait_for_scheduler()
    assert states(pool) == {"checking": 1}
    gate.set()
    eventually(lambda: states(pool) == {"idle": 1})
    assert maker.made == 1

"""warm(): what it counts, what it waits for, and what it leaves behind when it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from fastpool import PoolClosed, PoolTimeout, _core
from fastpool.pool import _policy
from support.async_factories import Hang, threads
from support.async_factories import accounted as accounted_async
from support.helpers import (
    PATIENCE,
    ThreadRunner,
    eventually,
    settled,
    states,
    wait_for_scheduler,
)

pytestmark = pytest.mark.usefixtures("caller_kind")


def test_warm_returns_how_many_are_open(accounted: Any) -> None:
    """Also those that were there before, more than it was asked for or not."""
    pool, maker = accounted(4)
    assert [pool.warm(n) for n in (0, 1, 3, 2, 4)] == [0, 1, 3, 3, 4]
    assert maker.made == 4 and states(pool) == {"idle": 4}


def test_warm_opens_no_more_than_maxsize(accounted: Any) -> None:
    """What is asked for beyond it is not waited for."""
    pool, maker = accounted(2)
    assert pool.warm(10, timeout=PATIENCE) == 2
    assert maker.made == 2


def test_warm_counts_what_is_leased(accounted: Any) -> None:
    """It opens resources ahead of demand: what is in use already is open."""
    pool, maker = accounted(4)
    resource = pool.get()
    assert pool.warm(2) == 2
    assert maker.made == 2
    pool.put(resource)


def test_warm_counts_what_is_made_for_callers(
    accounted: Any, runner: ThreadRunner, clock: Any
) -> None:
    """A creation under way for somebody who waits is not made twice."""
    pool, maker = accounted(4, clock=clock)
    maker.gate.clear()
    getter = runner.start(pool.get)
    eventually(lambda: maker.running == 1)
    warming = runner.start(pool.warm, 1).parked()
    maker.gate.set()
    assert warming.result() == 1
    pool.put(getter.result())
    clock.advance(0)
    assert maker.made == 1


def test_warm_does_not_count_what_is_checked_twice(accounted: Any, clock: Any) -> None:
    """A resource that is away for its check is open: none is made in its place."""
    gate, inside = threading.Event(), threading.Event()

    def check(resource: Any) -> None:
        inside.set()
        assert gate.wait(PATIENCE)

    pool, maker = accounted(4, check=check, check_after=1e6, keepalive=60, clock=clock)
    pool.put(pool.get())
    clock.advance(61, settle=0)
    assert inside.wait(PATIENCE)
    with pytest.raises(PoolTimeout):
        pool.warm(1, timeout=0.02)
    gate.set()
    assert pool.warm(1, timeout=PATIENCE) == 1
    clock.advance(0)
    assert maker.made == 1


def test_failure_of_the_past_is_not_that_of_warm(accounted: Any) -> None:
    """Only what fails meanwhile ends it."""
    pool, maker = accounted(2)
    maker.script.append(OSError("before"))
    with pytest.raises(OSError):
        pool.get()
    assert pool.warm(2) == 2


def test_warm_raises_what_the_factory_raised(accounted: Any) -> None:
    """The very exception; what was made before it stays."""
    pool, maker = accounted(3, max_creating=1)
    pool.put(pool.get())
    failure = OSError("server is full")
    maker.script.append(failure)
    with pytest.raises(OSError) as caught:
        pool.warm(3)
    assert caught.value is failure
    assert states(pool) == {"idle": 1}


def test_warm_that_failed_does_not_try_again(
    accounted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the pause after a failure is over when its caller hears of it."""
    monkeypatch.setattr(_policy, "backoff", lambda failures: 0.0)
    pool, maker = accounted(1)
    maker.script.append(OSError("once"))
    with pytest.raises(OSError, match="once"):
        pool.warm(1)
    settled(pool)
    assert maker.calls == 1 and states(pool) == {}


class Warming(list[Any]):
    """Those who warm; who has left is held up by ``then()``."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self.then = then

    def remove(self, call: Any) -> None:
        super().remove(call)
        self.then()


def test_warm_that_times_out_ends_its_wish_before_it_leaves(
    accounted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure right after it has left is nobody's, and nothing is tried again for nobody."""
    monkeypatch.setattr(_policy, "backoff", lambda failures: 0.0)
    pool, maker = accounted(1)
    manager = _core.manager(getattr(pool, "_real", pool), "this test")

    def fail_now() -> None:
        maker.gate.set()
        eventually(lambda: manager.core.counts()["create_failures"])
        wait_for_scheduler()

    manager.creator.warming = Warming(fail_now)
    maker.gate.clear()
    maker.script.append(OSError("late"))
    with pytest.raises(PoolTimeout):
        pool.warm(1, timeout=0.02)
    settled(pool)
    assert maker.calls == 1 and states(pool) == {}


def test_warm_that_left_before_the_worker_has_ended_the_wish(
    accounted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has heard of the failure, and the worker that told it has the rest still to do."""
    monkeypatch.setattr(_policy, "backoff", lambda failures: 0.0)
    pool, maker = accounted(1)
    manager = _core.manager(getattr(pool, "_real", pool), "this test")
    fail, over = manager.creator._fail, threading.Event()

    def fail_when_it_has_left(*args: Any) -> None:
        manager.notify_changed()  # it looks, and finds the failure
        eventually(lambda: not manager.creator.warming)
        fail(*args)
        manager.creator.start()
        over.set()

    manager.creator.warming = Warming(lambda: over.wait(PATIENCE))  # until the worker is through
    monkeypatch.setattr(manager.creator, "_fail", fail_when_it_has_left)
    maker.script.append(OSError("once"))
    with pytest.raises(OSError, match="once"):
        pool.warm(1)
    settled(pool)
    assert maker.calls == 1 and states(pool) == {}


def test_what_is_made_after_a_failure_does_not_hide_it(accounted: Any) -> None:
    """Before the caller has heard of that."""
    order, both = iter([True, False]), threading.Barrier(2)

    def factory() -> Any:
        fails = next(order)
        both.wait(PATIENCE)
        if fails:
            raise OSError("once")
        eventually(lambda: pool.stats().create_failures == 1)
        return maker()

    pool, maker = accounted(2, factory=factory)
    with pytest.raises(OSError, match="once"):
        pool.warm(2)
    eventually(lambda: states(pool) == {"idle": 1})


def test_warm_that_timed_out_opens_no_more_than_what_was_begun(
    accounted: Any, runner: ThreadRunner, clock: Any
) -> None:
    """The creation under way is kept, and is not told of the failure before it."""
    pool, maker = accounted(4, max_creating=1, clock=clock)
    maker.script.append(OSError("before"))
    with pytest.raises(OSError):
        pool.get()
    maker.gate.clear()
    getter = runner.start(pool.get)  # so that a creation is under way for certain
    eventually(lambda: maker.running == 1)
    with pytest.raises(PoolTimeout) as caught:
        pool.warm(4, timeout=0.02)
    assert caught.value.phase == "create"
    maker.gate.set()
    pool.put(getter.result())
    clock.advance(0)
    assert maker.made == 1 and states(pool) == {"idle": 1}


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_warm_of_a_suspended_pool_is_out_of_time(
    accounted: Any, clock: Any, timeout: float
) -> None:
    """It waited for creations, and leaves no wish for when the pool goes on."""
    pool, maker = accounted(2, clock=clock)
    pool.suspend()
    with pytest.raises(PoolTimeout) as caught:
        pool.warm(1, timeout=timeout)
    assert caught.value.phase == "create"
    pool.resume()
    clock.advance(0)
    pool.put(pool.get())
    assert maker.made == 1


def test_warm_waits_for_the_timeout_of_the_pool_unless_given_one(
    accounted: Any, runner: ThreadRunner
) -> None:
    """None is for ever, as elsewhere."""
    pool, maker = accounted(2, timeout=0.02)
    maker.gate.clear()
    with pytest.raises(PoolTimeout):
        pool.warm(1)
    warming = runner.start(lambda: pool.warm(1, timeout=None)).parked()
    maker.gate.set()
    assert warming.result() == 1


def test_closing_ends_warm(accounted: Any, runner: ThreadRunner) -> None:
    """It says why."""
    pool, maker = accounted(2)
    maker.gate.clear()
    warming = runner.start(pool.warm, 1)
    eventually(lambda: maker.running == 1)
    pool.close(timeout=0)
    with pytest.raises(PoolClosed):
        warming.result()
    maker.gate.set()


def test_warm_goes_on_when_there_is_capacity_again(accounted: Any, runner: ThreadRunner) -> None:
    """What it lost meanwhile is made anew."""
    pool, maker = accounted(2, max_creating=1)
    maker.gate.clear()
    warming = runner.start(pool.warm, 2)
    eventually(lambda: maker.running == 1)
    pool.flush()  # the one that is being made is no good when it comes
    maker.gate.set()
    assert warming.result() == 2
    eventually(lambda: maker.closed == 1)
    assert maker.made == 3


@pytest.mark.threads_only("its tasks are those of a pool of coroutines")
def test_closing_ends_awarm_of_a_pool_of_coroutines() -> None:
    """Likewise, for the task that awaits it."""
    hang = Hang()
    with accounted_async(2) as (pool, maker), threads("asyncio", 1) as (one,):
        maker.script["create"].append(hang)
        warming = one.start(pool.awarm(1))
        assert hang.begun.wait(PATIENCE)
        pool.close(timeout=0)
        with pytest.raises(PoolClosed):
            warming.result(PATIENCE)
        hang.let_go()

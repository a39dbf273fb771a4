"""leases() and leak_after: who holds what, since when, where it was taken, and when that ends."""

from __future__ import annotations

import gc
import logging
import threading
import warnings
from typing import Any

import pytest

from fastpool import PoolTimeout
from fastpool.stats import Holder
from support.helpers import PATIENCE, ThreadRunner, eventually, states


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Any:
    with caplog.at_level(logging.WARNING, logger="fastpool"):
        yield caplog


def take_here(pool: Any) -> Any:
    return pool.acquire()


def test_holder_without_tracking(accounted: Any, clock: Any, runner: ThreadRunner) -> None:
    """The thread's name, and how long it has been since: no stack."""
    pool, _ = accounted(2, clock=clock)
    mine = pool.acquire()
    clock.advance(5)
    inside, go_on = threading.Event(), threading.Event()
    task = runner.start(hold, pool, inside, go_on)
    assert inside.wait(PATIENCE)
    clock.advance(3)
    holders = {holder.resource: holder for holder in pool.leases()}
    holder = holders.pop(mine.resource)
    assert holder.thread == threading.current_thread().name and holder.stack == ()
    assert holder.age == pytest.approx(8)
    assert str(holder) == f"{holder.thread} for 8 s"
    (other,) = holders.values()
    assert other.thread == task.thread.name and other.age == pytest.approx(3)
    go_on.set()
    mine.release()
    task.result()
    assert pool.leases() == []


def hold(pool: Any, inside: threading.Event, go_on: threading.Event) -> None:
    with pool.lease():
        inside.set()
        assert go_on.wait(PATIENCE)


def test_holder_whose_thread_is_unknown_says_so() -> None:
    """It may have ended."""
    assert str(Holder(object(), 2.0, None, ())) == "an unknown thread for 2 s"


def test_holder_with_tracking(accounted: Any, clock: Any, runner: ThreadRunner) -> None:
    """Also the stack that took it, innermost call first, and nothing of the pool itself in it; the
    thread is known even if it has ended."""
    pool, _ = accounted(1, clock=clock, leak_after=60)
    task = runner.start(take_here, pool)
    lease = task.result()
    clock.advance(4)
    (holder,) = pool.leases()
    assert holder.resource is lease.resource and holder.age == pytest.approx(4)
    assert holder.thread == task.thread.name
    assert holder.stack[0].startswith(f"{__file__}:") and holder.stack[0].endswith(" in take_here")
    assert not any("fastpool/_" in line for line in holder.stack)
    assert len(holder.stack) > 1 and "in take_here" not in holder.stack[1]
    assert str(holder) == f"{holder.thread} for 4 s at {holder.stack[0]}"
    lease.release()


def test_stack_leaves_out_the_pool_alone(accounted: Any) -> None:
    """Not what merely begins with its name."""
    pool, _ = accounted(1, leak_after=60)
    module: dict[str, Any] = {"__name__": "fastpool_users"}
    exec("def take(pool):\n    return pool.acquire()", module)
    lease = module["take"](pool)
    (holder,) = pool.leases()
    assert holder.stack[0].endswith(" in take")
    lease.release()


def test_only_what_is_leased_has_a_holder(accounted: Any, clock: Any) -> None:
    """Not what is idle, and not what is away for its check."""
    gate, inside = threading.Event(), threading.Event()

    def check(resource: Any) -> None:
        inside.set()
        assert gate.wait(3 * PATIENCE)

    pool, _ = accounted(3, clock=clock, check=check, check_after=1000, keepalive=60)
    taken = [pool.get() for _ in range(3)]
    for resource in taken[1:]:
        pool.put(resource)
    clock.advance(61, settle=0)
    assert inside.wait(PATIENCE) and states(pool) == {"idle": 1, "checking": 1, "leased": 1}
    assert [holder.resource for holder in pool.leases()] == [taken[0]]
    gate.set()
    pool.put(taken[0])


@pytest.mark.parametrize("tracked", [True, False])
def test_timeout_names_the_holders_if_it_can_tell_the_place(accounted: Any, tracked: bool) -> None:
    """Each on a queue of its own; without tracking there is nothing to tell."""
    pool, _ = accounted(2, leak_after=60 if tracked else None)
    leases = [take_here(pool), take_here(pool)]
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=0)
    assert len(caught.value.holders) == (2 if tracked else 0)
    assert str(caught.value).count("held by") == (2 if tracked else 0)
    assert str(caught.value).count("in take_here") == (2 if tracked else 0)
    for lease in leases:
        lease.release()


def by_release(pool: Any) -> None:
    pool.acquire().release()


def by_put(pool: Any) -> None:
    pool.put(pool.get())


def by_discard(pool: Any) -> None:
    pool.acquire().discard()


def by_block(pool: Any) -> None:
    with pool.lease():
        pass


def by_error(pool: Any) -> None:
    with pytest.raises(OSError), pool.lease():
        raise OSError


def by_loss(pool: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        pool.acquire()
        gc.collect()
        eventually(lambda: pool.stats().closed == {"lost": 1})


@pytest.mark.parametrize("end", [by_release, by_put, by_discard, by_block, by_error, by_loss])
def test_what_has_ended_is_no_leak(accounted: Any, clock: Any, log: Any, end: Any) -> None:
    """However it ended; and its time is in the statistics, once."""
    pool, _ = accounted(1, leak_after=60, clock=clock)
    end(pool)
    clock.advance(100)
    assert log.records == [] and pool.leases() == []
    assert pool.stats().use_time.count == 1
    with pool.lease():
        clock.advance(59)
        assert log.records == [], "the time of another lease"
    assert pool.stats().use_time.count == 2


def test_each_leak_is_logged_once_at_its_own_time(accounted: Any, clock: Any, log: Any) -> None:
    """From ``leak_after`` on, with its age, its thread and its place."""
    pool, _ = accounted(2, leak_after=60, clock=clock, name="shop", idle_timeout=None)
    first = take_here(pool)
    clock.advance(20)
    second = pool.acquire()
    for seconds, records in [(39, 0), (1, 1), (19, 1), (1, 2), (500, 2)]:
        clock.advance(seconds)
        assert len(log.records) == records
    text = log.records[0].getMessage()
    assert text.startswith("shop: a lease is held for 60 s by MainThread, taken at\n")
    assert "in take_here" in text and "in take_here" not in log.records[1].getMessage()
    first.release()
    second.release()
    third = pool.acquire()
    clock.advance(60)
    assert len(log.records) == 3, "a new lease of the same resource"
    third.release()


@pytest.mark.parametrize("tracked", [True, False])
def test_warning_of_a_lost_lease_says_where_or_how_to_know(accounted: Any, tracked: bool) -> None:
    """The place where it was taken, or the option that would tell it."""
    pool, _ = accounted(1, leak_after=60 if tracked else None, name="shop")
    lease = take_here(pool)
    says = r"'shop'.*taken at .* in take_here" if tracked else r"'shop'.*; leak_after= shows"
    with pytest.warns(ResourceWarning, match=says):
        del lease
        gc.collect()
        eventually(lambda: states(pool) == {})

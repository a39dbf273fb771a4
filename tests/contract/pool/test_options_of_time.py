"""The options that count seconds, by the manual clock where the clock decides."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from fastpool import PoolTimeout
from support.callers import FastPool
from support.helpers import PATIENCE, ThreadRunner, eventually, states

pytestmark = pytest.mark.usefixtures("caller_kind")

option = pytest.mark.option


@option("create_timeout")
def test_create_timeout_gives_up_on_a_hanging_factory(accounted: Any) -> None:
    """The borrower is told at the deadline; the slot stays counted, the worker is free again."""
    pool, maker = accounted(2, create_timeout=0.02, max_creating=1, timeout=None)
    maker.gate.clear()
    with pytest.raises(PoolTimeout) as caught:
        pool.get()
    assert caught.value.phase == "create"
    stats = pool.stats()
    assert (stats.open, stats.overdue) == (1, 1)
    with pytest.raises(PoolTimeout):  # the permit is free: a second creation is tried
        pool.get()
    eventually(lambda: maker.running == 2)
    maker.gate.set()
    eventually(lambda: pool.stats().creating == 0 and not maker.running)
    eventually(lambda: pool.stats().open == maker.open <= 2)


@option("create_timeout")
def test_a_late_resource_is_kept_for_who_wants_it(accounted: Any, runner: ThreadRunner) -> None:
    """A creation that ends after its deadline serves the one who waits by then."""
    pool, maker = accounted(1, create_timeout=0.02, timeout=None)
    maker.gate.clear()
    with pytest.raises(PoolTimeout):
        pool.get()
    waiter = runner.start(pool.get).parked()
    maker.gate.set()
    resource = waiter.result()
    assert maker.made == 1
    pool.put(resource)


@option("hook_timeout")
@pytest.mark.parametrize("timeout", [None, 30])
def test_hook_timeout_gives_up_on_a_hanging_check(accounted: Any, timeout: Any, clock: Any) -> None:
    """The borrower gets PoolTimeout in phase "check"; the slot stays counted until it returns."""
    gate = threading.Event()
    pool, maker = accounted(
        1,
        check=lambda resource: gate.wait(30),
        check_after=0,
        clock=clock,
        hook_timeout=0.02,
        timeout=timeout,
    )
    pool.put(pool.get())
    with pytest.raises(PoolTimeout) as caught:
        pool.get()
    assert caught.value.phase == "check" and 0.019 <= caught.value.waited < PATIENCE
    assert pool.stats().open == 1 and pool.stats().overdue == 1
    gate.set()
    eventually(lambda: pool.stats().checking == 0)


@option("timeout")
def test_the_timeout_bounds_a_hanging_check(accounted: Any, clock: Any) -> None:
    """The borrower's own timeout holds although the check may take longer, and he has all of it."""
    gate = threading.Event()
    pool, _ = accounted(
        1,
        check=lambda resource: gate.wait(3 * PATIENCE),
        check_after=0,
        clock=clock,
        hook_timeout=None,
    )
    pool.put(pool.get())
    start = time.monotonic()
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=0.05)
    assert 0.049 <= time.monotonic() - start < PATIENCE
    assert caught.value.phase == "check" and 0.049 <= caught.value.waited < PATIENCE
    gate.set()
    eventually(lambda: pool.stats().checking == 0)


@option("check")
@pytest.mark.parametrize("how", ["raises", "returns False"])
def test_a_failed_check_closes_and_the_next_is_tried(accounted: Any, how: str) -> None:
    """The borrower sees only good resources; a bad one is closed, others are tried, then made."""

    def check(resource: Any) -> bool | None:
        if resource.healthy:
            return None
        if how == "raises":
            raise OSError("gone")
        return False

    pool, maker = accounted(3, check=check, check_after=0)
    taken = [pool.get() for _ in range(3)]
    for resource in taken:
        pool.put(resource)
    taken[2].healthy = taken[1].healthy = False
    assert pool.get() is taken[0]
    eventually(lambda: maker.closed >= 1)
    second = pool.get()
    assert second.healthy
    pool.put(second)
    pool.put(taken[0])


@option("check")
def test_a_new_resource_needs_no_check(clock: Any, accounted: Any) -> None:
    """The check is for what was idle; the factory vouches for the new."""
    seen: list[Any] = []
    pool, _ = accounted(2, check=seen.append, check_after=0, clock=clock)
    first = pool.get()
    assert seen == []
    pool.put(first)
    assert pool.get() is first and seen == [first]
    pool.put(first)


@option("check_after")
def test_check_after_spares_what_was_used_just_now(clock: Any, accounted: Any) -> None:
    """Only a resource that was idle for longer is checked."""
    seen: list[Any] = []
    pool, _ = accounted(1, check=seen.append, check_after=10, clock=clock)
    pool.put(pool.get())
    clock.advance(9)
    pool.put(pool.get())
    clock.advance(9)
    pool.put(pool.get())
    assert seen == []
    clock.advance(10)
    pool.put(pool.get())
    assert len(seen) == 1


@option("check_after")
def test_check_after_counts_from_the_last_return_of_an_item(clock: Any) -> None:
    """Also where the resources were there before the pool."""
    seen: list[Any] = []
    pool = FastPool(items=[object()], check=seen.append, check_after=10, clock=clock)
    for _ in range(3):
        pool.put(pool.get())
        clock.advance(9)
    assert seen == []
    clock.advance(1)
    pool.put(pool.get())
    assert len(seen) == 1
    pool.close()


@option("check_after")
def test_check_is_due_for_a_new_resource_that_nobody_used(clock: Any, accounted: Any) -> None:
    """The factory vouches for what it has made just now, not for what has been idle since."""
    seen: list[Any] = []
    pool, _ = accounted(1, check=seen.append, check_after=10, clock=clock)
    pool.warm(1)
    clock.advance(11)
    pool.put(pool.get())
    assert len(seen) == 1


@option("check_after")
def test_check_after_is_half_a_second_by_default(clock: Any, accounted: Any) -> None:
    """The freshness window of a pool with a check."""
    seen: list[Any] = []
    pool, _ = accounted(1, check=seen.append, clock=clock)
    pool.put(pool.get())
    clock.advance(0.4)
    pool.put(pool.get())
    assert seen == []
    clock.advance(0.6)
    pool.put(pool.get())
    assert len(seen) == 1


def _maintain_until(clock: Any, condition: Any) -> None:
    """Let the maintenance run again, at the same time of the clock, until the condition holds."""
    eventually(lambda: [clock.advance(0), condition()][1])


@option("keepalive")
def test_keepalive_checks_idle_resources_in_the_background(clock: Any, accounted: Any) -> None:
    """Every so many seconds idle resources are checked without any borrower, bad ones closed."""
    seen: list[Any] = []

    def check(resource: Any) -> None:
        seen.append(resource)
        if not resource.healthy:
            raise OSError

    pool, maker = accounted(2, check=check, check_after=1000, keepalive=60, clock=clock)
    taken = [pool.get(), pool.get()]
    for resource in taken:
        pool.put(resource)
    clock.advance(50)
    assert seen == []
    clock.advance(15)
    _maintain_until(clock, lambda: set(seen) == set(taken))
    eventually(lambda: states(pool) == {"idle": 2})
    taken[0].healthy = False
    clock.advance(65)
    _maintain_until(clock, lambda: maker.closings == [taken[0]])
    eventually(lambda: states(pool) == {"idle": 1})


@option("keepalive")
def test_keepalive_takes_one_at_a_time(clock: Any, accounted: Any) -> None:
    """Of several idle resources at most one is away for its check."""
    gate, inside = threading.Event(), []

    def check(resource: Any) -> None:
        inside.append(resource)
        gate.wait(30)

    pool, _ = accounted(
        3, check=check, check_after=1000, keepalive=60, hook_timeout=None, clock=clock
    )
    taken = [pool.get() for _ in range(3)]
    for resource in taken:
        pool.put(resource)
    clock.advance(65, settle=0)
    eventually(lambda: len(inside) == 1)
    assert states(pool) == {"checking": 1, "idle": 2}
    gate.set()
    _maintain_until(clock, lambda: len(inside) == 3)
    eventually(lambda: states(pool) == {"idle": 3})


@option("keepalive")
def test_keepalive_starts_nothing_while_anybody_waits(
    clock: Any, accounted: Any, runner: ThreadRunner
) -> None:
    """A resource that a borrower could have is not taken away from him for a check."""
    seen: list[Any] = []
    pool, _ = accounted(1, check=seen.append, check_after=1000, keepalive=60, clock=clock)
    resource = pool.get()
    waiter = runner.start(pool.get)
    eventually(lambda: pool.stats().waiting == 1)
    clock.advance(65)
    pool.put(resource)
    assert waiter.result() is resource and seen == []
    pool.put(resource)


@option("idle_timeout")
def test_idle_timeout_closes_what_nobody_used(clock: Any, accounted: Any) -> None:
    """After so many idle seconds a resource is closed in the background; using it starts anew."""
    pool, maker = accounted(2, idle_timeout=100, clock=clock)
    a, b = pool.get(), pool.get()
    pool.put(a)
    pool.put(b)
    clock.advance(90)
    with pool.lease() as used:
        pass
    clock.advance(10)
    eventually(lambda: maker.closed == 1 and states(pool) == {"idle": 1})
    assert not used.closed
    clock.advance(89)
    assert maker.closed == 1
    clock.advance(1)
    eventually(lambda: states(pool) == {})
    assert maker.closed == 2


@option("idle_timeout")
@pytest.mark.parametrize("why", ["idle", "lifetime"])
def test_check_looks_at_the_age_before_it_lends(clock: Any, accounted: Any, why: str) -> None:
    """A borrower who comes before the scheduler gets nothing that has expired, and no check is
    made of it."""
    seen: list[Any] = []
    ages = {"idle_timeout": 100, "max_lifetime": None, "check_after": 1000}
    if why == "lifetime":
        ages = {"idle_timeout": None, "max_lifetime": 100, "check_after": 50}
    pool, maker = accounted(1, check=seen.append, clock=clock, **ages)
    pool.put(pool.get())
    clock.ticks.advance(101)
    pool.put(pool.get())
    eventually(lambda: pool.stats().closed == {why: 1})
    assert maker.made == 2 and seen == []


@option("idle_timeout")
def test_idle_timeout_is_ten_minutes_by_default(clock: Any, accounted: Any) -> None:
    """The default of the table, and None switches it off."""
    pool, maker = accounted(1, clock=clock)
    other, _ = accounted(1, idle_timeout=None, max_lifetime=None, clock=clock)
    pool.put(pool.get())
    other.put(other.get())
    clock.advance(599)
    pool.put(pool.get())
    assert maker.made == 1
    clock.advance(601)
    eventually(lambda: maker.closed == 1 and states(other) == {"idle": 1})


@option("idle_timeout")
def test_a_leased_resource_does_not_become_idle(clock: Any, accounted: Any) -> None:
    """However long it is held, the idle time counts from its return."""
    pool, maker = accounted(1, idle_timeout=100, max_lifetime=None, clock=clock)
    resource = pool.get()
    clock.advance(1000)
    pool.put(resource)
    assert pool.get() is resource
    pool.put(resource)
    assert maker.closed == 0


@option("max_lifetime")
def test_max_lifetime_closes_idle_and_returned_resources(clock: Any, accounted: Any) -> None:
    """An old resource is closed where it is idle, and on return where it is leased."""
    pool, maker = accounted(2, idle_timeout=None, max_lifetime=1000, clock=clock)
    held, idle = pool.get(), pool.get()
    pool.put(idle)
    clock.advance(890)
    assert maker.closed == 0
    clock.advance(215)
    eventually(lambda: maker.closings == [idle])
    assert not held.closed
    pool.put(held)
    eventually(lambda: held.closed and states(pool) == {})


@option("max_lifetime")
def test_max_lifetime_is_spread(clock: Any, accounted: Any) -> None:
    """Resources made together do not all die together: each up to 10 % before its time, never
    after it."""
    pool, maker = accounted(30, idle_timeout=None, max_lifetime=1000, max_creating=30, clock=clock)
    taken = [pool.get() for _ in range(30)]
    for resource in taken:
        pool.put(resource)
    clock.advance(899)
    assert maker.closed == 0
    deaths = []
    for _ in range(10):
        before = maker.closed
        clock.advance(10.1)
        deaths.append(maker.closed - before)
    assert sum(deaths) == 30, deaths
    assert sum(deaths[:5]) > 0 and sum(deaths[5:]) > 0, deaths


@pytest.mark.threads_only("a task is named by its own stack: see contract/asyncio/test_hooks.py")
@option("leak_after")
def test_leak_after_logs_a_long_hold_once(
    clock: Any, accounted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A lease held longer is reported once, with the pool and the place that took it."""
    pool, _ = accounted(1, leak_after=60, name="leaky", clock=clock)
    with caplog.at_level(logging.WARNING, logger="fastpool"):
        lease = pool.acquire()
        clock.advance(59)
        assert not caplog.records
        clock.advance(2)
        eventually(lambda: len(caplog.records) == 1)
        clock.advance(200)
        lease.release()
        pool.acquire().release()
    assert len(caplog.records) == 1
    text = caplog.text
    assert "leaky" in text and "test_options_of_time.py" in text


@pytest.mark.threads_only("a task is named by its own stack: see contract/asyncio/test_hooks.py")
@option("leak_after")
def test_leases_lists_the_holders(clock: Any, accounted: Any) -> None:
    """leases() names resource, age and, with tracking on, the stack of every holder."""
    pool, _ = accounted(2, leak_after=60, clock=clock)
    assert list(pool.leases()) == []
    lease = pool.acquire()
    clock.advance(5)
    (holder,) = pool.leases()
    assert holder.resource is lease.resource
    assert holder.age == pytest.approx(5, abs=0.5)
    assert "test_leases_lists_the_holders" in str(holder.stack)
    lease.release()
    assert list(pool.leases()) == []


@pytest.mark.threads_only("a task is named by its own stack: see contract/asyncio/test_hooks.py")
@option("leak_after")
def test_a_timeout_names_the_holders_when_tracking_is_on(accounted: Any) -> None:
    """Whoever gets nothing is told who has it."""
    pool, _ = accounted(1, leak_after=60)
    lease = pool.acquire()
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=0)
    assert "test_options_of_time.py" in str(caught.value)
    lease.release()

"""stats().closed: why each resource was closed, told apart; and each is closed once."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fastpool import FastPool, PoolClosed, PoolTimeout
from support.async_factories import Hang, threads, use
from support.async_factories import accounted as accounted_async
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, states


class Gate:
    """A check that hangs until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, resource: Any) -> None:
        self.entered.set()
        assert self.opened.wait(3 * PATIENCE)


def refuse(resource: Any) -> None:
    raise ValueError


def by_discard(pool: Any, clock: Any) -> None:
    pool.discard(pool.get())


def by_discarded_lease(pool: Any, clock: Any) -> None:
    pool.acquire().discard()


def by_error(pool: Any, clock: Any) -> None:
    with pytest.raises(OSError), pool.lease():
        raise OSError


def by_interrupt(pool: Any, clock: Any) -> None:
    with pytest.raises(KeyboardInterrupt), pool.lease():
        raise KeyboardInterrupt


def by_put(pool: Any, clock: Any) -> None:
    pool.put(pool.get())


def by_lifetime_when_idle(pool: Any, clock: Any) -> None:
    pool.put(pool.get())
    clock.advance(1001)


def by_lifetime_when_leased(pool: Any, clock: Any) -> None:
    resource = pool.get()
    clock.advance(1001)
    assert pool.stats().closed_total == 0
    pool.put(resource)


def by_idle(pool: Any, clock: Any) -> None:
    pool.put(pool.get())
    clock.advance(101)


def by_loss(pool: Any, clock: Any) -> None:
    lease = pool.acquire()
    with pytest.warns(ResourceWarning):
        del lease
        gc.collect()
        eventually(lambda: pool.stats().closed_total == 1)


def by_flush_when_idle(pool: Any, clock: Any) -> None:
    pool.put(pool.get())
    pool.flush()


def by_flush_when_leased(pool: Any, clock: Any) -> None:
    resource = pool.get()
    pool.flush()
    pool.put(resource)


def by_resize_when_idle(pool: Any, clock: Any) -> None:
    for resource in [pool.get(), pool.get()]:
        pool.put(resource)
    pool.resize(1)


def by_resize_when_leased(pool: Any, clock: Any) -> None:
    taken = [pool.get(), pool.get()]
    pool.resize(1)
    for resource in taken:
        pool.put(resource)


def by_max_idle(pool: Any, clock: Any) -> None:
    for resource in [pool.get(), pool.get()]:
        pool.put(resource)


def by_close_when_idle(pool: Any, clock: Any) -> None:
    pool.put(pool.get())
    pool.close()


def by_close_when_leased(pool: Any, clock: Any) -> None:
    resource = pool.get()
    pool.close(timeout=0)
    pool.put(resource)


def by_close_when_leased_in_a_block(pool: Any, clock: Any) -> None:
    with pool.lease():
        pool.close(timeout=0)


def by_check(pool: Any, clock: Any) -> None:
    pool.put(pool.get())
    pool.put(pool.get())


WAYS: list[tuple[str, Callable[[Any, Any], None], dict[str, Any]]] = [
    ("discarded", by_discard, {}),
    ("discarded", by_discarded_lease, {}),
    ("discarded", by_discard, {"reset": refuse}),
    ("error", by_error, {}),
    ("error", by_error, {"reset": refuse}),
    ("error", by_interrupt, {}),
    ("error", by_error, {"discard_on": lambda error, resource: 1 / 0}),
    ("reset", by_put, {"reset": refuse}),
    ("check", by_check, {"check": refuse, "check_after": 0}),
    ("check", by_check, {"check": lambda resource: False, "check_after": 0}),
    ("lifetime", by_lifetime_when_idle, {"max_lifetime": 1000, "idle_timeout": None}),
    ("lifetime", by_lifetime_when_leased, {"max_lifetime": 1000, "idle_timeout": 100}),
    ("lifetime", by_lifetime_when_idle, {"max_lifetime": 1000, "idle_timeout": 1001}),
    ("idle", by_idle, {"idle_timeout": 100, "max_lifetime": 1000}),
    ("uses", by_put, {"max_uses": 1}),
    ("surplus", by_put, {"max_idle": 0}),
    ("surplus", by_max_idle, {"max_idle": 1}),
    ("surplus", by_resize_when_idle, {}),
    ("surplus", by_resize_when_leased, {}),
    ("flushed", by_flush_when_idle, {}),
    ("flushed", by_flush_when_leased, {}),
    ("flushed", by_flush_when_leased, {"reset": lambda resource: None}),
    ("flushed", by_flush_when_leased, {"max_uses": 1}),
    ("closed", by_close_when_idle, {}),
    ("closed", by_close_when_leased, {}),
    ("closed", by_close_when_leased, {"reset": refuse}),
    ("closed", by_close_when_leased_in_a_block, {}),
    ("lost", by_loss, {}),
]


@pytest.mark.parametrize(
    ("why", "happen", "options"),
    WAYS,
    ids=[f"{why}-{way.__name__}-{i}" for i, (why, way, _) in enumerate(WAYS)],
)
def test_closed_counts_by_reason(
    accounted: Any, clock: Any, why: str, happen: Any, options: dict[str, Any]
) -> None:
    """One resource, one reason: where several apply, the one that was there first."""
    pool, maker = accounted(2, clock=clock, **options)
    happen(pool, clock)
    eventually(lambda: maker.closed == 1 and pool.stats().closing == 0)
    assert pool.stats().closed == {why: 1} and pool.stats().closed_total == 1


def test_nothing_is_surplus_without_a_cap(accounted: Any) -> None:
    """maxsize=0 is no size that the pool has shrunk to."""
    pool, _ = accounted(0)
    resource = pool.get()
    pool.flush()
    pool.put(resource)
    assert pool.stats().closed == {"flushed": 1}


ENDS: list[tuple[str, Callable[[Any], object]]] = [
    ("flushed", lambda pool: pool.flush()),
    ("surplus", lambda pool: pool.resize(1)),
    ("closed", lambda pool: pool.close(timeout=0)),
]


@pytest.mark.parametrize(("why", "end"), ENDS, ids=[why for why, _ in ENDS])
def test_resource_that_is_no_good_when_it_is_made_is_closed_for_that(
    accounted: Any, runner: ThreadRunner, why: str, end: Any
) -> None:
    """It was told to go while the factory was still at it."""
    pool, maker = accounted(2)
    maker.gate.clear()
    getters = [runner.start(lambda: pool.put(pool.get())) for _ in range(2)]
    eventually(lambda: maker.running == 2)
    end(pool)
    maker.gate.set()
    for getter in getters:
        if why == "closed":
            with pytest.raises(PoolClosed):
                getter.result()
        else:
            getter.result()
    closed = 1 if why == "surplus" else 2
    eventually(lambda: pool.stats().closed == {why: closed})


@pytest.mark.parametrize(("why", "end"), ENDS, ids=[why for why, _ in ENDS])
@pytest.mark.parametrize("keepalive", [None, 60])
def test_resource_that_passes_its_check_too_late_is_closed_for_that(
    accounted: Any, clock: Any, why: str, end: Any, keepalive: Any
) -> None:
    """The check has said nothing against it: the reason is what came meanwhile."""
    gate = Gate()
    pool, _ = accounted(2, check=gate, check_after=50, keepalive=keepalive, clock=clock)
    for resource in [pool.get(), pool.get()]:
        pool.put(resource)
    clock.advance(61, settle=0)
    for _ in range(2 if keepalive is None else 1):
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0.02)
    assert states(pool) == {"checking": 2}
    end(pool)
    gate.opened.set()
    closed = 1 if why == "surplus" else 2
    eventually(lambda: pool.stats().closed == {why: closed} and pool.stats().checking == 0)


class Slow:
    """A factory whose first call hangs until it is let go."""

    def __init__(self) -> None:
        self.maker = Maker()
        self.entered, self.opened = threading.Event(), threading.Event()
        self._first = True

    def __call__(self) -> Any:
        if self._first:
            self._first = False
            self.entered.set()
            assert self.opened.wait(3 * PATIENCE)
        return self.maker()


@pytest.fixture
def slow() -> Any:
    slow = Slow()
    yield slow
    slow.opened.set()


def late(accounted: Any, slow: Slow, **options: Any) -> Any:
    """A pool whose first creation is past its deadline and has not come back."""
    pool, _ = accounted(3, slow.maker, factory=slow, create_timeout=0.02, **options)
    with pytest.raises(PoolTimeout):
        pool.get(timeout=None)
    eventually(lambda: pool.stats().overdue == 1)
    return pool


def test_late_resource_that_nobody_wants_is_closed_as_overdue(accounted: Any, slow: Slow) -> None:
    """There is an idle one and nobody waits."""
    pool = late(accounted, slow)
    pool.put(pool.get(timeout=None))
    slow.opened.set()
    eventually(lambda: pool.stats().closed == {"overdue": 1})
    eventually(lambda: states(pool) == {"idle": 1} and pool.stats().overdue == 0)


def test_borrower_with_no_slot_but_that_of_a_late_creation_waits_for_it(
    accounted: Any, slow: Slow
) -> None:
    """His time is over in that phase."""
    pool = late(accounted, slow)
    pool.resize(1)
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=0.02)
    assert caught.value.phase == "create"
    slow.maker.cap = 1


def test_late_resource_is_kept_where_nothing_is_idle(accounted: Any, slow: Slow) -> None:
    """The next borrower need not wait for one."""
    pool = late(accounted, slow)
    resource = pool.get(timeout=None)
    slow.opened.set()
    eventually(lambda: states(pool) == {"idle": 1, "leased": 1} and pool.stats().overdue == 0)
    assert pool.stats().closed == {}
    pool.put(resource)


def test_late_resource_is_kept_for_min_idle(accounted: Any, slow: Slow) -> None:
    """It counts among those that are to be idle."""
    pool, _ = accounted(
        3, slow.maker, factory=slow, create_timeout=0.02, min_idle=2, max_creating=1
    )
    eventually(lambda: pool.stats().idle == 2)
    assert pool.stats().overdue == 1
    pool.suspend()  # nothing else is made in its place
    pool.resize(2)
    slow.opened.set()
    eventually(lambda: pool.stats().overdue == 0 and pool.stats().open == 2)
    pool.resume()
    assert pool.stats().idle == 2


def test_late_resource_is_kept_for_who_waits(
    accounted: Any, slow: Slow, runner: ThreadRunner
) -> None:
    """One who waits is not served by what is idle while the pool is suspended."""
    pool = late(accounted, slow)
    pool.put(pool.get(timeout=None))
    pool.suspend()
    waiters = [runner.start(pool.get, True, None) for _ in range(2)]
    eventually(lambda: pool.stats().waiting == 2)
    slow.opened.set()
    eventually(lambda: states(pool) == {"idle": 2})
    pool.resume()
    for resource in [waiter.result() for waiter in waiters]:
        pool.put(resource)
    assert pool.stats().closed == {}


def test_each_creation_has_its_own_deadline(runner: ThreadRunner) -> None:
    """One that began later is past its own, too, with no other creation that asks for a look."""
    opened = threading.Event()
    pool: FastPool[object] = FastPool(
        2, factory=lambda: opened.wait(3 * PATIENCE) and object(), create_timeout=1.2
    )
    begun = time.monotonic()
    callers = [runner.start(refused, pool)]
    eventually(lambda: pool.stats().creating == 1 and time.monotonic() > begun + 0.3)
    callers.append(runner.start(refused, pool))
    eventually(lambda: pool.stats().overdue == 2)
    for caller in callers:
        caller.result()
    opened.set()
    assert pool.close(PATIENCE)


def refused(pool: Any) -> None:
    with pytest.raises(PoolTimeout):
        pool.get(timeout=None)


def test_reasons_of_a_pool_of_coroutines_are_the_same() -> None:
    """A check that outlives its borrower, and the flush that comes meanwhile."""
    hang = Hang()
    with accounted_async(2, check_after=0) as (pool, maker), threads("asyncio", 1) as (one,):
        one.run(use(pool))
        maker.script["check"].append(hang)
        with pytest.raises(PoolTimeout):
            one.run(pool.aget(timeout=0.02))
        assert hang.begun.wait(PATIENCE)
        pool.flush()
        hang.let_go()
        eventually(lambda: pool.stats().closed == {"flushed": 1})

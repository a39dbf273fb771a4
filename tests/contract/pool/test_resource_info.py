"""A look at one resource: its age, its uses, how long it lay idle; and its retirement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import fastpool
from fastpool import PoolError
from fastpool.stats import ResourceInfo
from fastpool.testing import ManualClock
from support import callers, loops
from support.callers import FastPool
from support.helpers import Maker, eventually, states, works

pytestmark = pytest.mark.usefixtures("caller_kind")


def fast(maker: Maker, **options: Any) -> Any:
    return FastPool(2, factory=maker, **options)


def shared(maker: Maker, **options: Any) -> Any:
    return callers.SharedPool(maker, items=(0, 2), slots=1, shrink_after=None, **options)


class OneKey:
    def __init__(self, maker: Maker, **options: Any) -> None:
        self.pool = callers.KeyedPool(lambda key: maker(), max_per_key=2, **options)
        self.stats, self.close = self.pool.stats, self.pool.close

    def acquire(self, timeout: float = 30) -> Any:
        return self.pool.acquire("key", timeout)


KINDS: dict[str, Callable[..., Any]] = {"fast": fast, "shared": shared, "keyed": OneKey}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return KINDS[request.param]


def test_age_uses_and_rest(kind: Any) -> None:
    clock = ManualClock()
    pool = kind(Maker(), clock=clock, idle_timeout=None, max_lifetime=None)
    lease = pool.acquire()
    assert lease.info() == ResourceInfo(0.0, 1, 0.0, False)
    clock.advance(10)
    assert lease.info() == ResourceInfo(10.0, 1, 10.0, False)
    lease.release()
    clock.advance(5)
    lease = pool.acquire()
    assert lease.info() == ResourceInfo(15.0, 2, 5.0, False)
    lease.release()
    pool.close()


def test_of_another_resource_in_the_same_slot() -> None:
    clock = ManualClock()
    pool = fast(Maker(), clock=clock)
    lease = pool.acquire()
    clock.advance(100)
    lease.discard()
    eventually(lambda: states(pool) == {})
    lease = pool.acquire()
    assert lease.info() == ResourceInfo(0.0, 1, 0.0, False)
    lease.release()
    pool.close()


def test_an_age_of_years() -> None:
    clock = ManualClock()
    pool = fast(Maker(), clock=clock, max_lifetime=None, idle_timeout=None)
    with pool.lease() as resource:
        clock.advance(1.9 * 365 * 86400)
        real = getattr(pool, "_real", pool)
        assert real.info(resource).age == pytest.approx(1.9 * 365 * 86400, abs=1 / 32)
    pool.close()


def test_a_retired_one_is_closed_when_it_comes_back(kind: Any) -> None:
    maker = Maker()
    pool = kind(maker)
    lease = pool.acquire()
    lease.retire()
    lease.retire()
    assert lease.info().retiring and not maker.all[0].closed
    lease.release()
    eventually(lambda: maker.all[0].closed)
    eventually(lambda: pool.stats().closed == {"flushed": 1})
    works(pool, 2)
    pool.close()
    eventually(lambda: maker.made == maker.closed)


def test_a_lease_that_is_not_held_tells_nothing(kind: Any) -> None:
    pool = kind(Maker())
    lease = pool.acquire()
    lease.release()
    for act in ("info", "retire"):
        with pytest.raises(PoolError, match=f"{act}: this lease has been released"):
            getattr(lease, act)()
    pool.close()


def test_of_what_was_taken_by_get() -> None:
    maker = Maker()
    pool = fast(maker, name="shop")
    real = getattr(pool, "_real", pool)
    resource = pool.get()
    assert real.info(resource).uses == 1
    pool.put(resource)
    assert real.info(resource).uses == 1  # idle
    for act in (real.info, real.retire):
        with pytest.raises(ValueError, match=r"shop: .*: this pool did not make"):
            act(object())
    resource = pool.get()
    real.retire(resource)
    assert real.info(resource).retiring
    pool.put(resource)
    eventually(lambda: states(pool) == {})
    other = pool.get()
    pool.put(other)
    real.retire(other)  # idle: now
    eventually(lambda: maker.closed == 2 and states(pool) == {})
    with pytest.raises(ValueError, match="has closed"):
        real.retire(other)
    works(pool, 2)
    pool.close()


@pytest.mark.threads_only("of a shared pool alone")
def test_of_a_resource_that_many_use() -> None:
    pool: Any = fastpool.SharedPool(Maker(), items=(1, 1), slots=3)
    with pool.lease() as one, pool.lease(), pool.lease():
        assert pool.info(one).uses == 3
    with pytest.raises(ValueError, match="info: this pool did not make"):
        pool.info(object())
    pool.close()


@pytest.mark.threads_only("of a queue")
def test_a_queue_has_none() -> None:
    queue: Any = fastpool.FastPool()
    for act in (queue.info, queue.retire):
        with pytest.raises(TypeError, match="needs a resource pool"):
            act(1)


@pytest.mark.threads_only("its pool is for tasks")
def test_of_an_async_factory() -> None:
    maker = Maker()

    async def create() -> Any:
        return maker()

    async def main() -> None:
        pool: Any = fastpool.FastPool(2, factory=create)
        lease = await pool.aacquire()
        assert lease.info().uses == pool.info(lease.resource).uses == 1
        lease.retire()
        lease.release()
        await loops.eventually(lambda: maker.closed == 1)
        resource = await pool.aget()
        pool.put(resource)
        pool.retire(resource)
        await loops.eventually(lambda: maker.closed == 2)
        for act in (pool.info, pool.retire):
            with pytest.raises(ValueError, match="this pool did not make"):
                act(resource)
        await pool.aclose()

    asyncio.run(main())

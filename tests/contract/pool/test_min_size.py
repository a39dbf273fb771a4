"""``min_size``: so many resources are kept open, idle or leased."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fastpool
from fastpool import KeyedPool, SharedPool
from fastpool.testing import ManualClock
from support import loops
from support.callers import FastPool
from support.helpers import (
    Maker,
    ThreadRunner,
    eventually,
    settled,
    states,
    wait_for_scheduler,
    works,
)

pytestmark = pytest.mark.usefixtures("caller_kind")


@pytest.mark.option("min_size")
def test_so_many_are_opened_in_the_background() -> None:
    maker = Maker()
    pool = FastPool(5, factory=maker, min_size=3)
    eventually(lambda: states(pool) == {"idle": 3})
    pool.close()
    assert maker.made == maker.closed == 3


def test_what_is_leased_counts() -> None:
    """Which is what sets it apart from ``min_idle``."""
    maker = Maker()
    pool = FastPool(5, factory=maker, min_size=3)
    eventually(lambda: states(pool) == {"idle": 3})
    resources = [pool.get() for _ in range(3)]
    settled(pool)
    assert maker.made == 3
    for resource in resources:
        pool.put(resource)
    settled(pool)
    assert maker.made == 3
    pool.close()


@pytest.mark.parametrize("leased", [0, 1, 2])
def test_what_is_closed_is_replaced(leased: int) -> None:
    maker = Maker()
    pool = FastPool(5, factory=maker, min_size=3)
    eventually(lambda: states(pool) == {"idle": 3})
    resources = [pool.get() for _ in range(3)]
    for resource in resources[leased:]:
        pool.discard(resource)
    eventually(lambda: maker.made == 6 - leased)
    eventually(lambda: pool.stats().open == 3)
    assert pool.stats().leased == leased
    for resource in resources[:leased]:
        pool.put(resource)
    pool.close()
    assert maker.made == maker.closed


def test_the_larger_of_both_is_kept_idle() -> None:
    maker = Maker()
    pool = FastPool(6, factory=maker, min_idle=2, min_size=3)
    eventually(lambda: states(pool) == {"idle": 3})
    resources = [pool.get() for _ in range(2)]
    eventually(lambda: states(pool) == {"idle": 2, "leased": 2})
    resources.append(pool.get())
    eventually(lambda: states(pool) == {"idle": 2, "leased": 3})
    for resource in resources:
        pool.put(resource)
    pool.close()


def test_what_expires_is_replaced() -> None:
    clock, maker = ManualClock(), Maker()
    pool = FastPool(4, factory=maker, min_size=2, idle_timeout=10, clock=clock)
    eventually(lambda: states(pool) == {"idle": 2})
    clock.advance(11)
    eventually(lambda: maker.closed == 2 and states(pool) == {"idle": 2})
    assert maker.made == 4
    pool.close()


def test_a_factory_that_fails_is_tried_again() -> None:
    maker = Maker()
    maker.script.extend([OSError("no server"), OSError("no server")])
    pool = FastPool(3, factory=maker, min_size=2)
    eventually(lambda: states(pool) == {"idle": 2})
    assert maker.calls == 4
    pool.close()


def test_a_smaller_cap_is_refused_and_a_larger_one_changes_nothing() -> None:
    maker = Maker()
    pool = FastPool(4, factory=maker, min_size=3, name="kept")
    eventually(lambda: states(pool) == {"idle": 3})
    with pytest.raises(ValueError, match=r"kept: maxsize must be .* at least min_size \(3\)"):
        pool.resize(2)
    pool.resize(8)
    wait_for_scheduler()
    assert maker.made == 3
    pool.close()


def test_callers_at_the_start_count_too(runner: ThreadRunner) -> None:
    """The pool is not fuller than it has to be, and works."""
    maker = Maker()
    maker.gate.clear()
    pool = FastPool(10, factory=maker, min_size=2, max_creating=2)
    eventually(lambda: maker.running == 2)
    tasks = [runner.start(pool.get) for _ in range(2)]
    eventually(lambda: pool.stats().waiting == 2)
    maker.gate.set()
    for resource in [task.result() for task in tasks]:
        pool.put(resource)
    settled(pool)
    works(pool, 2)
    pool.close()
    eventually(lambda: maker.made == maker.closed)


@pytest.mark.threads_only("there is no call in it")
def test_options_that_contradict_each_other() -> None:
    make: Any = fastpool.FastPool
    with pytest.raises(ValueError, match="min_size is 3, more than maxsize 2 allows"):
        make(2, factory=object, min_size=3)
    with pytest.raises(ValueError, match="max_idle is 2, less than min_size 3"):
        make(5, factory=object, min_size=3, max_idle=2)
    with pytest.raises(TypeError, match="min_size needs a factory"):
        make(items=[1], min_size=1)
    with pytest.raises(ValueError, match="min_size must be an int >= 0"):
        make(factory=object, min_size=-1)
    for kind in (KeyedPool, SharedPool):
        with pytest.raises(TypeError, match="has no option 'min_size'"):
            kind(object, min_size=1)
    make(factory=object, min_size=None).close()


@pytest.mark.threads_only("its pool is for tasks")
def test_of_an_async_factory() -> None:
    """Over all loops; refilled on the one that used the pool last."""
    maker = Maker()

    async def create() -> Any:
        return maker()

    async def main() -> None:
        pool: Any = fastpool.FastPool(5, factory=create, min_size=3)
        await loops.eventually(lambda: states(pool) == {"idle": 3})
        resources = [await pool.aget() for _ in range(3)]
        pool.discard(resources.pop())
        await loops.eventually(lambda: states(pool) == {"idle": 1, "leased": 2})
        for resource in resources:
            pool.put(resource)
        await loops.eventually(lambda: states(pool) == {"idle": 3})
        assert maker.made == 4
        assert await pool.aclose()

    asyncio.run(main())
    assert maker.made == maker.closed

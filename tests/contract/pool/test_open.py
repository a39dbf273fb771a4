"""``open=False``: nothing is opened and no thread started before ``open()`` or the first use."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastpool
from fastpool import KeyedPool, PoolClosed, PoolTimeout
from support import callers, loops
from support.callers import FastPool
from support.helpers import (
    PATIENCE,
    Maker,
    ThreadRunner,
    eventually,
    settled,
    states,
    wait_for_scheduler,
    works,
)

pytestmark = pytest.mark.usefixtures("caller_kind")


def fast(maker: Maker, least: int) -> Any:
    return FastPool(4, factory=maker, open=False, min_idle=least, name="lazy")


def sized(maker: Maker, least: int) -> Any:
    return FastPool(4, factory=maker, open=False, min_size=least, name="lazy")


def shared(maker: Maker, least: int) -> Any:
    return callers.SharedPool(maker, items=(least, 4), slots=1, open=False, name="lazy")


@pytest.fixture(params=[fast, sized, shared])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def real(pool: Any) -> Any:
    """What a stand-in stands for: what opens it here is no caller."""
    return getattr(pool, "_real", pool)


@pytest.mark.option("open")
def test_nothing_is_opened_until_it_is_told_to(kind: Any) -> None:
    maker = Maker()
    pool = kind(maker, 2)
    settled(pool)
    assert maker.calls == 0 and states(pool) == {}
    real(pool).open()
    eventually(lambda: states(pool) == {"idle": 2})
    pool.close()
    assert maker.made == maker.closed == 2


def test_the_first_use_opens_it(kind: Any) -> None:
    maker = Maker()
    pool = kind(maker, 1)
    with pool.lease():
        assert maker.made
    eventually(lambda: pool.stats().idle >= 1)
    works(pool, 4)
    pool.close()
    eventually(lambda: maker.made == maker.closed)


def test_it_may_be_opened_by_many_and_many_times(kind: Any, runner: ThreadRunner) -> None:
    maker = Maker()
    pool = kind(maker, 2)
    for task in runner.together(8, lambda _: real(pool).open(wait=True, timeout=PATIENCE)):
        task.result()
    assert states(pool) == {"idle": 2}
    real(pool).open()
    settled(pool)
    assert maker.made == 2
    pool.close()


def test_wait_waits(kind: Any) -> None:
    maker = Maker()
    pool = kind(maker, 3)
    real(pool).open(wait=True, timeout=PATIENCE)
    assert states(pool) == {"idle": 3}
    pool.close()


def test_wait_raises_what_the_factory_does_and_the_pool_is_open() -> None:
    maker = Maker()
    maker.script.append(ConnectionRefusedError())
    pool = fast(maker, 1)
    with pytest.raises(ConnectionRefusedError):
        real(pool).open(wait=True, timeout=PATIENCE)
    eventually(lambda: states(pool) == {"idle": 1})
    pool.close()


def test_wait_is_bounded() -> None:
    maker = Maker()
    maker.gate.clear()
    pool = fast(maker, 1)
    with pytest.raises(PoolTimeout):
        real(pool).open(wait=True, timeout=0.01)
    maker.gate.set()
    eventually(lambda: states(pool) == {"idle": 1})
    pool.close()


def test_a_closed_pool_is_not_opened(kind: Any) -> None:
    maker = Maker()
    pool = kind(maker, 1)
    assert pool.close()
    with pytest.raises(PoolClosed):
        real(pool).open()
    with pytest.raises(PoolClosed):
        pool.acquire()
    assert maker.calls == 0


def test_an_open_pool_does_nothing(kind: Any) -> None:
    maker = Maker()
    pool = FastPool(2, factory=maker)
    real(pool).open(wait=True)
    wait_for_scheduler()
    assert maker.calls == 0
    pool.close()


def test_once_used_a_get_asks_nobody(kind: Any) -> None:
    """The pool that is open is as fast as any."""
    maker = Maker()
    pool = fast(maker, 0)
    pool.put(pool.get())
    manager = fastpool._core.manager(real(pool), "a test")
    assert not manager.unopened and not manager.maintenance.dozing
    manager.borrow = None  # whoever asks gets an error
    pool.put(pool.get())
    pool.close()


@pytest.mark.threads_only("there is no call in it")
def test_where_it_means_nothing() -> None:
    make: Any = fastpool.FastPool
    with pytest.raises(TypeError, match="open needs a factory"):
        make(items=[1], open=False)
    with pytest.raises(TypeError, match="open must be True or False"):
        make(factory=object, open=0)
    with pytest.raises(TypeError, match="opens nothing before the first lease"):
        KeyedPool(object, open=False)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="needs a resource pool"):
        make().open()
    with make(items=[[]]) as items:
        items.open(wait=True)


@pytest.mark.threads_only("it is about tasks")
def test_a_task_opens_it() -> None:
    maker = Maker()

    async def main() -> None:
        pool: Any = fastpool.FastPool(4, factory=maker, open=False, min_idle=2)
        await pool.aopen(wait=True)
        assert states(pool) == {"idle": 2}
        await pool.aopen()
        await pool.aclose()
        with pytest.raises(PoolClosed):
            await pool.aopen()

    asyncio.run(main())
    assert maker.made == maker.closed == 2


@pytest.mark.threads_only("its pool is for tasks")
@pytest.mark.parametrize("how", ["aopen", "use"])
def test_of_an_async_factory(how: str) -> None:
    maker = Maker()

    async def create() -> Any:
        return maker()

    async def main() -> None:
        pool: Any = fastpool.FastPool(4, factory=create, open=False, min_size=2)
        await asyncio.sleep(0)
        assert states(pool) == {} and maker.calls == 0
        with pytest.raises(TypeError, match=r"await pool\.aopen\(\)"):
            pool.open()
        if how == "aopen":
            await pool.aopen(wait=True)
            assert states(pool) == {"idle": 2}
        else:
            async with pool.lease():
                pass
        await loops.eventually(lambda: pool.stats().idle >= 2)
        await pool.aclose()
        with pytest.raises(PoolClosed):
            await pool.aopen()

    asyncio.run(main())
    assert maker.made == maker.closed


THREADLESS = """
import threading
import fastpool

before = threading.active_count()
async def connect():
    return object()
pools = [
    fastpool.FastPool(2, factory=object, min_idle=1, open=False),
    fastpool.SharedPool(object, items=(1, 2), open=False),
    fastpool.FastPool(2, factory=connect, open=False),
]
assert threading.active_count() == before, threading.enumerate()
if {fork}:
    import os
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        raise SystemExit
    assert threading.active_count() == 1, threading.enumerate()
pools[0].open(wait=True)
assert pools[0].stats().idle == 1
with pools[1].lease():
    pass
assert threading.active_count() > before
for pool in pools[:2]:
    assert pool.close()
"""


@pytest.mark.threads_only("a program of its own")
@pytest.mark.process
@pytest.mark.light
@pytest.mark.parametrize("fork", [False, True])
def test_no_thread_is_started_before(fork: bool) -> None:
    """Nor in a child that a server forks before."""
    if fork and not hasattr(os, "fork"):
        pytest.skip("no fork")
    path = Path(fastpool.__file__).resolve().parent.parent
    code = THREADLESS.replace("{fork}", str(fork))
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

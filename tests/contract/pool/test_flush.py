"""``flush`` of what is idle alone, and ``flush`` and ``suspend`` that end the waits of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import fastpool
from fastpool import PoolInterrupted
from support import callers, loops
from support.callers import FastPool
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, states, works

pytestmark = pytest.mark.usefixtures("caller_kind")


def fast(maker: Maker, size: int) -> Any:
    return FastPool(size, factory=maker, name="flushed pool")


def shared(maker: Maker, size: int) -> Any:
    return callers.SharedPool(
        maker, items=(0, size), slots=1, shrink_after=None, name="flushed pool"
    )


class OneKey:
    """A KeyedPool as a pool of one key."""

    def __init__(self, maker: Maker, size: int) -> None:
        self.pool = callers.KeyedPool(
            lambda key: maker(), max_per_key=size, max_total=size, name="flushed pool"
        )
        self.stats, self.suspend = self.pool.stats, self.pool.suspend
        self.flush, self.resume, self.close = self.pool.flush, self.pool.resume, self.pool.close

    def acquire(self, timeout: float = PATIENCE) -> Any:
        return self.pool.acquire("key", timeout)


KINDS: dict[str, Callable[[Maker, int], Any]] = {"fast": fast, "shared": shared, "keyed": OneKey}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Callable[[Maker, int], Any]:
    return KINDS[request.param]


def test_idle_only_leaves_alone_what_is_leased(kind: Any) -> None:
    maker = Maker()
    pool = kind(maker, 3)
    leases = [pool.acquire() for _ in range(3)]
    kept = leases.pop()
    for lease in leases:
        lease.release()
    assert states(pool) == {"idle": 2, "leased": 1}
    pool.flush(idle_only=True)
    eventually(lambda: states(pool) == {"leased": 1})
    assert maker.closed == 2 and pool.stats().closed == {"flushed": 2}
    kept.release()
    assert states(pool) == {"idle": 1} and maker.closed == 2
    works(pool, 3)
    pool.close()
    eventually(lambda: maker.made == maker.closed)


@pytest.mark.parametrize("act", ["flush", "suspend"])
def test_fail_waiters_ends_the_waits_of_all_in_queue(
    kind: Any, act: str, runner: ThreadRunner
) -> None:
    maker = Maker()
    pool = kind(maker, 1)
    lease = pool.acquire()
    tasks = [runner.start(pool.acquire, PATIENCE) for _ in range(3)]
    eventually(lambda: pool.stats().waiting == 3)
    getattr(pool, act)(fail_waiters=True)
    for task in tasks:
        with pytest.raises(PoolInterrupted, match=rf"flushed pool.*{act}\(fail_waiters=True\)"):
            task.result()
    assert pool.stats().waiting == 0 and pool.stats().timeouts == 0
    pool.resume()
    lease.release()
    works(pool, 1)
    assert maker.made == (2 if act == "flush" else 1)
    pool.close()
    eventually(lambda: maker.made == maker.closed)


def test_without_it_they_wait_on(kind: Any, runner: ThreadRunner) -> None:
    maker = Maker()
    pool = kind(maker, 1)
    lease = pool.acquire()
    task = runner.start(pool.acquire, PATIENCE)
    eventually(lambda: pool.stats().waiting == 1)
    pool.flush()
    pool.suspend()
    lease.release()
    pool.resume()
    task.result().release()
    assert maker.made == 2
    pool.close()


def test_who_comes_to_a_suspended_pool_waits_for_its_end(runner: ThreadRunner) -> None:
    pool = fast(Maker(), 1)
    pool.suspend(fail_waiters=True)
    task = runner.start(pool.acquire, PATIENCE)
    eventually(lambda: pool.stats().waiting == 1)
    pool.resume()
    task.result().release()
    pool.close()


def test_what_is_made_for_one_whose_wait_was_ended_is_not_lost(runner: ThreadRunner) -> None:
    maker = Maker()
    pool = fast(maker, 2)
    maker.gate.clear()
    task = runner.start(pool.acquire, PATIENCE)
    eventually(lambda: maker.running == 1 and pool.stats().waiting == 1)
    pool.suspend(fail_waiters=True)
    with pytest.raises(PoolInterrupted):
        task.result()
    maker.gate.set()
    eventually(lambda: states(pool) == {"idle": 1})
    pool.resume()
    works(pool, 2)
    pool.close()
    eventually(lambda: maker.made == maker.closed)


@pytest.mark.threads_only("its pool is for tasks")
@pytest.mark.parametrize("act", ["flush", "suspend"])
def test_of_an_async_factory(act: str) -> None:
    maker = Maker()

    async def create() -> object:
        return maker()

    async def main() -> None:
        pool: Any = fastpool.FastPool(2, factory=create)
        one, other = await pool.aacquire(), await pool.aacquire()
        waiting = asyncio.ensure_future(pool.aacquire())
        await loops.eventually(lambda: pool.stats().waiting == 1)
        getattr(pool, act)(fail_waiters=True)
        with pytest.raises(PoolInterrupted):
            await waiting
        pool.resume()
        one.release()
        await loops.eventually(lambda: states(pool).get("leased") == 1)
        pool.flush(idle_only=True)
        await loops.eventually(lambda: states(pool) == {"leased": 1})
        assert maker.closed == 1
        other.release()
        await loops.eventually(lambda: "leased" not in states(pool))
        assert await pool.aclose()
        assert maker.made == maker.closed == 2

    asyncio.run(main())


@pytest.mark.threads_only("of one key")
def test_a_key_is_flushed_by_itself(runner: ThreadRunner) -> None:
    maker = Maker()
    pool: Any = fastpool.KeyedPool(lambda key: maker(), max_per_key=1)
    leases = [pool.acquire(key) for key in "ab"]
    waiters = {key: runner.start(pool.acquire, key) for key in "ab"}
    eventually(lambda: pool.stats().waiting == 2)
    pool.flush("a", fail_waiters=True)
    with pytest.raises(PoolInterrupted):
        waiters["a"].result()
    assert pool.stats().waiting == 1
    for lease in leases:
        lease.release()
    waiters["b"].result().release()
    assert maker.closed == 1
    pool.flush("b", idle_only=True)
    assert maker.closed == 2
    pool.close()

"""A KeyedPool of coroutines on several event loops: callers that are struck, loops that end."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest

from fastpool import PoolClosed, PoolError, _core
from support.async_factories import cancelled_at_random, threads, watched
from support.async_keyed import AsyncKeyedMaker, accounted_keys
from support.cancel_injection import Blow, Strike, after, before, every_suspension
from support.helpers import PATIENCE, eventually
from support.loops import KINDS, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize("seed", range(8))
def test_three_loops(seed: int, fast_switching: None) -> None:
    """Tasks of four keys under all limits, struck at random; in the middle the pool is closed, one
    of the loops ends, or the limits change."""
    chance = random.Random(seed)
    total, per_key = chance.choice([(2, 1), (3, 2), (4, 2), (5, 5)])
    maker = AsyncKeyedMaker(total, per_key)
    maker.steps = chance.randrange(3)
    options: dict[str, Any] = {
        "check_after": chance.choice([0, None]),
        "max_idle_per_key": chance.choice([None, 1]),
        "max_uses": chance.choice([None, 3]),
    }
    over = threading.Event()
    faults: list[str] = []

    async def user(pool: Any, name: object, luck: random.Random) -> None:
        for _ in range(10):
            act = luck.random()
            timeout = luck.choice([0.0005, 0.01, 10, 10])
            try:
                async with pool.lease(luck.choice("aaabcd"), timeout) as thing:
                    maker.hold(thing, name)
                    try:
                        await asyncio.sleep(0 if act < 0.8 else 0.0005)
                    finally:
                        maker.hold(thing, None)
                    if act < 0.1:
                        raise OSError
                    if act > 0.9:
                        pool.flush(thing.key, idle_only=True)
            except PoolClosed:
                return
            except (PoolError, OSError):
                pass

    async def loop_main(pool: Any, number: int) -> None:
        luck = random.Random(seed * 10 + number)
        tasks = [asyncio.ensure_future(user(pool, (number, n), luck)) for n in range(15)]
        faults.extend(await cancelled_at_random(tasks, luck))

    with accounted_keys(maker, max_total=total, max_per_key=per_key, **options) as (pool, _):
        looker = threading.Thread(target=lambda: faults.extend(watched(pool, over)))
        looker.start()
        try:
            with threads("asyncio", 3) as loops:
                done = [loop.start(loop_main(pool, n)) for n, loop in enumerate(loops)]
                if seed % 4 == 1:
                    done.pop().result(3 * PATIENCE)
                    loops[2].end()
                if seed % 4 == 2:
                    eventually(lambda: maker.made > 6 or all(each.done() for each in done))
                    pool.close(timeout=0)
                if seed % 4 == 3:
                    pool.configure(max_idle_total=1)
                    pool.configure(max_idle_total=None)
                for each in done:
                    each.result(3 * PATIENCE)
                arbiter = _core.manager(pool, "this test").arbiter
                eventually(lambda: arbiter.opened == pool.stats().open)
                if seed % 4 != 2:  # the pool works
                    waits = [loop.start(pool.aacquire("e", timeout=PATIENCE)) for loop in loops[:1]]
                    for wait in waits:
                        loops[0].call(wait.result(PATIENCE).release)
                assert pool.close(timeout=PATIENCE)
                eventually(lambda: not arbiter.opened)
        finally:
            over.set()
            looker.join(PATIENCE)
        assert not faults, faults[:3]


@pytest.mark.parametrize("seed", range(3))
def test_loops_that_come_and_go(seed: int) -> None:
    """Each ends with its tasks in the midst of anything; those that come later are served."""
    maker = AsyncKeyedMaker(3, 2)

    async def user(pool: Any, luck: random.Random) -> None:
        while True:
            async with pool.lease(luck.choice("ab"), PATIENCE) as thing:
                maker.hold(thing, luck)
                await asyncio.sleep(0)
                maker.hold(thing, None)

    async def begun(*users: Any) -> list[asyncio.Task[None]]:
        """Each has come to its first suspension: a coroutine that never began would say so."""
        tasks = [asyncio.ensure_future(one) for one in users]
        await asyncio.sleep(0)
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        return tasks

    kept: list[Any] = []
    with accounted_keys(maker, max_total=3, max_per_key=2, check_after=0) as (pool, _):
        for n in range(4):
            with threads("asyncio", 2) as loops:
                for i, loop in enumerate(loops):
                    luck = random.Random(seed * 100 + 10 * n + i)
                    kept.append(loop.run(begun(*(user(pool, luck) for _ in range(3)))))
                before_it = pool.stats().uses
                eventually(lambda least=before_it: pool.stats().uses > least + 20)
                for loop in loops:
                    loop.end()
        with threads("asyncio", 1) as [last]:
            leases = [last.run(pool.aacquire(key, timeout=PATIENCE)) for key in "aab"]
            for lease in leases:
                last.call(lease.release)
            manager = _core.manager(pool, "this test")
            eventually(lambda: manager.arbiter.opened == pool.stats().open)
            assert len(manager.loops) == 1


async def lease(pool: Any) -> None:
    async with pool.lease("a"):
        await asyncio.sleep(0)


async def lease_that_fails(pool: Any) -> None:
    with pytest.raises(OSError):
        async with pool.lease("a"):
            raise OSError


async def aacquire(pool: Any) -> None:
    (await pool.aacquire("a")).release()


async def awarm(pool: Any) -> None:
    await pool.awarm("a", 2)


async def evicting(pool: Any) -> None:
    async with pool.lease("a"), pool.lease("b"):
        pass


@kinds
@pytest.mark.parametrize("blow", [before, after])
@pytest.mark.parametrize("act", [lease, lease_that_fails, aacquire, awarm, evicting])
@pytest.mark.parametrize("idle", ["", "a", "cc"])
def test_cancelled_at_every_await(kind: str, blow: Blow, act: Any, idle: str) -> None:
    """Nothing is lost: the next ones are served, and all is closed in the end."""

    async def main(pool: Any, maker: AsyncKeyedMaker, at: int) -> bool:
        for key in set(idle):
            await pool.awarm(key, idle.count(key))
        strike = Strike(at, blow)
        task = asyncio.ensure_future(strike.over(act(pool)))
        await asyncio.wait({task})
        if not task.cancelled():
            assert task.exception() is None
        for key in "ab":  # the pool works
            async with pool.lease(key, PATIENCE), pool.lease(key, PATIENCE):
                pass
        await aeventually(lambda: pool.stats().leased == 0)
        assert await pool.aclose(), pool.stats()
        assert maker.made == len(maker.closings)
        return strike.hit

    def once(at: int) -> bool:
        with accounted_keys(max_total=2, max_per_key=2, check_after=0) as (pool, maker):
            return bool(run_in(kind, main(pool, maker, at)))

    every_suspension(once)

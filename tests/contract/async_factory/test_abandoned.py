"""Leases, loops and pools of coroutines that nobody ends, and what they leave behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from typing import Any

import pytest

from fastpool import FastPool
from support.async_factories import AsyncMaker, Hang, LoopThread, accounted, threads, use
from support.helpers import PATIENCE, eventually, states, wait_for_scheduler
from support.loops import KINDS, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)


class TestLosses:
    """Leases, loops and pools that nobody ends."""

    @kinds
    def test_a_lease_collected(self, kind: str, collect: Any) -> None:
        """It closes its resource, on its loop, and warns."""
        with accounted(1) as (pool, maker), threads(kind, 1) as [one]:
            lease = [one.run(pool.aacquire())]
            with pytest.warns(ResourceWarning, match="collected unreleased"):
                lease.clear()
                eventually(lambda: (collect(), pool.stats().closed == {"lost": 1})[1])
            assert states(pool) == {} and len(maker.closings) == 1

    @kinds
    def test_a_pool_collected(self, kind: str, collect: Any) -> None:
        """It warns; what is idle is closed on its loop, what is lent when it comes back."""
        maker = AsyncMaker()
        with threads(kind, 2) as (one, other):
            pool: Any = FastPool(4, factory=maker)
            one.run(use(pool))
            other.run(use(pool))
            lease = other.run(pool.aacquire())
            gone = weakref.ref(pool)
            with pytest.warns(ResourceWarning, match="with 2 open"):
                del pool
                collect()
            assert gone() is None
            eventually(lambda: len(maker.closings) == 1)
            other.call(lease.release)
            eventually(lambda: len(maker.closings) == 2)
            maker.check_accounts()

    def test_a_pool_collected_after_its_loop(self, collect: Any) -> None:
        """Nothing is open then: no warning."""
        maker = AsyncMaker()
        pool: Any = FastPool(1, factory=maker)
        run_in("asyncio", use(pool))
        del pool
        collect()
        maker.check_accounts()

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    @pytest.mark.parametrize("end", ["close", "drop", "loop"])
    def test_nothing_of_a_thousand_pools_is_kept(self, end: str, collect: Any) -> None:
        """Neither the factory, nor a resource, nor the loop; by whatever end."""
        alive: list[weakref.ref[Any]] = []
        pools: list[Any] = []

        class Kept:
            async def create(self) -> Any:
                thing = type("Thing", (), {})()
                alive.append(weakref.ref(thing))
                return thing

            async def close(self, thing: Any) -> None:
                pass

        def left() -> int:
            collect()
            return sum(ref() is not None for ref in alive)

        async def main() -> None:
            for _ in range(250):
                factory = Kept()
                alive.append(weakref.ref(factory))
                pool: Any = FastPool(2, factory=factory)
                await use(pool)
                if end == "close":
                    assert await pool.aclose()
                elif end == "loop":
                    pools.append(pool)
            alive.append(weakref.ref(asyncio.get_running_loop()))
            if end == "drop":
                del pool, factory
                await aeventually(lambda: left() == 1)  # the loop that runs

        for _ in range(4):
            run_in("asyncio", main())
            pools.clear()
        run_in("asyncio", asyncio.sleep(0))
        eventually(lambda: left() == 0)

    def test_reference_counts_stay(self) -> None:
        """10^4 leases, hits and misses: no object more than before."""

        async def main(pool: Any) -> None:
            thing = await use(pool)

            async def round_(n: int) -> None:
                for i in range(n):
                    async with pool.lease():
                        pass
                    pool.put(await pool.aget())
                    if i % 10 == 0:  # one that waits
                        lease = await pool.aacquire()
                        pool.resize(1)
                        other = asyncio.ensure_future(use(pool, timeout=None))
                        await asyncio.sleep(0)
                        lease.release()
                        await other

            await round_(100)
            gc.collect()
            counts = sys.getrefcount(thing), sys.getrefcount(pool), len(gc.get_objects())
            await round_(5000)
            gc.collect()
            after = sys.getrefcount(thing), sys.getrefcount(pool), len(gc.get_objects())
            assert after[0] <= counts[0] and after[1] <= counts[1], (counts, after)
            assert after[2] - counts[2] < 2500, (counts, after)  # half an object a round

        maker = AsyncMaker()
        with accounted(2, maker, factory=maker.create, close=maker.close) as (pool, _):
            run_in("asyncio", main(pool))


@kinds
def test_a_creation_that_goes_with_its_loop_ends_once(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its task says so when it is collected, and so does what becomes of its factory."""
    with accounted(1) as (pool, maker), threads(kind, 1) as [other]:
        one = LoopThread(kind)
        hang = Hang()
        maker.script["create"].append(hang)
        one.start(use(pool))
        assert hang.begun.wait(PATIENCE)
        one.end()
        assert other.run(use(pool)).loop is other.loop
        del one
        gc.collect()
        wait_for_scheduler()
    assert not caplog.records, caplog.text

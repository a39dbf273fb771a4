"""Threads beside a pool of coroutines, and its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastpool import FastPool, PoolClosed
from support.async_factories import AsyncMaker, Hang, Thing, accounted, threads, use
from support.helpers import PATIENCE, eventually, states
from support.loops import KINDS, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)


class TestThreads:
    """What a thread may do with a pool of coroutines, and what it is told."""

    def test_threads_cannot_borrow(self) -> None:
        """TypeError at once, which says what to do; also inside a task."""

        def all_refused(pool: Any) -> None:
            for borrow in (
                pool.get,
                pool.get_nowait,
                lambda: pool.get(timeout=1),
                pool.acquire,
                lambda: pool.lease().__enter__(),
            ):
                with pytest.raises(TypeError, match=r"coroutine function.*use `async with"):
                    borrow()
            with pytest.raises(TypeError, match=r"await pool\.awarm"):
                pool.warm(1)

        async def main(pool: Any) -> None:
            await use(pool)  # something is idle
            all_refused(pool)
            await asyncio.to_thread(all_refused, pool)
            assert states(pool) == {"idle": 1}

        with accounted(1) as (pool, _):
            all_refused(pool)
            run_in("asyncio", main(pool))
            pool.close()
            with pytest.raises(PoolClosed):
                pool.get()

    def test_no_running_loop(self) -> None:
        """A coroutine of the pool that is driven by hand is told what it lacks."""
        with accounted(1) as (pool, _):
            with pytest.raises(TypeError, match="none of its event loops runs"):
                pool.aget().send(None)

    @kinds
    @pytest.mark.parametrize("hooks", [True, False])
    def test_a_thread_gives_back(self, kind: str, hooks: bool) -> None:
        """put, discard, release and the end of a held lease, from a thread: hooks run on the
        loop."""
        maker = AsyncMaker()

        async def main(pool: Any) -> None:
            for give_back in (pool.put, pool.discard):
                thing = await pool.aget()
                await asyncio.to_thread(give_back, thing)
                await aeventually(lambda: not pool.stats().leased + pool.stats().checking)
            for name in ("release", "discard"):
                lease = await pool.aacquire()
                await asyncio.to_thread(getattr(lease, name))
            lease = await pool.aacquire()

            def held() -> None:
                with lease as thing:
                    assert isinstance(thing, Thing)

            await asyncio.to_thread(held)
            await aeventually(lambda: states(pool) == {"idle": 1})
            assert maker.made == 3 and len(maker.resets) == (3 if hooks else 0)

        given = {} if hooks else {"factory": maker.create, "close": maker.close}
        with accounted(1, maker, **given) as (pool, _):
            run_in(kind, main(pool))

    def test_what_is_not_the_pools(self) -> None:
        """put and discard of a strange object, or twice, are ValueErrors."""

        async def main(pool: Any) -> None:
            thing = await pool.aget()
            pool.put(thing)
            await aeventually(lambda: states(pool) == {"idle": 1})
            for give_back in (pool.put, pool.discard):
                with pytest.raises(ValueError, match="did not make"):
                    give_back(object())
                with pytest.raises(ValueError, match="not lent out"):
                    give_back(thing)

        with accounted(1) as (pool, _):
            run_in("asyncio", main(pool))
            with pytest.raises(ValueError, match="did not make, or has closed"):
                pool.put(object())

    @kinds
    def test_close_from_a_thread(self, kind: str) -> None:
        """It waits for the loop to close what is idle and for borrowers, within its timeout."""
        with accounted(3) as (pool, maker), threads(kind, 1) as [one]:
            leases = [one.run(pool.aacquire()) for _ in range(3)]
            one.call(leases.pop().release)
            assert not pool.close(timeout=0.02)
            eventually(lambda: states(pool) == {"leased": 2})
            assert maker.all[-1].closed
            for lease in leases:
                one.call(lease.release)
            assert pool.close(timeout=PATIENCE) and states(pool) == {}
            with pytest.raises(PoolClosed):
                one.run(pool.aget())

    @kinds
    def test_close_inside_the_running_loop(self, kind: str) -> None:
        """It does not block the loop: what is idle is closed as soon as the loop goes on."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            await use(pool)
            assert pool.close(timeout=1000) is False  # it would not end if it waited
            await aeventually(lambda: states(pool) == {})
            assert pool.close() and maker.all[0].closed

        with accounted(1) as (pool, maker):
            run_in(kind, main(pool, maker))

    @kinds
    def test_close_after_the_loop(self, kind: str) -> None:
        """Nothing can be awaited: what is there is dropped, at once."""
        with accounted(1) as (pool, maker):
            run_in(kind, use(pool))
            assert pool.close(timeout=PATIENCE)
            assert not maker.all[0].closed and pool.stats().closed == {"loop": 1}

    def test_what_can_be_closed_without_a_loop_is(self) -> None:
        """A plain close hook, or a plain ``close`` of the resource, runs on a worker."""
        closed: list[Any] = []

        class Plain:
            def close(self) -> None:
                closed.append(self)

        async def create() -> Plain:
            return Plain()

        for hooks in ({}, {"close": closed.append}):
            pool: Any = FastPool(1, factory=create, **hooks)
            thing = run_in("asyncio", use(pool))
            assert pool.close()
            eventually(lambda thing=thing: thing in closed)

    @kinds
    def test_close_wakes_who_waits(self, kind: str) -> None:
        """On every loop, with PoolClosed."""
        with accounted(1) as (pool, _), threads(kind, 2) as (one, other):
            lease = one.run(pool.aacquire())
            waits = [one.start(use(pool)), other.start(use(pool))]
            one.run(aeventually(lambda: pool.stats().waiting == 2))
            pool.close(timeout=0)
            for wait in waits:
                with pytest.raises(PoolClosed):
                    wait.result(PATIENCE)
            one.call(lease.release)

    @kinds
    def test_aclose(self, kind: str) -> None:
        """It waits for other borrowers, not for the caller, and for what is being closed."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            closing, held = Hang(), asyncio.Event()

            async def hold() -> None:
                async with pool.lease():
                    await held.wait()

            other = asyncio.ensure_future(hold())
            await aeventually(lambda: states(pool) == {"leased": 1})
            async with pool.lease():
                assert not await pool.aclose(timeout=0.01)
                maker.script["close"].append(closing)
                held.set()
                await aeventually(lambda: states(pool) == {"leased": 1, "closing": 1})
                assert not await pool.aclose(timeout=0.01)
                closing.let_go()
                assert not await pool.aclose(PATIENCE)  # its own is open still
                assert states(pool) == {"leased": 1}
            await other
            assert await pool.aclose() and states(pool) == {}

        with accounted(2) as (pool, maker):
            run_in(kind, main(pool, maker))

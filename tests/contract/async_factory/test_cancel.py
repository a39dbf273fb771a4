"""A pool of coroutines whose borrowers, hooks or loops are struck at any of their suspensions.

The task under test is cancelled, or its time is over, at its k-th suspension for k = 0, 1, 2, ...
until it gets through; or all tasks of the loop are cancelled there, those of the pool too; or the
loop ends.  After each: nothing is lent or half made, nobody waits, and the next one is served.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest

from fastpool import FastPool, PoolClosed, PoolError, _core
from support.async_factories import AsyncMaker, Hang, accounted, quiet
from support.cancel_injection import Blow, Strike, after, before, every_suspension
from support.helpers import PATIENCE, states
from support.loops import KINDS, new_loop, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)
SIZE = 2


def _everybody(task: asyncio.Task[Any], awaited: Any) -> None:
    """All tasks of the loop but the test's own, as services do when they end."""

    def cancel() -> None:
        for each in asyncio.all_tasks() - _spared:
            each.cancel()

    asyncio.get_running_loop().call_soon(cancel)


_spared: set[Any] = set()


# ---- What the task does ------------------------------------------------------------------------


async def lease(pool: Any) -> None:
    async with pool.lease():
        await asyncio.sleep(0)


async def lease_that_fails(pool: Any) -> None:
    with pytest.raises(OSError):
        async with pool.lease():
            raise OSError


async def discarded(pool: Any) -> None:
    async with pool.lease() as thing:
        pool.discard(thing)


async def aget(pool: Any) -> None:
    thing = await pool.aget()
    pool.put(thing)


async def aacquire(pool: Any) -> None:
    (await pool.aacquire()).release()


async def aacquire_as_block(pool: Any) -> None:
    async with await pool.aacquire():
        pass


async def awarm(pool: Any) -> None:
    await pool.awarm(SIZE)


async def evicting(pool: Any) -> None:
    """With the pool full of idle ones: two leases at once."""
    async with pool.lease(), pool.lease():
        pass


ACTS = [lease, lease_that_fails, discarded, aget, aacquire, aacquire_as_block, awarm, evicting]


class TestCancelledAtEveryAwait:
    """By itself; the pool's own tasks go on."""

    @kinds
    @pytest.mark.parametrize("blow", [before, after, _everybody])
    @pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
    @pytest.mark.parametrize("idle", [0, 1, SIZE])
    def test_nothing_is_lost(self, kind: str, blow: Blow, act: Any, idle: int) -> None:
        async def main(pool: Any, maker: AsyncMaker, at: int) -> bool:
            _spared.clear()
            _spared.update(asyncio.all_tasks())
            await pool.awarm(idle)
            strike = Strike(at, blow)
            task = asyncio.ensure_future(strike.over(act(pool)))
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                assert blow is _everybody and isinstance(task.exception(), PoolError), task
            for _ in range(2):  # the pool works
                async with pool.lease(PATIENCE) as one, pool.lease(PATIENCE) as other:
                    assert one is not other and not one.closed and not other.closed
            await aeventually(lambda: "leased" not in states(pool))
            assert await pool.aclose(), pool.stats()
            assert maker.made == len(maker.closings), (maker.all, pool.stats())
            return strike.hit

        def play(at: int) -> bool:
            maker = AsyncMaker(SIZE)
            pool: Any = FastPool(SIZE, factory=maker, check_after=0)
            with quiet():
                hit: bool = run_in(kind, main(pool, maker, at))
            assert not maker.faults, maker.faults
            return hit

        every_suspension(play)

    @kinds
    @pytest.mark.parametrize("blow", [before, after])
    def test_aclose(self, kind: str, blow: Blow) -> None:
        """Given up at any point, the pool closes all the same."""

        async def main(pool: Any, maker: AsyncMaker, at: int) -> bool:
            await pool.awarm(SIZE)
            strike = Strike(at, blow)
            task = asyncio.ensure_future(strike.over(pool.aclose()))
            await asyncio.wait({task})
            await aeventually(lambda: states(pool) == {})
            with pytest.raises(PoolClosed):
                await pool.aget()
            assert len(maker.closings) == SIZE
            return strike.hit

        def play(at: int) -> bool:
            maker = AsyncMaker(SIZE)
            pool: Any = FastPool(SIZE, factory=maker)
            with quiet():
                return bool(run_in(kind, main(pool, maker, at)))

        assert every_suspension(play) >= 1

    @kinds
    @pytest.mark.parametrize(("hook", "state"), [("create", "creating"), ("reset", "checking")])
    def test_a_hook_under_way_goes_on(self, kind: str, hook: str, state: str) -> None:
        """The borrower goes while its resource is made, or reset at the end of its block; the next
        one gets it."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            hang = Hang()
            maker.script[hook].append(hang)
            task = asyncio.ensure_future(lease(pool))
            await aeventually(hang.begun.is_set)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled() and states(pool) == {state: 1} and not hang.cancelled
            hang.let_go()
            await aeventually(lambda: states(pool) == {"idle": 1})
            await lease(pool)
            assert maker.made == 1

        with accounted(1) as (pool, maker):
            run_in(kind, main(pool, maker))


class TestTheEndOfALoop:
    """asyncio.run ends while much is under way; or the loop is closed without it."""

    @kinds
    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.parametrize("cancelled", [True, False])
    def test_in_the_middle_of_everything(self, kind: str, seed: int, cancelled: bool) -> None:
        """Leases, creations, checks, resets and closes under way; the next loop has all slots."""
        chance = random.Random(seed)
        users: list[Any] = []

        async def user(pool: Any) -> None:
            while True:
                try:
                    async with pool.lease() as thing:
                        await asyncio.sleep(0)
                        if chance.random() < 0.3:
                            pool.discard(thing)
                        elif chance.random() < 0.2:
                            raise OSError
                except OSError:
                    pass

        async def main(pool: Any) -> None:
            users.extend(asyncio.ensure_future(user(pool)) for _ in range(6))
            for _ in range(chance.randrange(1, 40)):
                await asyncio.sleep(0)

        async def after(pool: Any) -> None:
            async with pool.lease(PATIENCE), pool.lease(PATIENCE), pool.lease(PATIENCE):
                pass
            assert await pool.aclose()

        with accounted(3, check_after=0) as (pool, maker):
            maker.steps = chance.randrange(3)
            if cancelled:
                run_in(kind, main(pool))
            else:
                loop = new_loop(kind)
                loop.run_until_complete(main(pool))
                loop.close()
                for task in users:
                    task._log_destroy_pending = False  # these are the test's own to forget
                del task
            users.clear()
            run_in(kind, after(pool))

    @kinds
    def test_everybody_is_cancelled_and_the_loop_goes_on(self, kind: str) -> None:
        """Tasks of the pool that had not begun are begun anew: no slot is lost."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            me = asyncio.current_task()
            for turn in range(12):
                task = asyncio.ensure_future(lease(pool))
                held = await pool.aacquire()
                held.discard()  # its task is about to begin
                for _ in range(turn % 6):
                    await asyncio.sleep(0)
                for each in asyncio.all_tasks() - {me, *_spared}:
                    each.cancel()
                await asyncio.wait({task})
            await aeventually(lambda: not set(states(pool)) - {"idle"})
            assert await pool.aclose() and len(maker.closings) == maker.made

        async def spared() -> None:
            _spared.clear()
            _spared.update(asyncio.all_tasks())
            await asyncio.ensure_future(main(pool, maker))

        with accounted(2) as (pool, maker):
            run_in(kind, spared())

    def test_a_keepalive_check_that_is_cancelled(self, clock: Any) -> None:
        """With its loop going on: the resource is closed, not lost."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            await lease(pool)
            hang = Hang()
            maker.script["check"].append(hang)
            advance = asyncio.ensure_future(asyncio.to_thread(clock.advance, 11))
            await aeventually(hang.begun.is_set)
            [shard] = _core.manager(pool, "test").everyone()
            for task in list(shard.tasks.under_way):
                task.cancel()
            await advance
            await aeventually(lambda: states(pool) == {})
            assert pool.stats().closed == {"check": 1}

        with accounted(1, clock=clock, keepalive=10) as (pool, maker):
            run_in("asyncio", main(pool, maker))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_fork(self) -> None:
        """The child's pool is empty and opens its own; what the parent has is not used, closed or
        finalised there, nor are its hooks under way; the parent goes on with it."""
        told: list[str] = []

        class Thing:
            def __del__(self) -> None:
                told.append(f"finalised in {os.getpid()}")

        class Factory:
            hang = begun = False

            async def create(self) -> Thing:
                if self.hang:
                    self.begun = True
                    try:
                        await asyncio.Event().wait()
                    finally:
                        told.append("a hook was ended")
                return Thing()

            async def close(self, thing: Thing) -> None:
                told.append("closed")

        factory = Factory()
        pool: Any = FastPool(4, factory=factory)

        async def parent() -> int:
            held, other = await pool.aacquire(), await pool.aacquire()
            factory.hang = True
            served = asyncio.ensure_future(lease(pool))
            await aeventually(lambda: factory.begun)
            other.release()
            await served
            assert states(pool) == {"leased": 1, "idle": 1, "creating": 1}
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    asyncio.events._set_running_loop(None)
                    code = in_child()
                finally:
                    os._exit(code)
            _, status = os.waitpid(child, 0)
            factory.hang = False
            held.release()
            await lease(pool)
            return os.waitstatus_to_exitcode(status)

        def in_child() -> int:
            import gc

            if states(pool) or pool.stats().waiting:
                return 2
            factory.hang = False
            run_in("asyncio", lease(pool))
            run_in("asyncio", lease(pool))
            gc.collect()
            if set(told) - {f"finalised in {os.getpid()}"}:  # its own went with their loops
                return 3
            return 0 if pool.stats().created == 2 else 4

        assert run_in("asyncio", parent()) == 0
        assert pool.close()

"""A pool of coroutines whose borrowers, hooks or loops are struck at any of their suspensions.

The task under test is cancelled, or its time is over, at its k-th suspension for k = 0, 1, 2, ...
until it gets through; or all tasks of the loop are cancelled there, those of the pool too; or the
loop ends.  After each: nothing is lent or half made, nobody waits, and the next one is served.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from async_maker import AsyncMaker, Hang, accounted, quiet, threads, watched
from fastpool import FastPool, PoolClosed, PoolError, _core
from loops import KINDS, new_loop, run_in
from loops import eventually as aeventually
from support import PATIENCE, eventually, states

kinds = pytest.mark.parametrize("kind", KINDS)
SIZE = 2


# ---- The driver --------------------------------------------------------------------------------


@types.coroutine
def _observed(
    coroutine: Coroutine[Any, Any, Any], suspended: Callable[[Any], None]
) -> Generator[Any, Any, Any]:
    """Runs it and calls ``suspended(what it waits for)`` before each of its suspensions."""
    thrown: BaseException | None = None
    while True:
        try:
            awaited = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
        except StopIteration as end:
            return end.value
        suspended(awaited)
        thrown = None
        try:
            yield awaited
        except BaseException as error:
            thrown = error


class Strike:
    """Acts at suspension number ``at``."""

    def __init__(self, at: int, act: Callable[[Any], None]) -> None:
        self.at, self.act, self.seen, self.hit = at, act, 0, False

    def __call__(self, awaited: Any) -> None:
        if self.seen == self.at:
            self.hit = True
            self.act(awaited)
        self.seen += 1


def _before(task: asyncio.Task[Any], awaited: Any) -> None:
    """Cancelled while what it waits for has not come."""
    asyncio.get_running_loop().call_soon(task.cancel)


def _after(task: asyncio.Task[Any], awaited: Any) -> None:
    """Cancelled when it has come, and the task has not run yet."""
    if asyncio.isfuture(awaited):
        awaited.add_done_callback(lambda _: task.cancel())
    else:
        _before(task, awaited)


def _everybody(task: asyncio.Task[Any], awaited: Any) -> None:
    """All tasks of the loop but the test's own, as services do when they end."""
    spared = {asyncio.current_task(), *_spared}

    def cancel() -> None:
        for each in asyncio.all_tasks() - spared | {task}:
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
    @pytest.mark.parametrize("strike", [_before, _after, _everybody])
    @pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
    @pytest.mark.parametrize("idle", [0, 1, SIZE])
    def test_nothing_is_lost(self, kind: str, strike: Any, act: Any, idle: int) -> None:
        async def main(pool: Any, maker: AsyncMaker, at: int) -> bool:
            _spared.clear()
            _spared.update(asyncio.all_tasks())
            await pool.awarm(idle)
            task: Any = None
            blow = Strike(at, lambda awaited: strike(task, awaited))
            task = asyncio.ensure_future(_observed(act(pool), blow))  # type: ignore[arg-type]
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                assert strike is _everybody and isinstance(task.exception(), PoolError), task
            for _ in range(2):  # the pool works
                async with pool.lease(PATIENCE) as one, pool.lease(PATIENCE) as other:
                    assert one is not other and not one.closed and not other.closed
            await aeventually(lambda: "leased" not in states(pool))
            assert await pool.aclose(), pool.stats()
            assert maker.made == len(maker.closings), (maker.all, pool.stats())
            return blow.hit

        for at in range(30):
            maker = AsyncMaker(SIZE)
            pool: Any = FastPool(SIZE, factory=maker, check_after=0)
            with quiet():
                hit = run_in(kind, main(pool, maker, at))
            assert not maker.faults, maker.faults
            if not hit:
                break
        else:
            pytest.fail("it never gets through")

    @kinds
    @pytest.mark.parametrize("strike", [_before, _after])
    def test_aclose(self, kind: str, strike: Any) -> None:
        """Given up at any point, the pool closes all the same."""

        async def main(pool: Any, maker: AsyncMaker, at: int) -> bool:
            await pool.awarm(SIZE)
            task: Any = None
            blow = Strike(at, lambda awaited: strike(task, awaited))
            task = asyncio.ensure_future(_observed(pool.aclose(), blow))  # type: ignore[arg-type]
            await asyncio.wait({task})
            await aeventually(lambda: states(pool) == {})
            with pytest.raises(PoolClosed):
                await pool.aget()
            assert len(maker.closings) == SIZE
            return blow.hit

        for at in range(10):
            maker = AsyncMaker(SIZE)
            pool: Any = FastPool(SIZE, factory=maker)
            with quiet():
                if not run_in(kind, main(pool, maker, at)):
                    break
        else:
            pytest.fail("it never gets through")

    @kinds
    def test_what_is_being_made_stays(self, kind: str) -> None:
        """The borrower goes; the creation goes on, and the next one gets its resource."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            hang = Hang()
            maker.script["create"].append(hang)
            task = asyncio.ensure_future(lease(pool))
            await aeventually(hang.begun.is_set)
            task.cancel()
            await asyncio.wait({task})
            assert states(pool) == {"creating": 1} and not hang.cancelled
            hang.let_go()
            await aeventually(lambda: states(pool) == {"idle": 1})
            await lease(pool)
            assert maker.made == 1

        with accounted(1) as (pool, maker):
            run_in(kind, main(pool, maker))

    @kinds
    def test_what_is_being_reset_stays(self, kind: str) -> None:
        """The borrower is cancelled at the end of its block; the reset goes on."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            hang = Hang()
            maker.script["reset"].append(hang)
            task = asyncio.ensure_future(lease(pool))
            await aeventually(hang.begun.is_set)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled() and states(pool) == {"checking": 1} and not hang.cancelled
            hang.let_go()
            await aeventually(lambda: states(pool) == {"idle": 1})

        with accounted(1) as (pool, maker):
            run_in(kind, main(pool, maker))


class TestTheEndOfALoop:
    """asyncio.run ends while much is under way; or the loop is closed without it."""

    @kinds
    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.parametrize("cancelled", [True, False])
    def test_in_the_middle_of_everything(self, kind: str, seed: int, cancelled: bool) -> None:
        """Leases, creations, checks, resets and closes under way; the next loop has all places."""
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
        """Tasks of the pool that had not begun are begun anew: no place is lost."""

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
            for task in list(shard.tasks._under_way):
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


class TestRaces:
    """Loops in threads, and chance."""

    @pytest.mark.parametrize("seed", range(6))
    def test_three_loops(self, seed: int, fast_switching: None) -> None:
        """20 tasks each over cap 4, struck at random; the pool may be closed in the middle."""
        chance = random.Random(seed)
        maker = AsyncMaker(4, steps=chance.randrange(3))
        options: dict[str, Any] = {"check_after": chance.choice([0, None])}
        if seed % 2:
            options["max_uses"] = chance.randrange(1, 9)
        over = threading.Event()
        faults: list[str] = []

        async def user(pool: Any, name: object, luck: random.Random) -> None:
            for _ in range(12):
                act = luck.random()
                try:
                    async with pool.lease(luck.choice([0.0005, 0.01, 10, 10])) as thing:
                        maker.hold(thing, name)
                        try:
                            await asyncio.sleep(0 if act < 0.8 else 0.0005)
                        finally:
                            maker.hold(thing, None)
                        if act < 0.1:
                            raise OSError
                        if act < 0.2:
                            pool.discard(thing)
                except PoolClosed:
                    return
                except (PoolError, OSError):
                    pass

        async def loop_main(pool: Any, number: int) -> None:
            luck = random.Random(seed * 10 + number)
            tasks = [asyncio.ensure_future(user(pool, (number, n), luck)) for n in range(20)]
            left = set(tasks)
            while left:
                _, left = await asyncio.wait(left, timeout=luck.random() * 0.002)
                if left and luck.random() < 0.3:
                    luck.choice(sorted(left, key=tasks.index)).cancel()
            for task in tasks:
                if not task.cancelled() and task.exception() is not None:
                    faults.append(repr(task.exception()))

        with accounted(4, maker, **options) as (pool, _):
            looker = threading.Thread(target=lambda: faults.extend(watched(pool, over)))
            looker.start()
            try:
                with threads("asyncio", 3) as loops:
                    done = [loop.start(loop_main(pool, n)) for n, loop in enumerate(loops)]
                    if seed % 3 == 2:
                        eventually(lambda: maker.made > 6 or all(each.done() for each in done))
                        pool.close(timeout=0)
                    if seed % 3 == 1:
                        done.pop().result(2 * PATIENCE)
                        loops[2].end()
                    for each in done:
                        each.result(2 * PATIENCE)
                    assert pool.close()
            finally:
                over.set()
                looker.join(PATIENCE)
            assert not faults, faults[:3]

"""Loops in threads that come to one pool of coroutines at the same time, and chance."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest

from fastpool import PoolClosed, PoolError, PoolOverloaded, _core
from fastpool.pool import _loop_capacity
from fastpool.pool._loop_capacity import LoopCapacity
from support.async_factories import (
    PAUSE,
    AsyncMaker,
    Hang,
    Thing,
    accounted,
    cancelled_at_random,
    threads,
    use,
    watched,
)
from support.helpers import (
    PATIENCE,
    ThreadRunner,
    eventually,
    states,
    unattended,
    wait_for_scheduler,
)
from support.loops import KINDS

kinds = pytest.mark.parametrize("kind", KINDS)


class TestRaces:
    """The cap, the sums and the accounts hold in every snapshot."""

    def test_max_waiting_is_exact(self, runner: ThreadRunner, fast_switching: None) -> None:
        """Callers of several loops that come at the same time: not one too many waits."""
        with accounted(1, max_waiting=2) as (pool, _), threads("asyncio", 4) as loops:
            lease = loops[0].run(pool.aacquire())
            for _ in range(30):
                barrier = threading.Barrier(4)

                async def waits(barrier: threading.Barrier = barrier) -> None:
                    barrier.wait(PATIENCE)
                    async with pool.lease(timeout=2 * PATIENCE):
                        pass

                calls = [loop.start(waits()) for loop in loops]
                eventually(lambda calls=calls: sum(call.done() for call in calls) == 2)
                refused = [call.exception() for call in calls if call.done()]
                assert {type(error) for error in refused} == {PoolOverloaded}
                eventually(lambda: pool.stats().waiting == 2)
                for call in calls:
                    call.cancel()
                eventually(lambda: pool.stats().waiting == 0)
            loops[0].call(lease.release)

    @kinds
    def test_a_slot_that_comes_free_meanwhile_is_counted(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the one who closes what is idle for another loop: no loop asks for the lock to free a
        slot."""
        evict = LoopCapacity.evict_for

        def too_late(capacity: Any, hungry: list[Any]) -> None:
            if hungry and hang.begun.is_set():
                hang.let_go()
                eventually(lambda: states(pool) == {"idle": 1})
            evict(capacity, hungry)

        with accounted(2) as (pool, maker), threads(kind, 2) as (one, other):
            assert one.run(pool.awarm(2)) == 2
            hang = Hang()
            maker.script["close"].append(hang)
            wait = other.start(use(pool))
            assert hang.begun.wait(PATIENCE)
            monkeypatch.setattr(LoopCapacity, "evict_for", too_late)
            pool.resume()  # anything that has it look
            wait.result(PATIENCE)
            eventually(lambda: states(pool) == {"idle": 2})
            assert pool.stats().closed == {"evicted": 1}

    @kinds
    def test_nobody_gives_up_a_slot_where_one_is_free(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Though the one who gives it to the other loop has not come by yet."""
        monkeypatch.setattr(_loop_capacity, "SPARE_AFTER", 0.0)
        with accounted(2) as (pool, _), threads(kind, 2) as (one, other):
            first, second = [one.run(pool.aacquire()) for _ in range(2)]
            wait = other.start(use(pool))
            eventually(lambda: pool.stats().waiting == 1)
            wait_for_scheduler()  # from here on it is known that a slot is wanted
            with unattended():
                one.call(first.discard)
                eventually(lambda: states(pool) == {"leased": 1})
                one.call(second.release)
                eventually(lambda: states(pool) == {"idle": 1})
            wait.result(PATIENCE)
            eventually(lambda: states(pool) == {"idle": 2})
            assert pool.stats().closed == {"discarded": 1}

    @kinds
    def test_nobody_is_refused_while_a_slot_comes_free(self, kind: str) -> None:
        """It is there, whether it is looked for before or after that moment."""

        class Core:
            """Between two looks at it, what is being closed is closed."""

            def __init__(self, core: Any) -> None:
                self._core = core

            def slots(self) -> Any:
                found = self._core.slots()
                hang.let_go()
                eventually(lambda: not self._core.counts()["closing"])
                return found

            def __getattr__(self, name: str) -> Any:
                return getattr(self._core, name)

        with accounted(2, max_waiting=0) as (pool, maker), threads(kind, 2) as (one, other):
            hang = Hang()
            maker.script["close"].append(hang)
            held, gone = one.run(pool.aacquire()), other.run(pool.aacquire())
            other.call(gone.discard)
            assert hang.begun.wait(PATIENCE)
            shard = _core.manager(pool, "this test").cores[other.loop].manager
            core = shard.core
            shard.core = Core(core)
            one.run(use(pool))
            shard.core = core
            one.call(held.release)

    @kinds
    def test_loops_at_once(self, kind: str) -> None:
        """Four loops, cap 3: hooks and borrowers find what is their loop's; the cap and the sums
        hold in every snapshot, over the end of a loop too."""
        over = threading.Event()

        async def work(turns: int) -> None:
            async def one() -> None:
                for _ in range(turns):
                    async with pool.lease() as thing:
                        assert isinstance(thing, Thing)
                        maker.hold(thing, asyncio.current_task())
                        await asyncio.sleep(PAUSE)
                        maker.hold(thing, None)

            await asyncio.gather(*(one() for _ in range(4)))

        with accounted(3, check_after=0) as (pool, maker):
            faults: list[str] = []
            looker = threading.Thread(target=lambda: faults.extend(watched(pool, over)))
            looker.start()
            try:
                with threads(kind, 4) as loops:
                    for loop in loops[:2]:
                        loop.start(work(5)).result(3 * PATIENCE)
                    loops[0].end()
                    done = [loop.start(work(10)) for loop in loops[1:]]
                    for each in done:
                        each.result(3 * PATIENCE)
            finally:
                over.set()
                looker.join(PATIENCE)
            assert not faults, faults[:2]

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
            faults.extend(await cancelled_at_random(tasks, luck))

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

"""A SharedPool of coroutines: slots of resources that belong to event loops, under one number."""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import suppress
from typing import Any

import pytest

from fastpool import PoolClosed, PoolError, PoolOverloaded, PoolTimeout, SharedPool
from fastpool.fleet import LocalBudget
from support.async_factories import (
    AsyncMaker,
    Hang,
    LoopThread,
    accounted_shared,
    cancelled_at_random,
    threads,
    use,
)
from support.helpers import PATIENCE, eventually, states
from support.loops import KINDS, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)


class TestSlots:
    """Leases of one loop share its resources, and only those."""

    @kinds
    def test_of_one_loop(self, kind: str) -> None:
        """Two leases of one resource, then one more is opened; the least loaded gets the next."""

        async def main(pool: Any) -> None:
            leases = [await pool.aacquire() for _ in range(3)]
            assert [lease.resource.number for lease in leases] == [0, 0, 1]
            async with pool.lease() as thing:
                assert thing.number == 1
                with pytest.raises(PoolTimeout):
                    await pool.aacquire(timeout=0)
            stats = pool.stats()
            assert (stats.slots, stats.leases, stats.leased, stats.open) == (2, 3, 2, 2)
            assert len(pool.leases()) == 3 and "3 leases on 2 of 0 to 2" in repr(pool)
            for lease in leases:
                lease.release()
            thing = await pool.aget()
            assert pool.ended(thing) >= 2 and pool.info(thing).uses >= 3
            pool.put(thing)

        with accounted_shared((0, 2), slots=2) as (pool, maker):
            run_in(kind, self.closed(pool, main))
            assert len(maker.closings) == maker.made == 2

    async def closed(self, pool: Any, main: Any) -> None:
        await main(pool)
        assert await pool.aclose()

    @kinds
    def test_each_loop_has_its_own(self, kind: str) -> None:
        """A slot that is free on one loop is none for a task of another."""
        with accounted_shared((0, 2), slots=9) as (pool, _), threads(kind, 2) as (one, other):
            first, second = one.run(pool.aacquire()), other.run(pool.aacquire())
            assert first.resource.loop is one.loop and second.resource.loop is other.loop
            assert one.run(use(pool)) is first.resource
            assert pool.stats().leases == 2
            second.release()  # in whatever thread
            one.call(first.release)
            eventually(lambda: states(pool) == {"idle": 2})

    def test_threads_are_told_what_to_use(self) -> None:
        """As of a FastPool: TypeError for what a thread cannot have, whatever it asks."""
        with accounted_shared(1) as (pool, _):
            for call in (pool.get, pool.acquire, pool.lease().__enter__, pool.open):
                with pytest.raises(TypeError, match="for tasks alone"):
                    call()
            with pytest.raises(TypeError, match="for tasks alone"):
                pool.warm(1)
            with pytest.raises(TypeError, match="for tasks alone"):
                pool.add(object())
            for act in (pool.put, pool.drain, pool.penalize, pool.ended, pool.info):
                with pytest.raises(ValueError, match="did not make"):
                    act(object())
            pool.close()
            with pytest.raises(PoolClosed):
                pool.get()


class TestNumbers:
    """The least and the most hold over all loops."""

    @kinds
    def test_what_is_idle_elsewhere_makes_way(self, kind: str) -> None:
        with accounted_shared((0, 1), slots=4) as (pool, maker), threads(kind, 2) as loops:
            for turn in range(4):
                assert loops[turn % 2].run(use(pool)).number == turn
            assert pool.stats().closed == {"evicted": 3}
            assert [thing.number for thing in maker.closings] == [0, 1, 2]

    @kinds
    def test_a_loop_with_nothing_is_not_starved(self, kind: str) -> None:
        """Though nothing is given back: what carries least takes no more leases, and goes last."""
        with accounted_shared((0, 1), slots=4) as (pool, _), threads(kind, 2) as (one, other):
            held = one.run(pool.aacquire())
            thing = other.run(use(pool))
            assert thing.loop is other.loop and not held.resource.closed
            assert pool.stats().draining == 1
            one.call(held.release)
            eventually(lambda: pool.stats().closed == {"evicted": 1})

    @kinds
    def test_the_least_is_kept_on_the_loop_that_came_last(self, kind: str) -> None:
        with accounted_shared((2, 4)) as (pool, maker), threads(kind, 1) as [one]:
            one.run(use(pool))
            eventually(lambda: states(pool) == {"idle": 2})
            pool.resize((3, 4))
            eventually(lambda: states(pool) == {"idle": 3})
            pool.resize(1)
            eventually(lambda: states(pool) == {"idle": 1})
            assert pool.stats().closed == {"surplus": 2} and maker.made == 3
            assert pool.items == (1, 1)

    @kinds
    def test_warm_and_open(self, kind: str) -> None:
        async def main(pool: Any) -> None:
            await pool.aopen(wait=True)
            assert pool.stats().idle == 1
            assert await pool.awarm(3) == 3
            assert await pool.acheck_idle() == 0

        with accounted_shared((1, 3)) as (pool, maker), threads(kind, 1) as [one]:
            one.run(main(pool))
            assert len(maker.checks) == 3

    @kinds
    def test_max_waiting(self, kind: str) -> None:
        """Over all loops: who waits for a slot that is coming does not count."""
        with (
            accounted_shared((0, 1), slots=1, max_waiting=1, timeout=None) as (pool, maker),
            threads(kind, 1) as [one],
        ):
            hang = Hang()
            maker.script["create"].append(hang)
            first = one.start(pool.aacquire())
            assert hang.begun.wait(PATIENCE)
            second = one.start(pool.aacquire())
            eventually(lambda: pool.stats().waiting == 2)
            hang.let_go()
            lease = first.result(PATIENCE)
            with pytest.raises(PoolOverloaded):
                one.run(pool.aacquire())
            one.call(lease.release)
            one.call(second.result(PATIENCE).release)


class TestEnds:
    """What drains, what is renewed, and loops that are closed."""

    @kinds
    def test_drain_and_replace(self, kind: str) -> None:
        with accounted_shared((0, 2)) as (pool, maker), threads(kind, 1) as [one]:
            lease = one.run(pool.aacquire())
            pool.replace(lease.resource)
            eventually(lambda: pool.stats().draining == 1)
            assert maker.made == 2 and not lease.resource.closed
            other = one.run(use(pool))
            assert other is not lease.resource
            one.call(lease.release)
            eventually(lambda: pool.stats().closed == {"flushed": 1})
            pool.drain(other)
            eventually(lambda: pool.stats().closed == {"flushed": 2})

    @kinds
    def test_replaced_where_the_most_are_in_service(self, kind: str) -> None:
        """With two loops at the one pool: another is opened first, beside it."""
        with accounted_shared((0, 1)) as (pool, maker), threads(kind, 2) as (other, one):
            other.run(use(pool))
            lease = one.run(pool.aacquire())
            pool.replace()
            eventually(lambda: pool.stats().draining == 1)
            assert pool.stats().open == 2 and maker.all[-1].loop is one.loop
            one.call(lease.release)
            eventually(lambda: pool.stats().closed == {"evicted": 1, "flushed": 1})

    @kinds
    def test_suspend_and_listeners(self, kind: str) -> None:
        said: list[str] = []

        class Listener:
            def created(self, pool: Any, seconds: float) -> None:
                said.append("created")

            def closed(self, pool: Any, why: str) -> None:
                said.append(why)

        with accounted_shared((0, 2)) as (pool, _), threads(kind, 2) as loops:
            pool.add_listener(Listener())
            loops[0].run(use(pool))
            pool.suspend()
            waits = [loop.start(use(pool)) for loop in loops]
            eventually(lambda: pool.stats().waiting == 2)
            pool.resume()
            assert [each.result(PATIENCE).loop for each in waits] == [one.loop for one in loops]
            pool.flush()
            eventually(lambda: sorted(said) == ["created"] * 2 + ["flushed"] * 2)

    @kinds
    def test_a_budget(self, kind: str, tmp_path: Any) -> None:
        """A permit for each resource, on whatever loop."""
        budget = LocalBudget(tmp_path / "budget", 2)
        with (
            accounted_shared((0, 4), slots=1, budget=budget) as (pool, _),
            threads(kind, 2) as loops,
        ):
            leases = [loop.run(pool.aacquire()) for loop in loops]
            with pytest.raises(PoolTimeout) as refused:
                loops[0].run(pool.aacquire(timeout=0.05))
            assert refused.value.phase == "budget"
            for loop, lease in zip(loops, leases, strict=True):
                loop.call(lease.release)

    @kinds
    def test_why_it_was_closed(self, kind: str) -> None:
        """A discard and an error, each closed on its loop with its last lease."""

        async def main(pool: Any) -> None:
            lease = await pool.aacquire()
            with pytest.raises(ConnectionError):
                async with pool.lease():
                    raise ConnectionError
            assert pool.stats().draining == 1
            lease.release()
            other = await pool.aacquire()
            other.discard()
            await aeventually(lambda: pool.stats().closed == {"error": 1, "discarded": 1})

        with accounted_shared((0, 1)) as (pool, _), threads(kind, 1) as [one]:
            one.run(main(pool))

    @kinds
    def test_flush_and_check(self, kind: str) -> None:
        """A resource that fails its check is closed, and the caller gets another."""
        with accounted_shared((0, 1), check_after=0) as (pool, maker), threads(kind, 1) as [one]:
            one.run(use(pool))
            one.run(use(pool))
            maker.script["check"].append(False)
            assert one.run(use(pool)).number == 1
            pool.flush()
            eventually(lambda: pool.stats().closed == {"check": 1, "flushed": 1})

    @kinds
    def test_a_closed_loop_gives_up_what_it_had(self, kind: str) -> None:
        """Leases under way too: they end with it, and giving them back does nothing more."""
        with accounted_shared((0, 1), slots=3) as (pool, maker), threads(kind, 1) as [other]:
            one = LoopThread(kind)
            leases = [one.run(pool.aacquire()) for _ in range(2)]
            one.end()
            assert other.run(use(pool)).loop is other.loop
            assert pool.stats().closed == {"loop": 1} and pool.stats().leases == 0
            leases[0].__exit__(None, None, None)
            with suppress(PoolError):  # it may say that it was given back by another way
                leases[1].release()
            assert maker.made == 2 and pool.stats().leases == 0

    @kinds
    def test_who_waits_has_what_a_loop_leaves(self, kind: str) -> None:
        """A task of another loop, for which nothing was free."""
        with accounted_shared((0, 1), slots=1) as (pool, _), threads(kind, 1) as [other]:
            one = LoopThread(kind)
            held = one.run(pool.aacquire())
            waiting = other.start(use(pool))
            eventually(lambda: pool.stats().waiting == 1)
            one.end()
            assert waiting.result(PATIENCE).loop is other.loop
            with suppress(PoolError):
                held.release()

    @kinds
    def test_waiters_end_with_their_loop(self, kind: str) -> None:
        """Nothing is kept for them: who waits on another loop is served."""
        with accounted_shared((0, 1), slots=1) as (pool, _), threads(kind, 1) as [other]:
            one = LoopThread(kind)
            held = other.run(pool.aacquire())
            thing = held.resource
            lost = [one.start(pool.aacquire()) for _ in range(3)]
            eventually(lambda: pool.stats().waiting == 3)
            waiting = other.start(use(pool))
            eventually(lambda: pool.stats().waiting == 4)
            one.end()
            other.call(held.release)
            assert waiting.result(PATIENCE) is thing
            eventually(lambda: pool.stats().waiting == 0)
            assert not any(each.done() for each in lost)
            lost.clear()
            gc.collect()
            assert other.run(use(pool)) is thing

    @kinds
    def test_abort_is_awaited(self, kind: str) -> None:
        ended: list[Any] = []

        async def abort(thing: Any) -> None:
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is thing.loop
            ended.append(thing)

        options = {"drain_timeout": 0.001, "abort": abort}
        with accounted_shared((0, 1), **options) as (pool, _), threads(kind, 1) as [one]:
            lease = one.run(pool.aacquire())
            pool.drain(lease.resource)
            eventually(lambda: ended == [lease.resource])
            one.call(lease.release)

    def test_a_pool_that_shrinks(self, clock: Any) -> None:
        """What was not needed for ``shrink_after`` goes, one at a time, down to the least."""
        options = {"shrink_after": 60, "slots": 1, "clock": clock, "idle_timeout": None}
        with accounted_shared((1, 3), **options) as (pool, _), threads("asyncio", 1) as [one]:
            leases = [one.run(pool.aacquire()) for _ in range(3)]
            for lease in leases:
                one.call(lease.release)
            for left in (3, 2, 1, 1):
                clock.advance(61)
                eventually(lambda left=left: states(pool) == {"idle": left})

    @kinds
    def test_close_waits_for_no_loop_that_stands_still(self, kind: str) -> None:
        with accounted_shared((0, 1)) as (pool, _), threads(kind, 1) as [one]:
            lease = one.run(pool.aacquire())
            assert not pool.close(timeout=0)
            with pytest.raises(PoolClosed):
                one.run(use(pool))
            one.call(lease.release)
            eventually(lambda: pool.stats().closed == {"closed": 1})
            assert pool.close(PATIENCE)


@pytest.mark.parametrize("seed", range(4))
def test_two_loops_that_cancel(seed: int, fast_switching: None) -> None:
    """Nothing is lost or lent twice: tasks of two loops, struck at random; in the end no slot is
    taken, and in no snapshot are more in service than may be."""
    chance = random.Random(seed)
    maker = AsyncMaker(steps=chance.randrange(3))
    options: dict[str, Any] = {
        "slots": chance.choice([1, 3]),
        "check_after": chance.choice([0, None]),
        "max_uses": chance.choice([None, 5]),
    }
    most = chance.choice([1, 3])
    faults: list[str] = []

    async def user(pool: Any, luck: random.Random) -> None:
        for _ in range(8):
            act = luck.random()
            try:
                async with pool.lease(luck.choice([0.0005, 0.01, 10])) as thing:
                    if thing.closed or thing.loop is not asyncio.get_running_loop():
                        faults.append(f"lent {thing}")
                    await asyncio.sleep(0 if act < 0.8 else 0.0005)
                    if thing.closed and not pool.closed:
                        faults.append(f"closed in use: {thing}")
                    if act < 0.1:
                        raise ConnectionError
            except (PoolError, ConnectionError):
                pass
            stats = pool.stats()
            states_sum = stats.idle + stats.leased + stats.creating + stats.checking + stats.closing
            if states_sum != stats.open or stats.open > 2 * most:
                faults.append(repr(stats))

    async def main(pool: Any, number: int) -> None:
        luck = random.Random(seed * 10 + number)
        tasks = [asyncio.ensure_future(user(pool, luck)) for _ in range(10)]
        faults.extend(await cancelled_at_random(tasks, luck))

    with accounted_shared((0, most), maker, **options) as (pool, _):
        with threads("asyncio", 2) as loops:
            done = [loop.start(main(pool, n)) for n, loop in enumerate(loops)]
            for each in done:
                each.result(2 * PATIENCE)
            eventually(lambda: pool.stats().leases == 0)
            assert pool.close()
        assert not faults, faults[:3]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_pool_collected(collect: Any) -> None:
    """What is idle is closed on its loop."""
    maker = AsyncMaker()
    with threads("asyncio", 1) as [one]:
        pool: Any = SharedPool(maker.create, close=maker.close, items=(0, 2))
        one.run(use(pool))
        del pool
        eventually(lambda: (collect(), len(maker.closings) == 1)[1])

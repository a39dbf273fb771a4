"""One pool of coroutines over several event loops: whose place it is, and who gives up which."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from typing import Any

import pytest

from async_maker import PAUSE, AsyncMaker, Hang, Thing, accounted, borrowed, threads, watched
from fastpool import FastPool, PoolDeadlock, PoolOverloaded, PoolTimeout, _core
from fastpool._shards import SPARE_AFTER
from loops import KINDS, queued, run_in
from loops import eventually as aeventually
from support import PATIENCE, Crew, eventually, states

kinds = pytest.mark.parametrize("kind", KINDS)


async def use(pool: Any, **options: Any) -> Any:
    async with pool.lease(**options) as thing:
        return thing


class TestEviction:
    """What one loop has is closed there for another, when the cap is reached."""

    @kinds
    def test_a_place_moves_between_loops(self, kind: str) -> None:
        """Cap 1 over two loops: to and fro, each time closed by the loop that made it."""
        with accounted(1) as (pool, maker), threads(kind, 2) as loops:
            for turn in range(6):
                assert loops[turn % 2].run(use(pool)).number == turn
            assert pool.stats().closed == {"evicted": 5}
            assert [thing.number for thing in maker.closings] == [0, 1, 2, 3, 4]

    @kinds
    def test_the_idle_longest_goes_first(self, kind: str, clock: Any) -> None:
        """Over all loops, whatever order they were made in."""
        with accounted(3, clock=clock) as (pool, maker), threads(kind, 3) as (one, two, three):
            a, b = one.run(pool.aget()), one.run(pool.aget())
            c = two.run(pool.aget())
            for loop, thing in ((one, b), (two, c), (one, a)):
                clock.advance(1)
                loop.call(pool.put, thing)
                eventually(lambda: "checking" not in states(pool))
            for expected in (b, c, a):
                assert three.run(pool.aget()) not in (a, b, c)
                assert maker.closings[-1] is expected
            for thing in maker.all[3:]:
                pool.put(thing)

    @kinds
    def test_not_while_there_is_room(self, kind: str) -> None:
        """Nor for a loop that has something idle itself."""
        with accounted(3) as (pool, _), threads(kind, 2) as (one, other):
            one.run(use(pool))
            other.run(use(pool))
            other.run(use(pool))
            assert pool.stats().created == 2
            lease = other.run(pool.aacquire())
            other.run(use(pool))
            other.call(lease.release)
            eventually(lambda: states(pool) == {"idle": 3})
            assert pool.stats().closed == {}

    @kinds
    @pytest.mark.parametrize("back", ["put", "release", "block"])
    def test_what_comes_back_later(self, kind: str, back: str) -> None:
        """All is lent when the other loop begins to wait."""
        with accounted(1) as (pool, maker), threads(kind, 2) as (one, other):
            over = threading.Event()
            if back == "block":
                held = one.start(borrowed(pool, maker, over.is_set))
                eventually(lambda: states(pool) == {"leased": 1})
            else:
                lease = one.run(pool.aacquire())
            waits = other.start(use(pool))
            eventually(lambda: pool.stats().waiting == 1)
            if back == "block":
                over.set()
                held.result(PATIENCE)
            elif back == "put":
                pool.put(lease.resource)
            else:
                one.call(lease.release)
            assert waits.result(PATIENCE).number == 1

    @kinds
    def test_a_loop_with_nothing_is_not_starved(self, kind: str) -> None:
        """Others that are always busy give up what comes back next, be it only one of many: here
        the first is never given back."""
        maker = AsyncMaker()
        with (
            accounted(2, maker, factory=maker.create, close=maker.close) as (pool, _),
            threads(kind, 2) as (one, other),
        ):
            over = threading.Event()

            async def busy() -> None:
                while not over.is_set():
                    async with pool.lease() as thing:
                        maker.hold(thing, asyncio.current_task())
                        await asyncio.sleep(0)
                        maker.hold(thing, None)

            held = one.run(pool.aacquire())
            work = [one.start(busy()) for _ in range(4)]
            eventually(lambda: pool.stats().waiting >= 2)
            for _ in range(3):
                thing = other.run(use(pool))
                assert thing.loop is other.loop
            over.set()
            for each in work:
                each.result(PATIENCE)
            assert not held.resource.closed
            one.call(held.release)

    @kinds
    def test_who_waited_longer_goes_first(self, kind: str) -> None:
        """A loop with nothing does not take what callers of another wait for longer; and nothing
        is closed but for it."""
        maker = AsyncMaker()
        with (
            accounted(1, maker, factory=maker.create, close=maker.close) as (pool, _),
            threads(kind, 2) as (one, other),
        ):
            order: list[str] = []

            async def taking(name: str) -> None:
                async with pool.lease():
                    order.append(name)

            lease = one.run(pool.aacquire())
            waits = []
            for number, (loop, name) in enumerate(
                [(one, "a"), (one, "b"), (other, "c"), (one, "d"), (other, "e")]
            ):
                waits.append(loop.start(taking(name)))
                eventually(lambda n=number: pool.stats().waiting == n + 1)
            time.sleep(1.2 * SPARE_AFTER)  # for loops with nothing to be entitled to a place
            one.call(lease.release)
            for wait in waits:
                wait.result(PATIENCE)
            assert order == ["a", "b", "c", "d", "e"]
            assert maker.made == 4  # for a and b, c, d, e

    @kinds
    def test_a_loop_that_does_not_run(self, kind: str) -> None:
        """Its resource cannot be closed: the waiter's time-out applies; what others give back is
        taken in its stead."""
        with accounted(2) as (pool, maker), threads(kind, 3) as (still, one, other):
            still.run(use(pool))
            lease = one.run(pool.aacquire())
            go_on = still.pause()
            with pytest.raises(PoolTimeout):
                other.run(use(pool, timeout=0.05))
            assert states(pool) == {"leased": 1, "closing": 1}
            go_on()
            assert other.run(use(pool)).loop is other.loop  # it went on: its place came free
            still.stop()
            one.call(lease.release)
            assert {thing.loop for thing in maker.all} == {t.loop for t in (still, one, other)}

    @kinds
    def test_a_place_of_a_stopped_loop_is_not_counted_on(self, kind: str) -> None:
        """A loop that was stopped with a resource keeps its place; others do not wait for it, but
        for what runs."""
        with accounted(2) as (pool, maker), threads(kind, 3) as (still, one, other):
            still.run(use(pool))
            lease = one.run(pool.aacquire())
            still.stop()
            waits = other.start(use(pool))
            eventually(lambda: states(pool) == {"leased": 1, "closing": 1})
            one.call(lease.release)
            assert waits.result(PATIENCE).loop is other.loop
            assert maker.closings[-1].loop is one.loop

    @kinds
    def test_tries_of_a_stopped_loop_stop_no_other(self, kind: str) -> None:
        """Creations that were begun on a loop that does not go on do not use up max_creating."""
        with (
            accounted(4, max_creating=1) as (pool, maker),
            threads(kind, 2) as (still, other),
        ):
            hang = Hang()
            maker.script["create"].append(hang)
            still.start(use(pool))
            assert hang.begun.wait(PATIENCE)
            still.stop()
            assert other.run(use(pool, timeout=PATIENCE)).loop is other.loop

    @kinds
    def test_a_closed_loop(self, kind: str) -> None:
        """Its places are free at once, for who waits too; nothing is awaited."""
        with accounted(2) as (pool, maker), threads(kind, 2) as (one, other):
            held, _ = one.run(pool.aget()), one.run(pool.aget())
            one.call(pool.put, maker.all[1])
            one.stop()
            waits = [other.start(borrowed(pool, maker, lambda: maker.made == 4)) for _ in "ab"]
            one.end()
            for wait in waits:
                wait.result(PATIENCE)
            assert not held.closed and not maker.all[1].closed
            assert pool.stats().closed.get("loop") == 2 - len(maker.closings)
            with pytest.raises(ValueError, match="has closed"):
                pool.put(held)

    @kinds
    def test_one_run_after_another(self, kind: str) -> None:
        """A second asyncio.run on the same pool; what the first has left is dropped."""
        with accounted(1, min_idle=1) as (pool, maker):
            made = 0
            for _ in range(4):
                assert run_in(kind, use(pool)).number == made
                made = maker.made
                assert states(pool) == {} and pool.stats().closed == {"loop": made}
            assert not maker.closings


class TestOptions:
    """Options count over all loops together."""

    @kinds
    def test_max_idle(self, kind: str) -> None:
        with accounted(4, max_idle=1) as (pool, maker), threads(kind, 2) as (one, other):
            leases = [(t, t.run(pool.aacquire())) for t in (one, one, other, other)]
            for loop, lease in leases:
                loop.call(lease.release)
                loop.run(aeventually(lambda: "leased" not in states(pool) or True))
            eventually(lambda: states(pool) == {"idle": 1})
            assert pool.stats().closed == {"surplus": 3}

    @kinds
    def test_min_idle(self, kind: str) -> None:
        """Counted over all loops, and refilled on the loop that used the pool last."""
        with accounted(4, min_idle=2) as (pool, maker), threads(kind, 2) as (one, other):
            held = one.run(pool.aacquire())
            eventually(lambda: states(pool) == {"leased": 1, "idle": 2})
            mine = other.run(pool.aacquire())
            assert maker.made == 4  # no more: two are idle still
            one.call(held.discard)
            eventually(lambda: states(pool) == {"leased": 1, "idle": 2})
            other.call(mine.release)
            eventually(lambda: states(pool) == {"idle": 3})
            pool.resize(2)
            pool.flush()
            eventually(lambda: states(pool) == {"idle": 2} and len(maker.closings) >= 4)
            assert [t.loop for t in maker.all if not t.closed] == [other.loop] * 2

    @kinds
    def test_min_idle_when_a_loop_has_gone(self, kind: str) -> None:
        """Those that are left make up for what it took with it."""
        with accounted(4, min_idle=2) as (pool, maker), threads(kind, 2) as (one, other):
            one.call(one.run(pool.aacquire()).discard)
            eventually(lambda: states(pool) == {"idle": 2})
            other.call(other.run(pool.aacquire()).discard)
            eventually(lambda: states(pool) == {"idle": 2})
            assert {t.loop for t in maker.all if not t.closed} == {one.loop}
            one.end()
            pool.stats()  # anybody looks
            eventually(lambda: states(pool) == {"idle": 2})
            assert {t.loop for t in maker.all[-2:]} == {other.loop}

    @kinds
    def test_max_waiting(self, kind: str) -> None:
        """One line for all loops, as far as this counts."""
        with accounted(1, max_waiting=1) as (pool, _), threads(kind, 2) as (one, other):
            lease = one.run(pool.aacquire())
            waits = other.start(use(pool))
            eventually(lambda: pool.stats().waiting == 1)
            for loop in (one, other):
                with pytest.raises(PoolOverloaded):
                    loop.run(use(pool))
            one.call(lease.release)
            waits.result(PATIENCE)
            assert pool.stats().overloads == 2

    @kinds
    def test_max_waiting_0(self, kind: str) -> None:
        """Nobody waits; but one for whom a creation starts, or a place comes free, is no waiter."""
        with accounted(2, max_waiting=0) as (pool, maker), threads(kind, 2) as (one, other):
            first = one.run(pool.aacquire())
            hang = Hang()
            maker.script["create"].append(hang)
            second = other.start(pool.aacquire())
            assert hang.begun.wait(PATIENCE)
            with pytest.raises(PoolOverloaded):
                one.run(use(pool))
            hang.let_go()
            with pytest.raises(PoolOverloaded):
                other.run(use(pool))
            other.call(second.result(PATIENCE).release)
            eventually(lambda: states(pool) == {"idle": 1, "leased": 1})
            one.run(use(pool))  # evicts that one
            one.call(first.release)

    def test_max_waiting_is_exact(self, crew: Crew, fast_switching: None) -> None:
        """Callers of several loops that come at the same time: not one too many waits."""
        with accounted(1, max_waiting=2) as (pool, _), threads("asyncio", 4) as loops:
            lease = loops[0].run(pool.aacquire())
            for _ in range(30):
                barrier = threading.Barrier(4)

                def come(index: int, barrier: threading.Barrier = barrier) -> Any:
                    async def waits() -> None:
                        barrier.wait(PATIENCE)
                        async with pool.lease(timeout=0.02):
                            pass

                    return loops[index].start(waits()).exception(PATIENCE)

                tasks = crew.together(4, come)
                kinds_ = [type(task.result()) for task in tasks]
                assert sorted(kind.__name__ for kind in kinds_) == [
                    *["PoolOverloaded"] * 2,
                    *["PoolTimeout"] * 2,
                ]
            loops[0].call(lease.release)

    @kinds
    def test_deadlock(self, kind: str) -> None:
        """Per task, over all that the cap allows; not when another holds one."""

        async def all_of_them(n: int) -> None:
            async with pool.lease():
                if n > 1:
                    await all_of_them(n - 1)
                else:
                    await use(pool, timeout=0.02)

        with accounted(2) as (pool, _), threads(kind, 2) as (one, other):
            with pytest.raises(PoolDeadlock):
                one.run(all_of_them(2))
            lease = other.run(pool.aacquire())
            with pytest.raises(PoolTimeout):
                one.run(all_of_them(1))
            other.call(lease.release)

    @kinds
    def test_timeout_0(self, kind: str) -> None:
        """What is idle at once; else a refusal, and a creation begins in the background."""
        with accounted(2) as (pool, _), threads(kind, 1) as [one]:
            with pytest.raises(PoolTimeout):
                one.run(pool.aget(timeout=0))
            eventually(lambda: states(pool) == {"idle": 1})
            assert one.run(use(pool, timeout=0)).number == 0

    @kinds
    def test_suspend(self, kind: str) -> None:
        """On every loop, those that are first seen meanwhile too."""
        with accounted(2) as (pool, _), threads(kind, 2) as (one, other):
            one.run(use(pool))
            pool.suspend()
            waits = [one.start(use(pool)), other.start(use(pool))]
            eventually(lambda: pool.stats().waiting == 2)
            assert states(pool) == {"idle": 1}
            pool.resume()
            assert {wait.result(PATIENCE).loop for wait in waits} == {one.loop, other.loop}

    @kinds
    def test_resize(self, kind: str) -> None:
        """Up serves who waits; down closes what is idle longest, then what comes back."""
        maker = AsyncMaker(4)
        with (
            accounted(None, maker, factory=maker) as (pool, _),
            threads(kind, 2) as (one, other),
        ):
            pool.resize(1)
            first = one.run(pool.aacquire())
            waits = [other.start(pool.aacquire()) for _ in range(3)]
            eventually(lambda: pool.stats().waiting == 3)
            pool.maxsize = 4
            leases = [wait.result(PATIENCE) for wait in waits]
            one.call(first.release)
            eventually(lambda: states(pool) == {"idle": 1, "leased": 3})
            pool.resize(3)
            eventually(lambda: states(pool) == {"leased": 3})
            assert maker.all[0].closed
            pool.resize(2)
            pool.resize(1)
            for lease in leases:
                other.call(lease.release)
            eventually(lambda: states(pool) == {"idle": 1})
            assert pool.stats().closed == {"surplus": 3} and pool.maxsize == 1

    @kinds
    def test_flush_and_leases(self, kind: str) -> None:
        """Over all loops; what is lent is closed when it comes back."""
        with accounted(3, leak_after=60) as (pool, _), threads(kind, 2) as (one, other):
            a, b = one.run(pool.aacquire()), other.run(pool.aacquire())
            one.run(use(pool))
            holders = pool.leases()
            assert {h.resource for h in holders} == {a.resource, b.resource}
            assert all("in use" not in h.stack[0] and h.stack for h in holders)
            pool.flush()
            eventually(lambda: states(pool) == {"leased": 2})
            one.call(a.release)
            other.call(b.release)
            eventually(lambda: states(pool) == {})
            assert pool.stats().closed == {"flushed": 3} and pool.leases() == []

    @kinds
    def test_warm(self, kind: str) -> None:
        """Counts what others have; a time-out and a failure are told."""
        with accounted(3) as (pool, maker), threads(kind, 2) as (one, other):
            one.run(use(pool))
            assert other.run(pool.awarm(3)) == 3
            assert [t.loop for t in maker.all] == [one.loop, other.loop, other.loop]
            pool.flush()
            eventually(lambda: states(pool) == {})
            maker.script["create"] += [OSError("down"), Hang()]
            with pytest.raises(OSError, match="down"):
                other.run(pool.awarm(1))
            with pytest.raises(PoolTimeout):
                other.run(pool.awarm(1, timeout=0.02))
            other.stop()

    @kinds
    def test_times(self, kind: str, clock: Any, caplog: pytest.LogCaptureFixture) -> None:
        """keepalive, idle_timeout, max_lifetime and leak_after, moved by hand; on every loop."""
        options = {"keepalive": 10, "idle_timeout": 100, "max_lifetime": 1000, "leak_after": 5}
        with (
            accounted(3, clock=clock, check_after=None, **options) as (pool, maker),
            threads(kind, 2) as (one, other),
        ):
            a, b = one.run(use(pool)), other.run(use(pool))
            clock.advance(11)
            assert set(maker.checks) == {a, b} and states(pool) == {"idle": 2}
            lease = one.run(pool.aacquire())
            clock.advance(6)
            assert sum("a lease is held" in r.message for r in caplog.records) == 1
            clock.advance(120)
            assert maker.closings == [b] and pool.stats().closed == {"idle": 1}
            clock.advance(1000)
            assert not a.closed
            one.call(lease.release)
            eventually(lambda: a.closed)
            assert pool.stats().closed == {"idle": 1, "lifetime": 1}

    @kinds
    def test_time_goes_on_after_a_loop(
        self, kind: str, clock: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What a closed loop has left is no business of the housekeeper, and it says nothing."""
        with accounted(2, clock=clock, keepalive=10) as (pool, maker):
            run_in(kind, use(pool))
            clock.advance(11)
            assert pool.stats().closed == {"loop": 1} and not maker.checks
        assert not caplog.records

    @kinds
    def test_discard_on_and_max_uses(self, kind: str) -> None:
        async def fails(error: type[BaseException]) -> None:
            with pytest.raises(error):
                async with pool.lease():
                    raise error

        with accounted(1, max_uses=3, discard_on=OSError) as (pool, _), threads(kind, 1) as [one]:
            one.run(fails(OSError))
            one.run(fails(ValueError))
            for _ in range(2):
                one.run(use(pool))
            assert pool.stats().closed == {"error": 1, "uses": 1} and states(pool) == {}

    @kinds
    def test_context_of_hooks(self, kind: str) -> None:
        """Hooks see the context that the pool was made in, not that of the first borrower."""
        import contextvars

        request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
        seen = set()

        class Maker(AsyncMaker):
            async def _act(self, hook: str) -> Any:
                seen.add(request.get())

        async def main() -> None:
            request.set("first")
            await use(pool)
            request.set("second")
            await use(pool)

        request.set("maker")
        with accounted(1, Maker(), check_after=0) as (pool, _):
            run_in(kind, main())
        assert seen == {"maker"}


class TestLosses:
    """Leases, loops and pools that nobody ends."""

    @kinds
    def test_a_lease_collected(self, kind: str, collect: Any) -> None:
        """It closes its resource, on its loop, and warns."""
        with accounted(1) as (pool, maker), threads(kind, 1) as [one]:
            lease = [one.run(pool.aacquire())]
            with pytest.warns(ResourceWarning, match="collected unreleased"):
                lease.clear()
                collect()
            eventually(lambda: states(pool) == {})
            assert pool.stats().closed == {"lost": 1} and len(maker.closings) == 1

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
            maker.settle_accounts()

    def test_a_pool_collected_after_its_loop(self, collect: Any) -> None:
        """Nothing is open then: no warning."""
        maker = AsyncMaker()
        pool: Any = FastPool(1, factory=maker)
        run_in("asyncio", use(pool))
        del pool
        collect()
        maker.settle_accounts()

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
                gc.collect()
                await aeventually(lambda: sum(ref() is not None for ref in alive) <= 1 + 2 * 250)

        for _ in range(4):
            run_in("asyncio", main())
            pools.clear()
        run_in("asyncio", asyncio.sleep(0))

        def left() -> int:
            collect()
            return sum(ref() is not None for ref in alive)

        eventually(lambda: left() == 0)

    def test_reference_counts_stay(self) -> None:
        """10^4 leases, hits and misses: no object more than before."""
        import sys

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


class TestOrder:
    """Who is served when, and with what."""

    @kinds
    def test_first_come_first_served_within_a_loop(self, kind: str) -> None:
        async def main() -> None:
            order: list[int] = []

            async def taking(number: int) -> None:
                async with pool.lease():
                    order.append(number)
                    await asyncio.sleep(0)

            lease = await pool.aacquire()
            tasks = [await queued(pool, n + 1, taking(n)) for n in range(8)]
            lease.release()
            await asyncio.gather(*tasks)
            assert order == list(range(8))

        with accounted(1) as (pool, _):
            run_in(kind, main())

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

    def test_no_lock_is_waited_for_with_that_of_another_pool(self, crew: Crew) -> None:
        """A new loop finds that an old one has been closed, which other pools have to know."""
        with accounted(2) as (a, _), accounted(2) as (b, _):

            async def both() -> None:
                await use(a)
                await use(b)

            run_in("asyncio", both())
            locks = [_core.manager(pool, "test").lock for pool in (a, b)]
            with locks[0]:
                waits = crew.start(lambda: run_in("asyncio", use(b))).parked()
                assert locks[1].acquire(timeout=PATIENCE / 5)
                locks[1].release()
            assert waits.result().number == 1

"""A pool of coroutines on several event loops, step by step: who gets the slot that there is."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastpool import FastPool, PoolOverloaded, PoolTimeout, _core
from fastpool.pool import _loop_capacity
from support.async_factories import AsyncMaker, Hang, LoopThread, accounted, threads, use
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
HOUR = 3600.0


def queued_up(pool: Any, loop: LoopThread, *works: Any) -> list[Any]:
    """Starts them one after the other; each waits."""
    waits = []
    for work in works:
        before = pool.stats().waiting
        waits.append(loop.start(work))
        eventually(lambda n=before: pool.stats().waiting == n + 1)
        wait_for_scheduler()
    return waits


class TestWhoOpens:
    """Where several loops could open, and there are fewer slots."""

    @kinds
    def test_a_loop_that_has_nothing_goes_first(self, kind: str) -> None:
        """Although a caller of the other one has waited longer."""
        with accounted(2) as (pool, maker), threads(kind, 2) as (one, other):
            lease = one.run(pool.aacquire())
            pool.suspend()
            waits = queued_up(pool, one, use(pool)) + queued_up(pool, other, use(pool))
            assert maker.calls == 1  # none while suspended
            pool.resume()
            eventually(lambda: maker.made >= 2)
            assert maker.all[1].loop is other.loop
            one.call(lease.release)
            for wait in waits:
                wait.result(PATIENCE)

    @kinds
    def test_then_callers_in_the_order_in_which_they_came(self, kind: str) -> None:
        """One for whom a creation is under way is not counted again."""
        with accounted(4) as (pool, maker), threads(kind, 2) as (one, other):
            leases = [loop.run(pool.aacquire()) for loop in (one, other)]
            pool.suspend()
            hangs = [Hang(), Hang()]
            maker.script["create"] += hangs
            waits = [
                *queued_up(pool, one, use(pool)),
                *queued_up(pool, other, use(pool)),
                *queued_up(pool, one, use(pool)),
            ]
            pool.resume()
            for hang in hangs:
                assert hang.begun.wait(PATIENCE)
            for hang in hangs:
                hang.let_go()
            eventually(lambda: maker.made >= 4)
            assert {thing.loop for thing in maker.all[2:4]} == {one.loop, other.loop}
            one.call(leases[0].release)
            other.call(leases[1].release)
            for wait in waits:
                wait.result(PATIENCE)

    @kinds
    def test_max_creating_is_for_all_loops_together(self, kind: str) -> None:
        with (
            accounted(4, max_creating=1) as (pool, maker),
            threads(kind, 2) as (one, other),
        ):
            hang = Hang()
            maker.script["create"].append(hang)
            waits = queued_up(pool, one, use(pool))
            assert hang.begun.wait(PATIENCE)
            waits += queued_up(pool, other, use(pool))
            other.call(str)
            assert maker.calls == 1
            hang.let_go()
            for wait in waits:
                wait.result(PATIENCE)
            assert maker.calls == 2

    @kinds
    def test_a_refused_try_while_suspended_opens_nothing(self, kind: str) -> None:
        """Not afterwards either."""
        with accounted(2) as (pool, maker), threads(kind, 1) as [one]:
            pool.suspend()
            with pytest.raises(PoolTimeout):
                one.run(use(pool, timeout=0))
            wait_for_scheduler()
            pool.resume()
            wait_for_scheduler()
            one.call(str)
            assert maker.calls == 0


class TestWhatIsClosed:
    """For a loop that waits, where the cap is reached."""

    @kinds
    def test_what_a_running_loop_has_idle_goes_first(self, kind: str, clock: Any) -> None:
        """A stopped one could not close it, however long it has been idle."""
        with (
            accounted(2, clock=clock) as (pool, maker),
            threads(kind, 3) as (still, one, other),
        ):
            for loop in (still, one):
                loop.run(use(pool))
                clock.advance(1)
            still.stop()
            assert other.run(use(pool)).loop is other.loop
            assert maker.closings == [maker.all[1]]
            assert states(pool) == {"idle": 2}

    @kinds
    def test_one_for_each_who_waits(self, kind: str) -> None:
        """No more, though the pool looks again before they are closed."""
        with accounted(3) as (pool, maker), threads(kind, 2) as (one, other):
            assert one.run(pool.awarm(3)) == 3
            hangs = [Hang(), Hang()]
            maker.script["close"] += hangs
            pool.suspend()
            waits = queued_up(pool, other, use(pool), use(pool))
            pool.resume()
            for hang in hangs:
                assert hang.begun.wait(PATIENCE)
            pool.resume()  # anything that has it look
            wait_for_scheduler()
            assert states(pool) == {"closing": 2, "idle": 1}
            for hang in hangs:
                hang.let_go()
            for wait in waits:
                wait.result(PATIENCE)
            eventually(lambda: pool.stats().closed == {"evicted": 2})

    @kinds
    def test_what_comes_back_for_a_loop_that_has_some(self, kind: str) -> None:
        """It is no longer idle than it takes to tell."""
        maker = AsyncMaker()
        hooks: Any = {"factory": maker.create, "close": maker.close}  # nothing to do on return
        with accounted(2, maker, **hooks) as (pool, _), threads(kind, 2) as (one, other):
            leases = [loop.run(pool.aacquire()) for loop in (one, other)]
            [wait] = queued_up(pool, other, use(pool))
            one.call(leases[0].release)
            assert wait.result(PATIENCE) is maker.all[2]
            assert maker.closings == [maker.all[0]]
            other.call(leases[1].release)

    @kinds
    @pytest.mark.parametrize("after, made", [(0.0, 3), (HOUR, 2)])
    def test_a_loop_with_nothing_gets_what_comes_back_after_a_while(
        self, kind: str, after: float, made: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not at once: callers of the loop that has it are served first until then."""
        monkeypatch.setattr(_loop_capacity, "SPARE_AFTER", after)
        with accounted(1) as (pool, maker), threads(kind, 2) as (one, other):
            lease = one.run(pool.aacquire())
            waits = queued_up(pool, other, use(pool)) + queued_up(pool, one, use(pool))
            one.call(lease.release)
            for wait in waits:
                wait.result(PATIENCE)
            assert maker.made == made

    @kinds
    def test_a_loop_that_has_some_gets_none_from_who_waits(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However long: it has something that will come back to it."""
        monkeypatch.setattr(_loop_capacity, "SPARE_AFTER", 0.0)
        with accounted(2) as (pool, maker), threads(kind, 2) as (one, other):
            leases = [loop.run(pool.aacquire()) for loop in (one, other)]
            [first] = queued_up(pool, other, pool.aacquire())
            [second] = queued_up(pool, one, pool.aacquire())
            one.call(leases[0].release)
            mine = second.result(PATIENCE)
            assert mine.resource is maker.all[0] and maker.made == 2
            other.call(leases[1].release)
            other.call(first.result(PATIENCE).release)
            one.call(mine.release)


class TestRefusals:
    @kinds
    @pytest.mark.parametrize("hook", ["create", "close"])
    def test_a_slot_that_is_about_to_be_had_is_no_wait(self, kind: str, hook: str) -> None:
        """max_waiting=0: as many callers as there are slots being opened, or coming free."""
        with accounted(2, max_waiting=0) as (pool, maker), threads(kind, 2) as (one, other):
            hangs = [Hang(), Hang()]
            leases = []
            if hook == "close":
                leases = [loop.run(pool.aacquire()) for loop in (one, other)]
            maker.script[hook] += hangs
            for loop, lease in zip((one, other), leases, strict=False):
                loop.call(lease.discard)
            if hook == "close":
                eventually(lambda: states(pool) == {"closing": 2})
            waits = queued_up(pool, one, use(pool)) + queued_up(pool, other, use(pool))
            with pytest.raises(PoolOverloaded):
                other.run(use(pool))
            for hang in hangs:
                hang.let_go()
            for wait in waits:
                wait.result(PATIENCE)

    @kinds
    def test_a_creation_that_is_just_over_is_counted_still(self, kind: str) -> None:
        """The scheduler has not seen to its end: who waits for it has a slot, and so has the next
        one, but nobody after them."""
        with accounted(2, max_waiting=0) as (pool, maker), threads(kind, 1) as (one,):
            hang = Hang()
            maker.script["create"].append(hang)
            waits = queued_up(pool, one, use(pool))
            assert hang.begun.wait(PATIENCE)
            with unattended():
                hang.let_go()
                eventually(lambda: states(pool) == {"checking": 1})
                waits.append(one.start(use(pool)))
                eventually(lambda: pool.stats().waiting == 2)
                with pytest.raises(PoolOverloaded):
                    one.run(use(pool))
            for wait in waits:
                wait.result(PATIENCE)

    @kinds
    def test_who_holds_all_of_a_smaller_cap_may_wait_for_others(self, kind: str) -> None:
        """More are open than the cap since resize(): what comes back may be that of another."""

        async def one_of_two() -> None:
            async with pool.lease():
                pool.resize(1)
                with pytest.raises(PoolTimeout):
                    await use(pool, timeout=0.01)

        with accounted(2) as (pool, _), threads(kind, 2) as (one, other):
            lease = other.run(pool.aacquire())
            one.run(one_of_two())
            other.call(lease.release)


class TestResize:
    @kinds
    def test_what_has_been_idle_longest_goes_first(self, kind: str, clock: Any) -> None:
        """Over all loops."""
        with accounted(3, clock=clock) as (pool, maker), threads(kind, 3) as loops:
            leases = [loop.run(pool.aacquire()) for loop in loops]
            for number in (1, 2, 0):
                clock.advance(1)
                loops[number].call(leases[number].release)
                eventually(lambda n=number: leases[n] and "checking" not in states(pool))
            pool.resize(2)
            eventually(lambda: maker.closings == [maker.all[1]])
            pool.resize(1)
            eventually(lambda: maker.closings == [maker.all[1], maker.all[2]])

    @kinds
    def test_what_is_being_closed_is_no_surplus(self, kind: str) -> None:
        with accounted(2) as (pool, maker), threads(kind, 1) as [one]:
            lease, other = one.run(pool.aacquire()), one.run(pool.aacquire())
            hang = Hang()
            maker.script["close"].append(hang)
            one.call(lease.discard)
            assert hang.begun.wait(PATIENCE)
            one.call(other.release)
            eventually(lambda: states(pool) == {"closing": 1, "idle": 1})
            pool.resize(1)
            hang.let_go()
            eventually(lambda: states(pool) == {"idle": 1})
            assert pool.stats().closed == {"discarded": 1}

    @kinds
    def test_no_more_are_kept_idle_than_max_idle_without_any_hook(self, kind: str) -> None:
        """Nothing else has to be done with what comes back."""
        maker = AsyncMaker()
        hooks: Any = {"factory": maker.create, "close": maker.close}
        with accounted(3, maker, max_idle=1, **hooks) as (pool, _), threads(kind, 1) as [one]:
            leases = [one.run(pool.aacquire()) for _ in range(3)]
            for lease in leases:
                one.call(lease.release)
            eventually(lambda: states(pool) == {"idle": 1})
            assert pool.stats().closed == {"surplus": 2}

    @kinds
    def test_no_more_are_closed_on_return_than_are_too_many(self, kind: str) -> None:
        with accounted(4) as (pool, maker), threads(kind, 2) as loops:
            leases = [(loop, loop.run(pool.aacquire())) for loop in (*loops, *loops)]
            pool.resize(3)
            for loop, lease in leases:
                loop.call(lease.release)
            eventually(lambda: states(pool) == {"idle": 3})
            assert pool.stats().closed == {"surplus": 1}


class TestEnds:
    def test_close_waits_no_longer_for_what_a_closed_loop_held(self, runner: ThreadRunner) -> None:
        with accounted(1) as (pool, _), threads("asyncio", 1) as [one]:
            one.run(pool.aget())
            closing = runner.start(pool.close, None)
            eventually(lambda: pool.closed)
            closing.parked()
            one.end()
            pool.stats()  # anybody looks
            assert closing.result()

    @pytest.mark.parametrize("how", ["discard", "release"])
    def test_what_is_given_back_after_its_loop_was_closed(self, how: str) -> None:
        """By whoever gives it back, if nobody has seen before that the loop is closed."""
        closed: list[Any] = []
        done = threading.Event()

        async def create() -> object:
            return object()

        def close(resource: object) -> None:
            closed.append(resource)
            done.set()

        with threads("asyncio", 1) as [one]:
            pool: Any = FastPool(1, factory=create, close=close, reset=lambda resource: None)
            lease = one.run(pool.aacquire())
            resource = lease.resource
            one.end()
            getattr(lease, how)()
            assert done.wait(PATIENCE) and closed == [resource]
            assert pool.stats().closed == {"loop": 1}
            assert pool.close()

    @pytest.mark.parametrize("hook", ["plain", "async", "none"])
    def test_what_a_closed_loop_held_is_closed_by_a_plain_hook(self, hook: str) -> None:
        """Or by the resource's own plain close(); where it would have to be awaited, not at all."""
        seen = []
        closed = threading.Event()

        class Both:
            async def aclose(self) -> None:
                seen.append("aclose")

            def close(self) -> None:
                seen.append("close")

        async def create() -> Both:
            return Both()

        async def aclose(resource: Both) -> None:
            seen.append("async hook")

        def close(resource: Both) -> None:
            seen.append("plain hook")
            closed.set()

        hooks: Any = {"plain": {"close": close}, "async": {"close": aclose}, "none": {}}[hook]
        with threads("asyncio", 1) as [one]:
            pool: Any = FastPool(1, factory=create, **hooks)
            one.run(use(pool))
            one.end()
            assert pool.stats().closed == {"loop": 1}
            assert hook != "plain" or closed.wait(PATIENCE)
            assert _core.manager(pool, "test").closers.wait_idle(PATIENCE)
            assert pool.close()
        assert seen == (["plain hook"] if hook == "plain" else [])

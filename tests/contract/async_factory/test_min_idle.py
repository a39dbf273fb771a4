"""min_idle of a pool of coroutines: on which event loop resources are made, and how many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastpool import FastPool, PoolTimeout, _core
from fastpool.pool import _policy
from fastpool.testing import ManualClock
from support.async_factories import AsyncMaker, Hang, accounted, threads, use
from support.helpers import PATIENCE, eventually, states, wait_for_scheduler
from support.loops import KINDS, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)


def settled(pool: Any, clock: Any) -> int:
    """Nothing is on its way any more; how many were made."""
    wait_for_scheduler()
    clock.advance(0)
    eventually(lambda: not {"creating", "checking", "closing"} & {*states(pool)})
    return int(pool.stats().created)


class TestWhere:
    @kinds
    def test_the_loop_that_used_the_pool_last_makes_them(self, kind: str, clock: Any) -> None:
        """Whichever was seen first, and however the use ended."""
        with accounted(4, min_idle=1, clock=clock) as (pool, maker), threads(kind, 2) as loops:
            for loop in (*loops, *loops):
                clock.advance(1)
                loop.run(use(pool))
                before = settled(pool, clock)
                pool.flush()
                eventually(lambda n=before: states(pool) == {"idle": 1} and maker.made > n)
                assert maker.all[-1].loop is loop.loop

    @kinds
    @pytest.mark.parametrize("last", [0, 1], ids=["seen first", "seen last"])
    @pytest.mark.parametrize("end", ["release", "discard"])
    def test_a_return_is_a_use(self, kind: str, clock: Any, last: int, end: str) -> None:
        """What came back last, by the fast path or to be closed, says which loop it is."""
        maker = AsyncMaker()
        hooks: Any = {"factory": maker.create, "close": maker.close}
        with (
            accounted(4, maker, min_idle=1, clock=clock, **hooks) as (pool, _),
            threads(kind, 2) as loops,
        ):
            leases = [loop.run(pool.aacquire()) for loop in loops]
            for number in (1 - last, last):
                settled(pool, clock)
                clock.advance(1)
                loops[number].call(getattr(leases[number], end if number == last else "release"))
            before = settled(pool, clock)
            pool.flush()
            eventually(lambda: states(pool) == {"idle": 1} and maker.made > before)
            assert maker.all[-1].loop is loops[last].loop

    def test_what_is_being_made_is_no_use(self, collect: Any) -> None:
        """Its slot may be that of another pool before, and tell the time of that one."""
        later = ManualClock()
        later.advance(1000)
        for clock in (later, later, later, ManualClock()):
            with accounted(2, clock=clock) as (pool, maker), threads("asyncio", 1) as [one]:
                hang = Hang()
                maker.script["create"].append(hang)
                wait = one.start(use(pool))
                assert hang.begun.wait(PATIENCE)
                assert _core.manager(pool, "test").latest().last_use() <= clock.now
                hang.let_go()
                wait.result(PATIENCE)
                assert pool.close(PATIENCE)
            del pool
            collect()
            wait_for_scheduler()

    @kinds
    def test_a_loop_that_stands_still_is_not_waited_for(self, kind: str, clock: Any) -> None:
        """Even if it used the pool last: one that runs makes them."""
        with (
            accounted(4, min_idle=1, clock=clock) as (pool, maker),
            threads(kind, 2) as (still, other),
        ):
            for loop in (other, still):
                clock.advance(1)
                loop.run(use(pool))
            before = settled(pool, clock)
            still.stop()
            pool.flush()  # what the other one has is closed there; the rest has to wait

            def refilled() -> bool:
                clock.advance(0)  # the scheduler comes by
                return states(pool).get("idle") == 1 and maker.made > before

            eventually(refilled)
            assert maker.all[-1].loop is other.loop

    @kinds
    def test_what_a_stopped_loop_has_begun_is_not_counted_on(self, kind: str) -> None:
        """A creation under way there may never end: another one is begun where a loop runs."""
        with accounted(4, min_idle=1) as (pool, maker), threads(kind, 2) as (still, other):
            hang = Hang()
            maker.script["create"].append(hang)
            with pytest.raises(PoolTimeout):
                still.run(use(pool, timeout=0))
            assert hang.begun.wait(PATIENCE)
            still.stop()
            lease = other.run(pool.aacquire())
            eventually(lambda: states(pool) == {"leased": 1, "creating": 1, "idle": 1})
            assert [thing.loop for thing in maker.all] == [other.loop] * 2
            other.call(lease.release)

    @kinds
    def test_it_goes_on_when_a_stopped_loop_runs_again(self, kind: str) -> None:
        """The only one there is: what it lacks is made then."""
        with accounted(4, min_idle=2) as (pool, maker), threads(kind, 1) as [only]:
            only.run(use(pool))
            eventually(lambda: states(pool).get("idle", 0) >= 2)
            only.stop()
            before = maker.made
            pool.flush()
            wait_for_scheduler()
            assert maker.made == before and "idle" not in states(pool)
            only.go_on()
            eventually(lambda: states(pool) == {"idle": 2})
            assert maker.made == before + 2

    @kinds
    def test_a_pool_made_in_a_running_loop_begins_there(self, kind: str) -> None:
        """Before anybody has asked for a resource."""
        maker = AsyncMaker()

        async def main() -> None:
            pool: Any = FastPool(4, factory=maker, min_idle=2)
            await aeventually(lambda: states(pool) == {"idle": 2})
            assert maker.made == 2 and {t.loop for t in maker.all} == {asyncio.get_running_loop()}
            assert await pool.aclose()

        run_in(kind, main())


class TestHowMany:
    @kinds
    def test_what_another_loop_makes_is_not_made_twice(self, kind: str) -> None:
        with accounted(4, min_idle=1) as (pool, maker), threads(kind, 2) as (one, other):
            hang = Hang()
            maker.script["create"].append(hang)
            with pytest.raises(PoolTimeout):
                one.run(use(pool, timeout=0))
            assert hang.begun.wait(PATIENCE)
            lease = other.run(pool.aacquire())
            for _ in range(2):
                wait_for_scheduler()
                other.call(str)
            assert maker.calls == 2 and states(pool) == {"leased": 1, "creating": 1}
            hang.let_go()
            eventually(lambda: states(pool) == {"leased": 1, "idle": 1})
            other.call(lease.release)
            assert maker.made == 2

    @kinds
    def test_what_is_lent_meanwhile_is_made_as_well(self, kind: str) -> None:
        """One is being made already when the last idle one is lent."""
        with accounted(6, min_idle=2) as (pool, maker), threads(kind, 1) as [one]:
            leases = [one.run(pool.aacquire())]
            eventually(lambda: states(pool) == {"leased": 1, "idle": 2})
            hangs = [Hang(), Hang()]
            maker.script["create"] += hangs
            for hang in hangs:
                leases.append(one.run(pool.aacquire()))
                _core.manager(pool, "test").latest().creator.refill()  # as the scheduler would
                assert hang.begun.wait(PATIENCE)
            for hang in hangs:
                hang.let_go()
            eventually(lambda: states(pool) == {"leased": 3, "idle": 2})
            for lease in leases:
                one.call(lease.release)

    def test_after_a_failure_there_is_a_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody waits for them: the next try is not made at once."""
        monkeypatch.setattr(_policy, "backoff", lambda failures: 3600.0)
        with accounted(4, min_idle=1) as (pool, maker), threads("asyncio", 1) as [one]:
            maker.script["create"].append(OSError("down"))
            with pytest.raises(PoolTimeout):
                one.run(use(pool, timeout=0))
            eventually(lambda: pool.stats().create_failures == 1)
            for _ in range(3):
                wait_for_scheduler()
                one.call(str)
            assert maker.calls == 1
            lease = one.run(pool.aacquire())  # who waits does not have to
            one.call(lease.release)

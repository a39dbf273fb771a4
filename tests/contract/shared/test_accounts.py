"""SharedPool: why resources were closed, who holds which, and what a lease's end says of them."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from contract.shared.leases import release, taken
from fastpool import PoolTimeout, _core
from support.helpers import PATIENCE, ThreadRunner, eventually, states, wait_for_scheduler

HOUR = 3600.0


def manager_of(pool: Any) -> Any:
    return _core.manager(pool, "this test")


class TestReasons:
    """stats().closed: the first reason counts, for this resource and no other."""

    def test_the_next_resource_in_its_place_has_its_own(self, shared: Any) -> None:
        pool, maker = shared((0, 1))
        pool.acquire().discard()
        eventually(lambda: maker.closed == 1)
        with pool.lease():
            pool.flush()
        eventually(lambda: pool.stats().closed == {"discarded": 1, "flushed": 1})

    def test_what_drains_already_keeps_its_own(self, shared: Any) -> None:
        pool, maker = shared((0, 1))
        held, lease = taken(pool, 2)
        lease.discard()
        pool.flush()
        pool.drain(held.resource)
        held.release()
        eventually(lambda: pool.stats().closed == {"discarded": 1})

    def test_what_is_being_closed_gets_no_other(self, shared: Any, runner: ThreadRunner) -> None:
        """A flush at that moment says nothing, neither of it nor of the next in its place."""
        pool, maker = shared((0, 1))
        maker.close_gate.clear()
        ending = runner.start(pool.acquire().discard)
        eventually(lambda: pool.stats().closing == 1)
        pool.flush()
        maker.close_gate.set()
        ending.result()
        pool.acquire().discard()
        eventually(lambda: pool.stats().closed == {"discarded": 2})

    def test_the_close_of_the_pool_is_none_for_what_drains(self, shared: Any) -> None:
        pool, _ = shared((0, 2), slots=2)
        leases = taken(pool, 3)
        pool.drain(leases[0].resource)
        pool.close(timeout=0)
        release(leases)
        eventually(lambda: pool.stats().closed_total == 2)
        assert pool.stats().closed == {"flushed": 1, "closed": 1}


class TestWhoHoldsWhat:
    def test_a_put_ends_the_oldest_get(self, shared: Any, clock: Any) -> None:
        """One of them: nobody can tell whose it is, and the oldest would be reported first."""
        pool, _ = shared(1, leak_after=HOUR, clock=clock)
        resource = pool.get()
        for _ in range(2):
            clock.advance(10)
            pool.get()
        pool.put(resource)
        assert sorted(holder.age for holder in pool.leases()) == [0.0, 10.0]
        pool.put(resource)
        assert [holder.age for holder in pool.leases()] == [0.0]
        pool.put(resource)
        assert pool.leases() == []

    def test_a_lost_lease_is_held_by_nobody(self, shared: Any) -> None:
        """And the warning says where it was taken, where that is known."""
        pool, _ = shared(1, leak_after=HOUR)
        with pytest.warns(
            ResourceWarning, match="its slot is free again, taken at .*test_accounts"
        ):
            pool.acquire()
            gc.collect()
        assert pool.leases() == [] and pool.stats().leases == 0

    def test_a_lost_lease_says_which_option_tells_the_place(self, shared: Any) -> None:
        pool, _ = shared(1)
        with pytest.warns(ResourceWarning, match="leak_after= shows where it was taken"):
            pool.acquire()
            gc.collect()


class TestRules:
    def test_a_rule_that_raises_changes_nothing(self, shared: Any, caplog: Any) -> None:
        """It is logged; the resource is as good as before."""

        def rule(error: BaseException, resource: Any) -> bool:
            raise LookupError("in the rule")

        pool, _ = shared(2, discard_on=rule, penalize_on=rule)
        pool.warm(2)
        with pytest.raises(OSError), pool.lease() as first:
            raise OSError
        assert states(pool) == {"idle": 2}
        assert [r.exc_info[0] for r in caplog.records] == [LookupError, LookupError]
        with pool.lease() as second:
            assert second is first

    def test_an_error_of_a_pool_says_nothing_about_the_resource(self, shared: Any) -> None:
        """A lease of another pool timed out, in the block of this one."""
        pool, _ = shared(2, discard_on=PoolTimeout, penalize_on=TimeoutError)
        pool.warm(2)
        full, _ = shared(1, slots=1)
        with full.lease(), pytest.raises(PoolTimeout), pool.lease() as first:
            full.get(timeout=0)
        assert states(pool) == {"idle": 2}
        with pool.lease() as second:
            assert second is first

    def test_a_penalty_ends_after_penalty_time(self, shared: Any, clock: Any) -> None:
        pool, _ = shared(2, clock=clock)
        pool.warm(2)
        with pool.lease() as first:
            pool.penalize(first)
        for seconds in (0, 4.9):
            clock.advance(seconds)
            with pool.lease() as other:
                assert other is not first
        clock.advance(0.2)
        with pool.lease() as again:
            assert again is first


class TestLate:
    """What arrives when the caller, or the time, has gone."""

    def test_one_of_the_least_number_is_kept(self, shared: Any) -> None:
        """Past create_timeout, and although another one is idle."""
        pool, maker = shared((0, 2), create_timeout=0.01)
        assert pool.add(maker())
        maker.gate.clear()
        pool.resize(2)
        eventually(lambda: pool.stats().overdue == 1)
        maker.gate.set()
        eventually(lambda: states(pool) == {"idle": 2})
        wait_for_scheduler()
        assert maker.made == 2 and pool.stats().closed == {}

    def test_what_it_was_to_replace_may_have_gone(self, shared: Any) -> None:
        """Another one is in its place by then, and stays."""
        pool, maker = shared((0, 2))
        old = maker()
        assert pool.add(old)
        manager = manager_of(pool)
        index, arrived = manager.core.find(old), manager.creator._arrived
        next_one: list[Any] = []

        def late(attempt: Any) -> None:
            pool.drain(old)
            next_one.append(maker())
            assert pool.add(next_one[0]) and manager.core.find(next_one[0]) == index
            arrived(attempt)

        manager.creator._arrived = late
        pool.replace(old)
        eventually(lambda: pool.stats().created == 3)
        eventually(lambda: states(pool) == {"idle": 2})
        wait_for_scheduler()
        assert maker.closings == [old]

    def test_one_that_failed_a_check_needs_no_replacement(
        self, shared: Any, clock: Any, runner: ThreadRunner
    ) -> None:
        """It has gone before the other one came: that takes its place, and is the only one."""
        pool, maker = shared(1, check=lambda r: r.healthy, check_after=1.0, clock=clock)
        pool.warm(1)
        clock.advance(2)
        maker.gate.clear()
        pool.replace()
        eventually(lambda: maker.running == 1)
        maker.all[0].healthy = False
        taker = runner.start(pool.acquire, PATIENCE)
        eventually(lambda: maker.closed == 1 and pool.stats().waiting == 1)
        wait_for_scheduler()
        assert maker.running == 1
        maker.gate.set()
        taker.result().release()
        assert maker.made == 2 and states(pool) == {"idle": 1}

    def test_a_refused_try_while_suspended_opens_nothing(self, shared: Any) -> None:
        """Not afterwards either."""
        pool, maker = shared((0, 2))
        pool.suspend()
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0)
        wait_for_scheduler()
        pool.resume()
        wait_for_scheduler()
        assert maker.calls == 0

    def test_warm_opens_beside_what_a_caller_waits_for(
        self, shared: Any, runner: ThreadRunner
    ) -> None:
        """At once, not when that one has come."""
        pool, maker = shared((0, 4), slots=1)
        maker.gate.clear()
        taker = runner.start(pool.acquire, PATIENCE)
        eventually(lambda: maker.running == 1)
        warming = runner.start(pool.warm, 3, PATIENCE)
        eventually(lambda: maker.running == 3)
        maker.gate.set()
        assert warming.result() == 3
        taker.result().release()
        assert maker.made == 3


class TestAdded:
    """add(): as if the factory had made it."""

    def test_it_ends_a_call_of_warm(self, shared: Any, runner: ThreadRunner) -> None:
        pool, maker = shared((0, 2))
        spare = maker()
        maker.gate.clear()
        warming = runner.start(pool.warm, 1, None)
        eventually(lambda: maker.running == 1)
        warming.parked()
        assert pool.add(spare)
        warming.result()
        assert maker.running == 1

    def test_it_grows_old_like_others(self, shared: Any) -> None:
        """In real time: the scheduler hears of it."""
        pool, maker = shared((0, 2), idle_timeout=0.01, shrink_after=None)
        assert pool.add(maker())
        eventually(lambda: pool.stats().closed == {"idle": 1})


class TestReplacing:
    def test_resources_are_replaced_in_the_order_in_which_that_was_asked(self, shared: Any) -> None:
        """One after the other, where there are no more creations at once."""
        pool, maker = shared((0, 3), max_creating=1)
        first, second, third = (maker() for _ in range(3))
        for resource in (first, second, third):
            assert pool.add(resource)
        manager = manager_of(pool)
        drained, order = manager.drain, []

        def drain(index: int, why: str, later: bool = False) -> None:
            order.append(manager.core.item(index))
            drained(index, why, later)

        manager.drain = drain
        maker.gate.clear()
        for resource in (second, first, third, second):
            pool.replace(resource)
        maker.gate.set()
        eventually(lambda: maker.closed == 3 and states(pool) == {"idle": 3})
        assert order == [second, first, third] and maker.made == 6

    def test_what_is_checked_is_replaced_as_well(
        self, shared: Any, clock: Any, runner: ThreadRunner
    ) -> None:
        seen, go_on = threading.Event(), threading.Event()

        def check(resource: Any) -> None:
            seen.set()
            go_on.wait(PATIENCE)

        pool, maker = shared(1, check=check, check_after=1.0, clock=clock)
        pool.warm(1)
        clock.advance(2)
        taker = runner.start(pool.acquire, PATIENCE)
        assert seen.wait(PATIENCE)
        pool.replace()
        eventually(lambda: maker.made == 2)
        go_on.set()
        taker.result().release()
        eventually(lambda: maker.closings == maker.all[:1] and states(pool) == {"idle": 1})

    def test_what_is_drained_in_between_is_not_replaced(self, shared: Any) -> None:
        pool, maker = shared((0, 2))
        held = pool.acquire()
        pool.suspend()  # nothing is opened for the moment
        pool.replace(held.resource)
        pool.drain(held.resource)
        assert manager_of(pool).renewing == {}
        pool.resume()
        held.release()

"""SharedPool: what it does with time, and its defaults."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from contract.shared.leases import loads, release, taken
from fastpool import PoolTimeout, SharedPool
from support.helpers import PATIENCE, ThreadRunner, eventually, states, wait_for_scheduler


class TestAge:
    def test_what_is_in_use_is_not_idle(self, shared: Any, clock: Any) -> None:
        """However long ago the last lease of it was given back."""
        pool, _ = shared((0, 2), idle_timeout=100.0, shrink_after=None, clock=clock)
        held = pool.acquire()
        pool.acquire().release()
        clock.advance(101)
        clock.advance(101)
        assert states(pool) == {"leased": 1} and pool.stats().draining == 0
        held.release()
        clock.advance(99)
        assert states(pool) == {"idle": 1}
        clock.advance(1)
        eventually(lambda: pool.stats().closed == {"idle": 1})

    def test_an_old_one_serves_until_another_is_there(self, shared: Any, clock: Any) -> None:
        pool, maker = shared((0, 1), max_lifetime=100.0, idle_timeout=None, clock=clock)
        pool.warm(1)
        maker.gate.clear()
        clock.advance(101, settle=0)
        eventually(lambda: maker.running == 1)
        with pool.lease(timeout=0) as old:
            assert old is maker.all[0]
        maker.gate.set()
        eventually(lambda: pool.stats().closed == {"lifetime": 1})
        eventually(lambda: states(pool) == {"idle": 1})

    def test_a_new_one_that_nobody_needs_is_closed_in_real_time(self, shared: Any) -> None:
        """What the factory has made; the scheduler hears of it."""
        pool, maker = shared((0, 3), shrink_after=0.01)
        pool.get(timeout=PATIENCE)
        pool.put(maker.all[0])
        eventually(lambda: pool.stats().closed == {"surplus": 1})

    def test_a_long_lease_is_reported(self, shared: Any, clock: Any, caplog: Any) -> None:
        pool, _ = shared(1, leak_after=60.0, clock=clock)
        lease = pool.acquire()
        clock.advance(59)
        assert not caplog.records
        clock.advance(1)
        clock.advance(60)
        assert ["a lease is held for 60 s" in r.getMessage() for r in caplog.records] == [True]
        lease.release()


class TestKeepalive:
    def test_each_is_checked_when_nobody_has_used_it_for_so_long(
        self, shared: Any, clock: Any
    ) -> None:
        """The one that was used first is first; and no more often than that."""
        checked: list[Any] = []
        pool, maker = shared(
            (0, 2), check=checked.append, check_after=None, keepalive=10.0, clock=clock
        )
        one, other = maker(), maker()
        pool.add(one)
        clock.advance(4)
        pool.add(other)
        expected: list[Any] = []
        for seconds, found in ((6, [one]), (1, []), (3, [other]), (5, []), (1, [one]), (1, [])):
            clock.advance(seconds)
            expected += found
            assert checked == expected


class TestReplacing:
    def test_what_is_being_made_is_new(self, shared: Any, runner: ThreadRunner) -> None:
        """replace() asks for nothing in its place."""
        pool, maker = shared((0, 2))
        maker.gate.clear()
        taker = runner.start(pool.acquire, PATIENCE)
        eventually(lambda: maker.running == 1)
        pool.replace()
        wait_for_scheduler()
        maker.gate.set()
        taker.result().release()
        wait_for_scheduler()
        assert maker.calls == 1 and states(pool) == {"idle": 1}

    def test_the_cap_is_as_before_when_it_is_over(self, shared: Any) -> None:
        """The room for one more was for the replacement alone."""
        pool, maker = shared((0, 1), slots=1)
        pool.warm(1)
        pool.replace()
        eventually(lambda: maker.closed == 1 and states(pool) == {"idle": 1})
        with pool.lease(), pytest.raises(PoolTimeout):
            pool.acquire(timeout=0.01)
        wait_for_scheduler()
        assert maker.calls == 2


class TestAvoid:
    def test_who_waits_for_its_check_gets_another(
        self, shared: Any, clock: Any, runner: ThreadRunner
    ) -> None:
        """Nothing else was opened for them, since its slots were as good as free."""
        seen, go_on = threading.Event(), threading.Event()

        def check(resource: Any) -> None:
            seen.set()
            go_on.wait(PATIENCE)

        pool, maker = shared((0, 2), slots=5, check=check, check_after=1.0, clock=clock)
        pool.warm(1)
        clock.advance(2)
        checking = runner.start(pool.acquire, PATIENCE)
        assert seen.wait(PATIENCE)
        waiter = runner.start(pool.acquire, PATIENCE)
        eventually(lambda: pool.stats().waiting == 1)
        wait_for_scheduler()
        assert maker.calls == 1
        pool.avoid(maker.all[0])
        lease = waiter.result()
        assert lease.resource is maker.all[1]
        go_on.set()
        release([lease, checking.result()])


class TestDefaults:
    """As docs/reference/shared.md has them."""

    def test_numbers(self) -> None:
        with SharedPool(object) as pool:
            assert (pool.items, pool.slots) == ((1, 8), 50)
            assert pool.stats().slots == 50

    def test_shrink_after_a_minute(self, clock: Any) -> None:
        with SharedPool(object, clock=clock) as pool:
            pool.warm(2)
            clock.advance(0)
            clock.advance(59)
            assert pool.stats().open == 2
            clock.advance(1)
            eventually(lambda: pool.stats().open == 1)

    def test_a_penalty_counts_as_ten_leases(self, clock: Any) -> None:
        with SharedPool(object, items=2, clock=clock) as pool:
            pool.warm(2)
            with pytest.raises(TimeoutError), pool.lease() as slow:
                raise TimeoutError
            leases = taken(pool, 10)
            assert loads(leases) == [10] and leases[0].resource is not slow
            leases += taken(pool, 2)
            assert loads(leases) == [11, 1]
            release(leases)

"""SharedPool: resources that go out of service, are replaced, grow old, or are closed."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from contract.shared.leases import loads, release, taken
from fastpool import PoolClosed, PoolTimeout, SharedPool
from support.helpers import Maker, ThreadRunner, eventually

pytestmark = pytest.mark.usefixtures("caller_kind")


class TestService:
    def test_draining_waits_for_the_last_lease(self, shared: Any) -> None:
        pool, _ = shared((1, 2), slots=5)
        leases = taken(pool, 2)
        old = leases[0].resource
        pool.drain(old)
        with pool.lease() as new:
            assert new is not old
        leases[0].release()
        assert not old.closed and pool.stats().draining == 1
        leases[1].release()
        eventually(lambda: old.closed)
        eventually(lambda: pool.stats().draining == 0 and pool.stats().closed == {"flushed": 1})

    def test_what_nobody_uses_is_closed_at_once(self, shared: Any) -> None:
        pool, _ = shared((1, 1), slots=5)
        with pool.lease() as old:
            pass
        pool.drain(old)
        eventually(lambda: old.closed)
        eventually(lambda: pool.stats().idle == 1)  # the least number is kept

    def test_a_long_call_does_not_block_a_full_pool(self, shared: Any) -> None:
        """What drains is not counted by the cap, so a new one takes its place."""
        pool, _ = shared(1, slots=5)
        long = pool.acquire()
        pool.drain(long.resource)
        with pool.lease(timeout=10) as other:
            assert other is not long.resource
        assert pool.stats().open == 2 and pool.stats().draining == 1
        long.release()

    def test_no_more_than_twice_the_cap_are_open(self, shared: Any) -> None:
        pool, _ = shared(1, slots=5)
        leases = []
        for _ in range(2):
            leases.append(pool.acquire(timeout=10))
            pool.drain(leases[-1].resource)
        with pytest.raises(PoolTimeout):
            pool.acquire(timeout=0.02)
        leases.pop().release()
        with pool.lease(timeout=10):
            pass
        release(leases)

    def test_replacing_opens_first(self, shared: Any) -> None:
        """The old one serves until the new one is there."""
        pool, maker = shared(1, slots=5)
        with pool.lease() as old:
            pass
        maker.gate.clear()
        pool.replace(old)
        eventually(lambda: maker.running)
        with pool.lease(timeout=0) as still:
            assert still is old
        maker.gate.set()
        eventually(lambda: old.closed)
        with pool.lease(timeout=0) as new:
            assert new is not old
        assert maker.made == 2

    def test_replacing_all(self, shared: Any) -> None:
        pool, maker = shared(3, slots=5)
        pool.warm(3)
        before = list(maker.all)
        held = pool.acquire()
        pool.replace()
        eventually(lambda: all(r.closed or r is held.resource for r in before))
        eventually(lambda: pool.stats().open - pool.stats().draining == 3)
        assert held.resource in before and not held.resource.closed
        held.release()
        assert maker.made == 6

    def test_a_replacement_that_cannot_be_made(self, shared: Any) -> None:
        """The old one stays in service."""
        pool, maker = shared(1, slots=5)
        with pool.lease() as old:
            pass
        maker.script.append(ConnectionError())
        pool.replace()
        eventually(lambda: pool.stats().create_failures)
        with pool.lease(timeout=0) as still:
            assert still is old
        eventually(lambda: old.closed)  # a later try

    def test_discarding_a_lease(self, shared: Any) -> None:
        pool, _ = shared((1, 2), slots=5)
        other = pool.acquire()
        lease = pool.lease()
        with lease as resource:
            lease.discard()
            assert pool.stats().leases == 1
        assert pool.stats().draining == 1 and not resource.closed
        other.release()
        eventually(lambda: resource.closed)
        eventually(lambda: pool.stats().closed == {"discarded": 1})

    def test_flush(self, shared: Any) -> None:
        pool, maker = shared((2, 2), slots=5)
        pool.warm(2)
        held = pool.acquire()
        pool.flush()
        eventually(lambda: maker.closed == 1)
        with pool.lease(timeout=10) as fresh:
            assert fresh not in maker.all[:2]
        held.release()
        eventually(lambda: maker.closed == 2)

    def test_resize(self, shared: Any, runner: ThreadRunner) -> None:
        """Growing serves who waits; shrinking drains what is surplus."""
        pool, maker = shared(1, slots=1)
        maker.cap = 8
        held = pool.acquire()
        waiter = runner.start(pool.acquire, 10)
        eventually(lambda: pool.stats().waiting == 1)
        pool.resize((1, 3))
        assert pool.items == (1, 3)
        release([held, waiter.result()])
        pool.resize(1)
        eventually(lambda: pool.stats().open == 1)
        assert pool.stats().closed == {"surplus": 1}
        for wrong in (0, (2, 1), (1, 2, 3), "x", -1, (None, 3), True):
            with pytest.raises((TypeError, ValueError), match="items must be"):
                pool.resize(wrong)

    def test_suspend_and_resume(self, shared: Any, runner: ThreadRunner) -> None:
        pool, _ = shared(1, slots=5)
        lease = pool.acquire()
        pool.suspend()
        waiter = runner.start(pool.acquire, 10)
        eventually(lambda: pool.stats().waiting == 1)
        lease.release()
        assert pool.stats().leases == 0
        pool.resume()
        waiter.result().release()


class TestTime:
    def test_capacity_to_spare_closes_a_resource(self, shared: Any, clock: Any) -> None:
        """After shrink_after in which all leases had had room in one fewer; one at a time."""
        pool, maker = shared((1, 3), slots=2, shrink_after=60.0, clock=clock)
        release(taken(pool, 6))
        clock.advance(1)  # the first look: the burst is behind
        clock.advance(59)
        assert maker.closed == 0
        clock.advance(2)
        eventually(lambda: maker.closed == 1)
        clock.advance(61)
        eventually(lambda: maker.closed == 2)
        clock.advance(300)
        eventually(lambda: pool.stats().open == 1 and pool.stats().closed == {"surplus": 2})

    def test_a_peak_within_the_time_keeps_it(self, shared: Any, clock: Any) -> None:
        pool, maker = shared((1, 2), slots=2, shrink_after=60.0, clock=clock)
        release(taken(pool, 4))
        clock.advance(1)
        for _ in range(4):
            clock.advance(30)
            release(taken(pool, 3))
            clock.advance(31)
        assert maker.closed == 0

    def test_old_ones_are_replaced(self, shared: Any, clock: Any) -> None:
        """max_lifetime: another one first; in use or not, nobody is kept waiting."""
        pool, _ = shared(1, slots=5, max_lifetime=100.0, idle_timeout=None, clock=clock)
        held = pool.acquire()
        old = held.resource
        clock.advance(101)
        eventually(lambda: pool.stats().draining == 1)
        with pool.lease(timeout=0) as new:
            assert new is not old
        held.release()
        eventually(lambda: old.closed)
        eventually(lambda: pool.stats().closed == {"lifetime": 1})

    def test_what_nobody_uses_for_long(self, shared: Any, clock: Any) -> None:
        """idle_timeout: what is more than the least number is closed, the least is replaced."""
        pool, maker = shared((1, 2), slots=1, idle_timeout=100.0, shrink_after=None, clock=clock)
        release(taken(pool, 2))
        clock.advance(101)
        eventually(lambda: maker.closed == 2 and pool.stats().idle == 1)
        eventually(lambda: pool.stats().closed == {"idle": 2} and maker.made == 3)

    def test_a_number_of_uses(self, shared: Any) -> None:
        """max_uses: so many leases, and then no more."""
        pool, maker = shared(1, slots=5, max_uses=3)
        leases = taken(pool, 4)
        assert loads(leases) == [3, 1]
        release(leases)
        eventually(lambda: maker.closed == 1)
        eventually(lambda: pool.stats().closed == {"uses": 1})

    def test_a_check_has_the_resource_alone(
        self, shared: Any, clock: Any, runner: ThreadRunner
    ) -> None:
        """It runs when nobody has used the resource for check_after; others wait for its result."""
        gate = threading.Event()
        seen: list[int] = []

        def check(resource: Any) -> bool:
            seen.append(pool.stats().leases)
            gate.wait(10)
            return bool(resource.healthy)

        pool, maker = shared(1, slots=5, check=check, check_after=10.0, clock=clock)
        release(taken(pool, 2))
        assert not seen
        clock.advance(11)
        tasks = [runner.start(pool.acquire, 10) for _ in range(3)]
        eventually(lambda: seen and pool.stats().waiting == 2)
        assert pool.stats().checking == 1 and pool.stats().creating == 0
        gate.set()
        leases = [task.result() for task in tasks]
        assert loads(leases) == [3] and seen == [0] and maker.made == 1
        release(leases)
        clock.advance(11)
        maker.all[0].healthy = False
        with pool.lease(timeout=10) as other:
            assert other is maker.all[1]
        eventually(lambda: maker.all[0].closed)
        eventually(lambda: pool.stats().closed == {"check": 1})

    def test_keepalive_looks_at_what_nobody_uses(self, shared: Any, clock: Any) -> None:
        checked: list[Any] = []
        pool, maker = shared(
            2, slots=5, check=checked.append, keepalive=10.0, idle_timeout=None, clock=clock
        )
        pool.warm(2)
        held = pool.acquire()
        clock.advance(11)
        eventually(lambda: checked)
        assert checked == [r for r in maker.all if r is not held.resource]
        held.release()


class TestClosing:
    def test_what_is_in_use_is_closed_when_it_comes_back(self, shared: Any) -> None:
        pool, maker = shared(2, slots=2)
        pool.warm(2)
        lease = pool.acquire()
        assert pool.close(timeout=0.01) is False
        assert maker.closed == 1 and not lease.resource.closed
        resource = lease.resource
        lease.release()
        eventually(lambda: resource.closed)
        assert pool.close(timeout=1) is True
        with pytest.raises(PoolClosed):
            pool.acquire()

    def test_closing_wakes_all_who_wait(self, shared: Any, runner: ThreadRunner) -> None:
        pool, _ = shared(1, slots=1)
        held = pool.acquire()
        tasks = [runner.start(pool.acquire, 10) for _ in range(3)]
        eventually(lambda: pool.stats().waiting == 3)
        pool.close(timeout=0)
        for task in tasks:
            with pytest.raises(PoolClosed):
                task.result()
        held.release()

    def test_closing_waits_for_leases(self, shared: Any, runner: ThreadRunner) -> None:
        pool, maker = shared(1, slots=5)
        leases = taken(pool, 2)
        closing = runner.start(pool.close, 10)
        eventually(lambda: pool.closed)
        leases[0].release()
        assert closing.running
        leases[1].release()
        assert closing.result() is True and maker.closed == 1

    def test_a_pool_as_a_block(self, shared: Any) -> None:
        pool, maker = shared(1, slots=5)
        with pool as same:
            assert same is pool
            with pool.lease():
                pass
        assert pool.closed and maker.closed == 1

    @pytest.mark.threads_only("the stand-in keeps the pool alive")
    def test_a_pool_that_is_collected(self) -> None:
        maker = Maker()
        pool = SharedPool(maker, items=1)
        lease = pool.acquire()
        with pytest.warns(ResourceWarning, match="unclosed fastpool"):
            del pool
            gc.collect()
        assert not lease.resource.closed
        lease.release()
        eventually(lambda: maker.closed == 1)

"""SharedPool: how many resources it keeps, and which of them go when there are too many."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from contract.shared.leases import release, taken
from fastpool import PoolTimeout, _core
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, states, wait_for_scheduler


def manager_of(pool: Any) -> Any:
    return _core.manager(pool, "this test")


def added(pool: Any, maker: Any, n: int, least: int = 0) -> list[Any]:
    """So many resources, in the order in which they are opened.  ``least``: of ``items`` from now
    on; the pool would open them itself otherwise."""
    resources = [maker() for _ in range(n)]
    assert all(pool.add(resource) for resource in resources)
    if least:
        pool.resize((least, pool.items[1]))
        wait_for_scheduler()
    return resources


def loaded(pool: Any, resources: list[Any], *numbers: int) -> list[Any]:
    """Leases, that many of each resource; nothing else is lent."""
    leases = taken(pool, max(numbers) * len(resources))
    left = dict(zip(resources, numbers, strict=True))
    held = []
    for lease in leases:
        if left[lease.resource] > 0:
            left[lease.resource] -= 1
            held.append(lease)
        else:
            lease.release()
    assert not any(left.values())
    return held


def in_service(pool: Any) -> int:
    stats = pool.stats()
    return int(stats.idle + stats.leased + stats.checking - stats.draining)


class TestShrinking:
    """shrink_after: one goes when all leases of that time would have had room in the others."""

    def test_the_least_loaded_resource_goes(self, shared: Any, clock: Any) -> None:
        pool, maker = shared((0, 4), slots=3, shrink_after=60.0, clock=clock)
        resources = added(pool, maker, 3)
        leases = loaded(pool, resources, 1, 0, 2)
        clock.advance(0)
        clock.advance(60)
        eventually(lambda: pool.stats().closed == {"surplus": 1})
        assert maker.closings == [resources[1]] and pool.stats().draining == 0
        release(leases)

    def test_of_equals_the_one_opened_last_goes(self, shared: Any, clock: Any) -> None:
        """Leases go to the one opened first among equals, so that one has more to do."""
        pool, maker = shared((0, 4), slots=3, shrink_after=60.0, clock=clock)
        resources = added(pool, maker, 3, least=1)
        clock.advance(0)
        for left in (2, 1):
            clock.advance(60)
            eventually(lambda n=left: maker.closings == resources[:0:-1][: 3 - n])

    def test_a_resource_in_use_drains_if_its_leases_had_capacity(
        self, shared: Any, clock: Any
    ) -> None:
        """All that was lent fits into the others exactly; who uses it is not disturbed."""
        pool, maker = shared((0, 4), slots=2, shrink_after=60.0, clock=clock)
        first, last = added(pool, maker, 2, least=1)
        leases = loaded(pool, [first, last], 1, 1)
        clock.advance(0)
        clock.advance(60)
        assert pool.stats().draining == 1 and maker.closed == 0
        leases.append(pool.acquire(timeout=0))
        assert leases[-1].resource is first
        release(leases)
        eventually(lambda: pool.stats().closed == {"surplus": 1})
        assert maker.closings == [last]

    def test_what_drains_has_no_capacity_for_others(self, shared: Any, clock: Any) -> None:
        """It is none of those that could do with one fewer."""
        pool, maker = shared((0, 4), slots=3, shrink_after=60.0, clock=clock)
        first, last = added(pool, maker, 2, least=1)
        leases = loaded(pool, [first, last], 1, 1)
        pool.drain(first)
        clock.advance(0)
        clock.advance(60)
        clock.advance(60)
        assert pool.stats().draining == 1
        leases.append(pool.acquire(timeout=0))
        assert leases[-1].resource is last and maker.made == 2
        release(leases)

    def test_time_with_the_least_number_is_no_time_with_too_many(
        self, shared: Any, clock: Any
    ) -> None:
        """Another one that is opened later is kept for the whole of shrink_after."""
        pool, maker = shared((0, 4), slots=2, shrink_after=60.0, clock=clock)
        added(pool, maker, 2, least=1)
        clock.advance(0)
        clock.advance(60)
        eventually(lambda: maker.closed == 1)
        clock.advance(1)
        clock.advance(100)
        added(pool, maker, 1)
        clock.advance(0)
        clock.advance(59)
        assert maker.closed == 1 and in_service(pool) == 2
        clock.advance(1)
        eventually(lambda: maker.closed == 2)

    def test_it_happens_in_real_time(self, shared: Any) -> None:
        """The scheduler comes back by itself."""
        pool, maker = shared((0, 3), slots=2, shrink_after=0.01)
        added(pool, maker, 2, least=1)
        eventually(lambda: set(pool.stats().closed) == {"surplus"})
        assert in_service(pool) == 1


class TestLeastNumber:
    """items=(least, most): the least are opened in the background, and kept."""

    def test_it_is_opened_even_if_a_call_of_warm_gave_up(self, shared: Any) -> None:
        """What the caller of warm() does not wait for any more is wanted by the pool still."""
        maker = Maker()
        maker.gate.clear()
        pool, _ = shared((3, 4), maker=maker, max_creating=1)
        eventually(lambda: maker.running)
        with pytest.raises(PoolTimeout):
            pool.warm(4, timeout=0.01)
        maker.gate.set()
        eventually(lambda: states(pool) == {"idle": 3})

    def test_all_that_it_lacks_is_opened_at_once(self, shared: Any) -> None:
        """As many at a time as max_creating allows, not one after the other."""
        pool, maker = shared(3, max_creating=4)
        pool.warm(3)
        maker.gate.clear()
        pool.flush()
        eventually(lambda: maker.running == 3)
        maker.gate.set()
        eventually(lambda: states(pool) == {"idle": 3})

    def test_a_resource_that_is_checked_is_one_of_it(
        self, shared: Any, clock: Any, runner: ThreadRunner
    ) -> None:
        """Nothing is opened in its place."""
        seen, go_on = threading.Event(), threading.Event()

        def check(resource: Any) -> None:
            seen.set()
            go_on.wait(PATIENCE)

        pool, maker = shared((1, 3), check=check, check_after=1.0, clock=clock)
        pool.warm(1)
        clock.advance(2)
        taker = runner.start(pool.acquire, PATIENCE)
        assert seen.wait(PATIENCE)
        clock.advance(0, settle=0)
        assert states(pool) == {"checking": 1}
        go_on.set()
        taker.result().release()
        assert maker.made == 1

    def test_one_that_drains_is_replaced_for_who_waits(
        self, shared: Any, runner: ThreadRunner
    ) -> None:
        """Its slot is free at once, also where the least number asks for nothing."""
        pool, maker = shared((0, 1), slots=1)
        held = pool.acquire()
        waiter = runner.start(pool.acquire, PATIENCE)
        eventually(lambda: pool.stats().waiting == 1)
        pool.drain(held.resource)
        lease = waiter.result()
        assert lease.resource is not held.resource and maker.made == 2
        release([lease, held])

    def test_resize_opens_a_larger_one(self, shared: Any) -> None:
        pool, _ = shared((0, 4))
        assert pool.items == (0, 4) and states(pool) == {}
        pool.resize((2, 4))
        eventually(lambda: states(pool) == {"idle": 2})
        pool.flush()
        eventually(lambda: pool.stats().closed == {"flushed": 2})
        eventually(lambda: states(pool) == {"idle": 2})

    def test_resize_lets_a_smaller_one_shrink(self, shared: Any, clock: Any) -> None:
        pool, maker = shared((2, 4), shrink_after=60.0, clock=clock)
        pool.warm(2)
        clock.advance(60)
        clock.advance(60)
        assert maker.closed == 0
        pool.resize((1, 4))
        clock.advance(0)
        clock.advance(60)
        eventually(lambda: states(pool) == {"idle": 1})

    def test_it_stays_in_service_when_all_are_idle_for_too_long(
        self, shared: Any, clock: Any
    ) -> None:
        """idle_timeout closes what is more than the least number; the others only when there is
        another in their place."""
        pool, maker = shared((1, 3), idle_timeout=100.0, shrink_after=None, clock=clock)
        pool.warm(3)
        maker.gate.clear()
        clock.advance(101, settle=0)
        eventually(lambda: maker.running == 1 and maker.closed == 2)
        lease = pool.acquire(timeout=0)
        assert maker.made == 3 and lease.resource in maker.all
        lease.release()
        maker.gate.set()
        eventually(lambda: maker.closed == 3 and states(pool) == {"idle": 1})
        assert pool.stats().closed == {"idle": 3}

    def test_a_replacement_is_opened_beside_what_a_caller_waits_for(
        self, shared: Any, runner: ThreadRunner
    ) -> None:
        """Neither takes the creation of the other."""
        pool, maker = shared((0, 2), slots=1)
        held = pool.acquire()
        maker.gate.clear()
        pool.replace(held.resource)
        eventually(lambda: maker.running == 1)
        waiter = runner.start(pool.acquire, PATIENCE)
        eventually(lambda: maker.running == 2)
        maker.gate.set()
        release([waiter.result(), held])
        eventually(lambda: maker.closed == 1 and states(pool) == {"idle": 2})


class TestResize:
    """Surplus resources are drained: what is being made first, then the least loaded."""

    def test_the_least_loaded_goes_first(self, shared: Any) -> None:
        pool, maker = shared((0, 3), slots=4, shrink_after=None)
        resources = added(pool, maker, 3)
        leases = loaded(pool, resources, 1, 0, 2)
        pool.resize((0, 2))
        eventually(lambda: maker.closings == [resources[1]])
        assert pool.stats().draining == 0
        pool.resize((0, 1))
        assert pool.stats().draining == 1
        leases.append(pool.acquire(timeout=0))
        assert leases[-1].resource is resources[2]
        release(leases)
        eventually(lambda: pool.stats().closed == {"surplus": 2})
        assert maker.closings == [resources[1], resources[0]]

    def test_of_equals_the_one_opened_last_goes_first(self, shared: Any) -> None:
        pool, maker = shared((0, 3), shrink_after=None)
        resources = added(pool, maker, 3)
        pool.resize((0, 2))
        eventually(lambda: maker.closings == [resources[2]])
        pool.resize((0, 1))
        eventually(lambda: maker.closings == [resources[2], resources[1]])

    @pytest.mark.parametrize("load", [0, 1])
    def test_what_is_being_made_goes_before_what_is_open(
        self, shared: Any, runner: ThreadRunner, load: int
    ) -> None:
        """Even if its slot is an earlier one, and what is open is not in use."""
        pool, maker = shared((0, 2), slots=1, shrink_after=None)
        gone, kept = added(pool, maker, 2)
        index = manager_of(pool).core.find(gone)
        pool.drain(gone)
        eventually(lambda: states(pool) == {"idle": 1})
        pool.avoid(kept)
        maker.gate.clear()
        waiter = runner.start(pool.acquire, PATIENCE)
        eventually(lambda: maker.running == 1)
        assert manager_of(pool).core.slot(index)[1] == "creating"
        if load:
            pool.avoid(kept, False)
            held = waiter.result()
        pool.resize((0, 1))
        maker.gate.set()
        eventually(lambda: pool.stats().closed == {"flushed": 1, "surplus": 1})
        assert not kept.closed
        if not load:
            pool.avoid(kept, False)
            held = waiter.result()
        assert held.resource is kept
        held.release()

    def test_what_drains_is_no_surplus(self, shared: Any) -> None:
        """The cap does not count it."""
        pool, maker = shared((0, 2), shrink_after=None)
        first, last = added(pool, maker, 2)
        leases = loaded(pool, [first, last], 1, 0)
        pool.drain(first)
        pool.resize((0, 1))
        leases.append(pool.acquire(timeout=0))
        assert leases[-1].resource is last and pool.stats().draining == 1
        release(leases)

    @pytest.mark.parametrize("why", ["flushed", "check"])
    def test_what_is_being_closed_is_no_surplus(
        self, shared: Any, clock: Any, runner: ThreadRunner, why: str
    ) -> None:
        pool, maker = shared(
            (0, 2), shrink_after=None, check=lambda r: r.healthy, keepalive=10.0, clock=clock
        )
        first, last = added(pool, maker, 2)
        maker.close_gate.clear()
        if why == "check":
            first.healthy = False
            clock.advance(10, settle=0)
        else:
            runner.start(pool.drain, first)
        eventually(lambda: pool.stats().closing == 1)
        pool.resize((0, 1))
        maker.close_gate.set()
        eventually(lambda: pool.stats().closed == {why: 1})
        with pool.lease(timeout=0) as resource:
            assert resource is last
        assert maker.closings == [first]

    def test_what_takes_the_place_of_another_is_no_surplus(self, shared: Any) -> None:
        """Where one is open and its replacement is being made, there is one too many of neither."""
        pool, maker = shared(1, shrink_after=None)
        pool.warm(1)
        maker.gate.clear()
        pool.replace()
        eventually(lambda: maker.running == 1)
        pool.resize(1)
        maker.gate.set()
        eventually(lambda: maker.closed == 1 and states(pool) == {"idle": 1})
        wait_for_scheduler()
        assert maker.made == 2 and pool.stats().closed == {"flushed": 1}

"""SharedPool: many leases of one resource, the least loaded first, exact to the slot."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from contract.shared.leases import loads, release, taken
from fastpool import PoolError, PoolOverloaded, PoolTimeout, SharedLease, SharedPool
from support.helpers import ThreadRunner, eventually, states

pytestmark = pytest.mark.usefixtures("caller_kind")

HOUR = 3600.0


class TestSlots:
    def test_many_leases_share_one_resource(self, shared: Any) -> None:
        """As long as it has a free slot no other one is opened."""
        pool, maker = shared((1, 8), slots=5)
        leases = taken(pool, 5)
        assert loads(leases) == [5] and maker.made == 1
        assert pool.stats().leases == 5 and states(pool) == {"leased": 1}
        release(leases)
        assert pool.stats().leases == 0 and states(pool) == {"idle": 1}

    def test_the_least_loaded_is_next(self, shared: Any) -> None:
        """Leases spread evenly, and go where one was given back."""
        pool, _ = shared((3, 3), slots=4)
        pool.warm(3)
        leases = taken(pool, 6)
        assert loads(leases) == [2, 2, 2]
        freed = leases.pop()
        resource = freed.resource
        freed.release()
        with pool.lease() as next_one:
            assert next_one is resource
        release(leases)

    def test_no_slot_is_given_twice(self, shared: Any) -> None:
        """All slots taken and no room for more: a try ends at once, and says so."""
        pool, maker = shared((1, 2), slots=3)
        leases = taken(pool, 6)
        assert loads(leases) == [3, 3]
        with pytest.raises(PoolTimeout, match="6 leases on 2 resources of at most 2, 3 slots each"):
            pool.get(timeout=0)
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0.01)
        leases.pop().release()
        leases.append(pool.acquire(timeout=0))
        release(leases)
        assert maker.made == 2

    def test_get_and_put_count_like_leases(self, shared: Any) -> None:
        """A slot taken by get() is given back by one put(); more are refused."""
        pool, _ = shared(1, slots=2)
        one, other = pool.get(), pool.get()
        assert one is other and pool.stats().leases == 2
        pool.put(one)
        pool.put(other)
        with pytest.raises(ValueError, match="no slot of it is taken"):
            pool.put(one)
        with pytest.raises(ValueError, match="did not make"):
            pool.put(object())

    def test_a_new_resource_is_opened_for_those_who_wait(
        self, shared: Any, runner: ThreadRunner
    ) -> None:
        """One for as many callers as it has slots, not one for each of them."""
        pool, maker = shared((0, 8), slots=10)
        maker.gate.clear()
        tasks = [runner.start(pool.acquire, 10) for _ in range(10)]
        eventually(lambda: pool.stats().waiting == 10 and pool.stats().creating)
        assert pool.stats().creating == 1
        maker.gate.set()
        leases = [task.result() for task in tasks]
        assert maker.made == 1 and loads(leases) == [10]
        release(leases)

    def test_the_least_number_is_opened_from_the_start(self, shared: Any) -> None:
        """And the rest when the load asks for it."""
        pool, _ = shared((2, 4), slots=1)
        eventually(lambda: pool.stats().idle == 2)
        leases = taken(pool, 3)
        assert pool.stats().open == 3
        release(leases)

    def test_without_a_cap(self, shared: Any) -> None:
        """items=(n, None): as many as are wanted."""
        pool, _ = shared((0, None), slots=2)
        leases = taken(pool, 30)
        assert pool.stats().open == 15 and pool.items == (0, None)
        release(leases)


class TestLeases:
    def test_a_lease_ends_once(self, shared: Any) -> None:
        """What was released is not released again, and its slot is not given back twice."""
        pool, _ = shared(1, slots=3)
        held = pool.acquire()
        lease = pool.acquire()
        assert isinstance(lease, SharedLease)
        lease.release()
        for act in (lease.release, lease.discard, lease.penalize, lambda: lease.resource):
            with pytest.raises(PoolError, match="has been released"):
                act()
        assert pool.stats().leases == 1
        held.release()

    def test_a_block_is_entered_once(self, shared: Any) -> None:
        pool, _ = shared(1, slots=3)
        lease = pool.lease()
        with lease:
            with pytest.raises(PoolError, match="entered before"), lease:
                pytest.fail("entered twice")
            assert pool.stats().leases == 1
        with pytest.raises(PoolError, match="entered before"), lease:
            pytest.fail("entered after its end")
        assert pool.stats().leases == 0

    def test_a_lease_that_was_acquired_may_be_a_block(self, shared: Any) -> None:
        pool, _ = shared(1, slots=3)
        lease = pool.acquire()
        with lease as resource:
            assert resource is lease.resource
        assert pool.stats().leases == 0

    def test_releasing_inside_a_block_is_its_end(self, shared: Any) -> None:
        pool, _ = shared(1, slots=3)
        other = pool.acquire()
        lease = pool.lease()
        with lease:
            lease.release()
        assert pool.stats().leases == 1
        other.release()

    @pytest.mark.threads_only("what tasks hold is collected with them")
    def test_a_lost_lease_gives_its_slot_back(self, shared: Any) -> None:
        """And says so, once; the resource stays in service for the others."""
        pool, maker = shared(1, slots=1)
        with pytest.warns(ResourceWarning, match="its slot is free again") as seen:
            pool.acquire()
            gc.collect()
        assert len(seen) == 1 and maker.closed == 0
        with pool.lease(timeout=0):
            pass

    def test_who_holds_what(self, shared: Any) -> None:
        """leases(): one entry a lease; with leak_after, where each was taken."""
        pool, maker = shared(1, slots=5)
        leases = taken(pool, 2)
        assert [holder.resource for holder in pool.leases()] == [maker.all[0]] * 2
        release(leases)
        pool, _ = shared(1, slots=5, leak_after=HOUR)
        leases = [*taken(pool, 2), pool.get()]
        assert len(pool.leases()) == 3
        assert all(holder.thread and holder.stack for holder in pool.leases())
        release(leases[:2])
        assert len(pool.leases()) == 1
        pool.put(leases[2])
        assert pool.leases() == [] and pool.stats().use_time.count == 3


class TestErrors:
    @pytest.mark.parametrize("error", [ConnectionResetError, EOFError])
    def test_a_broken_resource_goes_out_of_service(self, shared: Any, error: Any) -> None:
        """It takes no more leases, and is closed when the last one ends; others are not hurt."""
        pool, maker = shared((1, 2), slots=5)
        other = pool.acquire()
        with pytest.raises(error), pool.lease():
            raise error
        broken = other.resource
        assert not broken.closed and pool.stats().draining == 1
        with pool.lease() as fresh:
            assert fresh is not broken
        other.release()
        eventually(lambda: broken.closed)
        eventually(lambda: pool.stats().closed == {"error": 1})
        assert maker.made == 2

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, TimeoutError])
    def test_what_says_nothing_about_the_resource(self, shared: Any, error: Any) -> None:
        """One caller's own mistake, end or timeout is not the others'."""
        pool, _ = shared(1, slots=5)
        with pytest.raises(error), pool.lease():
            raise error
        assert pool.stats().leases == 0 and states(pool) == {"idle": 1}

    def test_a_time_out_makes_a_resource_less_liked(self, shared: Any, clock: Any) -> None:
        """For penalty_time it counts as more loaded; then it is as good as the others."""
        pool, _ = shared(2, slots=50, penalty=3, penalty_time=5.0, clock=clock)
        pool.warm(2)
        with pytest.raises(TimeoutError), pool.lease() as slow:
            raise TimeoutError
        leases = taken(pool, 3)
        assert slow not in [lease.resource for lease in leases]
        leases += taken(pool, 2)
        assert loads(leases) == [4, 1]
        clock.advance(6)
        leases += taken(pool, 3)
        assert loads(leases) == [4, 4]
        release(leases)

    def test_penalties_by_hand(self, shared: Any, clock: Any) -> None:
        """By the lease, or by the pool for a resource that somebody knows to be bad."""
        pool, _ = shared(2, slots=50, clock=clock)
        pool.warm(2)
        with pool.lease() as first:
            pass
        pool.penalize(first)
        lease = pool.acquire()
        assert lease.resource is not first
        lease.penalize()
        lease.release()
        clock.advance(6)
        with pool.lease() as again:
            assert again is first
        with pytest.raises(ValueError, match="did not make"):
            pool.penalize(object())

    def test_the_rules_can_be_others(self, shared: Any) -> None:
        pool, _ = shared(1, discard_on=LookupError, penalize_on=lambda error, resource: 1 / 0)
        with pytest.raises(ConnectionResetError), pool.lease():
            raise ConnectionResetError
        assert states(pool) == {"idle": 1}
        with pytest.raises(KeyError), pool.lease() as resource:
            raise KeyError
        eventually(lambda: resource.closed)

    def test_a_failure_of_the_factory_is_one_callers(self, shared: Any) -> None:
        pool, maker = shared((0, 1), slots=2)
        maker.script.append(ConnectionError("refused"))
        with pytest.raises(ConnectionError, match="refused"):
            pool.get()
        pool.put(pool.get())


class TestWaiting:
    def test_first_come_first_served(self, shared: Any, runner: ThreadRunner) -> None:
        """Threads and tasks in one line; each slot that is given back goes to its head."""
        pool, _ = shared(1, slots=2)
        leases = taken(pool, 2)
        order: list[int] = []

        def wait(number: int) -> None:
            with pool.lease(timeout=10):
                order.append(number)

        for number in range(6):
            runner.start(wait, number)
            eventually(lambda n=number: pool.stats().waiting == n + 1)
        leases.pop().release()  # one slot goes through the line
        runner.finish()
        assert order == [0, 1, 2, 3, 4, 5]
        release(leases)

    def test_too_many_waiters(self, shared: Any, runner: ThreadRunner) -> None:
        pool, _ = shared(1, slots=1, max_waiting=1)
        held = pool.acquire()
        waiter = runner.start(pool.acquire, 10)
        eventually(lambda: pool.stats().waiting == 1)
        with pytest.raises(PoolOverloaded):
            pool.acquire(timeout=10)
        held.release()
        waiter.result().release()
        assert pool.stats().overloads == 1

    def test_throughput(self, shared: Any, runner: ThreadRunner) -> None:
        """The other rule of fairness serves everybody too."""
        pool, _ = shared((1, 2), slots=2, fairness="throughput")

        def turn(number: int) -> None:
            for _ in range(200):
                with pool.lease(timeout=10):
                    pass

        runner.together(8, turn)
        runner.finish()
        assert pool.stats().leases == 0 and pool.stats().uses == 1600


class TestOptions:
    @pytest.mark.threads_only("the constructor is the same")
    def test_what_a_shared_pool_has_not(self) -> None:
        """Options of FastPool that would mean nothing here are refused with a reason."""
        for name in ("maxsize", "min_idle", "max_idle", "order", "reset"):
            with pytest.raises(TypeError, match=f"SharedPool has no option '{name}': "):
                SharedPool(object, **{name: 1})
        for wrong in ({"slots": 0}, {"slots": 2**31}, {"penalty": -1}, {"shrink_after": 0}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                SharedPool(object, **wrong)
        for typed in ({"slots": None}, {"slots": 1.5}, {"items": None}, {"penalty_time": None}):
            with pytest.raises(TypeError, match=next(iter(typed))):
                SharedPool(object, **typed)

        async def end(_: object) -> None:
            pass

        for hook in ({"close": end}, {"check": end}, {"abort": end, "drain_timeout": 1}):
            with pytest.raises(TypeError, match="is a coroutine function, but the factory is not"):
                SharedPool(object, **hook)
        with pytest.raises(TypeError, match="needs a factory"):
            SharedPool(None)
        with pytest.raises(TypeError, match="did you mean 'timeout'"):
            SharedPool(object, timout=1)

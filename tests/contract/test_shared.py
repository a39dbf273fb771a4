"""SharedPool: many leases of one resource, the least loaded first, exact to the slot."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from typing import Any

import pytest

from fastpool import PoolClosed, PoolError, PoolOverloaded, PoolTimeout, SharedLease, SharedPool
from support import Crew, Maker, eventually, states

pytestmark = pytest.mark.usefixtures("face")

HOUR = 3600.0


def taken(pool: Any, n: int) -> list[Any]:
    return [pool.acquire(timeout=10) for _ in range(n)]


def release(leases: list[Any]) -> None:
    for lease in leases:
        lease.release()


def loads(leases: list[Any]) -> list[int]:
    """How many of these leases are of one resource, the most loaded first."""
    return sorted(Counter(id(lease.resource) for lease in leases).values(), reverse=True)


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

    def test_a_new_resource_is_opened_for_those_who_wait(self, shared: Any, crew: Crew) -> None:
        """One for as many callers as it has slots, not one for each of them."""
        pool, maker = shared((0, 8), slots=10)
        maker.gate.clear()
        tasks = [crew.start(pool.acquire, 10) for _ in range(10)]
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
        """One caller's own mistake, end or time-out is not the others'."""
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
        assert pool.stats().draining == 0 and pool.stats().closed == {"flushed": 1}

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
        assert pool.stats().closed == {"discarded": 1}

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

    def test_resize(self, shared: Any, crew: Crew) -> None:
        """Growing serves who waits; shrinking drains what is surplus."""
        pool, maker = shared(1, slots=1)
        maker.cap = 8
        held = pool.acquire()
        waiter = crew.start(pool.acquire, 10)
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

    def test_suspend_and_resume(self, shared: Any, crew: Crew) -> None:
        pool, _ = shared(1, slots=5)
        lease = pool.acquire()
        pool.suspend()
        waiter = crew.start(pool.acquire, 10)
        eventually(lambda: pool.stats().waiting == 1)
        lease.release()
        assert pool.stats().leases == 0
        pool.resume()
        waiter.result().release()


class TestWaiting:
    def test_first_come_first_served(self, shared: Any, crew: Crew) -> None:
        """Threads and tasks in one line; each slot that is given back goes to its head."""
        pool, _ = shared(1, slots=2)
        leases = taken(pool, 2)
        order: list[int] = []

        def wait(number: int) -> None:
            with pool.lease(timeout=10):
                order.append(number)

        for number in range(6):
            crew.start(wait, number)
            eventually(lambda n=number: pool.stats().waiting == n + 1)
        leases.pop().release()  # one slot goes through the line
        crew.finish()
        assert order == [0, 1, 2, 3, 4, 5]
        release(leases)

    def test_too_many_waiters(self, shared: Any, crew: Crew) -> None:
        pool, _ = shared(1, slots=1, max_waiting=1)
        held = pool.acquire()
        waiter = crew.start(pool.acquire, 10)
        eventually(lambda: pool.stats().waiting == 1)
        with pytest.raises(PoolOverloaded):
            pool.acquire(timeout=10)
        held.release()
        waiter.result().release()
        assert pool.stats().overloads == 1

    def test_throughput(self, shared: Any, crew: Crew) -> None:
        """The other rule of fairness serves everybody too."""
        pool, _ = shared((1, 2), slots=2, fairness="throughput")

        def turn(number: int) -> None:
            for _ in range(200):
                with pool.lease(timeout=10):
                    pass

        crew.together(8, turn)
        crew.finish()
        assert pool.stats().leases == 0 and pool.stats().uses == 1600


class TestTime:
    def test_room_to_spare_closes_a_resource(self, shared: Any, clock: Any) -> None:
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
        assert pool.stats().open == 1 and pool.stats().closed == {"surplus": 2}

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
        assert pool.stats().closed == {"lifetime": 1}

    def test_what_nobody_uses_for_long(self, shared: Any, clock: Any) -> None:
        """idle_timeout: what is more than the least number is closed, the least is replaced."""
        pool, maker = shared((1, 2), slots=1, idle_timeout=100.0, shrink_after=None, clock=clock)
        release(taken(pool, 2))
        clock.advance(101)
        eventually(lambda: maker.closed == 2 and pool.stats().idle == 1)
        assert pool.stats().closed == {"idle": 2} and maker.made == 3

    def test_a_number_of_uses(self, shared: Any) -> None:
        """max_uses: so many leases, and then no more."""
        pool, maker = shared(1, slots=5, max_uses=3)
        leases = taken(pool, 4)
        assert loads(leases) == [3, 1]
        release(leases)
        eventually(lambda: maker.closed == 1)
        assert pool.stats().closed == {"uses": 1}

    def test_a_check_has_the_resource_alone(self, shared: Any, clock: Any, crew: Crew) -> None:
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
        tasks = [crew.start(pool.acquire, 10) for _ in range(3)]
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
        assert pool.stats().closed == {"check": 1}

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

    def test_closing_wakes_all_who_wait(self, shared: Any, crew: Crew) -> None:
        pool, _ = shared(1, slots=1)
        held = pool.acquire()
        tasks = [crew.start(pool.acquire, 10) for _ in range(3)]
        eventually(lambda: pool.stats().waiting == 3)
        pool.close(timeout=0)
        for task in tasks:
            with pytest.raises(PoolClosed):
                task.result()
        held.release()

    def test_closing_waits_for_leases(self, shared: Any, crew: Crew) -> None:
        pool, maker = shared(1, slots=5)
        leases = taken(pool, 2)
        closing = crew.start(pool.close, 10)
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

        async def connect() -> object:
            return object()

        with pytest.raises(TypeError, match="takes no coroutine function"):
            SharedPool(connect)
        with pytest.raises(TypeError, match="needs a factory"):
            SharedPool(None)
        with pytest.raises(TypeError, match="did you mean 'timeout'"):
            SharedPool(object, timout=1)

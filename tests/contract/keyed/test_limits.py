"""KeyedPool: the limits of Go's http.Transport and a total over all keys."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastpool import (
    KeyedLease,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolOverloaded,
    PoolTimeout,
    _core,
)
from fastpool.keyed import _capacity
from support.helpers import Task, ThreadRunner, eventually, states, told, wait_for_scheduler

pytestmark = pytest.mark.usefixtures("caller_kind")

HOUR = 3600.0


def open_of(pool: Any) -> dict[Any, int]:
    return {key: one.open for key, one in pool.stats().keys.items()}


def manager_of(pool: Any) -> Any:
    return _core.manager(getattr(pool, "_real", pool), "test")


def taken(pool: Any, *keys: Any) -> list[Any]:
    return [pool.acquire(key) for key in keys]


def release(leases: list[Any]) -> None:
    for lease in leases:
        lease.release()


def used(pool: Any, *keys: Any) -> None:
    """One idle for each of them, in this order."""
    for key in keys:
        with pool.lease(key):
            pass


def waiting(runner: ThreadRunner, pool: Any, take: Any, *args: Any) -> Task:
    """One more caller who waits in the queue of its key, and its key for a slot if there is none.
    The pool is asked, which is quicker than to look whether the thread sleeps."""
    before = pool.stats().waiting
    task = runner.start(take, *args)
    eventually(lambda: pool.stats().waiting == before + 1)
    wait_for_scheduler()  # the key is lined up there
    return task


class TestLeases:
    def test_a_lease_gets_what_was_made_for_its_key(self, keyed: Any) -> None:
        """And again when it was given back."""
        pool, maker = keyed()
        with pool.lease("a") as one, pool.lease("b") as other:
            assert (one.key, other.key) == ("a", "b")
        with pool.lease("a") as again:
            assert again is one
        assert maker.calls == ["a", "b"]

    def test_a_lease_knows_its_key(self, keyed: Any) -> None:
        pool, _ = keyed()
        lease = pool.acquire(("db", 5432))
        assert isinstance(lease, KeyedLease) or lease._real.key == ("db", 5432)
        assert lease.key == ("db", 5432) and lease.resource.key == lease.key
        lease.release()

    def test_a_lease_ends_once(self, keyed: Any) -> None:
        pool, maker = keyed()
        lease = pool.acquire("a")
        lease.release()
        for act in (lease.release, lease.discard):
            with pytest.raises(PoolError, match="has been released or discarded"):
                act()
        entered = pool.lease("a")
        with entered:
            pass
        with pytest.raises(PoolError, match="entered before"):
            entered.__enter__()
        assert maker.made == 1 and states(pool) == {"idle": 1}

    def test_discard_closes_it(self, keyed: Any) -> None:
        """The end of the block does nothing more; the key is forgotten with its last resource."""
        pool, maker = keyed()
        lease = pool.lease("a")
        with lease as resource:
            lease.discard()
            eventually(lambda: resource.closed)
        eventually(lambda: pool.stats().keys == {})
        eventually(lambda: pool.stats().closed == {"discarded": 1} and maker.open == 0)

    def test_a_broken_one_is_closed(self, keyed: Any) -> None:
        """An OSError that leaves the block closes it, a ValueError does not."""
        pool, maker = keyed()
        with pytest.raises(ValueError), pool.lease("a"):
            raise ValueError
        assert maker.closed == 0
        with pytest.raises(OSError), pool.lease("a"):
            raise OSError
        eventually(lambda: maker.closed == 1)

    def test_equal_keys_are_one(self, keyed: Any) -> None:
        pool, maker = keyed()
        used(pool, 1, 1.0, True, None, None)
        assert maker.calls == [1, None]

    def test_a_key_must_be_hashable(self, keyed: Any) -> None:
        """Said at once, with the key."""
        pool, _ = keyed(name="pages")
        with pytest.raises(TypeError, match=r"pages: a key must be hashable, not \['a'\]"):
            pool.lease(["a"])

    def test_the_error_of_a_key_is_the_callers(self, keyed: Any) -> None:
        """What comparing keys raises takes nothing along."""

        class Odd:
            def __hash__(self) -> int:
                return 7

            def __eq__(self, other: object) -> bool:
                raise LookupError("no two are comparable")

        pool, maker = keyed()
        used(pool, Odd())
        with pytest.raises(LookupError), pool.lease(Odd()):
            pass
        assert maker.made == 1

    @pytest.mark.parametrize("later", [8, ValueError("not now")])
    def test_a_key_that_changes(self, keyed: Any, later: Any) -> None:
        """What its hash is when it is to be forgotten is nothing to those who ask for it again."""

        class Odd:
            hash: Any = 7

            def __hash__(self) -> int:
                if isinstance(self.hash, Exception):
                    raise self.hash
                return int(self.hash)

        pool, maker = keyed()
        odd = Odd()
        used(pool, odd)
        odd.hash = later
        pool.flush()
        eventually(lambda: pool.stats().open == 0)
        wait_for_scheduler()
        odd.hash = 7
        used(pool, odd, odd)
        assert maker.made == 2

    def test_a_lease_may_be_entered_after_its_key_was_forgotten(self, keyed: Any) -> None:
        """It takes nothing until then, and is bound to the key alone."""
        pool, maker = keyed()
        lease = pool.lease("a")
        used(pool, "a")
        pool.flush("a")
        eventually(lambda: pool.stats().keys == {})
        with lease as resource:
            assert resource.key == "a" and maker.made == 2


class TestMaxConnsPerHost:
    def test_excess_requests_queue(self, keyed: Any, runner: ThreadRunner) -> None:
        """Dialling, active and idle ones count; who comes later waits and is first come, first
        served."""
        pool, _ = keyed(None, 2)
        leases = taken(pool, "a", "a")
        order: list[int] = []

        def use(n: int) -> None:
            with pool.lease("a"):
                order.append(n)

        for n in range(3):
            waiting(runner, pool, use, n)
        assert pool.stats().keys["a"].waiting == 3
        leases.pop().release()
        runner.finish()
        assert order == [0, 1, 2] and open_of(pool) == {"a": 2}
        release(leases)

    def test_a_full_key_does_not_hold_up_another(self, keyed: Any, runner: ThreadRunner) -> None:
        pool, _ = keyed(None, 1)
        lease = pool.acquire("a")
        waiter = waiting(runner, pool, pool.acquire, "a")
        used(pool, "b", "c")
        assert waiter.running
        lease.release()
        waiter.result().release()

    def test_a_server_that_does_not_answer_holds_up_no_other(
        self, keyed: Any, runner: ThreadRunner
    ) -> None:
        """The dials of one key hang; go-redis had one mutex for all of them."""
        pool, maker = keyed(None, 10)
        maker.gates["dead"] = threading.Event()
        hanging = [runner.start(pool.acquire, "dead") for _ in range(6)]
        eventually(lambda: maker.calls.count("dead") == 4)  # max_creating
        used(pool, *range(20))
        assert pool.stats().keys["dead"].creating == 4
        maker.gates["dead"].set()
        release([waiter.result() for waiter in hanging])

    def test_a_failed_dial_is_no_connection(self, keyed: Any) -> None:
        """The exception is the caller's, its slot is free, and the key is forgotten."""
        pool, maker = keyed(1, 1)
        maker.broken["a"] = ConnectionRefusedError("a")
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError) as caught:
                pool.acquire("a")
            assert f"{pool.name}['a']" in told(caught.value)
        used(pool, "b")
        eventually(lambda: open_of(pool) == {"b": 1})
        assert pool.stats().create_failures == 3

    def test_a_panic_in_dial_leaks_no_slot(self, keyed: Any) -> None:
        """redigo's trap: whatever a factory raises."""
        pool, maker = keyed(1, 1)
        maker.broken["a"] = SystemExit("of the factory")
        with pytest.raises(SystemExit):
            pool.acquire("a")
        used(pool, "b")

    def test_nobody_is_stuck_after_a_cancelled_wait(self, keyed: Any, runner: ThreadRunner) -> None:
        """golang/go#32336 and #65705: the place of one who went is the next one's."""
        pool, _ = keyed(1, 1)
        lease = pool.acquire("a")
        for key in ("a", "b"):
            with pytest.raises(PoolTimeout):
                pool.acquire(key, timeout=0.01)
        waiters = [waiting(runner, pool, pool.acquire, key) for key in ("a", "b")]
        lease.release()
        for waiter in waiters:
            waiter.result().release()

    def test_dead_entries_do_not_pile_up(self, keyed: Any) -> None:
        """golang/go#76784: who gave up is in no line, and its key is forgotten."""
        pool, _ = keyed(1, 1)
        lease = pool.acquire("a")
        for n in range(20):
            with pytest.raises(PoolTimeout):
                pool.acquire(("b", n), timeout=0.001)
        eventually(lambda: list(manager_of(pool).cores) == ["a"])
        assert pool.stats().waiting == 0
        lease.release()
        assert pool.stats().timeouts == 20


class TestMaxIdleConns:
    def test_the_least_recently_used_of_any_host_goes(self, keyed: Any, clock: Any) -> None:
        pool, _ = keyed(None, 10, max_idle_total=2, clock=clock)
        for key in ("a", "b", "a", "c"):
            clock.advance(1)
            used(pool, key)
        eventually(lambda: open_of(pool) == {"a": 1, "c": 1})
        assert pool.stats().closed == {"surplus": 1}

    def test_each_time_that_there_are_too_many(self, keyed: Any) -> None:
        """What was counted before the last time that there were fewer is of no use."""
        pool, maker = keyed(None, 10, max_idle_total=5)
        leases = taken(pool, *"abcdef")
        leases.pop(0).release()  # a look finds one idle: the next four are none too many
        for lease in leases:
            lease.discard()
        eventually(lambda: open_of(pool) == {"a": 1})
        used(pool, *"bcdef")
        eventually(lambda: maker.closed == 6 and states(pool) == {"idle": 5})

    def test_what_is_in_use_does_not_count(self, keyed: Any) -> None:
        pool, _ = keyed(None, 10, max_idle_total=1)
        leases = taken(pool, "a", "b", "c")
        assert open_of(pool) == {"a": 1, "b": 1, "c": 1}
        release(leases)
        eventually(lambda: states(pool) == {"idle": 1})

    def test_zero_keeps_none(self, keyed: Any) -> None:
        pool, maker = keyed(None, 10, max_idle_total=0)
        used(pool, "a", "a")
        eventually(lambda: maker.closed == 2)

    def test_below_the_limit_returns_are_not_told_of(self, keyed: Any) -> None:
        """And again when there are fewer: the fast path knows no limit."""
        pool, _ = keyed(None, 10, max_idle_total=2)
        manager = manager_of(pool)
        used(pool, "a", "b")
        assert not manager.arbiter.notifying.on
        used(pool, "c")
        eventually(lambda: states(pool) == {"idle": 2})
        wait_for_scheduler()
        assert not manager.arbiter.notifying.on


class TestMaxIdleConnsPerHost:
    def test_surplus_is_closed_on_return(self, keyed: Any) -> None:
        pool, maker = keyed(None, 10, max_idle_per_key=1)
        leases = taken(pool, "a", "a", "b")
        first, second, other = (lease.resource for lease in leases)
        release(leases)
        eventually(lambda: maker.closed == 1)
        assert (first.closed, second.closed, other.closed) == (False, True, False)
        eventually(lambda: pool.stats().closed == {"surplus": 1})

    def test_zero_disables_reuse(self, keyed: Any) -> None:
        pool, maker = keyed(None, 10, max_idle_per_key=0)
        used(pool, "a", "a")
        eventually(lambda: maker.closed == 2)

    def test_one_that_is_waited_for_is_no_surplus(self, keyed: Any, runner: ThreadRunner) -> None:
        pool, maker = keyed(None, 1, max_idle_per_key=0)
        lease = pool.acquire("a")
        waiter = waiting(runner, pool, pool.acquire, "a")
        lease.release()
        waiter.result().release()
        eventually(lambda: maker.closed == 1)
        assert maker.made == 1

    def test_by_default_a_burst_leaves_its_connections(self, keyed: Any) -> None:
        """golang/go#13801: an idle cap below concurrency closes and dials with every request."""
        pool, maker = keyed()
        for _ in range(5):
            release(taken(pool, *["a"] * 10))
        assert maker.made == 10 and maker.closed == 0


class TestIdleConnTimeout:
    def test_each_goes_by_itself(self, keyed: Any, clock: Any) -> None:
        """Ninety seconds by default, as Go's transport; the key goes with the last."""
        pool, _ = keyed(clock=clock)
        used(pool, "a")
        clock.advance(50)
        used(pool, "b")
        clock.advance(50)
        eventually(lambda: open_of(pool) == {"b": 1})
        clock.advance(50)
        eventually(lambda: open_of(pool) == {})
        assert pool.stats().closed == {"idle": 2}

    def test_in_real_time(self, keyed: Any) -> None:
        pool, maker = keyed(idle_timeout=0.02)
        used(pool, "a", "b")
        eventually(lambda: maker.closed == 2 and open_of(pool) == {})


class TestMaxTotal:
    def test_idle_ones_of_other_keys_free_capacity(self, keyed: Any, clock: Any) -> None:
        """The one idle longest, whatever its key."""
        pool, _ = keyed(3, 2, clock=clock)
        for key in ("a", "b", "c", "a"):
            clock.advance(1)
            used(pool, key)
        used(pool, "d")
        assert open_of(pool) == {"a": 1, "c": 1, "d": 1}
        assert pool.stats().closed == {"evicted": 1}

    def test_what_comes_back_idle_frees_capacity(self, keyed: Any, runner: ThreadRunner) -> None:
        pool, _ = keyed(2, 2)
        leases = taken(pool, "a", "b")
        waiter = waiting(runner, pool, pool.acquire, "c")
        leases.pop(0).release()
        waiter.result().release()
        assert open_of(pool) == {"b": 1, "c": 1}
        release(leases)

    def test_also_for_a_key_that_has_some(self, keyed: Any, runner: ThreadRunner) -> None:
        pool, _ = keyed(2, 2)
        leases = taken(pool, "a", "b")
        waiter = waiting(runner, pool, pool.acquire, "a")
        leases.pop().release()
        waiter.result().release()
        assert open_of(pool) == {"a": 2}
        release(leases)

    def test_a_close_that_hangs_is_not_waited_for(
        self, keyed: Any, runner: ThreadRunner, clock: Any
    ) -> None:
        """Its slot is taken, but after hook_timeout another idle one is closed instead."""
        gate = threading.Event()

        def close(resource: Any) -> None:
            if resource.key == "hangs":
                gate.wait(20)
            resource.close()

        pool, _ = keyed(2, 2, close=close, hook_timeout=0.05, clock=clock)
        used(pool, "hangs")
        clock.advance(1)
        used(pool, "other")
        with pool.lease("a", timeout=10):
            assert open_of(pool) == {"hangs": 1, "a": 1}
        gate.set()

    def test_nothing_is_closed_for_a_key_at_its_own_limit(
        self, keyed: Any, runner: ThreadRunner
    ) -> None:
        """Its callers are looked at again when one was opened for them."""
        pool, maker = keyed(2, 1)
        used(pool, "b")
        maker.gates["a"] = threading.Event()
        waiters = [waiting(runner, pool, pool.acquire, "a") for _ in range(2)]
        maker.gates["a"].set()
        waiters.pop(0).result().release()
        waiters.pop().result().release()
        wait_for_scheduler()
        assert open_of(pool) == {"a": 1, "b": 1} and maker.closed == 0

    def test_a_timeout_says_what_is_full(self, keyed: Any) -> None:
        pool, _ = keyed(2, 2, name="pages")
        leases = taken(pool, "a", "b")
        with pytest.raises(PoolTimeout, match=r"pages\['c'\]: no resource within") as caught:
            pool.acquire("c", timeout=0.01)
        assert "'pages' together: 2 open of max_total 2" in told(caught.value)
        assert caught.value.phase == "wait"
        release(leases)

    def test_a_try_opens_one_in_the_background_if_there_is_capacity(self, keyed: Any) -> None:
        """And none if there is not: nothing is closed for a caller who has gone."""
        pool, maker = keyed(2, 2)
        with pytest.raises(PoolTimeout):
            pool.acquire("a", timeout=0)
        eventually(lambda: states(pool) == {"idle": 1})
        used(pool, "b")
        with pytest.raises(PoolTimeout):
            pool.acquire("c", timeout=0)
        wait_for_scheduler()
        assert maker.calls == ["a", "b"] and open_of(pool) == {"a": 1, "b": 1}

    def test_a_background_try_that_fails_is_not_repeated(self, keyed: Any) -> None:
        """Nobody waits for it, and thousands of dead keys would."""
        pool, maker = keyed()
        maker.broken["a"] = OSError("a")
        with pytest.raises(PoolTimeout):
            pool.acquire("a", timeout=0)
        eventually(lambda: pool.stats().create_failures == len(maker.calls))
        eventually(lambda: pool.stats().keys == {})
        eventually(lambda: not manager_of(pool).cores)
        # one more if the first had failed before the caller was gone
        assert maker.calls in (["a"], ["a", "a"])

    def test_one_who_holds_all_of_it_would_wait_for_itself(self, keyed: Any) -> None:
        pool, _ = keyed(2, 2)
        with pool.lease("a"), pool.lease("b"), pytest.raises(PoolDeadlock, match="all 2"):
            pool.acquire("c")
        with pool.lease("a"), pool.lease("a"), pytest.raises(PoolDeadlock, match="all 2"):
            pool.acquire("a")
        used(pool, "c")

    def test_two_who_hold_all_of_it_are_not_told_so(self, keyed: Any, runner: ThreadRunner) -> None:
        pool, _ = keyed(2, 2)
        done = threading.Event()
        holds = threading.Event()

        def hold() -> None:
            with pool.lease("b"):
                holds.set()
                done.wait(10)

        holder = runner.start(hold)
        assert holds.wait(10)
        with pool.lease("a"):
            with pytest.raises(PoolTimeout):
                pool.acquire("c", timeout=0.01)
            done.set()
            holder.result()
            used(pool, "c")

    def test_no_total(self, keyed: Any) -> None:
        pool, _ = keyed(None, 1)
        release(taken(pool, *range(150)))
        assert pool.stats().idle == 150 and pool.stats().maxsize == 0


class TestFairness:
    def test_slots_go_to_keys_in_turn(self, keyed: Any, runner: ThreadRunner) -> None:
        """However many callers each has: the one of "c" is not behind all those of "b"."""
        pool, _ = keyed(2, None)
        leases = taken(pool, "a", "a")
        order: list[Any] = []
        enough = threading.Event()

        def use(key: Any) -> None:
            with pool.lease(key):
                order.append(key)
                enough.wait(10)

        waiters = [waiting(runner, pool, use, key) for key in ("b", "b", "b", "c")]
        release(leases)
        eventually(lambda: len(order) == 2)
        assert sorted(order) == ["b", "c"]
        enough.set()
        for waiter in waiters:
            waiter.result()

    def test_a_busy_key_gives_up_a_slot_to_one_that_has_none(
        self, keyed: Any, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its own callers wait, so nothing of it is ever idle."""
        monkeypatch.setattr(_capacity, "SPARE_AFTER", 0.0)
        pool, maker = keyed(2, None)
        leases = taken(pool, "hot", "hot")
        hot = [waiting(runner, pool, pool.acquire, "hot") for _ in range(3)]
        cold = waiting(runner, pool, pool.acquire, "cold")
        leases.pop().release()
        mine = cold.result()
        assert maker.calls == ["hot", "hot", "cold"] and pool.stats().closed == {"evicted": 1}
        mine.release()
        release(leases)
        for one in hot:
            one.result().release()

    @pytest.mark.parametrize("most_idle", [None, 2])
    def test_a_busy_key_gives_up_one_after_the_other(
        self,
        keyed: Any,
        runner: ThreadRunner,
        most_idle: int | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The first slot that is free ends nothing for the others that have none."""
        monkeypatch.setattr(_capacity, "SPARE_AFTER", 0.0)
        pool, maker = keyed(2, 2, max_idle_per_key=most_idle)
        leases = taken(pool, "hot", "hot")
        cold = [waiting(runner, pool, pool.acquire, key) for key in ("cold", "colder")]
        hot = [waiting(runner, pool, pool.acquire, "hot") for _ in range(3)]
        leases.pop().release()
        mine = [cold[0].result()]
        leases.pop().release()
        mine.append(cold[1].result())
        assert maker.calls == ["hot", "hot", "cold", "colder"]
        assert all(one.running for one in hot)
        release(mine)
        for one in hot:
            one.result().release()

    def test_a_hot_key_leaves_turns_to_others(
        self, keyed: Any, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_capacity, "SPARE_AFTER", 0.002)
        pool, _ = keyed(4, None)
        served = threading.Event()

        def busy() -> int:
            turns = 0
            while not served.is_set():
                with pool.lease("hot"):
                    turns += 1
            return turns

        hot = [runner.start(busy) for _ in range(8)]
        eventually(lambda: pool.stats().uses > 50)
        try:
            for n in range(3):
                with pool.lease(("cold", n), timeout=30):
                    pass
        finally:
            served.set()
        assert sum(one.result() for one in hot) > 10

    def test_the_only_one_of_a_key_is_its_callers_who_came_first(
        self, keyed: Any, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Or that of another key's, if they came before them."""
        monkeypatch.setattr(_capacity, "SPARE_AFTER", 0.0)
        pool, maker = keyed(1, 1)
        lease = pool.acquire("a")
        waiters = [waiting(runner, pool, pool.acquire, key) for key in ("a", "b", "a")]
        lease.release()
        mine = waiters[0].result()
        assert maker.calls == ["a"]
        mine.release()
        other = waiters[1].result()
        assert waiters[2].running
        other.release()
        waiters[2].result().release()
        assert maker.calls == ["a", "b", "a"]

    def test_more_keys_than_slots(self, keyed: Any, runner: ThreadRunner) -> None:
        """Everybody is served, again and again."""
        pool, _ = keyed(3, 2)

        def use(n: int) -> None:
            for _ in range(5):
                with pool.lease(n % 10, timeout=20):
                    pass

        runner.together(20, use)
        runner.finish()


class TestOverload:
    def test_callers_in_queue_for_a_key(self, keyed: Any, runner: ThreadRunner) -> None:
        pool, _ = keyed(None, 1, max_waiting=1)
        leases = taken(pool, "a", "b")
        waiter = waiting(runner, pool, pool.acquire, "a")
        with pytest.raises(PoolOverloaded):
            pool.acquire("a")
        other = waiting(runner, pool, pool.acquire, "b")
        release(leases)
        release([waiter.result(), other.result()])
        assert pool.stats().overloads == 1

    def test_for_a_slot_of_all_keys(self, keyed: Any) -> None:
        """0: who could only wait for others is refused; what is idle may be closed for one."""
        pool, _ = keyed(1, 1, max_waiting=0)
        lease = pool.acquire("a")
        with pytest.raises(PoolOverloaded):
            pool.acquire("b")
        lease.release()
        used(pool, "b", "c")


class TestLifecycle:
    def test_a_key_that_is_not_used_is_forgotten(self, keyed: Any) -> None:
        """Its counters are not."""
        pool, _ = keyed(5, 1)
        used(pool, *range(200))
        manager = manager_of(pool)
        eventually(lambda: len(manager.cores) == 5)
        stats = pool.stats()
        assert stats.uses == stats.created == 200 and stats.closed == {"evicted": 195}
        assert stats.wait_time.count >= 1

    def test_close_refuses_wakes_and_closes(self, keyed: Any, runner: ThreadRunner) -> None:
        pool, maker = keyed(2, 1)
        lease = pool.acquire("a")
        used(pool, "b")
        of_key = waiting(runner, pool, pool.acquire, "a")
        assert not pool.close(timeout=0)
        with pytest.raises(PoolClosed):
            of_key.result()
        for act in (pool.acquire, lambda key: pool.lease(key).__enter__()):
            with pytest.raises(PoolClosed):
                act("c")
        eventually(lambda: maker.open == 1)
        lease.release()
        eventually(lambda: maker.open == 0)
        assert pool.close() and pool.closed and pool.stats().keys == {}

    def test_close_wakes_who_waits_for_a_slot(self, keyed: Any, runner: ThreadRunner) -> None:
        pool, _ = keyed(1, 1)
        lease = pool.acquire("a")
        waiter = waiting(runner, pool, pool.acquire, "b")
        pool.close(timeout=0)
        with pytest.raises(PoolClosed):
            waiter.result()
        lease.release()

    def test_close_waits_for_borrowers_but_not_for_itself(
        self, keyed: Any, runner: ThreadRunner
    ) -> None:
        pool, maker = keyed()
        holds, done = threading.Event(), threading.Event()

        def hold() -> None:
            with pool.lease("a"):
                holds.set()
                done.wait(10)

        holder = runner.start(hold)
        assert holds.wait(10)
        closing = runner.start(pool.close, 10.0)
        eventually(lambda: pool.closed)
        assert closing.running
        done.set()
        assert closing.result()
        holder.result()
        assert maker.open == 0

    def test_a_block_closes_it(self, keyed: Any) -> None:
        pool, maker = keyed()
        with pool:
            used(pool, "a", "b")
        eventually(lambda: maker.open == 0)
        assert pool.closed

    def test_flush_retires_all_or_one_key(self, keyed: Any) -> None:
        """What is leased goes when it comes back."""
        pool, _ = keyed()
        used(pool, "a", "b")
        lease = pool.acquire("c")
        pool.flush("a")
        eventually(lambda: open_of(pool) == {"b": 1, "c": 1})
        pool.flush("never seen")
        pool.flush()
        eventually(lambda: open_of(pool) == {"c": 1})
        lease.release()
        eventually(lambda: open_of(pool) == {})
        assert pool.stats().closed == {"flushed": 3}

    def test_suspended_leases_wait(self, keyed: Any, runner: ThreadRunner) -> None:
        pool, _ = keyed()
        used(pool, "a")
        pool.suspend()
        waiters = [waiting(runner, pool, pool.acquire, key) for key in ("a", "new")]
        pool.resume()
        release([waiter.result() for waiter in waiters])

    def test_who_holds_what(self, keyed: Any) -> None:
        pool, _ = keyed(leak_after=HOUR)
        leases = taken(pool, "a", "b")
        assert {holder.resource.key for holder in pool.leases()} == {"a", "b"}
        release(leases)
        assert pool.leases() == []

    def test_hooks_run_as_in_any_pool(self, keyed: Any) -> None:
        """check before a lease, reset after it, each for one resource."""
        seen: list[tuple[str, Any]] = []
        pool, maker = keyed(
            check=lambda r: seen.append(("check", r.key)),
            reset=lambda r: seen.append(("reset", r.key)),
            close=lambda r: (seen.append(("close", r.key)), r.close()),
            check_after=0,
        )
        used(pool, "a", "b")  # what was made just now need not be checked, unless that was long ago
        eventually(lambda: seen[-1:] == [("reset", "b")])
        seen.clear()
        used(pool, "a")
        eventually(lambda: seen == [("check", "a"), ("reset", "a")])
        pool.flush("b")
        eventually(lambda: seen[2:] == [("close", "b")] and maker.closed == 1)

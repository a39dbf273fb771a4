"""KeyedPool, step by step: keys in the queue for a slot, idle limits, and what is closed for
whom."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastpool import PoolOverloaded, PoolTimeout, _core
from fastpool.keyed import _capacity
from support.helpers import (
    PATIENCE,
    Task,
    ThreadRunner,
    eventually,
    states,
    told,
    wait_for_scheduler,
)


def manager_of(pool: Any) -> Any:
    return _core.manager(pool, "test")


def waiting(runner: ThreadRunner, pool: Any, *keys: Any) -> list[Task]:
    """Callers in the queue for these keys, one after the other."""
    tasks = []
    for key in keys:
        before = pool.stats().waiting
        tasks.append(runner.start(pool.acquire, key))
        eventually(lambda n=before: pool.stats().waiting == n + 1)
        wait_for_scheduler()
    return tasks


def open_of(pool: Any) -> dict[Any, int]:
    return {key: one.open for key, one in pool.stats().keys.items()}


class TestWaitQueue:
    def test_a_key_leaves_it_with_its_last_caller(self, keyed: Any) -> None:
        """Nothing is closed for one that has gone."""
        pool, maker = keyed(2, 2)
        leases = [pool.acquire(key) for key in "ab"]
        with pytest.raises(PoolTimeout):
            pool.acquire("a", timeout=0.01)
        eventually(lambda: not manager_of(pool).arbiter.underserved)
        leases.pop().release()
        wait_for_scheduler()
        assert maker.closed == 0 and states(pool) == {"leased": 1, "idle": 1}
        leases.pop().release()

    def test_a_key_that_has_nothing_goes_first(self, keyed: Any, runner: ThreadRunner) -> None:
        """However long another one that has something waits for more."""
        pool, maker = keyed(2, 2)
        leases = [pool.acquire(key) for key in "ab"]
        some, none = waiting(runner, pool, "a", "c")
        leases.pop().discard()
        lease = none.result()
        assert maker.calls == ["a", "b", "c"] and some.running
        lease.discard()
        some.result().release()
        leases.pop().release()

    @pytest.mark.parametrize("keys", ["cd", "dc"])
    def test_keys_are_served_in_the_order_in_which_they_came(
        self, keyed: Any, runner: ThreadRunner, keys: str
    ) -> None:
        pool, maker = keyed(1, 1)
        lease = pool.acquire("a")
        tasks = waiting(runner, pool, *keys)
        lease.discard()
        tasks[0].result().discard()
        tasks[1].result().release()
        assert maker.calls == ["a", *keys]

    def test_a_key_that_could_do_with_more_goes_to_the_end(
        self, keyed: Any, runner: ThreadRunner
    ) -> None:
        """One slot at a time: then it is the turn of the next key."""
        pool, maker = keyed(3, 3)
        leases = [pool.acquire("a") for _ in range(3)]
        tasks = waiting(runner, pool, "b", "b", "c")
        taken = []
        for number in (0, 2, 1):
            leases.pop().discard()
            taken.append(tasks[number].result())
            assert sum(task.running for task in tasks) == 3 - len(taken)
        assert maker.calls[3:] == ["b", "c", "b"]
        for lease in taken:
            lease.release()

    def test_no_slot_is_given_out_while_suspended(self, keyed: Any, runner: ThreadRunner) -> None:
        pool, maker = keyed(1, 1)
        lease = pool.acquire("a")
        [task] = waiting(runner, pool, "b")
        pool.suspend()
        lease.discard()
        eventually(lambda: maker.closed == 1)
        wait_for_scheduler()
        assert maker.calls == ["a"]
        pool.resume()
        task.result().release()


class TestWhatIsClosed:
    def test_one_for_each_key_in_queue_and_no_more(
        self, keyed: Any, runner: ThreadRunner, clock: Any
    ) -> None:
        """What is being closed for them is counted, however often the pool looks."""
        gate = threading.Event()

        def close(resource: Any) -> None:
            gate.wait(PATIENCE)
            resource.close()

        pool, maker = keyed(4, 2, close=close, clock=clock)
        for key in "abcd":
            with pool.lease(key):
                clock.advance(1)
        tasks = waiting(runner, pool, "e", "f")
        eventually(lambda: states(pool) == {"closing": 2, "idle": 2})
        with pool.lease("d"):  # which has the pool look once more when it comes back
            pass
        wait_for_scheduler()
        assert states(pool) == {"closing": 2, "idle": 2}
        gate.set()
        for task in tasks:
            task.result().release()
        eventually(lambda: open_of(pool) == dict.fromkeys("cdef", 1))

    def test_a_promise_ends_with_its_slot(self, keyed: Any, runner: ThreadRunner) -> None:
        """What was closed for one key is not counted for the next: that has its own closed."""
        pool, maker = keyed(2, 2)
        for key in "abcdef":
            with pool.lease(key, timeout=PATIENCE):
                pass
            eventually(lambda: not manager_of(pool).arbiter.promised)
        eventually(lambda: pool.stats().closed == {"evicted": 4})

    def test_what_is_closed_as_surplus_is_promised_to_nobody(
        self, keyed: Any, runner: ThreadRunner
    ) -> None:
        gate = threading.Event()

        def close(resource: Any) -> None:
            gate.wait(PATIENCE)
            resource.close()

        pool, maker = keyed(3, 3, max_idle_total=1, close=close, hook_timeout=None)
        leases = [pool.acquire("a") for _ in range(2)]
        for lease in leases:
            lease.release()
        eventually(lambda: states(pool) == {"idle": 1, "closing": 1})
        wait_for_scheduler()
        assert manager_of(pool).arbiter.promised == {}
        gate.set()

    def test_hooks_that_hang_are_given_up_one_after_the_other(
        self, keyed: Any, runner: ThreadRunner, clock: Any
    ) -> None:
        """After hook_timeout the next idle one is closed instead, and then the next."""
        gate = threading.Event()

        def close(resource: Any) -> None:
            if resource.key != "c":
                gate.wait(PATIENCE)
            resource.close()

        pool, maker = keyed(3, 3, close=close, hook_timeout=0.02, clock=clock)
        for key in "abc":
            with pool.lease(key):
                clock.advance(1)
        with pool.lease("d", timeout=PATIENCE):
            # on a busy machine the hook may not have been called when its time is over
            eventually(lambda: [pool.stats().keys[key].closing for key in "ab"] == [1, 1])
        gate.set()

    @pytest.mark.parametrize("after, calls", [(0.0, ["hot"] * 2 + ["cold"]), (1e6, ["hot"] * 2)])
    def test_a_busy_key_gives_a_slot_up_after_a_while(
        self,
        keyed: Any,
        runner: ThreadRunner,
        monkeypatch: pytest.MonkeyPatch,
        after: float,
        calls: list[str],
    ) -> None:
        """Not at once: until then what comes back goes to its own callers."""
        monkeypatch.setattr(_capacity, "SPARE_AFTER", after)
        pool, maker = keyed(2, None)
        leases = [pool.acquire("hot") for _ in range(2)]
        cold, hot = waiting(runner, pool, "cold", "hot")
        leases.pop().release()
        taken = (cold if not after else hot).result()
        assert maker.calls == calls
        taken.release()
        leases.pop().release()
        for task in (cold, hot):
            if task.seen:
                continue
            task.result().release()

    def test_a_busy_key_gives_up_no_more_than_is_waited_for(
        self, keyed: Any, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is being closed is counted: the next that comes back goes to its own callers."""
        monkeypatch.setattr(_capacity, "SPARE_AFTER", 0.0)
        gate = threading.Event()

        def close(resource: Any) -> None:
            gate.wait(PATIENCE)
            resource.close()

        pool, maker = keyed(3, None, close=close)
        leases = [pool.acquire("hot") for _ in range(3)]
        cold, hot = waiting(runner, pool, "cold", "hot")
        giving = runner.start(leases.pop().release)
        eventually(lambda: pool.stats().closing == 1)
        giving_too = runner.start(leases.pop().release)
        lease = hot.result()
        assert pool.stats().closing == 1 and cold.running
        gate.set()
        for task in (giving, giving_too):
            task.result()
        cold.result().release()
        for one in (lease, *leases):
            one.release()
        assert maker.calls == ["hot", "hot", "hot", "cold"]

    def test_a_key_without_callers_has_it_evicted(self, keyed: Any, runner: ThreadRunner) -> None:
        """What comes back to it is idle, and closed as such."""
        pool, maker = keyed(2, 2)
        leases = [pool.acquire("a") for _ in range(2)]
        [task] = waiting(runner, pool, "b")
        leases.pop().release()
        task.result().release()
        eventually(lambda: pool.stats().closed == {"evicted": 1})
        eventually(lambda: manager_of(pool).arbiter.promised == {})  # "a" is still there
        leases.pop().release()


class TestIdleLimits:
    @pytest.mark.parametrize("limit", ["max_idle_total", "max_idle_per_key"])
    def test_what_is_made_for_nobody_counts(self, keyed: Any, limit: str) -> None:
        """The caller has gone: it is closed as soon as it comes."""
        pool, maker = keyed(None, 10, **{limit: 0})
        with pytest.raises(PoolTimeout):
            pool.acquire("a", timeout=0)
        eventually(lambda: maker.made == maker.closed == 1)
        eventually(lambda: pool.stats().closed == {"surplus": 1})

    def test_the_oldest_go_first_and_as_many_as_are_too_many(self, keyed: Any, clock: Any) -> None:
        pool, maker = keyed(None, 10, max_idle_total=3, clock=clock)
        leases = [pool.acquire(key) for key in "abcdef"]
        for back, lease in enumerate(leases, 1):
            clock.advance(1)
            lease.release()
            # closed, too, before the next one is: several threads close
            eventually(lambda n=back: pool.stats().idle <= 3 and maker.closed == max(0, n - 3))
        assert [r.key for r in maker.closings] == ["a", "b", "c"]
        eventually(lambda: open_of(pool) == dict.fromkeys("def", 1))

    def test_as_many_as_may_be_are_kept(self, keyed: Any) -> None:
        """Neither a return nor the number of keys makes it one fewer."""
        pool, maker = keyed(None, 10, max_idle_total=3, max_idle_per_key=2)
        for _ in range(4):
            leases = [pool.acquire(key) for key in "aab"]
            for lease in leases:
                lease.release()
        wait_for_scheduler()
        assert maker.closed == 0 and states(pool) == {"idle": 3}


class TestRefusals:
    def test_its_own_limit_is_no_matter_of_the_others(self, keyed: Any) -> None:
        """The note on all keys is for who waits for a slot."""
        pool, _ = keyed(2, 1)
        lease = pool.acquire("a")
        with pytest.raises(PoolTimeout) as caught:
            pool.acquire("a", timeout=0.01)
        lease.release()
        assert "together" not in told(caught.value)

    def test_max_waiting_counts_who_waits_for_a_slot(
        self, keyed: Any, runner: ThreadRunner
    ) -> None:
        """Over all keys, where that is what they wait for."""
        pool, _ = keyed(1, 1, max_waiting=1)
        lease = pool.acquire("a")
        tasks = waiting(runner, pool, "b")
        with pytest.raises(PoolOverloaded):
            pool.acquire("b")
        lease.release()
        tasks[0].result().release()

    def test_a_slot_that_is_coming_is_no_wait(self, keyed: Any, runner: ThreadRunner) -> None:
        """max_waiting=0: as many as there are idle ones, or such as are being closed for them."""
        gate = threading.Event()

        def close(resource: Any) -> None:
            gate.wait(PATIENCE)
            resource.close()

        pool, _ = keyed(2, 2, max_waiting=0, close=close)
        leases = [pool.acquire(key) for key in "ab"]
        for lease in leases:
            lease.release()
        tasks = waiting(runner, pool, "c", "d")
        with pytest.raises(PoolOverloaded):
            pool.acquire("e")
        gate.set()
        for task in tasks:
            task.result().release()

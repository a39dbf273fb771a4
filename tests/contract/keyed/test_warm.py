"""KeyedPool.warm and resize, with a plain factory and with a coroutine function."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from fastpool import KeyedPool, PoolClosed, PoolTimeout, _core
from fastpool.keyed import _capacity
from fastpool.testing import ManualClock
from support.async_factories import Hang, threads
from support.async_keyed import accounted_keys
from support.helpers import PATIENCE, ThreadRunner, eventually, states, wait_for_scheduler
from support.keyed_factories import KeyedMaker
from support.loops import KINDS, run_in

kinds = pytest.mark.parametrize("kind", KINDS)


def sizes(pool: Any) -> dict[Any, int]:
    return {key: size.open for key, size in pool.stats().keys.items()}


class TestWarm:
    """By threads."""

    def test_opens_what_is_lacking(self) -> None:
        maker = KeyedMaker()
        with KeyedPool(maker) as pool:
            assert pool.warm("a", 3) == 3 and maker.made == 3
            with pool.lease("a"):
                assert pool.warm("a", 2) == 3 and pool.warm("b", 1) == 1
            assert sizes(pool) == {"a": 3, "b": 1} and maker.made == 4
            assert states(pool) == {"idle": 4}

    def test_none_is_none(self) -> None:
        with KeyedPool(KeyedMaker()) as pool:
            assert pool.warm("a", 0) == 0
            eventually(lambda: not pool.stats().keys)

    def test_at_most_what_the_limits_allow(self) -> None:
        maker = KeyedMaker(4, 3)
        with KeyedPool(maker, max_total=4, max_per_key=3) as pool:
            assert pool.warm("a", 10) == 3
            assert pool.warm("b", 10) == 3
            assert sizes(pool) == {"a": 1, "b": 3} and not maker.faults

    def test_takes_the_place_of_what_is_idle(self) -> None:
        """But not of what is leased: for that it waits."""
        maker = KeyedMaker(2, 2)
        with KeyedPool(maker, max_total=2, max_per_key=2) as pool:
            lease = pool.acquire("a")
            with pool.lease("b"):
                pass
            assert pool.warm("c", 1) == 1
            assert sizes(pool) == {"a": 1, "c": 1}
            with pytest.raises(PoolTimeout):
                pool.warm("c", 2, timeout=0.01)
            lease.release()
            assert pool.warm("c", 2) == 2 and not maker.faults
            assert sizes(pool) == {"c": 2}

    def test_two_who_want_too_much_do_not_close_each_others(self, runner: ThreadRunner) -> None:
        maker = KeyedMaker(3, 3)
        maker.gates["a"] = maker.gates["b"] = threading.Event()
        with KeyedPool(maker, max_total=3, max_per_key=3) as pool:
            held = pool.acquire("c")
            calls = [runner.start(_closed, pool, key) for key in "ab"]
            eventually(lambda: len(maker.calls) == 3)
            maker.gates["a"].set()
            eventually(lambda: states(pool) == {"idle": 2, "leased": 1})
            for _ in range(3):
                wait_for_scheduler()
            assert maker.closed == 0 and states(pool) == {"idle": 2, "leased": 1}
            pool.close(timeout=0)
            held.release()
            for call in calls:
                call.result()

    def test_a_lease_comes_before_it(self, runner: ThreadRunner) -> None:
        """What is idle of a key that is being warmed may be closed for a caller."""
        maker = KeyedMaker(2, 2)
        with KeyedPool(maker, max_total=2, max_per_key=2) as pool:
            held = pool.acquire("a")
            warming = runner.start(pool.warm, "b", 2)
            eventually(lambda: maker.made == 2)
            with pool.lease("c", timeout=PATIENCE):
                assert sizes(pool) == {"a": 1, "c": 1}
            held.release()
            assert warming.result() == 2

    def test_a_starved_key_behind_it_is_served(
        self, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A key with callers gets what comes back, though one that is warmed waited first."""
        monkeypatch.setattr(_capacity, "SPARE_AFTER", 0.0)
        maker = KeyedMaker(2, 2)
        with KeyedPool(maker, max_total=2, max_per_key=2) as pool:
            held = [pool.acquire("a") for _ in range(2)]
            warming = runner.start(pool.warm, "b", 1)
            eventually(lambda: _is_warming(pool, "b"))
            wait_for_scheduler()
            waiting = runner.start(pool.acquire, "c")
            own = runner.start(pool.acquire, "a")
            eventually(lambda: pool.stats().waiting == 2)
            wait_for_scheduler()
            held[0].release()
            lease = waiting.result()
            held[1].release()
            own.result().release()
            lease.release()
            assert warming.result() == 1

    def test_a_failure_ends_it(self) -> None:
        maker = KeyedMaker()
        maker.broken["a"] = OSError("refused")
        with KeyedPool(maker) as pool:
            with pytest.raises(OSError, match="refused"):
                pool.warm("a", 2)
            eventually(lambda: not pool.stats().keys)

    def test_timeout_and_close(self, runner: ThreadRunner) -> None:
        maker = KeyedMaker()
        gate = maker.gates["a"] = threading.Event()
        with KeyedPool(maker) as pool:
            with pytest.raises(PoolTimeout):
                pool.warm("a", 2, timeout=0.01)

            maker.gates["b"] = gate
            call = runner.start(_closed, pool, "b")
            eventually(lambda: maker.calls.count("b") == 3)
            pool.close(timeout=0)
            call.result()
            gate.set()
            eventually(lambda: maker.open == 0)

    def test_bad_arguments_are_refused(self) -> None:
        with KeyedPool(KeyedMaker(), max_idle_per_key=2) as pool:
            for error, words, args in (
                (TypeError, "hashable", ([], 1)),
                (TypeError, "n must be an int", ("a", "1")),
                (ValueError, "0 or more", ("a", -1)),
                (TypeError, "timeout must be", ("a", 1, "1")),
                (ValueError, "more than may be idle", ("a", 3)),
            ):
                with pytest.raises(error, match=words):
                    pool.warm(*args)
            eventually(lambda: not pool.stats().keys)
            assert pool.warm("a", 2) == 2

    def test_what_was_idle_before_is_the_oldest_still(self) -> None:
        """Though it was passed over while its key was warmed: the next eviction takes it."""
        maker, clock = KeyedMaker(3), ManualClock()
        with KeyedPool(maker, max_total=3, clock=clock) as pool:
            leases = [pool.acquire(key) for key in "acb"]
            for lease in leases:  # in this order they become idle
                clock.advance(1)
                lease.release()
            assert pool.warm("c", 2) == 2
            assert [one.key for one in maker.closings] == ["a"]
            clock.advance(1)
            with pool.lease("d"):
                assert [one.key for one in maker.closings] == ["a", "c"]
                assert maker.closings[1] is maker.all[1]


def _closed(pool: Any, key: str) -> None:
    with pytest.raises(PoolClosed):
        pool.warm(key, 3)


def _is_warming(pool: Any, key: str) -> bool:
    key_pool = _core.manager(pool, "this test").key_pool(key)
    return key_pool is not None and bool(key_pool.creator.warming)


class TestTasks:
    """With a plain factory and with a coroutine function."""

    @kinds
    def test_a_plain_factory(self, kind: str) -> None:
        async def main() -> None:
            async with KeyedPool(KeyedMaker(), max_total=3, max_per_key=2) as pool:
                assert await pool.awarm("a", 2) == 2
                assert await pool.awarm("b", 2, timeout=PATIENCE) == 2
                assert sizes(pool) == {"a": 1, "b": 2}

        run_in(kind, main())

    @kinds
    def test_a_coroutine_function(self, kind: str) -> None:
        async def main() -> None:
            assert await pool.awarm("a", 2) == 2
            assert await pool.awarm("b", 3) == 2
            assert sizes(pool) == {"a": 1, "b": 2}
            with pytest.raises(ValueError, match="0 or more"):
                await pool.awarm("a", -1)

        with accounted_keys(max_total=3, max_per_key=2) as (pool, _):
            run_in(kind, main())

    @kinds
    def test_of_other_loops_counts(self, kind: str) -> None:
        """As ``FastPool.awarm`` counts what is open on any loop."""
        with accounted_keys() as (pool, maker), threads(kind, 2) as (one, other):
            assert one.run(pool.awarm("a", 2)) == 2
            assert other.run(pool.awarm("a", 2)) == 2
            assert maker.made == 2
            assert other.run(pool.awarm("a", 3)) == 3

    @kinds
    def test_a_task_that_is_cancelled_wants_nothing(self, kind: str) -> None:
        async def main() -> None:
            hang = Hang()
            maker.script["create"].append(hang)
            task = asyncio.ensure_future(pool.awarm("a", 1))
            while not hang.begun.is_set():
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            hang.let_go()
            assert await pool.awarm("a", 1) == 1
            assert maker.made == 1

        with accounted_keys() as (pool, maker):
            run_in(kind, main())


class TestResize:
    def test_closes_the_oldest_idle_and_what_comes_back(self) -> None:
        maker = KeyedMaker(4)
        with KeyedPool(maker, max_total=4) as pool:
            leases = [pool.acquire(key) for key in "abcd"]
            leases[0].release()
            leases[1].release()
            pool.resize(3)
            eventually(lambda: sizes(pool) == {"b": 1, "c": 1, "d": 1})
            pool.resize(1)
            eventually(lambda: pool.stats().open == 2)
            for lease in leases[2:]:
                lease.release()
            eventually(lambda: pool.stats().open == 1)
            assert pool.options["max_total"] == pool.stats().maxsize == 1

    def test_growing_serves_those_who_wait(self, runner: ThreadRunner) -> None:
        maker = KeyedMaker(2)
        with KeyedPool(maker, max_total=1) as pool, pool.lease("a"):
            waiting = runner.start(pool.acquire, "b")
            eventually(lambda: pool.stats().waiting == 1)
            pool.resize(2)
            waiting.result().release()

    @kinds
    def test_with_a_coroutine_function(self, kind: str) -> None:
        with accounted_keys(max_total=2) as (pool, _), threads(kind, 2) as (one, other):
            lease = one.run(pool.aacquire("a"))
            other.run(pool.awarm("b", 1))
            pool.resize(1)
            eventually(lambda: sizes(pool) == {"a": 1})
            waiting = other.start(pool.aacquire("b"))
            eventually(lambda: pool.stats().waiting == 1)
            pool.resize(None)
            other.call(waiting.result(PATIENCE).release)
            one.call(lease.release)

    def test_bad_limits_are_refused(self) -> None:
        with KeyedPool(KeyedMaker(), max_per_key=2) as pool:
            for error, words, n in (
                (ValueError, "max_total must be 1 or more", 0),
                (ValueError, "max_per_key is 2, more than max_total allows", 1),
                (TypeError, "max_total must be an int or None", "3"),
            ):
                with pytest.raises(error, match=words):
                    pool.resize(n)
            assert pool.options["max_total"] == 100

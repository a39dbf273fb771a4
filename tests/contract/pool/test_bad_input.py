"""Bad input: a specific exception at the earliest moment, saying what, what is allowed, and where.

Each test that had a pool at work proves afterwards that nothing was lost by the mistake.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastpool import PoolClosed, PoolError, PoolTimeout
from support.callers import FastPool
from support.helpers import ThreadRunner, eventually, states, told, works

NAME = "orders-pool"


@pytest.mark.usefixtures("caller_kind")
class TestCalls:
    @pytest.mark.parametrize("act", ["get", "acquire", "lease"])
    @pytest.mark.parametrize(
        ("value", "error"),
        [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)],
        ids=repr,
    )
    def test_a_bad_timeout_is_refused_even_if_nobody_has_to_wait(
        self, accounted: Any, act: str, value: Any, error: Any
    ) -> None:
        """The call raises before it takes anything, and names the pool."""
        pool, maker = accounted(1, name=NAME)
        for idle in ({}, {"idle": 1}):
            with pytest.raises(error, match="timeout") as caught:
                getattr(pool, act)(timeout=value)
            assert NAME in str(caught.value) and str(value) in str(caught.value)
            assert states(pool) == idle
            pool.put(pool.get())
        assert maker.made == 1

    @pytest.mark.parametrize(
        ("act", "value", "error"),
        [
            ("resize", -1, ValueError),
            ("resize", 1.5, TypeError),
            ("resize", "2", TypeError),
            ("warm", -1, ValueError),
            ("warm", 1.5, TypeError),
            ("close", -1, ValueError),
            ("close", "soon", TypeError),
        ],
    )
    def test_bad_numbers_are_refused(
        self, accounted: Any, act: str, value: Any, error: Any
    ) -> None:
        """resize, warm and close look at their argument before they do anything."""
        pool, _ = accounted(2, name=NAME)
        pool.put(pool.get())
        with pytest.raises(error, match=NAME):
            getattr(pool, act)(value)
        assert pool.maxsize == 2 and not pool.closed
        works(pool, 2)

    def test_resizing_below_min_idle_is_refused(self, accounted: Any) -> None:
        """The same rule as at construction."""
        pool, _ = accounted(3, min_idle=2, name=NAME)
        with pytest.raises(ValueError, match="min_idle"):
            pool.resize(1)
        works(pool, 3)


@pytest.mark.usefixtures("caller_kind")
class TestReturns:
    @pytest.mark.parametrize("act", ["put", "put_nowait", "discard"])
    @pytest.mark.parametrize("what", [None, 3, "string", []], ids=repr)
    def test_a_foreign_object_is_refused(self, accounted: Any, act: str, what: Any) -> None:
        """What the pool did not make it does not take: a ValueError that names the pool."""
        pool, _ = accounted(1, name=NAME)
        with pytest.raises(ValueError, match=f"{NAME}.*did not make, or has closed"):
            getattr(pool, act)(what)
        works(pool, 1)

    @pytest.mark.parametrize("act", ["put", "discard"])
    def test_a_resource_of_another_pool_is_refused(self, accounted: Any, act: str) -> None:
        """It stays where it is: lent out by the other pool."""
        pool, _ = accounted(1, name=NAME)
        other, _ = accounted(1)
        resource = other.get()
        with pytest.raises(ValueError, match=NAME):
            getattr(pool, act)(resource)
        assert not resource.closed
        other.put(resource)
        works(pool, 1)
        works(other, 1)

    @pytest.mark.parametrize("second", ["put", "discard"])
    @pytest.mark.parametrize("first", ["put", "discard"])
    def test_a_double_return_is_refused(self, accounted: Any, first: str, second: str) -> None:
        """What is not lent out cannot be given back."""
        pool, maker = accounted(2, name=NAME)
        resource = pool.get()
        getattr(pool, first)(resource)
        says = "not lent out at this moment" if first == "put" else "did not make, or has closed"
        if first == "discard":
            eventually(lambda: resource.closed and pool.stats().open == 0)
        with pytest.raises(ValueError, match=f"{NAME}: {second}: .*{says}"):
            getattr(pool, second)(resource)
        eventually(lambda: maker.closed == (first == "discard"))  # a task's: on a worker
        works(pool, 2)

    def test_an_old_resource_is_refused_after_flush_and_expiry(self, accounted: Any) -> None:
        """A resource that the pool has closed is foreign to it."""
        pool, _ = accounted(1, name=NAME)
        resource = pool.get()
        pool.put(resource)
        pool.flush()
        eventually(lambda: resource.closed)
        with pytest.raises(ValueError, match=NAME):
            pool.put(resource)
        works(pool, 1)


@pytest.mark.usefixtures("caller_kind")
class TestFactories:
    def test_a_factory_that_returns_none_is_an_error(self, accounted: Any) -> None:
        """None cannot be told from nothing."""
        pool, maker = accounted(1, name=NAME)
        maker.script.append(None)
        with pytest.raises((PoolError, TypeError, ValueError), match="None") as caught:
            pool.get()
        assert NAME in told(caught.value)
        works(pool, 1)

    def test_a_factory_that_returns_what_the_pool_holds_is_an_error(self, accounted: Any) -> None:
        """One object cannot be two resources; the one that is lent stays untouched."""
        pool, maker = accounted(2, name=NAME)
        first = pool.get()
        maker.script.append(first)
        with pytest.raises((PoolError, TypeError, ValueError)) as caught:
            pool.get()
        assert NAME in told(caught.value)
        assert not first.closed and states(pool) == {"leased": 1}
        pool.put(first)
        works(pool, 2)

    def test_a_coroutine_from_a_sync_factory_is_an_error(self, accounted: Any) -> None:
        """A lambda that calls a coroutine function escapes the look at construction."""

        async def connect() -> object:
            return object()

        pool, _ = accounted(1, factory=lambda: connect(), name=NAME)
        with pytest.raises((PoolError, TypeError)) as caught:
            pool.get()
        assert NAME in told(caught.value)
        assert states(pool) == {}

    def test_a_raising_factory_loses_no_slot(self, accounted: Any, runner: ThreadRunner) -> None:
        """Many failures in many threads, then all slots work."""
        pool, maker = accounted(3, name=NAME)
        maker.broken = OSError

        def fail(index: int) -> None:
            for _ in range(5):
                with pytest.raises(OSError):
                    pool.get()

        for task in runner.together(6, fail):
            task.result()
        maker.broken = None
        works(pool, 3)

    def test_a_hanging_factory_keeps_its_slot_and_no_more(self, accounted: Any) -> None:
        """The borrower is told in time; others use what there is."""
        pool, maker = accounted(2, name=NAME)
        pool.put(pool.get())
        held = pool.get()
        maker.gate.clear()
        with pytest.raises(PoolTimeout, match=NAME) as caught:
            pool.get(timeout=0.02)
        assert caught.value.phase == "create"
        pool.put(held)
        pool.put(pool.get(timeout=0))
        maker.gate.set()
        eventually(lambda: pool.stats().creating == 0)
        works(pool, 2)


@pytest.mark.usefixtures("caller_kind")
class TestChecks:
    def test_a_raising_check_is_not_the_borrowers_problem(self, accounted: Any, clock: Any) -> None:
        """Its exception closes the resource and the borrower gets another one."""

        def check(resource: Any) -> None:
            raise RuntimeError("check is broken")

        pool, maker = accounted(1, check=check, check_after=0, name=NAME, clock=clock)
        first = pool.get()
        pool.put(first)
        second = pool.get()
        assert first.closed and second is not first
        pool.put(second)

    def test_a_hanging_check_keeps_its_slot_and_no_more(self, accounted: Any, clock: Any) -> None:
        """Another resource serves the next borrower; at the end the checked one is back."""
        gate = threading.Event()
        pool, _ = accounted(
            2,
            check=lambda resource: gate.wait(30),
            check_after=0,
            name=NAME,
            hook_timeout=60,
            clock=clock,
        )
        pool.put(pool.get())
        with pytest.raises(PoolTimeout, match=NAME) as caught:
            pool.get(timeout=0.02)
        assert caught.value.phase == "check"
        assert states(pool) == {"checking": 1}
        other = pool.get()
        gate.set()
        pool.put(other)
        eventually(lambda: states(pool) == {"idle": 2})
        works(pool, 2)


@pytest.mark.usefixtures("caller_kind")
class TestAfterTheEnd:
    @pytest.mark.parametrize(
        "act",
        [
            lambda pool: pool.get(),
            lambda pool: pool.get_nowait(),
            lambda pool: pool.acquire(),
            lambda pool: pool.lease().__enter__(),
            lambda pool: pool.warm(1),
        ],
        ids=["get", "get_nowait", "acquire", "lease", "warm"],
    )
    def test_a_closed_pool_refuses_new_work(self, accounted: Any, act: Any) -> None:
        """PoolClosed names the pool, and nothing is opened any more."""
        pool, maker = accounted(1, name=NAME)
        pool.close()
        with pytest.raises(PoolClosed, match=NAME):
            act(pool)
        assert maker.made == 0

    def test_a_lease_that_was_not_entered_in_time_finds_the_pool_closed(
        self, accounted: Any
    ) -> None:
        """lease() before close and entering after it is entering a closed pool."""
        pool, _ = accounted(1, name=NAME)
        lease = pool.lease()
        pool.close()
        with pytest.raises(PoolClosed), lease:
            pytest.fail("entered")

    def test_a_lease_is_entered_once(self, accounted: Any) -> None:
        """A second block over one lease would hold nothing, so it is an error that says so."""
        pool, _ = accounted(2, name=NAME)
        lease = pool.lease()
        with lease:
            with pytest.raises(PoolError, match=NAME), lease:
                pytest.fail("entered inside itself")
            assert states(pool) == {"leased": 1}
        with pytest.raises(PoolError, match=NAME), lease:
            pytest.fail("entered again")
        works(pool, 2)

    @pytest.mark.parametrize("second", ["release", "discard"])
    @pytest.mark.parametrize("first", ["release", "discard"])
    def test_a_lease_ends_once(self, accounted: Any, first: str, second: str) -> None:
        """A second end names the act, and hurts nobody who has the resource by then."""
        pool, _ = accounted(1, name=NAME)
        lease = pool.acquire()
        getattr(lease, first)()
        other = pool.acquire()
        with pytest.raises(PoolError, match=second) as caught:
            getattr(lease, second)()
        assert NAME in str(caught.value)
        assert states(pool) == {"leased": 1}
        other.release()
        works(pool, 1)

    @pytest.mark.parametrize("act", ["warm", "acquire", "lease", "flush", "discard"])
    def test_a_queue_says_that_it_is_no_resource_pool(self, act: str) -> None:
        """What needs a factory or items is refused in queue use, in words."""
        q: Any = FastPool()
        arguments = (1,) if act in ("warm", "discard") else ()
        with pytest.raises(TypeError, match="queue"):
            getattr(q, act)(*arguments)

"""Bad input: a specific exception at the earliest moment, saying what, what is allowed, and where.

Each test that had a pool at work proves afterwards that nothing was lost by the mistake.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from faces import FastPool
from fastpool import PoolClosed, PoolError, PoolTimeout
from support import Crew, Maker, eventually, states, told, works

NAME = "orders-pool"


def _refused(error: type[Exception], *words: str, **options: Any) -> None:
    """Making the pool raises `error`, whose text has the pool's name and all the words."""
    options.setdefault("factory", object)
    with pytest.raises(error) as caught:
        FastPool(name=NAME, **options)
    text = str(caught.value)
    for word in (NAME, *words):
        assert word in text, text


SIZES = ["maxsize", "min_idle", "max_idle", "max_creating", "max_waiting", "max_uses"]
TIMES = [
    "timeout", "create_timeout", "hook_timeout", "check_after", "keepalive", "idle_timeout",
    "max_lifetime", "leak_after",
]  # fmt: skip


def _with(option: str, value: object) -> dict[str, Any]:
    """The options under which `option` would make sense, were its value right."""
    extra = {"check": lambda resource: None} if option in ("keepalive", "check_after") else {}
    return {option: value, **extra}


class TestConstruction:
    @pytest.mark.parametrize("option", SIZES)
    def test_a_negative_size_is_refused(self, option: str) -> None:
        """Sizes are 0 or more, or 1 or more."""
        _refused(ValueError, option, "-1", **_with(option, -1))

    @pytest.mark.parametrize("option", SIZES)
    @pytest.mark.parametrize("value", [1.5, 2.0, "3", [4]], ids=repr)
    def test_a_size_that_is_no_integer_is_refused(self, option: str, value: object) -> None:
        """A float is no size, even a whole one."""
        _refused(TypeError, option, repr(value), "int", **_with(option, value))

    @pytest.mark.parametrize("option", ["max_creating", "max_uses"])
    def test_a_zero_that_would_stop_everything_is_refused(self, option: str) -> None:
        """No creation at a time, or no use of a resource, is no pool."""
        _refused(ValueError, option, "0", **_with(option, 0))

    @pytest.mark.parametrize("option", TIMES)
    @pytest.mark.parametrize("value", [-1, -0.001, float("-inf"), float("nan")], ids=repr)
    def test_a_negative_time_is_refused(self, option: str, value: float) -> None:
        """Times are seconds from 0 up; nan is none."""
        _refused(ValueError, option, repr(value), **_with(option, value))

    @pytest.mark.parametrize("option", TIMES)
    @pytest.mark.parametrize("value", ["5", [1], object], ids=repr)
    def test_a_time_that_is_no_number_is_refused(self, option: str, value: object) -> None:
        """Neither strings nor anything else stand for seconds."""
        _refused(TypeError, option, repr(value), **_with(option, value))

    def test_min_idle_above_maxsize_is_refused(self) -> None:
        """More kept warm than may be open cannot be."""
        _refused(ValueError, "min_idle", "3", "maxsize", "2", maxsize=2, min_idle=3)

    def test_min_idle_above_max_idle_is_refused(self) -> None:
        """What is warmed would be closed as surplus at once."""
        _refused(ValueError, "min_idle", "3", "max_idle", "2", maxsize=5, min_idle=3, max_idle=2)

    @pytest.mark.parametrize(("option", "good"), [("order", "fifo"), ("fairness", "throughput")])
    @pytest.mark.parametrize("value", ["random", 1, None], ids=repr)
    def test_an_unknown_choice_is_refused(self, option: str, good: str, value: object) -> None:
        """The message lists what there is to choose from."""
        _refused(ValueError, option, repr(value), good, **{option: value})

    @pytest.mark.parametrize("hook", ["factory", "check", "reset", "close"])
    @pytest.mark.parametrize("value", [3, "create"], ids=repr)
    def test_a_hook_that_cannot_be_called_is_refused(self, hook: str, value: object) -> None:
        """A hook is called one day; that it cannot be is said on the first."""
        _refused(TypeError, hook, repr(value), "callable", **{hook: value})

    @pytest.mark.parametrize("hook", ["check", "reset", "close"])
    def test_an_async_hook_with_a_sync_factory_is_refused(self, hook: str) -> None:
        """Threads cannot await it."""

        async def asynchronous(resource: object) -> None: ...

        _refused(TypeError, hook, **{hook: asynchronous})

    def test_an_async_hook_of_a_factory_object_is_refused(self) -> None:
        """The same when the hook comes with the factory."""

        class Mixed:
            def create(self) -> object:
                return object()

            async def check(self, resource: object) -> None: ...

        _refused(TypeError, "check", factory=Mixed())

    def test_an_unknown_option_is_refused(self) -> None:
        """A slip of the pen is not swallowed."""
        _refused(TypeError, "max_live_time", max_live_time=3)

    def test_factory_and_items_exclude_each_other(self) -> None:
        """Either the pool makes its resources or it is given them."""
        _refused(TypeError, "factory", "items", items=[object()])

    @pytest.mark.parametrize(
        "items", [[None], [object(), None], "same", 3], ids=["None", "a None", "twice", "int"]
    )
    def test_items_must_be_different_objects(self, items: Any) -> None:
        """None cannot be lent, nor one object twice at a time."""
        if items == "same":
            items = [NAME, NAME]
        with pytest.raises((TypeError, ValueError), match=r"item|None|twice|iter"):
            FastPool(items=items, name=NAME)

    def test_more_items_than_maxsize_are_refused(self) -> None:
        """The cap is hard from the first moment."""
        with pytest.raises(ValueError, match=NAME):
            FastPool(1, items=[object(), object()], name=NAME)

    @pytest.mark.parametrize("value", [3, "OSError", [OSError, 1], (int,)], ids=repr)
    def test_a_discard_on_that_matches_nothing_is_refused(self, value: object) -> None:
        """It takes exception classes or a callable."""
        _refused(TypeError, "discard_on", discard_on=value)

    @pytest.mark.parametrize(
        "option",
        sorted({*SIZES, *TIMES} - {"maxsize", "timeout", "max_waiting"}) + ["check", "reset"],
    )
    def test_a_queue_refuses_options_that_would_do_nothing(self, option: str) -> None:
        """Without a factory there is nothing to check, to warm or to age."""
        value = 1 if option not in ("check", "reset") else lambda resource: None
        with pytest.raises(TypeError, match=option):
            FastPool(name=NAME, **{option: value})

    def test_a_refused_pool_leaves_nothing_behind(self) -> None:
        """No thread is started and no resource made for a pool that never was."""
        before = threading.active_count()
        maker = Maker()
        with pytest.raises(ValueError):
            FastPool(2, factory=maker, min_idle=3)
        assert maker.calls == 0 and threading.active_count() == before


@pytest.mark.usefixtures("face")
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


@pytest.mark.usefixtures("face")
class TestReturns:
    @pytest.mark.parametrize("act", ["put", "put_nowait", "discard"])
    @pytest.mark.parametrize("what", [None, 3, "string", []], ids=repr)
    def test_a_foreign_object_is_refused(self, accounted: Any, act: str, what: Any) -> None:
        """What the pool did not make it does not take: a ValueError that names the pool."""
        pool, _ = accounted(1, name=NAME)
        with pytest.raises(ValueError, match=NAME):
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
        with pytest.raises(ValueError, match=NAME):
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


@pytest.mark.usefixtures("face")
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

    def test_a_raising_factory_loses_no_place(self, accounted: Any, crew: Crew) -> None:
        """Many failures in many threads, then all places work."""
        pool, maker = accounted(3, name=NAME)
        maker.broken = OSError

        def fail(index: int) -> None:
            for _ in range(5):
                with pytest.raises(OSError):
                    pool.get()

        for task in crew.together(6, fail):
            task.result()
        maker.broken = None
        works(pool, 3)

    def test_a_hanging_factory_keeps_its_place_and_no_more(self, accounted: Any) -> None:
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


@pytest.mark.usefixtures("face")
class TestChecks:
    def test_a_raising_check_is_not_the_borrowers_problem(self, accounted: Any) -> None:
        """Its exception closes the resource and the borrower gets another one."""

        def check(resource: Any) -> None:
            raise RuntimeError("check is broken")

        pool, maker = accounted(1, check=check, check_after=0, name=NAME)
        first = pool.get()
        pool.put(first)
        second = pool.get()
        assert first.closed and second is not first
        pool.put(second)

    def test_a_hanging_check_keeps_its_place_and_no_more(self, accounted: Any) -> None:
        """Another resource serves the next borrower; at the end the checked one is back."""
        gate = threading.Event()
        pool, _ = accounted(
            2, check=lambda resource: gate.wait(30), check_after=0, name=NAME, hook_timeout=60
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


@pytest.mark.usefixtures("face")
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

"""Bad options: refused when the pool is made, saying what was given, what is allowed, and where."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from support.callers import FastPool
from support.helpers import Maker

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

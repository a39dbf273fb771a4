"""The options that nobody gave: what the table of the contract says of each, for each use."""

from __future__ import annotations

import functools
from math import inf
from typing import Any

import pytest

from fastpool import FastPool, is_broken
from fastpool.pool import UNSET
from fastpool.pool._options import parse

QUEUE: dict[str, Any] = {}
FACTORY: dict[str, Any] = {"factory": object}
ITEMS: dict[str, Any] = {"items": [[], [], []]}
DEFAULTS: list[tuple[str, Any, Any]] = [  # with a factory, with items; those of a queue follow
    ("maxsize", 10, 3),
    ("min_idle", 0, 0),
    ("min_size", 0, 0),
    ("max_idle", inf, inf),
    ("order", "lifo", "lifo"),
    ("timeout", 30, inf),
    ("create_timeout", 30, 30),
    ("hook_timeout", 5, 5),
    ("max_creating", 4, 4),
    ("create_in", "worker", "worker"),
    ("check_after", 0.5, 0.5),
    ("keepalive", inf, inf),
    ("idle_timeout", 600, inf),
    ("max_lifetime", 1800, inf),
    ("max_uses", inf, inf),
    ("max_waiting", inf, inf),
    ("fairness", "fair", "fair"),
    ("leak_after", inf, inf),
    ("discard_on", is_broken, is_broken),
    ("on_create_error", "raise", "raise"),
    ("open", True, True),
    ("warn_unclosed", True, True),
    ("clock", None, None),
]


def parsed(maxsize: Any = UNSET, **given: Any) -> Any:
    return parse(maxsize, UNSET, given)


@pytest.mark.parametrize(
    ("option", "factory", "items"), DEFAULTS, ids=[option for option, *_ in DEFAULTS]
)
def test_default_is_that_of_the_table(option: str, factory: Any, items: Any) -> None:
    """``None`` in the table is no limit; ready items do not age, since nobody can make new ones."""
    assert getattr(parsed(**FACTORY), option) == factory
    assert getattr(parsed(**ITEMS), option) == items


@pytest.mark.parametrize(
    ("option", "default"),
    [
        ("maxsize", 0), ("order", "lifo"), ("timeout", inf), ("max_waiting", inf),
        ("fairness", "throughput"),
    ],
)  # fmt: skip
def test_default_of_a_queue_is_that_of_the_table(option: str, default: Any) -> None:
    assert getattr(parsed(), option) == default


@pytest.mark.parametrize("option", ["check", "reset", "close"])
def test_no_hook_is_called_that_nobody_gave(option: str) -> None:
    """Methods of the resources' own class are none: only a factory object brings its hooks."""

    class Connection:
        def check(self) -> bool:
            raise AssertionError("called")

        reset = check

        def close(self) -> None: ...

    assert getattr(parsed(factory=Connection).hooks, option) is None


def test_unbounded_pool_bounds_no_creations() -> None:
    """``max_creating`` is None when maxsize is 0, unless it is given."""
    assert parsed(0, **FACTORY).max_creating == inf
    assert parsed(0, max_creating=2, **FACTORY).max_creating == 2


@pytest.mark.parametrize(
    "option",
    [
        "timeout", "create_timeout", "hook_timeout", "max_creating", "max_idle", "keepalive",
        "idle_timeout", "max_lifetime", "max_uses", "max_waiting", "leak_after", "check_after",
    ],
)  # fmt: skip
def test_none_is_no_limit(option: str) -> None:
    """Of a wait: for ever."""
    given = {option: None, "check": id, **FACTORY}
    assert getattr(parsed(**given), option) == inf


def test_none_of_what_has_no_limit_is_the_default() -> None:
    """min_idle keeps nothing, and discard_on matches no class."""
    options = parsed(min_idle=None, discard_on=None, name=None, **FACTORY)
    assert (options.min_idle, options.discard_on) == (0, ())
    assert options.name.startswith("pool-")


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (KeyError, (KeyError,)),
        ([KeyError, OSError], (KeyError, OSError)),
        ((KeyError,), (KeyError,)),
        ([], ()),
        (callable, callable),
        pytest.param("broken", is_broken, id="broken"),
    ],
    ids=str,
)
def test_discard_on_that_is_given_replaces_the_default(rule: Any, kept: Any) -> None:
    """It adds nothing to it."""
    assert parsed(discard_on=rule, **FACTORY).discard_on == kept
    assert set(parsed(discard_on={KeyError, OSError}, **FACTORY).discard_on) == {KeyError, OSError}


@pytest.mark.parametrize(
    "given",
    [
        {"min_idle": 3}, {"min_idle": 3, "max_idle": 3}, {"keepalive": 0.001, "check": id},
        {"max_uses": 2**32 - 1}, {"max_creating": 1}, {"max_waiting": 0}, {"max_idle": 0},
        {"timeout": 0}, {"idle_timeout": 0}, {"timeout": 1e9}, {"hook_timeout": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_value_at_the_edge_is_allowed(given: dict[str, Any]) -> None:
    """What is refused is beyond these."""
    options = parsed(3, **given, **FACTORY)
    for option, value in given.items():
        if option != "check":
            assert getattr(options, option) == value


@pytest.mark.parametrize(
    ("error", "given"),
    [
        (ValueError, {"keepalive": 0.0009, "check": id, **FACTORY}),
        (ValueError, {"keepalive": 0, "check": id, **FACTORY}),
        (TypeError, {"keepalive": 5, **FACTORY}),
        (ValueError, {"max_uses": 2**32, **FACTORY}),
        (TypeError, {"min_idle": 1, **ITEMS}),
        (TypeError, {"max_lifetime": True, **FACTORY}),
        (TypeError, {"max_idle": False, **FACTORY}),
        (TypeError, {"name": 3, **FACTORY}),
    ],
    ids=str,
)
def test_value_beyond_the_edge_is_refused(error: Any, given: dict[str, Any]) -> None:
    option = next(iter(given))
    with pytest.raises(error, match=option):
        FastPool(3, **given)


@pytest.mark.parametrize("act", ["close", "warm"])
@pytest.mark.parametrize("timeout", [True, "5", -1, float("nan")], ids=repr)
def test_bad_timeout_of_a_call_is_refused(act: str, timeout: Any) -> None:
    """Before anything is done."""
    pool: Any = FastPool(factory=object, name="shop")
    kind = ValueError if isinstance(timeout, (int, float)) and timeout is not True else TypeError
    with pytest.raises(kind, match=f"shop: {act}: timeout must be"):
        pool.close(timeout=timeout) if act == "close" else pool.warm(1, timeout=timeout)
    assert not pool.closed and pool.stats().created == 0
    pool.close()


def test_pool_is_resized_to_min_idle_at_least() -> None:
    """Or to no cap at all."""
    with FastPool(4, factory=object, min_idle=2) as pool:
        for maxsize in (2, 0, 3):
            pool.resize(maxsize)
            assert pool.maxsize == maxsize
        with pytest.raises(ValueError, match="min_idle"):
            pool.resize(1)
        assert pool.maxsize == 3


def test_unbounded_pool_may_keep_any_number_idle() -> None:
    """maxsize=0 is no cap, not one of none."""
    assert parsed(0, min_idle=50, **FACTORY).min_idle == 50


def test_slip_of_the_pen_is_told_with_what_was_meant() -> None:
    with pytest.raises(TypeError, match=r"'max_lifetme'.*did you mean 'max_lifetime'"):
        FastPool(factory=object, max_lifetme=3)
    with pytest.raises(TypeError) as caught:
        FastPool(factory=object, name="shop", zzz=3)
    assert "shop" in str(caught.value) and "did you mean" not in str(caught.value)
    assert "max_lifetime" in str(caught.value), "the options that there are"


def test_names_of_pools_are_counted_on() -> None:
    """Each of them is one that no other pool has."""
    first, second = (int(parsed(**FACTORY).name[5:]) for _ in range(2))
    assert second == first + 1
    assert parsed(name="", **FACTORY).name.startswith("pool-")


class Awaiting:
    async def create(self) -> object:
        return object()


class Called:
    async def __call__(self) -> object:
        return object()


@pytest.mark.parametrize(
    "factory",
    [
        Called.__call__,
        Called(),
        Awaiting(),
        Awaiting().create,
        functools.partial(Awaiting.create, Awaiting()),
        functools.partial(Awaiting().create),
    ],
    ids=["function", "callable", "object", "method", "partial", "partial of a method"],
)
def test_coroutine_function_is_recognised_however_it_is_given(factory: Any) -> None:
    """The pool is one for tasks then, and may have async hooks."""

    async def check(resource: object) -> None: ...

    assert parsed(factory=factory, check=check).hooks.awaits is True
    assert parsed(factory=object).hooks.awaits is False

"""`policy(fallback=)`: what is called where the breaker refuses."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from fastpool.calls import CallPolicy, CircuitBreaker, CircuitOpen, Limit, Overloaded

KINDS = pytest.mark.parametrize("kind", ["thread", "task", "plain fallback of a task"])


def put(
    kind: str, policy: CallPolicy, function: Callable[..., Any], fallback: Callable[..., Any]
) -> Callable[..., Any]:
    if kind == "thread":
        return policy(fallback=fallback)(function)

    async def awaited(*args: Any, **named: Any) -> Any:
        return function(*args, **named)

    async def fall_back(*args: Any, **named: Any) -> Any:
        return fallback(*args, **named)

    under: Any = policy(fallback=fall_back if kind == "task" else fallback)(awaited)
    assert inspect.iscoroutinefunction(under)
    return lambda *args, **named: asyncio.run(under(*args, **named))


def down(key: str, *, default: int = 0) -> Any:
    raise ConnectionError("down")


def stored(key: str, *, default: int = 0) -> Any:
    return key, default


@KINDS
def test_fallback_gets_the_arguments_where_the_breaker_refuses(kind: str) -> None:
    """The refusals are counted all the same."""
    breaker = CircuitBreaker(min_calls=1)
    policy = CallPolicy(breaker=breaker)
    call = put(kind, policy, down, stored)
    with pytest.raises(ConnectionError):  # it was called, and failed
        call("key")
    assert call("key", default=3) == ("key", 3)
    stats = policy.stats()
    assert (stats.calls, stats.refused, breaker.stats().refused) == (2, 1, 1)


@KINDS
def test_breaker_inside_is_fallen_back_from_too(kind: str) -> None:
    inner = CircuitBreaker()
    inner.force_open()
    call = put(kind, CallPolicy(), CallPolicy(breaker=inner)(down), stored)
    assert call("key") == ("key", 0)


@KINDS
def test_what_a_fallback_raises_is_raised(kind: str) -> None:
    breaker = CircuitBreaker()
    breaker.force_open()

    def fails(key: str) -> Any:
        raise LookupError(key)

    with pytest.raises(LookupError) as caught:
        put(kind, CallPolicy(breaker=breaker), down, fails)("key")
    assert isinstance(caught.value.__context__, CircuitOpen)


@KINDS
def test_other_refusals_are_raised(kind: str) -> None:
    limit = Limit(1, max_waiting=0)
    permit = limit.take_nowait()
    assert permit is not None
    with pytest.raises(Overloaded):
        put(kind, CallPolicy(limit=limit), down, stored)("key")
    permit.release()


def test_function_with_a_fallback_keeps_its_name_and_signature() -> None:
    call = CallPolicy()(fallback=stored)(down)
    assert call.__name__ == "down"
    assert inspect.signature(call) == inspect.signature(down)
    assert CallPolicy()(down, fallback=stored).__wrapped__  # type: ignore[call-overload]


def test_fallback_is_of_the_kind_of_the_function() -> None:
    async def waits(key: str) -> Any:
        return key

    with pytest.raises(TypeError, match="fallback of a plain function must be one, too"):
        CallPolicy()(fallback=waits)(down)
    with pytest.raises(TypeError, match="fallback must be a callable or None, not 5"):
        CallPolicy()(fallback=5)(down)  # type: ignore[call-overload]

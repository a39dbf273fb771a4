"""Callables that say which failures count: for the breaker, and for another try."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastpool.calls import CallPolicy, CircuitBreaker, Retry
from fastpool.testing import ManualClock


class Coded(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def above_500(error: Exception) -> bool | None:
    return error.code >= 500 if isinstance(error, Coded) else None


def broken(error: Exception) -> bool:
    raise ZeroDivisionError


def put(kind: str, policy: CallPolicy, function: Callable[[], Any]) -> Callable[[], Any]:
    """The function under the policy, as threads or as tasks call it."""
    if kind == "thread":
        return policy(idempotent=True)(function)

    async def awaited() -> Any:
        return function()

    call = policy(idempotent=True)(awaited)
    return lambda: asyncio.run(call())  # type: ignore[arg-type]


KINDS = pytest.mark.parametrize("kind", ["thread", "task"])


@KINDS
@pytest.mark.parametrize(
    ("error", "counts"),
    [(Coded(503), True), (Coded(404), False), (ConnectionError(), True), (KeyError(), False)],
)
def test_classifier_says_what_counts_before_the_classes(
    kind: str, error: Exception, counts: bool
) -> None:
    """None leaves it to them."""
    breaker = CircuitBreaker(min_calls=1, classify=above_500)
    tries = []

    def fail() -> None:
        tries.append(error)
        raise error

    retry = Retry(2, backoff=1e-6, classify=above_500)
    with pytest.raises(type(error)):
        put(kind, CallPolicy(breaker=breaker, retry=retry), fail)()
    assert (breaker.state == "open") is counts
    assert len(tries) == (2 if counts else 1)


@KINDS
@pytest.mark.parametrize("option", ["classify", "failures"])
def test_classifier_that_fails_hides_no_error(
    kind: str, option: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the call raises its own, and its probe is over."""
    options: dict[str, Any] = {option: broken}
    breaker = CircuitBreaker(min_calls=1, clock=clock, **options)
    breaker.trip()
    clock.advance(5)

    def fail() -> None:
        raise KeyError("no such key")

    with pytest.raises(KeyError):
        put(kind, CallPolicy(breaker=breaker), fail)()
    assert breaker.state == "closed"  # a KeyError is an answer
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("made", [CircuitBreaker, Retry])
def test_classifier_is_a_callable(made: Any) -> None:
    with pytest.raises(TypeError, match="classify must be a callable or None, not 5"):
        made(classify=5)

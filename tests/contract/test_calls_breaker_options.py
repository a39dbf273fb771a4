"""`CircuitBreaker` beyond a share of failures: what is ignored, several probes, other trips."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastpool.calls import CallPolicy, CircuitBreaker, CircuitOpen
from fastpool.testing import ManualClock

KINDS = pytest.mark.parametrize("kind", ["thread", "task"])


class Remote:
    """A service under a breaker, called by a thread or by tasks, that does as it is told."""

    def __init__(self, kind: str, clock: ManualClock, **options: Any) -> None:
        self.breaker = CircuitBreaker("db", **{"min_calls": 4, "clock": clock, **options})
        self.clock = clock
        policy = CallPolicy(breaker=self.breaker, clock=clock)
        self.ask: Callable[..., Any] = policy(self._answer)
        if kind == "task":

            @policy
            async def answer(error: BaseException | None = None, takes: float = 0.0) -> None:
                self._answer(error, takes)

            self.ask = lambda *args: asyncio.run(answer(*args))

    def _answer(self, error: BaseException | None = None, takes: float = 0.0) -> None:
        if takes:
            self.clock.advance(takes)
        if error is not None:
            raise error

    def fail(self, times: int = 1, error: BaseException | None = None) -> None:
        error = ConnectionError("down") if error is None else error
        for _ in range(times):
            with pytest.raises(type(error)):
                self.ask(error)

    def refuses(self) -> CircuitOpen:
        with pytest.raises(CircuitOpen) as caught:
            self.ask()
        return caught.value


# ---- what says nothing --------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("ignore", [KeyError, (KeyError, IndexError), lambda error: True])
def test_ignored_failures_count_as_neither(kind: str, clock: ManualClock, ignore: Any) -> None:
    remote = Remote(kind, clock, ignore=ignore)
    remote.fail(9, KeyError("no such key"))
    stats = remote.breaker.stats()
    assert (stats.calls, stats.failures) == (0, 0)


@KINDS
def test_ignored_failure_decides_no_probe(kind: str, clock: ManualClock) -> None:
    """The next call is the probe."""
    remote = Remote(kind, clock, ignore=KeyError)
    remote.breaker.trip()
    clock.advance(5)
    remote.fail(1, KeyError("no such key"))
    assert remote.breaker.state == "half-open"
    remote.ask()
    assert remote.breaker.state == "closed"


@pytest.mark.parametrize("wrong", [5, "KeyError", [KeyError, 5], asyncio.CancelledError])
def test_ignore_takes_what_failures_takes(wrong: Any) -> None:
    with pytest.raises(TypeError, match="ignore"):
        CircuitBreaker(ignore=wrong)

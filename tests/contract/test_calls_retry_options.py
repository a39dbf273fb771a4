"""`Retry` beyond growing pauses: other pauses, results that are tried again, what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastpool.calls import CallPolicy, Retry
from fastpool.testing import ManualClock

KINDS = pytest.mark.parametrize("kind", ["thread", "task"])


class Clock(ManualClock):
    """Keeps a list of its pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def advance(self, seconds: float, settle: float = 5.0) -> None:
        self.pauses.append(round(seconds, 6))
        super().advance(seconds, settle)


class Script:
    """Returns what it is told, or raises it, one a call; the last one for ever."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = outcomes
        self.calls = 0

    def __call__(self) -> Any:
        outcome = self.outcomes[min(self.calls, len(self.outcomes) - 1)]
        self.calls += 1
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def put(
    kind: str, policy: CallPolicy, function: Callable[[], Any], idempotent: bool = True
) -> Callable[[], Any]:
    """The function under the policy, as threads or as tasks call it."""
    if kind == "thread":
        return policy(idempotent=idempotent, name="ask")(function)

    async def awaited() -> Any:
        return function()

    call: Any = policy(idempotent=idempotent, name="ask")(awaited)
    return lambda: asyncio.run(call())


# ---- pauses -------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    ("options", "pauses"),
    [
        ({"backoff": 0.5, "multiplier": 1, "jitter": False}, [0.5, 0.5, 0.5]),
        ({"backoff": 0.5, "multiplier": 3, "jitter": False}, [0.5, 1.5, 4.5]),
        ({"backoff": 0.5, "max_backoff": 0.75, "jitter": False}, [0.5, 0.75, 0.75]),
        ({"backoff": 0}, []),
        ({"backoff": 0, "jitter": False}, []),
    ],
)
def test_pauses_are_as_long_as_the_options_say(
    kind: str, options: dict[str, Any], pauses: list[float]
) -> None:
    clock, script = Clock(), Script(ConnectionError())
    policy = CallPolicy(retry=Retry(4, throttle=None, **options), clock=clock)
    with pytest.raises(ConnectionError):
        put(kind, policy, script)()
    assert script.calls == 4
    assert clock.pauses == pauses


def test_pauses_with_jitter_grow_by_the_multiplier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastpool.calls._retry.random", lambda: 0.5)
    retry = Retry(backoff=1.0, multiplier=3, max_backoff=20.0)
    assert [retry.pause(n) for n in (1, 2, 3, 4, 10**6)] == [0.5, 1.5, 4.5, 10.0, 10.0]
    assert Retry(backoff=1.0, multiplier=100, max_backoff=20.0).pause(10**6) == 10.0


@KINDS
def test_no_try_without_a_pause_is_begun_after_the_time(kind: str) -> None:
    clock = Clock()
    calls = []

    def fail() -> None:
        calls.append(1)
        clock.advance(2)
        raise ConnectionError

    policy = CallPolicy(timeout=3.0, retry=Retry(9, backoff=0, throttle=None), clock=clock)
    with pytest.raises(ConnectionError):
        put(kind, policy, fail)()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"multiplier": 0.5}, "multiplier must be"), ({"backoff": -1}, "backoff must be at least 0")],
)
def test_bad_pauses_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Retry(**wrong)

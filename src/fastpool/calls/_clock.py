"""The clock that policies go by: real time, or a clock that a test moves."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # `remaining` is to cost no import of typing
    from collections.abc import Callable
    from typing import Protocol

    class Clock(Protocol):
        """What ``clock=`` takes; ``fastpool.testing.ManualClock`` is one.

        ``now`` is in seconds and never goes back.  A pause between two tries does not wait: it
        moves the clock by ``advance``.  What is under way, a call or a wait in the queue, stays in
        real time.
        """

        @property
        def now(self) -> float: ...

        def advance(self, seconds: float, /) -> None: ...


def reader(clock: Clock | None) -> Callable[[], float]:
    """A function that says what time it is."""
    return time.monotonic if clock is None else lambda: clock.now


def seconds(value: float | None, what: str, *, zero: bool = False) -> float | None:
    """``value`` if it is a length of time, in seconds, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number of seconds or None, not {value!r}")
    if not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{what} must be {'at least' if zero else 'more than'} 0 s, not {value!r}")
    return None if value == float("inf") else value


def named(value: object, what: str, *, zero: bool = False) -> float:
    """``value`` if it is a length of time: None is not."""
    if value is None:
        raise TypeError(f"{what} must be a number of seconds, not None")
    return seconds(value, what, zero=zero) or 0.0  # type: ignore[arg-type]

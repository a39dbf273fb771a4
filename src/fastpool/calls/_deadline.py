"""The time that is left for whatever runs here, handed on to nested calls by a context variable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ._clock import seconds

__all__ = ["budget", "remaining"]

# When the time is over, and the clock that this is a reading of.  Tasks and `asyncio.to_thread`
# inherit it; a plain thread begins without one.
CURRENT: ContextVar[tuple[float, Callable[[], float]] | None] = ContextVar(
    "fastpool.calls.budget", default=None
)


def remaining() -> float | None:
    """The seconds left of the budget that the caller runs under, at least 0; None: no budget.

    A function under a policy with a timeout reads it to bound what nobody else can bound for it,
    such as a socket.  Costs two reads.
    """
    current = CURRENT.get()
    if current is None:
        return None
    ends, now = current
    return max(0.0, ends - now())


@contextmanager
def budget(timeout: float | None) -> Iterator[None]:
    """``with budget(2.0):`` - what policies call in the block has 2 seconds in all, or less where
    an outer budget ends earlier.

    ``None`` lifts the budget: for work that is started in a call and is to outlive it.  Nothing in
    the block is interrupted by it: policies refuse to begin, and bound what they call.
    """
    seconds(timeout, "budget() timeout", zero=True)
    before = CURRENT.get()
    try:  # a signal handler that raises after the set finds the way back
        CURRENT.set(None if timeout is None else bounded(timeout, time.monotonic))
        yield
    finally:
        CURRENT.set(before)


for _public in (budget, remaining):
    _public.__module__ = "fastpool.calls"
del _public  # pyright: ignore[reportPossiblyUnboundVariable]


def bounded(timeout: float, now: Callable[[], float]) -> tuple[float, Callable[[], float]]:
    """A budget of ``timeout`` seconds from now, or what is left of the one that holds here."""
    began = now()
    left = inherited(began, now)
    return began + (timeout if left is None else min(timeout, left)), now


def inherited(began: float, now: Callable[[], float]) -> float | None:
    """Seconds left of the budget that holds here; ``began`` is a reading of ``now``."""
    current = CURRENT.get()
    if current is None:
        return None
    ends, clock = current
    return ends - (began if clock is now else clock())

"""What a pool says of itself: an immutable snapshot, and who holds what."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from types import FrameType

    from .pool import Manager

__all__ = ["Histogram", "Holder", "PoolStats"]

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Times in seconds.  ``counts[i]``: how many took less than ``2**i`` microseconds and not less
    than half of that; the last one holds the rest."""

    count: int
    total: float
    longest: float
    counts: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Seconds, 0 when nothing was counted."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, q: float) -> float:
        """An upper bound in seconds for the share ``q`` (0 to 1) of what was counted."""
        if not 0 <= q <= 1:
            raise ValueError(f"q must be between 0 and 1, not {q!r}")
        seen = 0
        for i, n in enumerate(self.counts):
            seen += n
            if n and seen >= q * self.count:
                return min(2.0**i * 1e-6, self.longest)
        return 0.0


@dataclass(frozen=True, slots=True)
class PoolStats:
    """One consistent look: ``idle + leased + creating + checking + closing == open``, and
    ``open <= maxsize`` unless the pool has just been shrunk.  Counters never go back.

    ``uses``: leases so far; ``closed``: resources closed, by reason; ``overdue``: hooks that are
    past their deadline and have not returned; ``wait_time``: of those who waited; ``create_time``:
    of creations that went well; ``use_time``: one use in 128, all of them with ``leak_after`` on.
    """

    name: str
    maxsize: int
    idle: int
    leased: int
    creating: int
    checking: int
    closing: int
    open: int
    waiting: int
    uses: int
    created: int
    create_failures: int
    closed: dict[str, int]
    timeouts: int
    overloads: int
    overdue: int
    wait_time: Histogram
    create_time: Histogram
    use_time: Histogram

    @property
    def closed_total(self) -> int:
        """Resources closed so far, for whatever reason."""
        return sum(self.closed.values())


@dataclass(frozen=True, slots=True)
class Holder(Generic[T_co]):
    """One lease under way: the resource, its age in seconds, the thread's name if it is known, and
    with ``leak_after`` on the stack that took it, innermost call first."""

    resource: T_co
    age: float
    thread: str | None
    stack: tuple[str, ...]

    def __str__(self) -> str:
        where = f" at {self.stack[0]}" if self.stack else ""
        return f"{self.thread or 'an unknown thread'} for {self.age:.3g} s{where}"


def snapshot(manager: Manager) -> PoolStats:
    """The stats of the pool behind a manager."""
    opener = manager.opener
    with manager.lock:
        n = manager.core.counts()
        waits, held = n.pop("waits"), n.pop("held")
        created, spent, longest = opener.times
        return PoolStats(
            name=manager.name,
            maxsize=manager.maxsize,
            **n,
            created=opener.created,
            create_failures=opener.failed,
            timeouts=manager.timeouts,
            overloads=manager.overloads,
            overdue=opener.overdue + manager.deadlines.overdue(),
            wait_time=Histogram(*waits),
            create_time=Histogram(created, spent, longest, tuple(opener.buckets)),
            use_time=Histogram(*held),
        )


def call_stack(limit: int = 12) -> tuple[str, ...]:
    """Where the caller of the pool stands, innermost first, frames of fastpool left out."""
    frame: FrameType | None = sys._getframe(1)
    lines: list[str] = []
    while frame is not None and len(lines) < limit:
        if not frame.f_globals.get("__name__", "").startswith("fastpool."):
            code = frame.f_code
            lines.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return tuple(lines)

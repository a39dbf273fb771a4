"""What a pool says of itself: an immutable snapshot, and who holds what."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Protocol

    class Tallied(Protocol):
        """A manager, of whatever kind of pool."""

        core: Any

        def overdue(self) -> int: ...


__all__ = [
    "BudgetStats",
    "Histogram",
    "Holder",
    "KeySizes",
    "KeyedStats",
    "PoolStats",
    "ResourceInfo",
    "SharedStats",
]

T_co = TypeVar("T_co", covariant=True)
# What is in a tally beside ``closed``.
TIMES = ("waits", "creates", "held")


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
class BudgetStats:
    """What is known of a budget, and of the part that one pool has of it: as old as the budget's
    last look, which is made whenever anybody is short of permits.

    ``limit``: permits in all; ``in_force``: those that members have; ``members``: pools that share
    it, in all processes; ``allowance``: permits of this pool; ``wanted``: how many resources it
    has a use for; ``share``: what it may keep while others are short of permits; ``lapses``: how
    often the engine had given up this process, since it had not heard of it for too long.
    """

    name: str
    limit: int
    in_force: int
    members: int
    allowance: int
    wanted: int
    share: int
    lapses: int = 0

    def __str__(self) -> str:
        return (
            f"budget {self.name!r}: {self.in_force} of {self.limit} permits in force, "
            f"{self.members} members; this one has {self.allowance} and wants {self.wanted}, "
            f"its share is {self.share}"
        )


@dataclass(frozen=True, slots=True)
class PoolStats:
    """One consistent look: ``idle + leased + creating + checking + closing == open``, and
    ``open <= maxsize`` unless the pool has just been shrunk.  Counters never go back.

    ``uses``: leases so far; ``closed``: resources closed, by reason; ``overdue``: hooks that are
    past their deadline and have not returned; ``wait_time``: of those who waited; ``create_time``:
    of creations that went well; ``use_time``: one use in 128, all of them with ``leak_after`` on;
    ``budget``: of a pool that has one.
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
    budget: BudgetStats | None = field(default=None, kw_only=True)

    @property
    def closed_total(self) -> int:
        """Resources closed so far, for whatever reason."""
        return sum(self.closed.values())


@dataclass(frozen=True, slots=True)
class SharedStats(PoolStats):
    """Of a SharedPool.  ``idle``: resources that nobody uses, ``leased``: those in use.

    ``slots``: leases of one resource at most; ``leases``: under way; ``draining``: resources in use
    that take no more leases.  ``open - draining <= maxsize`` unless the pool has just been shrunk.
    """

    slots: int
    leases: int
    draining: int


@dataclass(frozen=True, slots=True)
class KeySizes:
    """Of one key of a KeyedPool; the states add up to ``open``."""

    idle: int
    leased: int
    creating: int
    checking: int
    closing: int
    open: int
    waiting: int


@dataclass(frozen=True, slots=True)
class KeyedStats(PoolStats):
    """Of a KeyedPool, all keys together; ``maxsize`` is its ``max_total``, 0 for none.  ``keys``:
    the sizes of each key that has anything open, or for which anybody waits."""

    keys: dict[Any, KeySizes]


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


@dataclass(frozen=True, slots=True)
class ResourceInfo:
    """One resource: its age in seconds, to 1/64; how many leases of it there were, the present one
    among them; for how many seconds none was given back, or it was made: asked when a lease begins,
    for how long it lay idle before; and whether it is to be closed when it comes back."""

    age: float
    uses: int
    since_return: float
    retiring: bool


def tally(manager: Tallied) -> dict[str, Any]:
    """What one manager has counted: the numbers of PoolStats, and as ``waits``, ``creates`` and
    ``held`` the times: how many, their sum, the longest, the histogram."""
    counted: dict[str, Any] = manager.core.counts()
    return counted | {"overdue": manager.overdue()}


def snapshot(
    name: str,
    maxsize: int,
    counted: dict[str, Any],
    kind: type[PoolStats] = PoolStats,
    budget: Any = None,
) -> PoolStats:
    """The stats of a pool from its tally, and what else this kind wants; ``budget``: its share."""
    waits, creates, held = (Histogram(*counted.pop(times)) for times in TIMES)
    return kind(
        name=name,
        maxsize=maxsize,
        **counted,
        wait_time=waits,
        create_time=creates,
        use_time=held,
        budget=None if budget is None else budget.stats(),
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

"""One pool as a row: what it is at now, and what has happened since an earlier look."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ...stats import Histogram
from .figures import clean

__all__ = ["Oldest", "Row", "key_of", "row_of"]

USED = ("leases", "leased", "in_use", "running", "items")  # the first of these that a pool has
COUNTERS = ("created", "timeouts")


@dataclass(frozen=True, slots=True)
class Oldest:
    """The lease of a pool that is held longest; ``place``: where it was taken, if that is known."""

    age: float
    thread: str | None
    resource: str
    place: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One pool at one moment.  None: this kind of pool does not have it, or it is not known yet.

    ``key``: unique in one process; ``id``: what to ask its holders by.  ``used`` of ``max``: what
    is lent, of what there may be; ``max`` None: no limit.  ``wait_p50``, ``wait_p99``: upper bounds
    in seconds for those who came to the end of their wait within ``seconds`` before this moment;
    ``creates_per_s``: over these seconds, too.  ``timeouts``: so far; ``new_timeouts``: of these
    seconds.  ``budget``: what it has of one, by the names of BudgetStats.
    """

    key: str
    kind: str
    name: str
    id: int | None
    seconds: float | None
    used: int
    max: int | None
    idle: int | None
    waiting: int | None
    wait_p50: float | None
    wait_p99: float | None
    creates_per_s: float | None
    timeouts: int | None
    new_timeouts: int | None
    oldest: Oldest | None
    budget: dict[str, Any] | None
    error: str | None

    def as_json(self) -> dict[str, Any]:
        """The row in what JSON knows."""
        return asdict(self)


def key_of(pool: dict[str, Any]) -> str:
    """A name for one pool that no other one has, and that it keeps as long as it lives."""
    return f"{pool['kind']}:{pool['id']}:{pool['name']}"


def row_of(pool: dict[str, Any], before: dict[str, Any] | None = None, seconds: float = 0.0) -> Row:
    """The row for what the debug socket says of a pool.  ``before``: its numbers at an earlier
    look, ``seconds`` ago."""
    now = pool.get("numbers", {})
    if before is None or seconds <= 0 or _went_back(now, before):
        before = None
    waits = _waits_since(now, before)
    return Row(
        key=key_of(pool),
        kind=clean(pool["kind"]),
        name=clean(pool["name"]),
        id=pool["id"] if isinstance(pool["id"], int) else None,
        seconds=seconds if before is not None else None,
        used=next((now[name] for name in USED if name in now), 0),
        max=_limit(now),
        idle=now.get("idle"),
        waiting=now.get("waiting"),
        wait_p50=waits.quantile(0.5) if waits else None,
        wait_p99=waits.quantile(0.99) if waits else None,
        creates_per_s=(now["created"] - before["created"]) / seconds
        if before is not None and "created" in now
        else None,
        timeouts=now.get("timeouts"),
        new_timeouts=now["timeouts"] - before["timeouts"]
        if before is not None and "timeouts" in now
        else None,
        oldest=_oldest(pool.get("holders", [])),
        budget=now.get("budget"),
        error=clean(pool["error"]) if "error" in pool else None,
    )


def _limit(now: dict[str, Any]) -> int | None:
    limit: int = now.get("maxsize") or now.get("size") or 0
    return limit * int(now.get("slots", 1)) or None  # of a SharedPool: leases of all resources


def _went_back(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether it is another pool: a counter never goes back."""
    return any(now.get(name, 0) < before.get(name, 0) for name in COUNTERS)


def _waits_since(now: dict[str, Any], before: dict[str, Any] | None) -> Histogram | None:
    """The waits that have ended between two looks; None if there were none."""
    if before is None or "wait_time" not in now or "wait_time" not in before:
        return None
    new, old = now["wait_time"], before["wait_time"]
    counts = tuple(max(0, a - b) for a, b in zip(new["counts"], old["counts"], strict=True))
    if not any(counts):
        return None
    return Histogram(sum(counts), new["total"] - old["total"], new["longest"], counts)


def _oldest(holders: list[dict[str, Any]]) -> Oldest | None:
    if not holders:
        return None
    holder = max(holders, key=lambda one: one["age"])
    return Oldest(
        age=holder["age"],
        thread=clean(holder["thread"]) if holder["thread"] else None,
        resource=clean(holder["resource"]),
        place=clean(holder["stack"][0]) if holder["stack"] else None,
    )

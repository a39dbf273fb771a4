"""Looking at a process again and again: its rows, their last minutes, and one pool closely."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ... import debug
from .figures import clean
from .rates import Row, key_of, row_of

__all__ = ["Detail", "Gone", "Holder", "Place", "View", "Watch"]

WINDOW = 10.0  # seconds that rates and waits are of
HISTORY = 120  # looks that a sparkline can show
MOST_HOLDERS = 1000  # of one pool, looked at closely


class Gone(Exception):
    """The process has ended, or does not answer; the text says which."""


@dataclass(frozen=True, slots=True)
class View:
    """A process at one moment.  ``series``: by key of a row, how many were used and waiting at
    each of the last looks."""

    pid: int
    program: str
    version: str
    time: float
    rows: list[Row]
    series: dict[str, tuple[list[int], list[int]]]


@dataclass(frozen=True, slots=True)
class Holder:
    """One lease under way, its age in seconds; ``stack``: innermost call first."""

    age: float
    thread: str | None
    resource: str
    stack: list[str]


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the program that has taken leases which are held now, and the age of the oldest."""

    place: str
    count: int
    age: float


@dataclass(frozen=True, slots=True)
class Detail:
    """One pool closely: its holders, the oldest first, where they come from, the most first, and
    the sizes of its keys, if it has any."""

    kind: str
    name: str
    holders: list[Holder]
    places: list[Place]
    keys: dict[str, dict[str, int]]
    counters: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """The same in what JSON knows."""
        return asdict(self)


class Watch:
    """What is seen through one connection.  Thread-safe."""

    def __init__(
        self, process: debug.Connection, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._process = process
        self._clock = clock
        self._lock = threading.Lock()  # of what follows
        self._looks: deque[tuple[float, dict[str, Any]]] = deque()  # the numbers of each pool
        self._series: dict[str, tuple[deque[int], deque[int]]] = {}

    def look(self) -> View:
        """Ask once more.  Gone: there is nobody to ask."""
        seen = self._ask(get="pools", holders=1)
        with self._lock:
            return self._note(seen, self._clock())

    def closely(self, pool: int) -> Detail | None:
        """Look at one pool, by the ``id`` of its row; None: it is gone.  Gone: there is
        nobody to ask."""
        try:
            seen = self._ask(get="pools", id=pool, holders=MOST_HOLDERS)
        except ValueError:
            return None
        return _detail(seen["pools"][0])

    def close(self) -> None:
        """Close the connection: whoever waits for an answer is Gone.  Idempotent."""
        self._process.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        try:
            return self._process.ask(**request)
        except OSError as error:
            raise Gone(clean(error)) from None

    def _note(self, seen: dict[str, Any], now: float) -> View:
        pools = seen["pools"] + [_as_pool(i, each) for i, each in enumerate(seen["channels"])]
        while len(self._looks) > 1 and self._looks[1][0] <= now - WINDOW:
            self._looks.popleft()
        rows = [self._row(pool, now) for pool in pools]
        self._looks.append((now, {key_of(each): each.get("numbers", {}) for each in pools}))
        self._series = {row.key: self._continued(row) for row in rows}
        return View(
            pid=seen["pid"],
            program=clean(seen["program"]),
            version=clean(seen["version"]),
            time=seen["time"],
            rows=rows,
            series={
                key: (list(used), list(waiting)) for key, (used, waiting) in self._series.items()
            },
        )

    def _row(self, pool: dict[str, Any], now: float) -> Row:
        key = key_of(pool)
        for then, numbers in self._looks:
            if key in numbers:
                return row_of(pool, numbers[key], now - then)
        return row_of(pool)

    def _continued(self, row: Row) -> tuple[deque[int], deque[int]]:
        used, waiting = self._series.get(row.key, (deque(maxlen=HISTORY), deque(maxlen=HISTORY)))
        used.append(row.used)
        waiting.append(row.waiting or 0)
        return used, waiting


def _as_pool(index: int, channel: dict[str, Any]) -> dict[str, Any]:
    """A shared gRPC channel as if it were a pool."""
    numbers = {name: channel[name] for name in ("in_use", "waiting")}
    return {
        "kind": "gRPC channel",
        "name": channel["target"],
        "id": f"channel {index}",
        "numbers": numbers,
    }


def _detail(pool: dict[str, Any]) -> Detail:
    numbers = pool.get("numbers", {})
    holders = [
        Holder(
            age=one["age"],
            thread=clean(one["thread"]) if one["thread"] else None,
            resource=clean(one["resource"]),
            stack=[clean(frame) for frame in one["stack"]],
        )
        for one in pool.get("holders", [])
    ]
    return Detail(
        kind=clean(pool["kind"]),
        name=clean(pool["name"]),
        holders=sorted(holders, key=lambda one: -one.age),
        places=_places(holders),
        keys={clean(key): sizes for key, sizes in numbers.get("keys", {}).items()},
        counters={name: value for name, value in numbers.items() if isinstance(value, int)},
    )


def _places(holders: list[Holder]) -> list[Place]:
    found: dict[str, Place] = {}
    for one in holders:
        if one.stack:
            old = found.get(one.stack[0], Place(one.stack[0], 0, 0.0))
            found[old.place] = Place(old.place, old.count + 1, max(old.age, one.age))
    return sorted(found.values(), key=lambda each: (-each.count, -each.age))

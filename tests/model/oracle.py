"""What fastpool does, written for reading: the oracle of the hypothesis machines in `core/`.

No threads, no time of its own, no speed. Each method is the contract in a few lines.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class ListQueue:
    """Queue use: a list whose end is the newest item."""

    def __init__(self, maxsize: int, lifo: bool) -> None:
        self.items: list[Any] = []
        self.maxsize, self.lifo = maxsize, lifo
        self.unfinished = 0
        self.shut = False

    def put(self, item: Any) -> type[Exception] | None:
        """The exception that a put must raise now, or None after storing the item."""
        if self.shut:
            return ShutDown
        if self.full():
            return queue.Full
        self.items.append(item)
        self.unfinished += 1
        return None

    def get(self) -> Any:
        """The item that must come out now, or the class of the exception that must be raised."""
        if self.items:
            return self.items.pop(-1 if self.lifo else 0)
        return ShutDown if self.shut else queue.Empty

    def task_done(self) -> type[Exception] | None:
        if self.unfinished == 0:
            return ValueError
        self.unfinished -= 1
        return None

    def shutdown(self, immediate: bool) -> None:
        self.shut = True
        if immediate:
            self.unfinished = max(0, self.unfinished - len(self.items))
            self.items.clear()

    def full(self) -> bool:
        return 0 < self.maxsize <= len(self.items)


@dataclass
class Entry:
    """One open resource of the model pool."""

    resource: Any
    state: str = "leased"  # or "idle"
    since: float = 0.0  # when it became idle
    uses: int = 0
    retired: bool = False  # flushed while leased: closed when it comes back
    surplus: bool = False  # leased when the cap shrank below: may be closed when it comes back
    suspect: bool = False  # an exception left its block: its next loan checks it


@dataclass
class DictPool:
    """Pool use: the open resources by identity. Closed ones are listed, in order, in `closed`."""

    maxsize: int
    max_idle: int | None = None
    idle_timeout: float | None = None
    max_uses: int | None = None
    now: float = 0.0
    is_closed: bool = False
    entries: dict[int, Entry] = field(default_factory=dict)
    closed: list[Any] = field(default_factory=list)

    def idle(self) -> list[Entry]:
        """Idle entries, the one returned last at the end."""
        idle = [entry for entry in self.entries.values() if entry.state == "idle"]
        return sorted(idle, key=lambda entry: entry.since)

    def leased(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.state == "leased"]

    def capacity(self, without: int = 0) -> bool:
        return self.maxsize == 0 or len(self.entries) - without < self.maxsize

    def took(self, resource: Any) -> None:
        """A get returned `resource`: it was idle, or is new and there was room for it."""
        entry = self.entries.get(id(resource))
        if entry is None:
            assert not self.idle(), f"made {resource} although {self.idle()} were idle"
            assert self.capacity(), f"made {resource} beyond maxsize {self.maxsize}"
            entry = self.entries[id(resource)] = Entry(resource)
        else:
            assert entry.state == "idle", f"{resource} was lent twice"
        entry.state, entry.uses = "leased", entry.uses + 1

    def gave(self, resource: Any, closed: bool, suspect: bool = False) -> None:
        """A put of a leased resource: it is idle again, or `closed` where a limit says so; after an
        exception it is `suspect`, once."""
        entry = self.entries[id(resource)]
        worn = self.max_uses is not None and entry.uses >= self.max_uses
        too_many = self.max_idle is not None and len(self.idle()) >= self.max_idle
        must = entry.retired or worn or too_many or self.is_closed
        assert closed or not must, f"{resource} was kept"
        assert must or entry.surplus or not closed, f"{resource} was closed"
        if closed:
            self.drop(entry)
        else:
            entry.state, entry.since, entry.suspect = "idle", self.now, suspect

    def drop(self, entry: Entry) -> None:
        del self.entries[id(entry.resource)]
        self.closed.append(entry.resource)

    def flush(self) -> None:
        for entry in self.idle():
            self.drop(entry)
        for entry in self.leased():
            entry.retired = True

    def resize(self, maxsize: int, closed: Callable[[Entry], bool]) -> None:
        """Surplus idle ones go at once, `closed` says which; surplus leased ones on return."""
        self.maxsize = maxsize
        for entry in self.idle():
            if closed(entry):
                assert len(self.entries) > maxsize, f"{entry} was no surplus"
                self.drop(entry)
        if len(self.entries) > maxsize:
            assert not self.idle(), f"{self.idle()} are surplus"
            for entry in self.leased():
                entry.surplus = True

    def advance(self, seconds: float) -> None:
        self.now += seconds
        if self.idle_timeout is not None:
            for entry in self.idle():
                if self.now - entry.since > self.idle_timeout:
                    self.drop(entry)

    def close(self) -> None:
        self.is_closed = True
        for entry in self.idle():
            self.drop(entry)


from fastpool.queue import ShutDown  # noqa: E402  (below: the model itself needs no fastpool)


@dataclass
class DictOfPools:
    """KeyedPool: what is idle, by resource, and since when; what is leased.  A limit may be inf.
    Told of each operation when the pool is through with it."""

    total: float
    per_key: float
    idle_total: float
    idle_per_key: float
    idle_timeout: float
    now: float = 0.0
    idle: dict[Any, float] = field(default_factory=dict)  # the one idle longest first
    leased: list[Any] = field(default_factory=list)
    closed: list[Any] = field(default_factory=list)

    def open_of(self, key: Any) -> int:
        return sum(one.key == key for one in (*self.idle, *self.leased))

    def idle_of(self, key: Any) -> list[Any]:
        return [one for one in self.idle if one.key == key]

    def _oldest(self) -> Any:
        """What has been idle longest; of several alike, which were warmed at once, the one that has
        been closed."""
        since = next(iter(self.idle.values()))
        alike = [one for one, begun in self.idle.items() if begun == since]
        return next((one for one in alike if one.closed), alike[0])

    def may_lend(self, key: Any) -> str:
        """How a lease of this key comes about: "idle", "new", "evict" and new, or "wait"."""
        if self.idle_of(key):
            return "idle"
        if self.open_of(key) >= self.per_key:
            return "wait"
        if len(self.idle) + len(self.leased) < self.total:
            return "new"
        return "evict" if self.idle else "wait"

    def lent(self, how: str, resource: Any) -> None:
        """It was, this one."""
        if how == "idle":
            del self.idle[resource]
        elif how == "evict":
            self._close(self._oldest())
        self.leased.append(resource)

    def put(self, resource: Any) -> None:
        self.leased.remove(resource)
        if len(self.idle_of(resource.key)) >= self.idle_per_key:
            self.closed.append(resource)
            return
        self.idle[resource] = self.now
        if len(self.idle) > self.idle_total:
            self._close(self._oldest())

    def discard(self, resource: Any) -> None:
        self.leased.remove(resource)
        self.closed.append(resource)

    def flush(self, key: Any) -> None:
        for one in self.idle_of(key):
            self._close(one)

    def warmed(self, made: list[Any], closed: list[Any]) -> None:
        """These were made for a key that is warmed, and those that were idle closed for them."""
        for one in made:
            self.idle[one] = self.now
        for one in closed:
            self._close(one)

    def resize(self, total: float) -> None:
        self.total = total
        while self.idle and len(self.idle) + len(self.leased) > total:
            self._close(self._oldest())

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for one, since in list(self.idle.items()):
            if self.now - since >= self.idle_timeout:
                self._close(one)

    def _close(self, resource: Any) -> None:
        del self.idle[resource]
        self.closed.append(resource)


class ListSemaphore:
    """What a weighted semaphore does, as Go's does it: a number, and a line of requests."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self.queue: list[tuple[int, int]] = []  # who, and for how many
        self.granted: set[int] = set()

    def acquire(self, who: int, n: int) -> None:
        self.queue.append((who, n))
        self.serve()

    def try_acquire(self, n: int) -> bool:
        fits = not self.queue and n <= self.size - self.taken
        if fits:
            self.taken += n
        return fits

    def release(self, n: int) -> bool:
        if n > self.taken:
            return False
        self.taken -= n
        self.serve()
        return True

    def leave(self, who: int) -> None:
        self.queue = [request for request in self.queue if request[0] != who]
        self.serve()

    def serve(self) -> None:
        """As many from the head as fit, and nobody past the head."""
        while self.queue and self.queue[0][1] <= self.size - self.taken:
            who, n = self.queue.pop(0)
            self.taken += n
            self.granted.add(who)

"""Who takes part: the candidates for the core and what people use today, under one contract.

`make(items)` gives a store that holds them; its method named `get` takes one out or raises `empty`;
its method named `put` brings it back.
"""

import collections
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import _build

candidates = _build.load()


class LockedDeque:
    """What people write by hand."""

    def __init__(self, items: list[object]) -> None:
        self._items = collections.deque(items)
        self._lock = threading.Lock()

    def get(self) -> object:
        with self._lock:
            return self._items.pop()

    def put(self, item: object) -> None:
        with self._lock:
            self._items.append(item)


def _filled(kind: Callable[[], Any]) -> Callable[[list[object]], Any]:
    def make(items: list[object]) -> Any:
        store = kind()
        for item in items:
            store.put(item)
        return store

    return make


class Contestant(NamedTuple):
    name: str
    make: Callable[[list[object]], Any]
    get: str = "get"
    put: str = "put"
    empty: type[Exception] = queue.Empty
    parallel: bool = True  # safe without the GIL


# "hint" = slot words with per-thread hints; what stands behind it serves the misses.
CONTESTANTS = [
    Contestant("plain ring, LIFO", candidates.PlainRing, parallel=False),
    Contestant("plain ring, FIFO", candidates.PlainRing, get="get_first", parallel=False),
    Contestant("mutex ring, LIFO", candidates.LockedRing),
    Contestant("mutex ring, FIFO", candidates.LockedRing, get="get_first"),
    Contestant("deque, no lock of its own", collections.deque, "pop", "append", IndexError),
    Contestant("deque + threading.Lock", LockedDeque, empty=IndexError),
    Contestant("SimpleQueue", _filled(queue.SimpleQueue), "get_nowait", "put_nowait"),
    Contestant("LifoQueue", _filled(queue.LifoQueue), "get_nowait", "put_nowait"),
    Contestant("lock-free ring", candidates.StampedRing),
    Contestant("tagged stack", candidates.TaggedStack),
    Contestant("slots + plain ring", candidates.SlotsOverPlainRing, parallel=False),
    Contestant("1 hint + lock-free ring", candidates.SlotsOverStampedRing),
    Contestant("1 hint + mutex ring", candidates.SlotsOverLockedRing),
    Contestant("4 hints + lock-free ring", candidates.SlotsOverStampedRing4),
    Contestant("4 hints + mutex ring", candidates.SlotsOverLockedRing4),
]

"""A factory of keys that keeps accounts: what is open of each, and of all."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from support.helpers import PATIENCE


class KeyedResource:
    """A thing of one key: it knows whether it is closed, and who holds it."""

    __slots__ = ("__weakref__", "closed", "holder", "key", "maker", "number")

    def __init__(self, maker: KeyedMaker, key: Any, number: int) -> None:
        self.maker, self.key, self.number = maker, key, number
        self.closed = False
        self.holder: object = None

    def close(self) -> None:
        self.maker.note_closed(self)

    def __repr__(self) -> str:
        return f"<{self.key!r} {self.number}{' closed' if self.closed else ''}>"


class KeyedMaker:
    """``maker(key)``; ``gates[key]``: an Event that its calls wait for; ``broken[key]``: what they
    raise.  A slot is taken from the moment when the factory is entered."""

    def __init__(self, total: float = float("inf"), per_key: float = float("inf")) -> None:
        self.total, self.per_key = total, per_key
        self.all: list[KeyedResource] = []
        self.closings: list[KeyedResource] = []
        self.capacity: Counter[Any] = Counter()
        self.gates: dict[Any, threading.Event] = {}
        self.broken: dict[Any, BaseException] = {}
        self.calls: list[Any] = []
        self.faults: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, key: Any) -> KeyedResource:
        with self._lock:
            self.calls.append(key)
            self.capacity[key] += 1
            if self.capacity[key] > self.per_key:
                self.faults.append(f"{self.capacity[key]} of {key!r} exceed {self.per_key}")
            if self.capacity.total() > self.total:
                self.faults.append(f"{self.capacity.total()} exceed {self.total}")
        gate = self.gates.get(key)
        opened = gate is None or gate.wait(3 * PATIENCE)
        with self._lock:
            failure = self.broken.get(key)
            if failure is not None or not opened:
                self.capacity[key] -= 1
                raise failure or AssertionError("nobody opened the gate of the factory")
            resource = KeyedResource(self, key, len(self.all))
            self.all.append(resource)
            return resource

    def note_closed(self, resource: KeyedResource) -> None:
        with self._lock:
            if resource.closed:
                self.faults.append(f"{resource} closed twice")
            if resource.holder is not None:
                self.faults.append(f"{resource} closed while {resource.holder} holds it")
            resource.closed = True
            self.closings.append(resource)
            self.capacity[resource.key] -= 1

    @property
    def made(self) -> int:
        return len(self.all)

    @property
    def closed(self) -> int:
        return len(self.closings)

    @property
    def open(self) -> int:
        return len(self.all) - len(self.closings)

"""One connection: an inner channel, with the methods that were looked up on it."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

from .._core import Carrier


class Method(NamedTuple):
    """What a stub asks a channel for. `kind` is the name of the channel's method, "unary_unary" or
    one of its three siblings."""

    kind: str
    path: str
    request_serializer: Any
    response_deserializer: Any
    registered: bool

    def look_up(self, channel: Any) -> Any:
        """The multi-callable of a channel."""
        # Passed on only when set: generated stubs set it, and not every channel has the parameter.
        registered = {"_registered_method": True} if self.registered else {}
        arguments = (self.path, self.request_serializer, self.response_deserializer)
        return getattr(channel, self.kind)(*arguments, **registered)


class Methods:
    """The methods that the stubs of one shared channel use, numbered. Thread-safe."""

    def __init__(self) -> None:
        self.all: list[Method] = []  # only grows
        self._numbers: dict[Method, int] = {}
        self._lock = threading.Lock()

    def number(self, method: Method) -> int:
        with self._lock:
            number = self._numbers.get(method)
            if number is None:
                number = self._numbers[method] = len(self.all)
                self.all.append(method)
            return number

    def renew_lock(self) -> None:
        """In a forked child: its holder may be a thread that does not exist there."""
        self._lock = threading.Lock()


class Connection(Carrier):
    """A channel of grpc's own, one of several behind a shared one: a resource of a SharedPool.

    `calls[n]` is the call of method n, and `inner[n]` the multi-callable, which has `with_call` and
    `future`.
    """

    def __init__(self, channel: Any, methods: Methods, bulk: bool = False) -> None:
        self.channel = channel
        self.bulk = bulk
        self.methods = methods
        self.inner: dict[int, Any] = {}
        self.opened_at = time.monotonic()
        # Held while a method is looked up, since grpc's table of registered methods is not
        # thread-safe; no other lock is taken inside it.
        self._looking_up = threading.Lock()

    def multicallable(self, number: int) -> Any:
        found = self.inner.get(number)
        if found is None:
            with self._looking_up:
                found = self.inner.get(number)
                if found is None:
                    found = self.methods.all[number].look_up(self.channel)
                    self.set_call(number, found.__call__)
                    self.inner[number] = found
        return found

"""One connection: an inner channel, with the methods that were looked up on it."""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Iterable
from functools import cache
from itertools import count
from typing import Any, NamedTuple

from ..._core import CallConnection, Lock
from .._outliers import Record


class Method(NamedTuple):
    """What a stub asks a channel for. `kind` is the name of the channel's method, "unary_unary" or
    one of its three siblings."""

    kind: str
    path: str
    request_serializer: Any
    response_deserializer: Any
    registered: bool
    interceptors: tuple[Any, ...] = ()
    """Of tasks: what a client has added to its channel after that was made."""

    @property
    def name(self) -> str:
        """Without the service."""
        return self.path.rpartition("/")[2]

    def look_up(self, channel: Any) -> Any:
        """The multi-callable of a channel."""
        # Passed on only when set: generated stubs set it, and not every channel has the parameter.
        registered = {"_registered_method": True} if self.registered else {}
        arguments = (self.path, self.request_serializer, self.response_deserializer)
        found = getattr(channel, self.kind)(*arguments, **registered)
        if self.interceptors:
            found._interceptors = [*(found._interceptors or ()), *self.interceptors]
        return found


@cache
def signature_of(interface: type) -> inspect.Signature:
    """How a multi-callable of this interface of grpc's is called."""
    whole = inspect.signature(interface.__call__)
    return whole.replace(parameters=[*whole.parameters.values()][1:])


class Number:
    """The number of a method, for as long as this lives. Not part of the object that is known by a
    weak reference: until the end of its finaliser that one can be had again, number and all."""

    __slots__ = ("_methods", "value")

    def __init__(self, methods: Methods, value: int) -> None:
        self._methods = methods
        self.value = value

    def __del__(self) -> None:
        self._methods.leave(self.value)


class Methods:
    """The methods that the stubs of one shared channel use now, numbered: `calls[n]` of each
    connection belongs to the method with the number n.

    A number is another method's when its `Number` is gone, so that a program which makes stubs anew
    for each call keeps nothing. Thread-safe; `leave` is for finalisers.
    """

    def __init__(self) -> None:
        self.all: list[Method | None] = []
        self._free: list[int] = []
        self._left: deque[int] = deque()  # to be freed by whoever comes next
        self._lock = Lock()

    def enter(self, method: Method, connections: Iterable[Connection]) -> Number:
        """A number for it. `connections`: all there are, where the number may stand for something
        else still."""
        with self._lock.hold():
            while self._left:
                number = self._left.popleft()
                self.all[number] = None
                for connection in connections:
                    connection.forget(number)
                self._free.append(number)
            if self._free:
                number = self._free.pop()
                self.all[number] = method
            else:
                number = len(self.all)
                self.all.append(method)
            return Number(self, number)

    def leave(self, number: int) -> None:
        self._left.append(number)

    def renew_lock(self) -> None:
        """In a forked child: its holder may be a thread that does not exist there."""
        self._lock = Lock()


ordinals = count(1)  # of connections, in this process


class Connection(CallConnection):
    """A channel of grpc's own, one of several behind a shared one: a resource of a SharedPool.

    `calls[n]` is the call of method n, and `inner[n]` the multi-callable, which has `with_call` and
    `future`.
    """

    def __init__(
        self, channel: Any, methods: Methods, bulk: bool = False, address: str | None = None
    ) -> None:
        self.channel = channel
        self.bulk = bulk
        self.address = address  # the first that it tries, where the target has several
        self.ordinal = next(ordinals)
        self.methods = methods
        self.inner: dict[int, Any] = {}
        self.opened_at = time.monotonic()
        self.record = Record()
        self.answered_at = 0.0  # when it answered last, having been asked
        # Held while a method is looked up, since grpc's table of registered methods is not
        # thread-safe; no other lock is taken inside it.
        self._looking_up = Lock()

    def multicallable(self, number: int) -> Any:
        found = self.inner.get(number)
        if found is None:
            with self._looking_up.hold():
                found = self.inner.get(number)
                if found is None:
                    method = self.methods.all[number]
                    assert method is not None, "its holder is calling"
                    found = method.look_up(self.channel)
                    self.set_call(number, found.__call__)
                    self.inner[number] = found
        return found

    def forget(self, number: int) -> None:
        """Nobody uses that method any more."""
        if self.inner.pop(number, None) is not None:
            self.set_call(number, None)

"""Blocking unary calls that are hedged: see `_hedging.py`.

Each is a future of grpc's, since a thread cannot wait for two blocking calls. `future()` itself is
not hedged.
"""

from __future__ import annotations

import time
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc

from ... import PoolClosed, PoolOverloaded, PoolTimeout
from .._connection_set import NotConnected
from .._hedging import decides
from . import methods
from .connection import Method
from .errors import LocalError
from .methods import Bound, ChannelMethod, timeout_of

if TYPE_CHECKING:
    from ... import SharedLease
    from .channel import SharedChannel
    from .connection import Connection


class HedgedUnary(ChannelMethod, grpc.UnaryUnaryMultiCallable):  # type: ignore[misc] # no types
    """A method whose blocking calls are sent once more when there is no answer after `after`
    seconds."""

    interface = grpc.UnaryUnaryMultiCallable

    def __init__(self, channel: SharedChannel, method: Method, after: float) -> None:
        super().__init__(channel, method)
        self._after = after

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Race(self._open(), self._after).answer(args, kwargs).result()

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        call = Race(self._open(), self._after).answer(args, kwargs)
        return call.result(), call

    def future(self, *args: Any, **kwargs: Any) -> Any:
        return self._open().begin("future", args, kwargs)


def unary_unary(channel: SharedChannel, method: Method) -> Any:
    """What a stub gets for a unary method."""
    after = channel._live().key.parameters.hedge_after(method.path)
    if after is None:
        return methods.unary_unary(channel, method)
    return HedgedUnary(channel, method, after)


class Race:
    """One hedged call. Belongs to the thread that makes it."""

    def __init__(self, bound: Bound, after: float) -> None:
        self._bound = bound
        self._after = after
        self._running: dict[Any, Connection] = {}  # call: where it was sent
        self._ended: SimpleQueue[Any] = SimpleQueue()

    def answer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call of grpc's that counts, which has ended. The other one is cancelled, also when
        this raises."""
        bound = self._bound
        bound.connections.hedges.note_call()
        lease, args, kwargs = bound.enter(args, kwargs)
        begun = time.monotonic()
        self._send(lease, args, kwargs)
        try:
            try:
                return self._ended.get(timeout=self._after)
            except Empty:
                self._send_again(begun, args, kwargs)
            return self._first()
        finally:
            for call in self._running:
                call.cancel()  # does nothing to the one that has ended

    def _send(self, lease: SharedLease[Connection], args: Any, kwargs: Any) -> None:
        connection = lease.resource
        call = self._bound.start("future", lease, args, kwargs)
        self._running[call] = connection
        call.add_done_callback(partial(_put, self._ended, call))

    def _send_again(self, begun: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        lease = self._slot()
        if lease is None:
            return
        if not self._bound.connections.hedges.spend():
            lease.release()
            return
        timeout = timeout_of(args, kwargs)
        try:
            if timeout is not None:
                lease, args, kwargs = self._bound.within(timeout, begun, lease, args, kwargs)
            self._send(lease, args, kwargs)
        except (LocalError, ValueError):  # the time is over, or the channel closed, just now
            return

    def _slot(self) -> SharedLease[Connection] | None:
        """A free slot, of another connection than the first call's where there is one; None: there
        is no free slot."""
        (first,) = self._running.values()
        lease = self._free()
        if lease is not None and lease.resource is first:
            other = self._free()
            if other is not None:
                lease.release()
                lease = other
        return lease

    def _free(self) -> SharedLease[Connection] | None:
        try:
            return self._bound.pool.acquire(0)
        except (PoolTimeout, PoolOverloaded, PoolClosed, NotConnected):
            return None

    def _first(self) -> Any:
        """The first call that ends the race."""
        call = self._ended.get()
        if len(self._running) > 1:
            if not decides(call.code()):
                call = self._ended.get()
            self._note_silent(call)
        return call

    def _note_silent(self, answered: Any) -> None:
        """A call that lost to one on another connection: its connection may be dead, and nobody
        else will learn of it, since the call does not expire."""
        won = self._running[answered]
        for call, connection in self._running.items():
            if connection is not won and not call.done():
                self._bound.connections.silence.suspect(connection)


def _put(ended: SimpleQueue[Any], call: Any, _: Any) -> None:
    ended.put(call)

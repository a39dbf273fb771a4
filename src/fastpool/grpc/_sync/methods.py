"""The methods that a SharedChannel hands to stubs: each call takes a slot of a connection first.

A blocking unary call is made by the core, which asks here when no slot is free (`miss`) and tells
of errors (`failed`). Everything else goes through `Bound.enter`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ref

import grpc

from ... import PoolClosed
from ..._core import SlotGuard, UnaryCall, share_lease_hit
from ...calls._grpc.stream_end import needs_reader
from .._queue_order import LeastTime, cannot_make_it, least_time
from .callbacks import callback
from .connection import Connection, Method, signature_of
from .dispatcher import dispatcher
from .errors import LocalCancel, LocalError, closed_error
from .generator_stream import Generated
from .open_call import OpenCall, Stream
from .pending_call import Pending

if TYPE_CHECKING:
    from ... import SharedLease
    from .channel import SharedChannel
    from .connections import Connections

# What a call without slots of its own has as its first positional parameters.
TIMEOUT_AT, METADATA_AT = 1, 2

grpc.UnaryUnaryMultiCallable.register(UnaryCall)


class End:
    """The end of a call that went on. It counts once, whoever brings it: grpc's thread, the reader,
    or who drops the call."""

    __slots__ = ("_call", "_connection", "_connections", "_slots")

    def __init__(
        self, slot: Any, call: Any, connections: Connections, connection: Connection
    ) -> None:
        self._slots = [slot]  # taken out, which is one step, by whoever is first
        self._call = call  # weakly: the call holds this
        self._connections = connections
        self._connection = connection

    @property
    def was_called(self) -> bool:
        return not self._slots

    def __call__(self) -> None:
        try:
            slot = self._slots.pop()
        except IndexError:
            return
        try:
            call = self._call()
            if call is not None and not call.is_active():
                self._connections.note_outcome(self._connection, call.code())
        finally:
            slot()


class Bound:
    """One method on the connections of a channel, for the stubs of all its handles."""

    __slots__ = ("__weakref__", "_number", "connections", "least", "name", "number", "path", "pool")

    def __init__(self, connections: Connections, method: Method) -> None:
        self.connections = connections
        self.path, self.name = method.path, method.name
        self.pool = connections.pool_for(method.path)
        self._number = connections.number(method)
        self.number = self._number.value
        self.least = least_time(connections.key.parameters.queue_order, method.kind)

    def __repr__(self) -> str:
        return f"{self.path} to {self.connections.target}"

    @property
    def signature(self) -> Any:
        return signature_of(grpc.UnaryUnaryMultiCallable)

    def closed(self) -> Any:
        raise closed_error()

    def failed(self, connection: Connection, error: BaseException) -> None:
        self.connections.failed(connection, error)

    def enter(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[SharedLease[Connection], tuple[Any, ...], dict[str, Any]]:
        """A slot, and the arguments with what is left of the call's time. Waits in the queue if
        there is none. ValueError, LocalError, or what the factory of connections raised."""
        lease = self._of_key(args, kwargs)
        if lease is not None:
            return lease, args, kwargs
        timeout = timeout_of(args, kwargs)
        if timeout is None:
            return self.connections.enter(self.pool, None), args, kwargs
        self._shed(timeout)
        begun = time.monotonic()
        lease = self.connections.enter(self.pool, timeout)
        return self.within(timeout, begun, lease, args, kwargs)

    def _of_key(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> SharedLease[Connection] | None:
        """A slot of the connection of the call's key, if it has one."""
        if self.connections.key.parameters.affinity is None:
            return None
        metadata = args[METADATA_AT] if len(args) > METADATA_AT else kwargs.get("metadata")
        return self.connections.of_key(self.pool, metadata)

    async def aenter(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[SharedLease[Connection], tuple[Any, ...], dict[str, Any]]:
        """The same for the dispatcher."""
        timeout = timeout_of(args, kwargs)
        if timeout is None:
            return await self.connections.aenter(self.pool, None), args, kwargs
        self._shed(timeout)
        begun = time.monotonic()
        lease = await self.connections.aenter(self.pool, timeout)
        return self.within(timeout, begun, lease, args, kwargs)

    def _shed(self, left: float, lease: SharedLease[Connection] | None = None) -> None:
        """LocalError, and the slot given back, if a call with so much time left cannot make it."""
        if self.least is None:
            return
        refusal = cannot_make_it(self.connections.target, left, self.least)
        if refusal is not None:
            if lease is not None:
                lease.release()
            raise LocalError(*refusal)

    def within(
        self,
        timeout: float,
        begun: float,
        lease: SharedLease[Connection],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[SharedLease[Connection], tuple[Any, ...], dict[str, Any]]:
        """The slot, and the arguments with what is left of the call's time."""
        left = timeout - (time.monotonic() - begun)
        if left <= 0 < timeout:  # granted at the last moment: it would not be sent in time
            lease.release()
            raise LocalError(*too_late(self.connections.target))
        self._shed(left, lease)
        if len(args) > TIMEOUT_AT:
            args = (*args[:TIMEOUT_AT], left, *args[TIMEOUT_AT + 1 :])
        else:
            kwargs = {**kwargs, "timeout": left}
        return lease, args, kwargs

    def blocking(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that ends before it returns. `name`: of the multi-callable's method."""
        lease, args, kwargs = self.enter(args, kwargs)
        try:
            connection = lease.resource
            try:
                call = getattr(connection.multicallable(self.number), name)
                if self.least is None:
                    return call(*args, **kwargs)
                begun = time.monotonic()
                reply = call(*args, **kwargs)
                self.least.note(time.monotonic() - begun)
                return reply
            except BaseException as error:
                self.failed(connection, error)
                raise
        finally:
            lease.release()

    def begin(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall:
        """A call that goes on, begun at once or in the queue: the caller never waits. One that gets
        no slot is a call that fails, as grpc's own are."""
        kind = OpenCall if name == "future" else Stream
        try:
            lease = self._of_key(args, kwargs) or self._at_once()
        except PoolClosed:
            raise closed_error() from None
        if lease is None:
            timeout = timeout_of(args, kwargs)
            call: Any = Pending(partial(self.wait, name, args, kwargs), timeout)
        else:
            call = self.start(name, lease, args, kwargs)
        return kind(call, self.connections)

    def _at_once(self) -> SharedLease[Connection] | None:
        """A slot; None: there is none, or somebody waits. PoolClosed."""
        lease: SharedLease[Connection] = self.pool.lease()
        found = share_lease_hit(lease, False)
        if type(found) is not SlotGuard:
            return lease
        found.drop()
        if self.pool.closed:
            raise PoolClosed(self.pool.name, "the channel is closed")
        return None

    async def wait(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wanted: Callable[[], bool],
    ) -> Any:
        """For `Pending`."""
        lease, args, kwargs = await self.aenter(args, kwargs)
        if not wanted():
            lease.release()
            return LocalCancel()
        return self.start(name, lease, args, kwargs)

    def start(
        self,
        name: str,
        lease: SharedLease[Connection],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """grpc's own call; the slot is given back when it has ended."""
        try:
            connection = lease.resource
            inner = getattr(connection.multicallable(self.number), name)
            begun = 0.0 if self.least is None else time.monotonic()
            call: Any = inner(*args, **kwargs)
            if isinstance(call, GeneratorType):
                call = Generated(call)
        except BaseException:
            lease.release()
            raise
        if self.least is not None:
            call.add_done_callback(partial(_measure, self.least, begun))
        slot = lease.release if name == "future" else self.connections.open_streams.begin(lease)
        end = End(slot, ref(call), self.connections, connection)
        # The nullary callback: the other kind would hold the call.
        add = getattr(call, "add_callback", None)
        if add is None or not add(callback(end)):
            end()  # ended already
        elif name != "future":
            _look_after(call, end, timeout_of(args, kwargs))
        return call

    def miss(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.blocking("__call__", args, kwargs)

    def with_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.blocking("with_call", args, kwargs)

    def future(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.begin("future", args, kwargs)


def _measure(least: LeastTime, begun: float, call: Any) -> None:
    """A future has ended."""
    if call.code() is grpc.StatusCode.OK:
        least.note(time.monotonic() - begun)


def _look_after(call: Any, end: End, timeout: float | None) -> None:
    """Of a stream whose end its reader may bring."""
    try:
        call.fastpool_end = end
    except AttributeError:  # some tool's own: then grpc's thread alone brings it
        return
    if needs_reader(call) and timeout is not None:
        dispatcher.later(timeout, end)


def timeout_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    return args[TIMEOUT_AT] if len(args) > TIMEOUT_AT else kwargs.get("timeout")


def too_late(target: str) -> tuple[grpc.StatusCode, str]:
    return (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        f"Deadline Exceeded in the queue to {target}: the call was not sent",
    )


class ChannelMethod:
    """One method on one handle."""

    interface: ClassVar[type]

    def __init__(self, channel: SharedChannel, method: Method) -> None:
        self._channel = channel  # keeps it open for as long as the stub lives
        self._bound = channel._live().bound(method)
        self.__name__ = method.name  # for tools that wrap callables
        self.__signature__ = signature_of(self.interface)

    def _open(self) -> Bound:
        if self._channel._closed_flag.shut:
            raise closed_error()
        return self._bound

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._bound!r}>"


class AffineUnary(ChannelMethod, grpc.UnaryUnaryMultiCallable):  # type: ignore[misc] # no types
    """Of a channel whose calls have keys, which the core does not look at."""

    interface = grpc.UnaryUnaryMultiCallable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._open().blocking("__call__", args, kwargs)

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        return self._open().blocking("with_call", args, kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        return self._open().begin("future", args, kwargs)


class StreamUnary(ChannelMethod, grpc.StreamUnaryMultiCallable):  # type: ignore[misc] # no types
    interface = grpc.StreamUnaryMultiCallable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._open().blocking("__call__", args, kwargs)

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        return self._open().blocking("with_call", args, kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        return self._open().begin("future", args, kwargs)


class UnaryStream(ChannelMethod, grpc.UnaryStreamMultiCallable):  # type: ignore[misc]
    interface = grpc.UnaryStreamMultiCallable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._open().begin("__call__", args, kwargs)


class StreamStream(ChannelMethod, grpc.StreamStreamMultiCallable):  # type: ignore[misc]
    interface = grpc.StreamStreamMultiCallable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._open().begin("__call__", args, kwargs)


def unary_unary(channel: SharedChannel, method: Method) -> Any:
    if channel._live().key.parameters.affinity is not None:
        return AffineUnary(channel, method)
    bound = channel._live().bound(method)
    return UnaryCall(bound.pool, channel._closed_flag, bound.number, bound, channel)

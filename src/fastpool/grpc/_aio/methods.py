"""The methods that an AioSharedChannel hands to stubs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from ..._core import AioCall, CallSlot
from .._queue_order import least_time
from .._sync.connection import Method, signature_of
from .affinity import AFFINE
from .calls import Course, StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall

if TYPE_CHECKING:
    from .channel import AioSharedChannel
    from .connections import AioConnections
    from .loop_connections import LoopConnections


class AioBound:
    """One method on the connections of a channel, for the stubs of all its handles."""

    __slots__ = ("__weakref__", "_number", "connections", "least", "number", "path")

    def __init__(self, connections: AioConnections, method: Method) -> None:
        self.connections = connections
        self.path = method.path
        self._number = connections.number(method)
        self.number = self._number.value
        self.least = least_time(connections.key.parameters.queue_order, method.kind)


class AioMethod:
    """One method of one handle: all of it that is not the hot path, which is AioCall's."""

    def __init__(self, handle: AioSharedChannel, method: Method) -> None:
        self._handle = handle  # keeps the channel open for as long as the stub lives
        self._bound = handle._live().bound(method)
        self.number = self._bound.number
        self.least = self._bound.least
        self.name = method.name
        self.kind = method.kind
        self._call, self.arguments = KINDS[method.kind]
        self.stream = method.kind != "unary_unary"

    @property
    def signature(self) -> Any:
        return signature_of(INTERFACES[self.kind])

    def __repr__(self) -> str:
        return f"{self._bound.path} of {self._handle!r}"

    def dispatcher(self) -> LoopConnections:
        """That of the running loop; UsageError when the handle is closed."""
        return self._handle._live().dispatcher(self._bound.path)

    def wait(self, dispatcher: LoopConnections, args: Any, kwargs: Any) -> Any:
        """No slot was free."""
        request, timeout, options = self.arguments(*args, **kwargs)
        return self._call(dispatcher.wait_queue.join(self, request, timeout, options))

    def wrap(self, call: Any, dispatcher: LoopConnections, call_slot: CallSlot) -> Any:
        """A stream that was begun at once."""
        dispatcher.note_stream(call_slot)
        return self._call(Course(dispatcher.loop, call))


Arguments = tuple[Any, float | None, dict[str, Any]]


def _of_request(
    request: Any,
    *,
    timeout: float | None = None,
    metadata: Any = None,
    credentials: Any = None,
    wait_for_ready: bool | None = None,
    compression: Any = None,
) -> Arguments:
    options = {
        "metadata": metadata,
        "credentials": credentials,
        "wait_for_ready": wait_for_ready,
        "compression": compression,
    }
    return request, timeout, options


def _of_requests(
    request_iterator: Any = None,
    timeout: float | None = None,
    metadata: Any = None,
    credentials: Any = None,
    wait_for_ready: bool | None = None,
    compression: Any = None,
) -> Arguments:
    options = {
        "metadata": metadata,
        "credentials": credentials,
        "wait_for_ready": wait_for_ready,
        "compression": compression,
    }
    return request_iterator, timeout, options


KINDS: dict[str, tuple[Any, Callable[..., Arguments]]] = {
    "unary_unary": (UnaryUnaryCall, _of_request),
    "unary_stream": (UnaryStreamCall, _of_request),
    "stream_unary": (StreamUnaryCall, _of_requests),
    "stream_stream": (StreamStreamCall, _of_requests),
}

# A compiled type, which cannot derive from it. It makes unary calls alone.
grpc.aio.UnaryUnaryMultiCallable.register(AioCall)


class UnaryStream(AioCall, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[misc] # no types
    pass


class StreamUnary(AioCall, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[misc]
    pass


class StreamStream(AioCall, grpc.aio.StreamStreamMultiCallable):  # type: ignore[misc]
    pass


INTERFACES: dict[str, type] = {
    "unary_unary": grpc.aio.UnaryUnaryMultiCallable,
    "unary_stream": grpc.aio.UnaryStreamMultiCallable,
    "stream_unary": grpc.aio.StreamUnaryMultiCallable,
    "stream_stream": grpc.aio.StreamStreamMultiCallable,
}
CALLABLES: dict[str, type[AioCall]] = {
    "unary_unary": AioCall,
    "unary_stream": UnaryStream,
    "stream_unary": StreamUnary,
    "stream_stream": StreamStream,
}


def multicallable(handle: AioSharedChannel, kind: str, *details: Any) -> Any:
    """What a stub gets."""
    added = tuple(getattr(handle, f"_{kind}_interceptors"))
    method = AioMethod(handle, Method(kind, *details)._replace(interceptors=added))
    wrap = method.wrap if method.stream else None
    call = CALLABLES[kind](handle._closed_flag, method.number, method, wrap)
    affine = handle._live().key.parameters.affinity is not None
    return AFFINE[kind](call) if affine else call

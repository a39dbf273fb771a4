"""`shared()` and the handle that it returns: a grpc.Channel of its own, on a channel of many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import grpc

from .. import _registry
from .._channel_key import key_of
from .._handle import Handle
from .._options import ChannelOptions, seconds, takes_options
from . import hedging, methods
from .connection import Method
from .connections import Connections
from .errors import closed_error
from .subscriptions import Callback, Subscription

Transcoder = Callable[[Any], Any] | None


@takes_options
def shared(
    target: str,
    **parameters: Unpack[ChannelOptions],
) -> SharedChannel:
    """A handle of the one channel to `target`, made now if nobody holds it yet.

    Callers who name the same `target` (spelt alike), the same `credentials` object and otherwise
    equal arguments share one channel, in one process. Without credentials it is insecure.
    `target`, `credentials`, `options` and `compression` mean what they mean to
    `grpc.insecure_channel` and `grpc.secure_channel`; for the others see `ChannelOptions`. Nothing
    is connected until the first call or `wait_ready`.

    Use the handle as any grpc channel, for any number of stubs, from any thread, and `close()` it
    (or leave its `with` block) when done. Costs about as much as a dictionary look-up when the
    channel exists. Raises TypeError or ValueError for arguments that no channel can be made of.
    """
    key = key_of("shared", "sync", target, parameters)
    return SharedChannel(_registry.acquire(key, Connections))


class SharedChannel(Handle[Connections], grpc.Channel):  # type: ignore[misc] # grpcio has no types
    """One holder's handle of a shared channel, made by `shared()`.

    It is a grpc.Channel: generated stubs, `grpc.intercept_channel` and `grpc.channel_ready_future`
    take it. What is particular to it:

    - `close()` ends this handle alone: its stubs then raise ValueError, its subscriptions end, and
      nobody else notices. The last handle's close is the channel's.
    - A handle that is collected unclosed is released; stubs made from it keep it alive.
    - In a forked child the handle, and stubs made before the fork, connect anew on first use. The
      parent's connections are never used or closed there. Subscriptions are not carried over.

    Thread-safe.
    """

    _made_by = "shared(target)"
    _closed_error = staticmethod(closed_error)

    def close(self, grace: float | None = None) -> None:
        """Release this handle's reference; the last release closes the channel. Idempotent.

        When it is the last one, calls that still run have `grace` seconds to end, and are cancelled
        then, as grpc does at once; None is at once. Returns when they have ended.
        """
        seconds("close()", "grace", grace, 0)
        entry = self._give_up()
        if entry is not None:
            entry.connections.subscriptions.end(self._closed_flag)
            last = _registry.release(entry)
            if last is not None:
                last.close(grace)

    def __enter__(self) -> SharedChannel:
        self._live()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- connectivity ------------------------------------------------------------------------------

    def subscribe(self, callback: Callback, try_to_connect: bool = False) -> None:
        """As on any channel; the state is that of one of the connections. `close` of this handle
        ends the subscription."""
        connections = self._live()
        connections.subscribe(Subscription(self._closed_flag, callback, try_to_connect))
        if self._entry is None:  # closed meanwhile, too early to see this subscription
            connections.subscriptions.end(self._closed_flag)

    def unsubscribe(self, callback: Callback) -> None:
        """As on any channel: nothing happens if the callback is not subscribed."""
        entry = self._entry
        if entry is not None:
            entry.connections.subscriptions.end(self._closed_flag, callback)

    # -- methods, as on any channel ----------------------------------------------------------------

    def unary_unary(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.UnaryUnaryMultiCallable:
        args = (method, request_serializer, response_deserializer, bool(_registered_method))
        made: Any = hedging.unary_unary(self, Method("unary_unary", *args))
        return made

    def unary_stream(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.UnaryStreamMultiCallable:
        args = (method, request_serializer, response_deserializer, bool(_registered_method))
        return methods.UnaryStream(self, Method("unary_stream", *args))

    def stream_unary(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamUnaryMultiCallable:
        args = (method, request_serializer, response_deserializer, bool(_registered_method))
        return methods.StreamUnary(self, Method("stream_unary", *args))

    def stream_stream(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamStreamMultiCallable:
        args = (method, request_serializer, response_deserializer, bool(_registered_method))
        return methods.StreamStream(self, Method("stream_stream", *args))

"""`shared()` and the handle that it returns: a grpc.Channel of its own, on a channel of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import grpc

from .. import _registry
from .._channel_key import Key
from .._handle import Handle
from .._options import KEEPALIVE, checked_basics, checked_target, parse, seconds
from . import methods
from .connection import Method
from .connections import Connections
from .errors import closed_error
from .subscriptions import Callback, Subscription

Transcoder = Callable[[Any], Any] | None


def shared(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    options: Iterable[tuple[str, Any]] = (),
    compression: grpc.Compression | None = None,
    connections: int | tuple[int, int] | str = (1, 8),
    streams_per_connection: int | None = 50,
    queue_timeout: float | None = None,
    max_queue: int | None = None,
    bulk: Iterable[str] = (),
    shrink_after: float | None = 60.0,
    max_age: float | None = None,
    drain_timeout: float | None = 30.0,
    reconnect_backoff: tuple[float, float] = (0.1, 5.0),
    keepalive: float | None = KEEPALIVE,
    keepalive_timeout: float = 20.0,
    retry: Iterable[str] = (),
    health: str | None = None,
    load_balancing: str = "pick_first",
) -> SharedChannel:
    """A handle of the one channel to `target`, made now if nobody holds it yet.

    Callers who name the same `target` (spelt alike), the same `credentials` object and otherwise
    equal arguments share one channel, in one process. Without credentials it is insecure. The first
    four arguments mean what they mean to `grpc.insecure_channel` and `grpc.secure_channel`; nothing
    is connected until the first call or `wait_ready`.

    Use the handle as any grpc channel, for any number of stubs, from any thread, and `close()` it
    (or leave its `with` block) when done. Costs about as much as a dictionary look-up when the
    channel exists. Raises TypeError or ValueError for arguments that no channel can be made of.
    """
    checked_target("shared", target)
    who = f"shared({target!r})"
    pairs = checked_basics(who, credentials, options, compression)
    parameters = parse(
        who,
        connections=connections,
        streams_per_connection=streams_per_connection,
        queue_timeout=queue_timeout,
        max_queue=max_queue,
        bulk=bulk,
        shrink_after=shrink_after,
        max_age=max_age,
        drain_timeout=drain_timeout,
        reconnect_backoff=reconnect_backoff,
        keepalive=keepalive,
        keepalive_timeout=keepalive_timeout,
        retry=retry,
        health=health,
        load_balancing=load_balancing,
    )
    key = Key("sync", target, credentials, pairs, compression, parameters)
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
        made: Any = methods.unary_unary(self, Method("unary_unary", *args))
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

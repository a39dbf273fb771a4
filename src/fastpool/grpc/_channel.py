"""`shared()` and the handle that it returns: a grpc.Channel of its own, on a channel of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import grpc

from . import _registry
from ._methods import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from ._registry import Entry, Key, closed_error

Callback = Callable[[grpc.ChannelConnectivity], Any]
Transcoder = Callable[[Any], Any] | None


def shared(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    options: Iterable[tuple[str, Any]] = (),
    compression: grpc.Compression | None = None,
) -> SharedChannel:
    """A handle of the one channel to `target`, made now if nobody holds it yet.

    Callers who name the same `target` (spelt alike), the same `credentials` object, equal `options`
    in the same order and the same `compression` share one channel, in one process. Without
    credentials it is insecure. All arguments mean what they mean to `grpc.insecure_channel` and
    `grpc.secure_channel`; nothing is connected until the first call or `wait_ready`.

    Use the handle as any grpc channel, for any number of stubs, from any thread, and `close()` it
    (or leave its `with` block) when done. Costs about as much as a dictionary look-up when the
    channel exists. Raises TypeError or ValueError for arguments that no channel can be made of.
    """
    if not isinstance(target, str):
        raise TypeError(f"shared() target must be a str such as 'host:port', not {target!r}")
    if not target:
        raise ValueError("shared() target is empty; give it a target such as 'host:port'")
    if not (credentials is None or isinstance(credentials, grpc.ChannelCredentials)):
        raise TypeError(
            f"shared({target!r}) credentials must be grpc.ChannelCredentials or None,"
            f" not {credentials!r}"
        )
    if not (compression is None or isinstance(compression, grpc.Compression)):
        raise TypeError(
            f"shared({target!r}) compression must be a grpc.Compression or None,"
            f" not {compression!r}"
        )
    key = Key(target, credentials, _checked_options(target, options), compression)
    return SharedChannel(_registry.acquire(key))


def _checked_options(
    target: str, options: Iterable[tuple[str, Any]]
) -> tuple[tuple[str, Any], ...]:
    try:
        pairs = tuple((name, value) for name, value in options)
        hash(pairs)
        if all(isinstance(name, str) for name, _ in pairs):
            return pairs
        problem = None
    except (TypeError, ValueError) as error:
        problem = error
    raise TypeError(
        f"shared({target!r}) options must be (name, value) pairs, names str and values hashable,"
        f" not {options!r}"
    ) from problem


class SharedChannel(grpc.Channel):  # type: ignore[misc] # grpcio has no types
    """One holder's handle of a shared channel, made by `shared()`.

    It is a grpc.Channel: generated stubs, `grpc.intercept_channel` and `grpc.channel_ready_future`
    take it. What is particular to it:

    - `close()` ends this handle alone: its stubs then raise ValueError, its subscriptions end, and
      nobody else notices. The last handle's close is the channel's: calls that still run on it are
      cancelled, as grpc does.
    - A handle that is collected unclosed is released; stubs made from it keep it alive.
    - In a forked child the handle, and stubs made before the fork, connect anew on first use. The
      parent's connection is never used or closed there. Subscriptions are not carried over.

    Thread-safe. A call through it costs two Python calls more than on a plain channel.
    """

    # The instance's own from `__init__` until `close` or `__del__` takes it out.
    _entry: Entry | None = None

    def __init__(self, entry: Entry) -> None:
        if not isinstance(entry, Entry):
            raise TypeError("a SharedChannel is made by fastpool.grpc.shared(target)")
        self._target = entry.key.target
        self._subscriptions: list[tuple[grpc.Channel, Callback]] = []
        self._entry = entry

    def __repr__(self) -> str:
        return f"<SharedChannel to {self._target!r}{', closed' if self.closed else ''}>"

    @property
    def target(self) -> str:
        """The target as it was given to `shared()`."""
        return self._target

    @property
    def closed(self) -> bool:
        """Whether this handle is closed. The channel may live on for others."""
        return self._entry is None

    def close(self) -> None:
        """Release this handle's reference; the last release closes the channel. Idempotent.

        The last one takes some 20 us, or up to 0.2 s shortly after a `subscribe`, while grpc ends
        the thread that watched the channel.
        """
        entry = self._give_up()
        if entry is not None:
            self._end_subscriptions(entry)
            _registry.release(entry)

    def __del__(self) -> None:
        entry = self._give_up()
        if entry is not None:
            _registry.drop(entry)

    def _give_up(self) -> Entry | None:
        """Take the entry out of the instance. That is one atomic step, so of several threads that
        close at once one gets it; everybody sees the class's None from then on. A lock would not do
        here: a forked child could inherit it locked."""
        own = self.__dict__
        entry: Entry | None = own.pop("_entry", None)  # pyright: ignore[reportAttributeAccessIssue]
        return entry

    def __enter__(self) -> SharedChannel:
        self._live()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _live(self) -> Entry:
        entry = self._entry
        if entry is None:
            raise closed_error()
        return entry

    # -- connectivity ------------------------------------------------------------------------------

    def subscribe(self, callback: Callback, try_to_connect: bool = False) -> None:
        """As on any channel. `close` of this handle ends the subscription."""
        entry = self._live()
        channel = entry.open()
        channel.subscribe(callback, try_to_connect)
        self._subscriptions.append((channel, callback))
        if self._entry is None:  # closed meanwhile, too early to see this subscription
            self._end_subscriptions(entry)

    def unsubscribe(self, callback: Callback) -> None:
        """As on any channel: nothing happens if the callback is not subscribed."""
        entry = self._entry
        for subscription in tuple(self._subscriptions):
            if subscription[1] == callback and entry is not None:
                self._end(subscription, entry)
                return

    def _end_subscriptions(self, entry: Entry) -> None:
        for subscription in tuple(self._subscriptions):
            self._end(subscription, entry)

    def _end(self, subscription: tuple[grpc.Channel, Callback], entry: Entry) -> None:
        try:
            self._subscriptions.remove(subscription)
        except ValueError:  # another thread was first
            return
        channel, callback = subscription
        if channel is entry.channel:  # after a fork it is the parent's, which is not to be touched
            channel.unsubscribe(callback)  # type: ignore[union-attr]

    # -- methods, as on any channel ----------------------------------------------------------------

    def unary_unary(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.UnaryUnaryMultiCallable:
        args = (method, request_serializer, response_deserializer)
        return UnaryUnary(self, "unary_unary", args, _registered_method)

    def unary_stream(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.UnaryStreamMultiCallable:
        args = (method, request_serializer, response_deserializer)
        return UnaryStream(self, "unary_stream", args, _registered_method)

    def stream_unary(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamUnaryMultiCallable:
        args = (method, request_serializer, response_deserializer)
        return StreamUnary(self, "stream_unary", args, _registered_method)

    def stream_stream(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamStreamMultiCallable:
        args = (method, request_serializer, response_deserializer)
        return StreamStream(self, "stream_stream", args, _registered_method)

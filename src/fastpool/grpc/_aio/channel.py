"""`aio_shared()` and the handle that it returns: a grpc.aio.Channel, on connections of many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import grpc

from .. import _registry
from .._channel_key import key_of
from .._handle import Handle
from .._options import ChannelOptions, seconds, takes_options
from . import hedging
from .connections import AioConnections
from .errors import closed_error
from .methods import multicallable

Transcoder = Callable[[Any], Any] | None
State = grpc.ChannelConnectivity

# The best of several connections is what a caller gets.
BEST_FIRST = (State.READY, State.CONNECTING, State.IDLE, State.TRANSIENT_FAILURE)


@takes_options
def aio_shared(
    target: str,
    *,
    interceptors: Sequence[Any] = (),
    **parameters: Unpack[ChannelOptions],
) -> AioSharedChannel:
    """A handle of the one channel for tasks to `target`, made now if nobody holds it yet.

    As `shared`, for `grpc.aio`: the same parameters, and `interceptors` as those of
    `grpc.aio.insecure_channel`; callers who name the same objects share a channel. Each event loop
    has connections of its own, so `connections` and the limits that go with it are those of one
    loop, and a handle may be used by several loops, in several threads, and by a loop that comes
    after another. Needs no running loop. Raises TypeError or ValueError for arguments that no
    channel can be made of.
    """
    key = key_of("aio_shared", "aio", target, parameters, tuple(interceptors))
    return AioSharedChannel(_registry.acquire(key, AioConnections))


class AioSharedChannel(Handle[AioConnections], grpc.aio.Channel):  # type: ignore[misc] # grpcio has no types
    """One holder's handle of a shared channel for tasks, made by `aio_shared()`.

    It is a grpc.aio.Channel: generated stubs take it, and its calls are those of `grpc.aio`. What
    is particular to it:

    - A call that finds no slot waits in the queue, at most until its deadline; it fails then with
      DEADLINE_EXCEEDED, and with RESOURCE_EXHAUSTED where the queue is too long. Such errors have
      `local` set, since the server knows nothing of the call.
    - A stream holds its slot until it has its status. One that is dropped before, as by a `break`
      out of an `async for`, is cancelled.
    - `close()` ends this handle alone: its stubs then raise UsageError, and nobody else notices.
      The last handle's close is the channel's.
    - A handle that is collected unclosed is released; stubs made from it keep it alive.
    - Used by another loop than before, it connects anew; likewise in a forked child, but when its
      parent had a used one open that is a RuntimeError there, since grpc would hang.

    Thread-safe; what a call returns belongs to the loop that made it.
    """

    _made_by = "aio_shared(target)"
    _closed_error = staticmethod(closed_error)

    def __init__(self, entry: Any) -> None:
        super().__init__(entry)
        # Google's clients append to these, which are lists of grpc.aio's own channels, before they
        # ask for methods. What is in them goes for the methods of this handle.
        self._unary_unary_interceptors: list[Any] = []
        self._unary_stream_interceptors: list[Any] = []
        self._stream_unary_interceptors: list[Any] = []
        self._stream_stream_interceptors: list[Any] = []

    async def close(self, grace: float | None = None) -> None:
        """Release this handle's reference; the last release closes the channel. Idempotent.

        When it is the last one, calls that still run, or wait in the queue, have `grace` seconds to
        end, and are cancelled then, as grpc does; None is at once. That goes for the calls of all
        loops, whichever this is called in.
        """
        seconds("close()", "grace", grace, 0)
        entry = self._give_up()
        if entry is not None:
            last = _registry.release(entry)
            if last is not None:
                await last.aclose(grace)

    async def __aenter__(self) -> AioSharedChannel:
        self._live()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # -- connectivity ------------------------------------------------------------------------------

    def _inner(self) -> list[Any]:
        """The inner channels of the running loop, one at least."""
        dispatcher = self._live().dispatcher()
        made = [each.channel for each in list(dispatcher.live) if each.channel is not None]
        return made or [dispatcher.connection().dial()]

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The best state of its connections on the running loop; SHUTDOWN when it is closed."""
        if self.closed:
            return State.SHUTDOWN
        states = [channel.get_state(try_to_connect) for channel in self._inner()]
        return next((each for each in BEST_FIRST if each in states), State.IDLE)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As on any channel, of that best state."""
        while self.get_state() is last_observed_state:
            changes = [
                asyncio.ensure_future(channel.wait_for_state_change(channel.get_state()))
                for channel in self._inner()
            ]
            try:
                await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for change in changes:
                    change.cancel()

    async def channel_ready(self) -> None:
        """Returns when a connection of the running loop is ready."""
        while (state := self.get_state(try_to_connect=True)) is not State.READY:
            self._live()
            await self.wait_for_state_change(state)

    # -- methods, as on any channel ----------------------------------------------------------------

    def unary_unary(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable:
        args = (method, request_serializer, response_deserializer, bool(_registered_method))
        return hedging.unary_unary(self, *args)

    def unary_stream(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable:
        args = (method, request_serializer, response_deserializer, bool(_registered_method))
        return multicallable(self, "unary_stream", *args)

    def stream_unary(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable:
        args = (method, request_serializer, response_deserializer, bool(_registered_method))
        return multicallable(self, "stream_unary", *args)

    def stream_stream(
        self,
        method: str,
        request_serializer: Transcoder = None,
        response_deserializer: Transcoder = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable:
        args = (method, request_serializer, response_deserializer, bool(_registered_method))
        return multicallable(self, "stream_stream", *args)

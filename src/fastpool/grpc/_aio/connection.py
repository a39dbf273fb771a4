"""One connection of an event loop: an inner channel, made, used and closed on that loop."""

from __future__ import annotations

import asyncio
import os
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..._core import CallConnection
from .._connectivity import READY, state_of
from .._outliers import Record
from .._sync.connection import ordinals
from .errors import closed_error

if TYPE_CHECKING:
    from .loop_connections import LoopConnections

# Those with a channel of grpc.aio, in this process.
_open: weakref.WeakSet[AioConnection] = weakref.WeakSet()
_lost = False  # there were some when it was forked: their poller is a thread that is not here

FORKED = (
    "grpc.aio does not work in a process that was forked while a channel that had been used was"
    " open: every call would hang. Fork before the first call or after close(), or start the"
    " process anew (spawn, forkserver)"
)


class AioConnection(CallConnection):
    """A resource of a SharedPool. The pool opens and closes it on threads of its own; what that
    means to grpc is done on the loop.

    `calls[n]` makes a call of method n.
    """

    def __init__(self, dispatcher: LoopConnections) -> None:
        self.dispatcher = dispatcher
        self.loop: asyncio.AbstractEventLoop = dispatcher.loop
        self.channel: Any = None  # made when it is first needed
        self.address: str | None = None  # the first that it tries, where the target has several
        self.ordinal = next(ordinals)
        self.ended = False
        self.record = Record()
        self.answered_at = 0.0  # when it answered last, having been asked

    @property
    def ready(self) -> bool:
        channel = self.channel
        return channel is not None and state_of(channel) is READY

    # -- on the loop -------------------------------------------------------------------------------

    def dial(self) -> Any:
        """The inner channel."""
        if self.ended:
            raise closed_error()
        if self.channel is None:
            if _lost:
                raise RuntimeError(FORKED)
            _open.add(self)
            self.channel = _unburdened(self.dispatcher.dial(self))
        return self.channel

    def look_up(self, number: int) -> Callable[..., Any]:
        method = self.dispatcher.methods.all[number]
        assert method is not None, "its holder is calling"
        call: Callable[..., Any] = method.look_up(self.dial()).__call__
        self.set_call(number, call)
        return call

    async def connect(self) -> None:
        await self.dial().channel_ready()

    def shut(self) -> None:
        """Cancels what runs on it and closes it."""
        channel = self._take()
        if channel is None:
            return
        for call_slot in list(self.dispatcher.active):
            if call_slot.connection is self:
                call_slot.call.cancel()
        closing = channel.close()
        try:
            closing.send(None)  # without a grace it never waits
        except StopIteration:
            return
        closing.close()

    # -- from any thread ---------------------------------------------------------------------------

    def forget(self, number: int) -> None:
        """Nobody uses that method any more."""
        if number < len(self.calls):
            self.set_call(number, None)

    def end(self) -> None:
        """The same. Idempotent."""
        self.ended = True
        if self.channel is None:
            return
        if _get_running_loop() is self.loop:
            self.shut()
            return
        try:
            self.loop.call_soon_threadsafe(self.shut)
        except RuntimeError:  # the loop is closed, and all that ran on it is over
            self._take()

    def _take(self) -> Any:
        """The channel, if there is one, which nobody else gets any more. Where it is just dropped,
        grpc closes it without awaiting anything."""
        self.ended = True
        channel, self.channel = self.channel, None
        _open.discard(self)
        self.calls.clear()
        return channel


def _unburdened(channel: Any) -> Any:
    """grpc's channel keeps a list of its calls, for its close, in Python: most of what a call here
    would cost more. The dispatcher has such a list, so there need not be another."""
    if hasattr(channel, "_register_call") and not getattr(channel, "_active_calls", True):
        channel._register_call = _register_nothing
    return channel


def _register_nothing(call: Any) -> None:
    pass


def _note_fork() -> None:
    global _lost
    _lost = _lost or bool(_open)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)

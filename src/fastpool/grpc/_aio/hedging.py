"""Unary calls of tasks that are hedged: see `_hedging.py`."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from ..._core import AioCall, CallSlot, begin
from .._hedging import decides
from .calls import Course, UnaryUnaryCall, at_once
from .methods import multicallable

if TYPE_CHECKING:
    from .channel import AioSharedChannel
    from .connection import AioConnection
    from .loop_connections import LoopConnections
    from .methods import AioMethod


class HedgedUnary(grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[misc] # no types
    """A method whose calls are sent once more when there is no answer after `after` seconds."""

    def __init__(self, plain: AioCall, after: float) -> None:
        self._method: AioMethod = plain.method
        self._plain = plain
        self._after = after
        self.__name__ = self._method.name  # for tools that wrap callables
        self.__signature__ = self._method.signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        dispatcher = self._method.dispatcher()
        first = self._plain(*args, **kwargs)
        request, timeout, options = self._method.arguments(*args, **kwargs)
        return HedgedCall(Race(self, dispatcher, first, request, timeout, options).course)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._method!r}>"


def unary_unary(handle: AioSharedChannel, path: str, *details: Any) -> Any:
    """What a stub gets for a unary method."""
    plain: AioCall = multicallable(handle, "unary_unary", path, *details)
    after = handle._live().key.parameters.hedge_after(path)
    return plain if after is None else HedgedUnary(plain, after)


class HedgedCall(UnaryUnaryCall):
    """The call of a race. Dropped, it goes on, as grpc's own do."""

    def __repr__(self) -> str:
        call = self._course.call
        return f"<{type(self).__name__} under way>" if call is None else repr(call)


class Race:
    """One hedged call. All of it is for the thread of the loop; there is no task.

    Its course has no call until it is known which one counts.
    """

    def __init__(
        self,
        method: HedgedUnary,
        dispatcher: LoopConnections,
        first: Any,
        request: Any,
        timeout: float | None,
        options: dict[str, Any],
    ) -> None:
        self._method = method
        self._dispatcher = dispatcher
        self._request = request
        self._options = options
        self.course = course = Course(dispatcher.loop)
        course.wait_queue = self  # to be left by who cancels
        if timeout is not None:
            course.ends = time.monotonic() + timeout
        self._running: dict[Any, AioConnection | None] = {}  # call: where the second one was sent
        self._timer: asyncio.TimerHandle | None = None
        dispatcher.hedges.note_call()
        self._follow(first, None)
        queued = isinstance(first, UnaryUnaryCall) and first._course.call is None
        if not queued:
            self._arm()
            return
        sent = dispatcher.loop.create_future()  # by then nobody answers who has not been asked
        sent.add_done_callback(self._arm)
        first._course.waiters.append(sent)

    def _arm(self, _: Any = None) -> None:
        if self.course.call is None and self._timer is None:
            later = self.course.loop.call_later
            self._timer = later(self._method._after, self._send_again)

    def _follow(self, call: Any, connection: AioConnection | None) -> None:
        self._running[call] = connection
        call.add_done_callback(partial(self._ended, call))
        task = getattr(call, "_interceptors_task", None)
        if task is not None:  # an interceptor that raises something of its own; grpc tells nobody
            task.add_done_callback(partial(self._intercepted, call))

    def _send_again(self) -> None:
        left = self.course.time_remaining()
        if self.course.call is not None or left == 0:
            return
        (first,) = self._running
        slot = self._slot(self._connection_of(first))
        if slot is None:
            return
        if not self._dispatcher.hedges.spend():
            slot()
            return
        connection = slot.connection
        options = {**self._options, "timeout": left}
        number = self._method._method.number
        try:
            call = begin(self._dispatcher, slot, number, (self._request,), options)
        except Exception:  # the connection was closed just now; the first call goes on
            return
        self._follow(call, connection)

    def _slot(self, first: AioConnection | None) -> CallSlot | None:
        """A free slot, of another connection than the first call's where there is one; None: there
        is no free slot."""
        if self._dispatcher.queued:
            return None
        slot = self._dispatcher.take()
        if slot is not None and slot.connection is first:
            other = self._dispatcher.take()
            if other is not None:
                slot()
                slot = other
        return slot

    def _connection_of(self, call: Any) -> AioConnection | None:
        """Where a call is under way; None: it is not, or nobody can tell."""
        inner = call._course.call if isinstance(call, UnaryUnaryCall) else call
        for slot in self._dispatcher.active:
            if slot.call is inner:
                found: AioConnection | None = slot.connection
                return found
        return None

    def _ended(self, call: Any, _: Any) -> None:
        others = [each for each in self._running if each is not call and not each.done()]
        if self.course.call is not None or (others and not decides(at_once(call.code()))):
            return
        self._note_silent(call, others)
        self._complete(call)

    def _intercepted(self, call: Any, task: asyncio.Task[Any]) -> None:
        if self.course.call is None and (task.cancelled() or task.exception() is not None):
            self._complete(call)

    def _note_silent(self, answered: Any, others: list[Any]) -> None:
        """A call that lost to one on another connection: its connection may be dead, and nobody
        else will learn of it, since the call does not expire."""
        won = self._running[answered]
        for call in others:
            connection = self._connection_of(call)
            if won is not None and connection is not None and connection is not won:
                self._dispatcher.silence.suspect(connection)

    def _complete(self, call: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.course.complete(call)
        running, self._running = self._running, {}
        for each in running:
            if each is not call:
                each.cancel()

    def leave(self, course: Course, ended: Any) -> None:
        """Nobody wants the answer any more."""
        self._complete(ended)

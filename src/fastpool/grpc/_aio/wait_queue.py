"""The queue of calls for a slot of one loop's connections: first come, first served, or by
deadline (`_queue_order.py`).

What ends frees a slot, and the loop then serves as many of those in the queue as there are slots.
There is no task for a call that waits: thousands may.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import OrderedDict
from functools import partial
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

import grpc

from ..._core import CallSlot, begin
from ...errors import PoolOverloaded, PoolTimeout
from .._queue_order import UNHURRIED, LeastTime, cannot_make_it
from .._sync.errors import refusal
from .calls import Course, at_once
from .errors import AioLocalError, Ended

if TYPE_CHECKING:
    from .loop_connections import LoopConnections
    from .methods import AioMethod

LOOK = 0.05  # seconds between looks for what nobody tells of, while calls wait
SWEEPS = 20  # so many looks between two for calls that will never end


class Waiting:
    """One call in the queue, and what it is to be begun with."""

    __slots__ = ("context", "method", "mine", "options", "request", "since", "timer")

    def __init__(self, method: AioMethod, request: Any, options: dict[str, Any]) -> None:
        self.method = method  # whose number is its own as long as it lives
        self.request = request
        self.options = options
        self.context = contextvars.copy_context()
        self.since = time.monotonic()
        self.mine = True  # its own deadline is nearer than `queue_timeout`
        self.timer: asyncio.TimerHandle | None = None


class WaitQueue:
    """All of it is for the thread of the loop."""

    def __init__(self, dispatcher: LoopConnections) -> None:
        self.dispatcher = dispatcher
        self.calls: OrderedDict[Course, Waiting] = OrderedDict()
        self._by_deadline = dispatcher.key.parameters.queue_order == "deadline"
        # A heap; some have left. All of `calls` are in it, whatever a signal handler has cut short.
        self._ranked: list[tuple[float, int, Course]] = []
        self._joined = 0
        self._due = False  # `serve` is about to run
        self._looking: asyncio.TimerHandle | None = None
        self._looks = 0

    def join(
        self, method: AioMethod, request: Any, timeout: float | None, options: dict[str, Any]
    ) -> Course:
        """A call for which no slot is free. One too many ends at once."""
        dispatcher = self.dispatcher
        course, it = Course(dispatcher.loop), Waiting(method, request, options)
        o = dispatcher.key.parameters
        if self._full():
            self._refuse(course, it, PoolOverloaded(dispatcher.pool.name, "of no slot"))
            return course
        if (shed := self._shed(it, timeout)) is not None:
            course.complete(shed)
            return course
        course.wait_queue = self
        if timeout is not None:
            course.ends = it.since + timeout
        it.mine = timeout is not None and (o.queue_timeout is None or timeout <= o.queue_timeout)
        patience = timeout if it.mine else o.queue_timeout
        if patience is not None:
            it.timer = dispatcher.loop.call_later(max(0.0, patience), self._expire, course)
        if self._by_deadline:
            self._rank(course, it.since + (UNHURRIED if patience is None else patience))
        self.calls[course] = it
        dispatcher.queued = dispatcher.notify_on_end = True
        if self._looking is None:
            self._look()
        dispatcher.grow()
        return course

    def _rank(self, course: Course, ends: float) -> None:
        if len(self._ranked) > 2 * len(self.calls) + 64:
            ranked = [each for each in self._ranked if each[2] in self.calls]
            heapify(ranked)
            self._ranked = ranked
        self._joined += 1
        heappush(self._ranked, (ends, self._joined, course))

    def _next(self) -> Course:
        """Whose turn it is; there is one."""
        if not self._by_deadline:
            return next(iter(self.calls))
        while (course := self._ranked[0][2]) not in self.calls:
            heappop(self._ranked)
        return course

    def _full(self) -> bool:
        """Those for whom one more connection will be opened do not count."""
        most = self.dispatcher.key.parameters.max_queue
        if most is None or len(self.calls) < most:
            return False
        return len(self.calls) >= most + self.dispatcher.slots_pending()

    def leave(self, course: Course, call: Any) -> None:
        """It waits no more."""
        it = self.calls.pop(course)
        if it.timer is not None:
            it.timer.cancel()
        if self._ranked and self._ranked[0][2] is course:
            heappop(self._ranked)  # what it gets is its own, and not the queue's to keep
        course.complete(call)
        if not self.calls:
            self._ranked.clear()
            self.dispatcher.queued = False
            self.dispatcher.on_call_ended()

    def _expire(self, course: Course) -> None:
        it = self.calls.get(course)
        if it is not None:
            waited = time.monotonic() - it.since
            error = PoolTimeout(self.dispatcher.pool.name, "wait", waited, {})
            self._refuse(course, it, error)

    def _refuse(self, course: Course, it: Waiting, error: PoolTimeout | PoolOverloaded) -> None:
        ended = Ended(
            AioLocalError(
                *refusal(
                    self.dispatcher.key.target,
                    error,
                    it.mine,
                    self.dispatcher.key.parameters.max_queue,
                )
            )
        )
        if course in self.calls:
            self.leave(course, ended)
        else:
            course.complete(ended)

    # -- serving -----------------------------------------------------------------------------------

    def serve_soon(self) -> None:
        """A slot is free. Not now: this may be in the middle of anything, even of the collector."""
        loop = self.dispatcher.loop
        if not self._due and loop is not None and not loop.is_closed():
            self._due = True
            loop.call_soon(self.serve)

    def serve(self) -> None:
        self._due = False
        while self.calls:
            call_slot = self.dispatcher.take()
            if call_slot is None:
                return
            course = self._next()
            it = self.calls[course]
            left = course.time_remaining()
            if left == 0:  # a slot in the last moment, too late to send it
                call_slot()
                self._expire(course)
                continue
            if (shed := self._shed(it, left)) is not None:
                call_slot()
                self.leave(course, shed)
                continue
            self.leave(course, self._begun(it, call_slot, left))

    def _begun(self, it: Waiting, call_slot: CallSlot, left: float | None) -> Any:
        args, options = (it.request,), {**it.options, "timeout": left}
        begun = time.monotonic()
        try:
            call = it.context.run(
                begin, self.dispatcher, call_slot, it.method.number, args, options
            )
        except Exception as error:
            return Ended(error)
        if it.method.stream:
            self.dispatcher.note_stream(call_slot)
        elif it.method.least is not None:
            call.add_done_callback(partial(_measure, it.method.least, begun))
        return call

    def _shed(self, it: Waiting, left: float | None) -> Ended | None:
        """The end of a call that cannot make it with so much time left; None: it may."""
        least = it.method.least
        if left is None or least is None:
            return None
        refusal = cannot_make_it(self.dispatcher.key.target, left, least)
        return None if refusal is None else Ended(AioLocalError(*refusal))

    def _look(self) -> None:
        """Of some slots nobody tells: of another thread's doing, or of a call that never ends."""
        self._looking = None
        if not self.calls:
            return
        if self._looks % SWEEPS == 0:
            self.dispatcher.sweep()
        self._looks += 1
        self.serve_soon()
        self.dispatcher.there_are = 0
        self.dispatcher.grow()
        self._looking = self.dispatcher.loop.call_later(LOOK, self._look)

    # -- the end -----------------------------------------------------------------------------------

    def end(self) -> None:
        """All of them are cancelled."""
        for course in list(self.calls):
            course.cancel()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def forget(self) -> None:
        """The loop is closed, and nobody can be told. From any thread."""
        self.calls.clear()
        self._ranked.clear()


def _measure(least: LeastTime, begun: float, call: Any) -> None:
    if at_once(call.code()) is grpc.StatusCode.OK:
        least.note(time.monotonic() - begun)

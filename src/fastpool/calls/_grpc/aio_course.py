"""How a call of a `grpc.aio` channel under a policy goes on by itself, try by try.

A course never refers to the call object that the user holds (`aio_calls.py`), so that an abandoned
stream is collected, and then cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc

from .._attempts import Call, ResolvedPolicy
from .._errors import CallError
from .._waiting import asleep, atake
from .errors import as_rpc_error

Send = Callable[[float | None], Any]


def _rpc_error(error: BaseException) -> BaseException:
    if not isinstance(error, CallError):
        return error
    rpc_error = as_rpc_error(error, aio=True)
    rpc_error.__cause__ = error.__cause__
    return rpc_error


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that need not wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("it has to wait")


class Course:
    """What goes on by itself: ``task`` ends with the first answer, or the opened stream."""

    def __init__(
        self, rules: ResolvedPolicy, timeout: float | None, send: Send, repeatable: bool
    ) -> None:
        self.rules, self.timeout, self.send = rules, timeout, send
        self.repeatable = repeatable
        self.call: Call | None = None
        self.inner: Any = None  # grpc's call: of the try under way, or of the last one
        self.loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = self.loop.create_future()  # there is one, or never will
        self.task: asyncio.Task[Any] = self.loop.create_task(self.run())
        self.task.add_done_callback(self._done)

    async def run(self) -> Any:
        raise NotImplementedError

    def begin(self) -> Call:
        try:
            self.call = Call(self.rules, self.timeout)
        except CallError as error:
            raise _rpc_error(error) from error.__cause__
        self.call.repeatable = self.repeatable
        return self.call

    def start(self, call: Call) -> Any:
        self.inner = self.send(call.try_left())
        if not self.begun.done():
            self.begun.set_result(None)
        return self.inner

    def _done(self, task: asyncio.Task[Any]) -> None:
        if not self.begun.done():
            self.begun.set_result(None)
        if not task.cancelled():
            task.exception()  # as of grpc's calls, nobody has to ask for it

    async def opened(self) -> Any:
        """grpc's call, as soon as there is one; else what came in its way."""
        await asyncio.shield(self.begun)
        if self.inner is None:
            await self.task  # raises
        return self.inner


class OneAnswer(Course):
    async def run(self) -> Any:
        rules = self.rules
        call = self.begin()
        pause = 0.0
        while True:
            permit = None
            try:
                if pause:
                    await asleep(call, pause)
                if rules.limit is not None:
                    permit = await atake(rules.limit, call)
                try:
                    answer = await self.start(call)
                finally:
                    if permit is not None:
                        permit.release()
            except BaseException as error:
                if permit is not None:  # a signal handler may have raised just before
                    permit.__exit__(None, None, None)
                again = call.failed(error)
                if again is None:
                    raise _rpc_error(error) from error.__cause__
                pause = again
            else:
                again = call.answered(answer)
                if again is None:
                    return answer
                pause = again


class Answers(Course):
    """Its call is over when grpc says that the stream is, or when nobody wants it any more."""

    def __init__(self, *args: Any) -> None:
        self.first_answer = False
        self.permit: Any = None
        self.over: asyncio.Future[None] | None = None  # of the try under way
        self.pause: float | None = None
        super().__init__(*args)

    async def run(self) -> Any:
        await self._attempt(self.begin(), 0.0)

    async def _attempt(self, call: Call, pause: float) -> None:
        rules = self.rules
        try:
            if pause:
                await asleep(call, pause)
                if call.last is not None and not call.repeatable:
                    raise call.last  # it was cancelled in the pause
            self.permit = None if rules.limit is None else await atake(rules.limit, call)
            self.over = self.loop.create_future()
            inner = self.start(call)
        except BaseException as error:
            self.release_permit()
            self.over = None
            call.repeatable = False
            call.failed(error)
            raise _rpc_error(error) from error.__cause__
        inner.add_done_callback(self._end)

    def release_permit(self) -> None:
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.release()

    def _end(self, inner: Any) -> None:
        over, self.over = self.over, None
        if over is None:
            return  # it was abandoned
        self.release_permit()
        assert self.call is not None
        code = _at_once(inner.code())
        if code is grpc.StatusCode.OK:
            self.call.succeeded()
        else:
            trailing, details = _at_once(inner.trailing_metadata()), _at_once(inner.details())
            error: Any = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)
            error.local = getattr(inner, "local", False)
            self.pause = self.call.failed(error)
        if not over.done():
            over.set_result(None)

    def broke(self, error: Exception) -> None:
        """The reader got an error that is none of gRPC's: the call could not be sent. grpc gives it
        no status, so nobody else will say that it is over."""
        over, self.over = self.over, None
        if over is None or self.call is None:
            return
        self.release_permit()
        self.call.repeatable = False
        self.call.failed(error)
        self.inner.cancel()
        if not over.done():
            over.set_result(None)

    def note_first(self) -> None:
        if not self.first_answer:
            self.first_answer = True
            assert self.call is not None
            self.call.first_answer()

    async def try_again(self, error: BaseException) -> None:
        """Begins it, or raises the error if there is none."""
        if self.over is not None:
            await asyncio.shield(self.over)
        pause, self.pause = self.pause, None
        call = self.call
        if pause is None or call is None:
            raise error
        # It was decided before the first message was taken, but here it is; or before `cancel`.
        if not call.repeatable:
            call.failed(error)
            raise error
        await self._attempt(call, pause)

    def abandon(self) -> None:
        """Nobody wants it any more."""
        over, self.over = self.over, None
        if over is not None or self.pause is not None:
            self.pause = None
            self.release_permit()
            if self.call is not None:
                self.call.cancelled()
        self.task.cancel()
        if self.inner is not None:
            self.inner.cancel()

"""The call objects of a `grpc.aio` channel under a policy.

Each is two objects: what the user holds, and a course that goes on by itself.  The course never
refers to what the user holds, so that an abandoned stream is collected, and then cancelled: grpc's
own calls run on when an ``async for`` over them is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import grpc

from .._attempts import Call, ResolvedPolicy
from .._errors import CallError
from .._waiting import asleep, atake
from .errors import as_rpc_error

Send = Callable[[float | None], Any]


def _left(call: Call) -> float | None:
    ends = call.try_ends()
    return None if ends is None else ends - call.rules.now()


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


class _Course:
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
        self.inner = self.send(_left(call))
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


class _OneAnswer(_Course):
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


class _Answers(_Course):
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


async def _messages(course: _Answers) -> AsyncIterator[Any]:
    inner = await course.opened()
    while True:
        try:
            async for message in inner:
                course.note_first()
                yield message
            return
        except grpc.aio.AioRpcError as error:
            await course.try_again(error)
            inner = course.inner
        except Exception as error:
            course.broke(error)
            raise


# ---- what the user holds ------------------------------------------------------------------------


class _UserCall:
    """What all four kinds have in common: grpc's own methods."""

    course: type[_Course]
    repeatable = True

    def __init__(self, rules: ResolvedPolicy, timeout: float | None, send: Send) -> None:
        self._course: Any = self.course(rules, timeout, send, self.repeatable)

    def __repr__(self) -> str:
        return f"<call of {self._course.rules.name} under a policy>"

    async def _outcome(self) -> BaseException | None:
        """Waits for the end of the task, and returns how it failed."""
        task = self._course.task
        await asyncio.wait([task])
        if task.cancelled():
            return asyncio.CancelledError()
        return task.exception()  # type: ignore[no-any-return]

    async def _last(self, what: str, nothing: Any) -> Any:
        """What grpc's last call says of itself; ``nothing``: if there was none, and no error."""
        error = await self._outcome()
        if isinstance(error, grpc.RpcError):
            return getattr(error, what)()
        inner = self._course.inner
        return nothing if inner is None else await getattr(inner, what)()

    async def initial_metadata(self) -> Any:
        return await self._last("initial_metadata", grpc.aio.Metadata())

    async def trailing_metadata(self) -> Any:
        return await self._last("trailing_metadata", grpc.aio.Metadata())

    async def code(self) -> Any:
        return await self._last("code", grpc.StatusCode.CANCELLED)

    async def details(self) -> Any:
        return await self._last("details", "Locally cancelled by application!")

    async def debug_error_string(self) -> Any:
        return await self._last("debug_error_string", "")

    async def wait_for_connection(self) -> None:
        await (await self._course.opened()).wait_for_connection()

    def time_remaining(self) -> float | None:
        course = self._course
        if course.inner is not None:
            return course.inner.time_remaining()  # type: ignore[no-any-return]
        return None if course.call is None else course.call.left()

    def cancel(self) -> bool:
        return bool(self._course.task.cancel())

    def cancelled(self) -> bool:
        return bool(self._course.task.cancelled())

    def done(self) -> bool:
        return bool(self._course.task.done())

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._course.task.add_done_callback(lambda _: callback(self))


class _Awaited(_UserCall):
    course = _OneAnswer

    def __await__(self) -> Generator[Any, None, Any]:
        return self._course.task.__await__()  # type: ignore[no-any-return]


class _Written(_UserCall):
    """Calls that send a stream, which is not there to be sent a second time."""

    repeatable = False

    async def write(self, request: Any) -> None:
        await (await self._course.opened()).write(request)

    async def done_writing(self) -> None:
        await (await self._course.opened()).done_writing()


class _Read(_UserCall):
    course = _Answers

    def __init__(self, rules: ResolvedPolicy, timeout: float | None, send: Send) -> None:
        super().__init__(rules, timeout, send)
        self._messages = _messages(self._course)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self  # so that a loop over it keeps it

    def __anext__(self) -> Any:
        return self._messages.__anext__()

    async def read(self) -> Any:
        """The next answer, or ``grpc.aio.EOF``."""
        course = self._course
        inner = await course.opened()
        while True:
            try:
                message = await inner.read()
            except grpc.aio.AioRpcError as error:
                await course.try_again(error)
                inner = course.inner
                continue
            except Exception as error:
                course.broke(error)
                raise
            if message is not grpc.aio.EOF:  # pyright: ignore[reportAttributeAccessIssue]
                course.note_first()
            return message

    def __del__(self) -> None:
        course = getattr(self, "_course", None)
        if course is None or (course.over is None and course.task.done() and course.pause is None):
            return
        try:
            here = asyncio.get_running_loop() is course.loop
        except RuntimeError:
            here = False
        if here:
            course.abandon()
        elif not course.loop.is_closed():
            course.loop.call_soon_threadsafe(course.abandon)
        else:  # its loop has gone, and with it all that could go on
            course.release_permit()

    def cancel(self) -> bool:
        course = self._course
        if course.call is not None:
            course.call.repeatable = False
        opened = course.inner is not None and course.inner.cancel()
        return bool(course.task.cancel() or opened)

    def cancelled(self) -> bool:
        inner = self._course.inner
        return super().cancelled() or (inner is not None and bool(inner.cancelled()))

    def done(self) -> bool:
        course = self._course
        return super().done() and (course.inner is None or bool(course.inner.done()))

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        course = self._course

        def opened(task: asyncio.Task[Any]) -> None:
            if course.inner is None:
                callback(self)
            else:
                course.inner.add_done_callback(lambda _: callback(self))

        course.task.add_done_callback(opened)


class UnaryUnaryCall(_Awaited, grpc.aio.UnaryUnaryCall):  # type: ignore[misc]
    pass


class StreamUnaryCall(_Written, _Awaited, grpc.aio.StreamUnaryCall):  # type: ignore[misc]
    pass


class UnaryStreamCall(_Read, grpc.aio.UnaryStreamCall):  # type: ignore[misc]
    pass


class StreamStreamCall(_Written, _Read, grpc.aio.StreamStreamCall):  # type: ignore[misc]
    pass

"""The call objects of a `grpc.aio` channel under a policy.

Each is two objects: what the user holds, which is here, and a course that goes on by itself.  The
course never refers to what the user holds, so that an abandoned stream is collected, and then
cancelled: grpc's own calls run on when an ``async for`` over them is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import grpc

from .._attempts import ResolvedPolicy
from .aio_course import Answers, Course, OneAnswer, Send


class _UserCall:
    """What all four kinds have in common: grpc's own methods."""

    course: type[Course]
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
    course = OneAnswer

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
    course = Answers

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


async def _messages(course: Answers) -> AsyncIterator[Any]:
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

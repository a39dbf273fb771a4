"""The call objects of a shared channel of tasks, where grpc's own will not do: calls that wait in
queue, and streams, which are to be cancelled when nobody wants them any more.

Each is two objects: what the caller holds, and a course that goes on by itself. The course never
refers to what the caller holds, so that a stream is collected that its caller has left; grpc's own
calls run on then.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import weakref
from asyncio import _get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import grpc

from .errors import Ended

Callback = Callable[[Any], Any]


class Course:
    """A call under way: `call` is grpc's own, as soon as there is one, or an Ended."""

    __slots__ = ("call", "callbacks", "ends", "wait_queue", "loop", "waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Any = None) -> None:
        self.loop = loop
        self.call = call
        self.ends: float | None = None  # the deadline, while there is no call
        self.wait_queue: Any = None  # to leave when it is cancelled
        self.waiters: list[asyncio.Future[None]] = []
        self.callbacks: list[Callback] = []

    def complete(self, call: Any) -> None:
        """There is a call now."""
        self.call = call
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            try:
                call.add_done_callback(callback)
            except Exception:  # of a call that has ended by now; the others are told still
                logging.getLogger("fastpool").exception("a done callback of a gRPC call raised")

    async def opened(self) -> Any:
        """The call, as soon as there is one."""
        if self.call is None:
            waiter = self.loop.create_future()
            self.waiters.append(waiter)
            await waiter
        return self.call

    async def wanted(self) -> Any:
        """The same for one who, when cancelled, takes the call along, as grpc's own reads and
        writes do."""
        try:
            return await self.opened()
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> bool:
        if self.call is None:
            self.wait_queue.leave(self, Ended())
            return True
        cancelled: bool = self.call.cancel()
        return cancelled

    def abandon(self) -> None:
        """Nobody holds it any more. From any thread."""
        if (self.call is not None and self.call.done()) or self.loop.is_closed():
            return
        if _get_running_loop() is self.loop:
            self.cancel()
            return
        try:
            self.loop.call_soon_threadsafe(self.cancel)
        except RuntimeError:  # closed just now
            pass

    def add_done_callback(self, callback: Callback) -> None:
        if self.call is None:
            self.callbacks.append(callback)
        else:
            self.call.add_done_callback(callback)

    def time_remaining(self) -> float | None:
        if self.call is not None:
            left: float | None = self.call.time_remaining()
            return left
        return None if self.ends is None else max(0.0, self.ends - time.monotonic())


class _Call:
    """What all kinds of calls have: see grpc.aio.Call."""

    def __init__(self, course: Course) -> None:
        self._course = course

    def __repr__(self) -> str:
        call = self._course.call
        return f"<{type(self).__name__} in the queue>" if call is None else repr(call)

    def __getattr__(self, name: str) -> Any:
        """What is grpcio's own beyond the interfaces, once there is a call of it."""
        if name.startswith("__") or name == "_course" or self._course.call is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._course.call, name)

    def cancel(self) -> bool:
        return self._course.cancel()

    def cancelled(self) -> bool:
        call = self._course.call
        return call is not None and bool(call.cancelled())

    def done(self) -> bool:
        call = self._course.call
        return call is not None and bool(call.done())

    def time_remaining(self) -> float | None:
        return self._course.time_remaining()

    def add_done_callback(self, callback: Callback) -> None:
        me = weakref.ref(self)  # else it would never be collected before it is done
        self._course.add_done_callback(lambda call: callback(me() or call))

    async def initial_metadata(self) -> Any:
        return await (await self._course.opened()).initial_metadata()

    async def trailing_metadata(self) -> Any:
        return await (await self._course.opened()).trailing_metadata()

    async def code(self) -> Any:
        return await (await self._course.opened()).code()

    async def details(self) -> Any:
        return await (await self._course.opened()).details()

    async def debug_error_string(self) -> Any:
        return await (await self._course.opened()).debug_error_string()

    async def wait_for_connection(self) -> None:
        await (await self._course.wanted()).wait_for_connection()


class _Replied(_Call):
    def __await__(self) -> Generator[Any, None, Any]:
        call = self._course.call
        if call is None:
            call = yield from self._course.wanted().__await__()
        return (yield from call.__await__())  # here, so that this object lives as long


class _Guard(_Call):
    """Of streams: dropped before its end, the call is cancelled, and its slot is free."""

    def __del__(self) -> None:
        course = self.__dict__.get("_course")
        if course is not None and not sys.is_finalizing():
            course.abandon()


class _Messages:
    """The iterator of an `async for`, which has nothing else to hold the call by."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        under_way = call._course.call
        self._inner: Any = None if under_way is None else under_way.__aiter__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Awaitable[Any]:
        found: Awaitable[Any] = self._first() if self._inner is None else self._inner.__anext__()
        return found

    async def _first(self) -> Any:
        self._inner = (await self._call._course.wanted()).__aiter__()
        return await self._inner.__anext__()

    async def aclose(self) -> None:
        self._call.cancel()


class _Read(_Guard):
    def __aiter__(self) -> AsyncIterator[Any]:
        return _Messages(self)

    async def read(self) -> Any:
        return await (self._course.call or await self._course.wanted()).read()


class _Written(_Guard):
    async def write(self, request: Any) -> None:
        await (self._course.call or await self._course.wanted()).write(request)

    async def done_writing(self) -> None:
        await (self._course.call or await self._course.wanted()).done_writing()


class UnaryUnaryCall(_Replied, grpc.aio.UnaryUnaryCall):  # type: ignore[misc] # no types
    """One that waits, or has waited, in the queue. Dropped, it goes on, as grpc's own do."""


class UnaryStreamCall(_Read, grpc.aio.UnaryStreamCall):  # type: ignore[misc]
    pass


class StreamUnaryCall(_Replied, _Written, grpc.aio.StreamUnaryCall):  # type: ignore[misc]
    pass


class StreamStreamCall(_Read, _Written, grpc.aio.StreamStreamCall):  # type: ignore[misc]
    pass


def at_once(coroutine: Any) -> Any:
    """What it returns if it need not wait, else None."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    except Exception:
        return None
    coroutine.close()
    return None

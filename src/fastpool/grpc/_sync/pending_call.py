"""A future or a stream that stands in the queue for its slot: who begins it is not kept waiting."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import copy_context
from typing import Any

import grpc

from ..._core import Event, Lock
from .callbacks import callback_thread
from .dispatcher import dispatcher
from .errors import CLOSED, Closed, LocalCancel, LocalError


class Pending:
    """As grpc's own call, which it becomes when it has a slot.

    `begin(wanted)` waits for one and returns grpc's call, if `wanted()` says then that it is still
    to be made. It is run by the dispatcher; what it raises is the failure of the call.
    """

    def __init__(
        self,
        begin: Callable[[Callable[[], bool]], Coroutine[Any, Any, Any]],
        timeout: float | None = None,
    ) -> None:
        self._begin = begin
        self._ends = None if timeout is None else time.monotonic() + timeout
        self._context = copy_context()
        self._begun = Event()
        self._lock = Lock()
        self._call: Any = None
        self._cancelled = False
        self._callbacks: list[tuple[str, Callable[..., Any]]] = []
        self._task: asyncio.Task[None] | None = None  # the dispatcher's own
        try:
            dispatcher.run(self._join)
        except RuntimeError as error:  # there is no thread to be had
            self._complete(LocalError(grpc.StatusCode.UNAVAILABLE, f"no thread to wait: {error}"))

    # -- what the dispatcher does ------------------------------------------------------------------

    def _join(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._cancelled:
            self._task = loop.create_task(self._run(), context=self._context)

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            call = await self._begin(lambda: not self._cancelled)
        except Closed:
            call = LocalError(grpc.StatusCode.CANCELLED, CLOSED)
        except BaseException as error:
            call = error
            if not (isinstance(error, grpc.RpcError) and isinstance(error, grpc.Future)):
                text = f"the call could not be begun: {error!r}"
                call = LocalError(grpc.StatusCode.UNKNOWN, text)
        self._complete(call)

    def _complete(self, call: Any) -> None:
        with self._lock.hold():
            wanted = not self._cancelled
            if wanted:
                self._call = call
        if not wanted:
            call.cancel()  # it was too late not to make it
            return
        self._begun.set()
        if self._callbacks:
            try:
                callback_thread.run(self._run_callbacks)
            except RuntimeError:  # there is no thread to be had
                self._run_callbacks()

    def _run_callbacks(self) -> None:
        """Once, when there is a call: from here on it is asked for everything."""
        for name, fn in self._callbacks:
            try:
                added = getattr(self._call, name)(fn)
                if name == "add_callback" and not added:
                    fn()
            except Exception:  # of a call that has ended by now; as grpc, the others are told still
                logging.getLogger("fastpool").exception("a callback of a gRPC call raised")
        self._callbacks = []

    @property
    def call(self) -> Any:
        """What it has become; None: it waits."""
        return self._call

    def _wait(self, timeout: float | None = None) -> Any:
        if not self._begun.wait(timeout):
            raise grpc.FutureTimeoutError
        return self._call

    def _within(self, timeout: float | None, name: str) -> Any:
        """What the call says when it has ended, with the time that the queue has left of it."""
        if timeout is None:
            return getattr(self._wait(), name)()
        ends = time.monotonic() + timeout
        return getattr(self._wait(timeout), name)(max(0.0, ends - time.monotonic()))

    def dropped(self) -> None:
        """Nobody has it any more but those whom it is to call back."""
        if not self._callbacks and not self._begun.is_set():
            self.cancel()

    # -- what may be asked at once -----------------------------------------------------------------

    def cancel(self) -> bool:
        with self._lock.hold():
            first = self._call is None
            if first:
                self._cancelled = True
                self._call = LocalCancel()
        if first:
            self._begun.set()
            dispatcher.run(self._leave)
            self._run_callbacks()
            return True
        return bool(self._call.cancel())

    def is_active(self) -> bool:
        return bool(self._call.is_active()) if self._begun.is_set() else True

    def time_remaining(self) -> float | None:
        if self._begun.is_set():
            left: float | None = self._call.time_remaining()
            return left
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def cancelled(self) -> bool:
        return self._begun.is_set() and bool(self._call.cancelled())

    def running(self) -> bool:
        return bool(self._call.running()) if self._begun.is_set() else True

    def done(self) -> bool:
        return self._begun.is_set() and bool(self._call.done())

    def add_callback(self, fn: Callable[[], Any]) -> bool:
        return bool(self._add("add_callback", fn))

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        self._add("add_done_callback", fn)

    def _add(self, name: str, fn: Callable[..., Any]) -> Any:
        with self._lock.hold():
            if self._call is None:
                self._callbacks.append((name, fn))
                return True
        return getattr(self._call, name)(fn)

    def __repr__(self) -> str:
        return repr(self._call) if self._begun.is_set() else "<a call in the queue for a slot>"

    # -- what waits --------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._wait())

    def initial_metadata(self) -> Any:
        return self._wait().initial_metadata()

    def trailing_metadata(self) -> Any:
        return self._wait().trailing_metadata()

    def code(self) -> Any:
        return self._wait().code()

    def details(self) -> Any:
        return self._wait().details()

    def debug_error_string(self) -> Any:
        return self._wait().debug_error_string()

    def result(self, timeout: float | None = None) -> Any:
        return self._within(timeout, "result")

    def exception(self, timeout: float | None = None) -> Any:
        return self._within(timeout, "exception")

    def traceback(self, timeout: float | None = None) -> Any:
        return self._within(timeout, "traceback")

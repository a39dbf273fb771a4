"""The calls of a `grpc.Channel` under a policy that go on after they were begun."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

import grpc

from ..._core import Event
from ..._runtime import scheduler
from ..._runtime.launch import launch
from .._attempts import Call
from .._waiting import sleep
from .errors import raise_rpc_error
from .stream_end import hang_up, needs_reader

LATE = 1.0  # seconds that the reader of a stream has to find out that its deadline has passed


class _CallError(grpc.RpcError):  # type: ignore[misc]
    """The error of a call whose object is none, as those of channels around grpc's own."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._inner, name)


def _done(inner: Any) -> bool:
    done = getattr(inner, "done", None)
    return done is None or bool(done())


def _error_of(inner: Any) -> BaseException:
    return inner if isinstance(inner, BaseException) else _CallError(inner)


class CallPermit:
    """One try under way: it gives its permit back and tells the call when it is over.

    grpc says so in a thread of its own.  It is asked by `add_callback`, and what it calls holds no
    reference to grpc's object: otherwise the two would keep each other alive, and a stream that the
    user has dropped would run on for ever.  What an interceptor put in place of grpc's object may
    not have that method: then whoever uses it up finds out.
    """

    def __init__(self, call: Call, permit: Any) -> None:
        self._call = call
        self._permit = permit
        self.over = Event()
        self.followed = True
        # The seconds until another try, when this one has failed: whoever takes them out, which is
        # one step, sees to the rest of the call.
        self.pauses: list[float] = []
        self.forgotten = False  # nobody is there for another try
        self._ends = [True]  # taken out, which is one step, by whoever brings the end

    def follow(self, inner: Any) -> None:
        add_callback = getattr(inner, "add_callback", None)
        if add_callback is None:
            self.followed = False
            return
        seen = weakref.ref(inner)
        if not add_callback(lambda: self._look(seen())):
            self._look(inner)  # it is over already
        elif needs_reader(inner) and (left := inner.time_remaining()) is not None:
            scheduler.call_at(time.monotonic() + left + LATE, self._expire)

    def _expire(self) -> None:
        """On the scheduler's thread: its deadline has passed, and nobody has read that."""
        if self._ends:
            try:
                launch("fastpool-calls-expired", self.end, GeneratorExit())
            except RuntimeError:  # no thread to be had; its reader ends it, or who drops it
                pass

    def release_permit(self) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.release()

    def _look(self, inner: Any) -> None:
        if inner is None:
            self.end(GeneratorExit())
        else:
            self.end(None if inner.code() is grpc.StatusCode.OK else _error_of(inner))

    def end(self, error: BaseException | None) -> None:
        """None: it went well. Only the first word counts: grpc's thread and the reader may both
        have one."""
        try:
            self._ends.pop()
        except IndexError:
            return
        try:
            self.release_permit()
            if error is None:
                self._call.succeeded()
            elif (pause := self._call.failed(error)) is not None:
                self.pauses.append(pause)
                if self.forgotten:
                    self.forget()
        finally:
            self.over.set()

    def take_pause(self) -> float | None:
        try:
            return self.pauses.pop()
        except IndexError:
            return None

    def forget(self) -> None:
        """There is to be no other try: grpc's thread may just be about to ask for one."""
        self.forgotten = True
        if self.take_pause() is not None:
            self._call.cancelled()


class Stream(grpc.Call, grpc.Future):  # type: ignore[misc]
    """The answers to one call, as grpc gives them; another try may follow before the first."""

    def __init__(self, call: Call, start: Callable[[], tuple[Any, CallPermit]]) -> None:
        self._call = call
        self._start = start  # sends one try
        self._has_first = False
        self._inner: Any = None
        self._attempt(0.0)

    def _attempt(self, pause: float) -> None:
        try:
            if pause:
                sleep(self._call, pause)
                if self._call.last is not None and not self._call.repeatable:
                    raise self._call.last  # it was cancelled in the pause
            self._inner, self._permit = self._start()
        except BaseException as error:
            self._call.repeatable = False
            self._call.failed(error)
            raise_rpc_error(error)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                message = next(self._inner)
            except StopIteration:
                self._permit.end(None)
                raise
            except Exception as error:
                if not self._permit.over.is_set():
                    if not isinstance(error, grpc.RpcError) and not _done(self._inner):
                        raise  # a signal handler's: the call goes on
                    hang_up(self._inner)
                self._permit.end(error)
                self._try_again(error)
                continue
            if not self._has_first:
                self._has_first = True
                self._call.first_answer()
            return message

    def _try_again(self, error: Exception) -> None:
        """Begins it, or raises the error if there is none."""
        permit = self._permit
        permit.over.wait()
        pause = permit.take_pause()
        if pause is None:
            raise error
        # It was decided before the first message was taken, but here it is; or before `cancel`.
        if not self._call.repeatable:
            self._call.failed(error)
            raise error
        self._attempt(pause)

    def __del__(self) -> None:
        permit = getattr(self, "_permit", None)
        if permit is None:
            return
        permit.forget()  # if it was to go on, nobody wants it
        if not permit.followed or needs_reader(self._inner):
            self._inner_cancel()
            permit.end(GeneratorExit())

    def _inner_cancel(self) -> Any:
        cancel = getattr(self._inner, "cancel", None)
        return None if cancel is None else cancel()

    # As on grpc's own; they speak of the try that is under way, or was the last.

    def initial_metadata(self) -> Any:
        return self._inner.initial_metadata()

    def trailing_metadata(self) -> Any:
        return self._inner.trailing_metadata()

    def code(self) -> Any:
        return self._inner.code()

    def details(self) -> Any:
        return self._inner.details()

    def is_active(self) -> Any:
        return self._inner.is_active()

    def time_remaining(self) -> Any:
        return self._inner.time_remaining()

    def add_callback(self, callback: Any) -> Any:
        return self._inner.add_callback(callback)

    def cancel(self) -> Any:
        self._call.repeatable = False
        cancelled = self._inner.cancel()
        if needs_reader(self._inner):  # nobody will read its end
            self._permit.end(GeneratorExit())
        return cancelled

    def cancelled(self) -> Any:
        return self._inner.cancelled()

    def running(self) -> Any:
        return self._inner.running()

    def done(self) -> Any:
        return self._inner.done()

    def result(self, timeout: float | None = None) -> Any:
        return self._inner.result(timeout)

    def exception(self, timeout: float | None = None) -> Any:
        return self._inner.exception(timeout)

    def traceback(self, timeout: float | None = None) -> Any:
        return self._inner.traceback(timeout)

    def add_done_callback(self, fn: Any) -> None:
        self._inner.add_done_callback(lambda _: fn(self))

    def debug_error_string(self) -> Any:
        return self._inner.debug_error_string()

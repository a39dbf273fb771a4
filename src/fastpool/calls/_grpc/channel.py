"""A `grpc.Channel` whose calls go by a policy."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from ..._core import Event, Lock
from .._attempts import Call, ResolvedPolicy
from .._errors import CallError
from .._waiting import sleep, take
from .errors import as_rpc_error
from .stream_end import hang_up, needs_reader

RulesOf = Callable[[str], ResolvedPolicy]


class PolicyChannel(grpc.Channel):  # type: ignore[misc] # grpcio has no types
    """What ``policy.wrap(channel)`` returns for a channel of threads."""

    def __init__(self, channel: grpc.Channel, rules: RulesOf) -> None:
        self._channel = channel
        self._rules = rules
        # grpc's table of registered methods is not thread-safe.
        self._binding = Lock()

    def __repr__(self) -> str:
        return f"<{self._channel!r} under a policy>"

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> PolicyChannel:
        self._channel.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> Any:
        return self._channel.__exit__(*exc_info)

    def _bound(
        self, kind: str, method: str, serializer: Any, deserializer: Any, registered: Any
    ) -> tuple[Any, ResolvedPolicy]:
        # Passed on only when set: generated stubs set it, and not every channel has the parameter.
        more = {"_registered_method": True} if registered else {}
        with self._binding.hold():
            inner = getattr(self._channel, kind)(method, serializer, deserializer, **more)
        return inner, self._rules(method)

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.UnaryUnaryMultiCallable:
        args = (method, request_serializer, response_deserializer, _registered_method)
        return UnaryUnary(*self._bound("unary_unary", *args))

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.UnaryStreamMultiCallable:
        args = (method, request_serializer, response_deserializer, _registered_method)
        return UnaryStream(*self._bound("unary_stream", *args))

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamUnaryMultiCallable:
        args = (method, request_serializer, response_deserializer, _registered_method)
        return StreamUnary(*self._bound("stream_unary", *args))

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamStreamMultiCallable:
        args = (method, request_serializer, response_deserializer, _registered_method)
        return StreamStream(*self._bound("stream_stream", *args))


# ---- methods ------------------------------------------------------------------------------------


class _Method:
    repeatable = True  # whether the request is there to be sent a second time

    def __init__(self, inner: Any, rules: ResolvedPolicy) -> None:
        self._inner = inner
        self._rules = rules

    def _begin(self, timeout: float | None) -> Call:
        try:
            return Call(self._rules, timeout)
        except CallError as error:
            _raise(error)

    def _start(self, call: Call, send: Any, args: Any, kwargs: Any) -> tuple[Any, _CallPermit]:
        """One try of a call that is still under way when this returns."""
        rules = self._rules
        permit = _CallPermit(call, None if rules.limit is None else take(rules.limit, call))
        try:
            inner = send(args[0], _left(call), *args[1:], **kwargs)
        except BaseException:
            permit.release_permit()
            raise
        permit.follow(inner)
        return inner, permit


class _OneAnswer(_Method):
    def __call__(
        self, request: Any, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        return self._run(self._inner, False, timeout, (request, *args), kwargs)

    def with_call(
        self, request: Any, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        return self._run(self._inner.with_call, True, timeout, (request, *args), kwargs)

    def _run(
        self, send: Any, with_call: bool, timeout: float | None, args: Any, kwargs: Any
    ) -> Any:
        rules = self._rules
        limit = rules.limit
        call = self._begin(timeout)
        call.repeatable = self.repeatable
        pause = 0.0
        while True:
            permit = None
            try:
                if pause:
                    sleep(call, pause)
                if limit is not None:
                    permit = take(limit, call)
                try:
                    answer = send(args[0], _left(call), *args[1:], **kwargs)
                finally:
                    if permit is not None:
                        permit.release()
            except BaseException as error:
                if permit is not None:  # a signal handler may have raised just before
                    permit.__exit__(None, None, None)
                again = call.failed(error)
                if again is None:
                    _raise(error)
                pause = again
            else:
                again = call.answered(answer[0] if with_call else answer)
                if again is None:
                    return answer
                pause = again

    def future(self, request: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        call = self._begin(timeout)
        call.repeatable = False
        try:
            future, _ = self._start(call, self._inner.future, (request, *args), kwargs)
        except BaseException as error:
            call.failed(error)
            _raise(error)
        return future


class _Answers(_Method):
    def __call__(
        self, request: Any, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        call = self._begin(timeout)
        call.repeatable = self.repeatable
        return Stream(self, call, (request, *args), kwargs)


class UnaryUnary(_OneAnswer, grpc.UnaryUnaryMultiCallable):  # type: ignore[misc]
    pass


class StreamUnary(_OneAnswer, grpc.StreamUnaryMultiCallable):  # type: ignore[misc]
    repeatable = False


class UnaryStream(_Answers, grpc.UnaryStreamMultiCallable):  # type: ignore[misc]
    pass


class StreamStream(_Answers, grpc.StreamStreamMultiCallable):  # type: ignore[misc]
    repeatable = False


def _done(inner: Any) -> bool:
    done = getattr(inner, "done", None)
    return done is None or bool(done())


def _left(call: Call) -> float | None:
    ends = call.try_ends()
    return None if ends is None else ends - call.rules.now()


def _raise(error: BaseException) -> NoReturn:
    if isinstance(error, CallError):
        raise as_rpc_error(error) from error.__cause__
    raise error


# ---- calls that go on after they were begun -----------------------------------------------------


class _CallError(grpc.RpcError):  # type: ignore[misc]
    """The error of a call whose object is none, as those of channels around grpc's own."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._inner, name)


def _error_of(inner: Any) -> BaseException:
    return inner if isinstance(inner, BaseException) else _CallError(inner)


class _CallPermit:
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

    def __init__(self, method: _Method, call: Call, args: Any, kwargs: Any) -> None:
        self._method = method
        self._call = call
        self._args = (args, kwargs)
        self._has_first = False
        self._inner: Any = None
        self._attempt(0.0)

    def _attempt(self, pause: float) -> None:
        try:
            if pause:
                sleep(self._call, pause)
                if self._call.last is not None and not self._call.repeatable:
                    raise self._call.last  # it was cancelled in the pause
            self._inner, self._permit = self._method._start(
                self._call, self._method._inner, *self._args
            )
        except BaseException as error:
            self._call.repeatable = False
            self._call.failed(error)
            _raise(error)

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

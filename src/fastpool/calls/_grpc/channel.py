"""A `grpc.Channel` whose calls go by a policy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from ..._core import Lock
from .._attempts import Call, ResolvedPolicy
from .._errors import CallError
from .._waiting import sleep, take
from .calls import CallPermit, Stream
from .errors import raise_rpc_error

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


class _Method:
    repeatable = True  # whether the request is there to be sent a second time

    def __init__(self, inner: Any, rules: ResolvedPolicy) -> None:
        self._inner = inner
        self._rules = rules

    def _begin(self, timeout: float | None) -> Call:
        try:
            return Call(self._rules, timeout)
        except CallError as error:
            raise_rpc_error(error)

    def _start(self, call: Call, send: Any, args: Any, kwargs: Any) -> tuple[Any, CallPermit]:
        """One try of a call that is still under way when this returns."""
        rules = self._rules
        permit = CallPermit(call, None if rules.limit is None else take(rules.limit, call))
        try:
            inner = send(args[0], call.try_left(), *args[1:], **kwargs)
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
                    answer = send(args[0], call.try_left(), *args[1:], **kwargs)
                finally:
                    if permit is not None:
                        permit.release()
            except BaseException as error:
                if permit is not None:  # a signal handler may have raised just before
                    permit.__exit__(None, None, None)
                again = call.failed(error)
                if again is None:
                    raise_rpc_error(error)
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
            raise_rpc_error(error)
        return future


class _Answers(_Method):
    def __call__(
        self, request: Any, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        call = self._begin(timeout)
        call.repeatable = self.repeatable
        return Stream(call, partial(self._start, call, self._inner, (request, *args), kwargs))


class UnaryUnary(_OneAnswer, grpc.UnaryUnaryMultiCallable):  # type: ignore[misc]
    pass


class StreamUnary(_OneAnswer, grpc.StreamUnaryMultiCallable):  # type: ignore[misc]
    repeatable = False

    def __call__(self, request_iterator: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().__call__(request_iterator, *args, **kwargs)

    def with_call(self, request_iterator: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().with_call(request_iterator, *args, **kwargs)

    def future(self, request_iterator: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().future(request_iterator, *args, **kwargs)


class UnaryStream(_Answers, grpc.UnaryStreamMultiCallable):  # type: ignore[misc]
    pass


class StreamStream(_Answers, grpc.StreamStreamMultiCallable):  # type: ignore[misc]
    repeatable = False

    def __call__(self, request_iterator: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().__call__(request_iterator, *args, **kwargs)

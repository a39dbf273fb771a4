"""A `grpc.aio.Channel` whose calls go by a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from .._attempts import ResolvedPolicy
from .aio_calls import StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall


class AioPolicyChannel(grpc.aio.Channel):  # type: ignore[misc] # grpcio has no types
    """What ``policy.wrap(channel)`` returns for a channel of tasks."""

    def __init__(self, channel: grpc.aio.Channel, rules: Callable[[str], ResolvedPolicy]) -> None:
        self._channel = channel
        self._rules = rules

    def __repr__(self) -> str:
        return f"<{self._channel!r} under a policy>"

    def __getattr__(self, name: str) -> Any:
        """The lists of interceptors, to which Google's clients append."""
        if name.endswith("_interceptors"):
            return getattr(self._channel, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    async def __aenter__(self) -> AioPolicyChannel:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> Any:
        return await self._channel.__aexit__(*exc_info)

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    def _bound(
        self, kind: str, method: str, serializer: Any, deserializer: Any, registered: Any
    ) -> tuple[Any, ResolvedPolicy]:
        # Passed on only when set: generated stubs set it, and not every channel has the parameter.
        more = {"_registered_method": True} if registered else {}
        inner = getattr(self._channel, kind)(method, serializer, deserializer, **more)
        return inner, self._rules(method)

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable:
        args = (method, request_serializer, response_deserializer, _registered_method)
        return UnaryUnary(*self._bound("unary_unary", *args))

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable:
        args = (method, request_serializer, response_deserializer, _registered_method)
        return UnaryStream(*self._bound("unary_stream", *args))

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable:
        args = (method, request_serializer, response_deserializer, _registered_method)
        return StreamUnary(*self._bound("stream_unary", *args))

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable:
        args = (method, request_serializer, response_deserializer, _registered_method)
        return StreamStream(*self._bound("stream_stream", *args))


class _Method:
    kind: Any

    def __init__(self, inner: Any, rules: ResolvedPolicy) -> None:
        self._inner = inner
        self._rules = rules

    def __call__(
        self, request: Any = None, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        def send(left: float | None) -> Any:
            return inner(request, *args, timeout=left, **kwargs)

        inner = self._inner
        return self.kind(self._rules, timeout, send)


class UnaryUnary(_Method, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[misc]
    kind = UnaryUnaryCall


class UnaryStream(_Method, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[misc]
    kind = UnaryStreamCall


class StreamUnary(_Method, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[misc]
    kind = StreamUnaryCall

    def __call__(self, request_iterator: Any = None, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().__call__(request_iterator, *args, **kwargs)


class StreamStream(_Method, grpc.aio.StreamStreamMultiCallable):  # type: ignore[misc]
    kind = StreamStreamCall

    def __call__(self, request_iterator: Any = None, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().__call__(request_iterator, *args, **kwargs)

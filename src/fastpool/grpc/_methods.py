"""The methods that a SharedChannel hands to stubs: grpc's own, with one question asked first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from ._channel import SharedChannel
    from ._registry import Entry


class _Method:
    """One method on one handle.

    Each call asks first whether the handle is still open, and whether the channel on which the
    method was looked up is still the one: after a fork it is not, and the method is looked up anew.
    """

    def __init__(
        self, handle: SharedChannel, kind: str, args: tuple[Any, ...], registered: bool | None
    ) -> None:
        self._handle = handle  # keeps the channel open for as long as the stub lives
        self._kind = kind
        self._args = args
        # Passed on only when set: generated stubs set it, and not every channel has the parameter.
        self._kwargs = {"_registered_method": True} if registered else {}
        self._bound: tuple[grpc.Channel | None, Any] = (None, None)
        self._bind(handle._live())

    def _bind(self, entry: Entry) -> Any:
        channel = entry.open()
        with entry.binding:
            callable_ = getattr(channel, self._kind)(*self._args, **self._kwargs)
        self._bound = (channel, callable_)  # one store, so that readers see a matching pair
        return callable_

    def _live(self) -> Any:
        entry = self._handle._live()
        channel, callable_ = self._bound
        return callable_ if channel is entry.channel else self._bind(entry)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._live()(*args, **kwargs)


class _UnaryResponse(_Method):
    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        return self._live().with_call(*args, **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        return self._live().future(*args, **kwargs)


class UnaryUnary(_UnaryResponse, grpc.UnaryUnaryMultiCallable):  # type: ignore[misc]
    pass


class UnaryStream(_Method, grpc.UnaryStreamMultiCallable):  # type: ignore[misc]
    pass


class StreamUnary(_UnaryResponse, grpc.StreamUnaryMultiCallable):  # type: ignore[misc]
    pass


class StreamStream(_Method, grpc.StreamStreamMultiCallable):  # type: ignore[misc]
    pass

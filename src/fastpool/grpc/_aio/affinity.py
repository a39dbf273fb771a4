"""Methods of tasks whose calls go to the connection of their key: see `_affinity.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from ..._core import AioCall, begin

if TYPE_CHECKING:
    from .methods import AioMethod


class _Affine:
    """A method; what is not of a key, or finds no room on any connection, is an AioCall's."""

    def __init__(self, plain: AioCall) -> None:
        self._plain = plain
        self.method: AioMethod = plain.method
        self.__name__ = self.method.name  # for tools that wrap callables
        self.__signature__ = self.method.signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method = self.method
        dispatcher = method.dispatcher()
        request, timeout, options = method.arguments(*args, **kwargs)
        slot = dispatcher.slot_of_key(options["metadata"])
        if slot is None:
            return self._plain(*args, **kwargs)
        options = {**options, "timeout": timeout}
        call = begin(dispatcher, slot, method.number, (request,), options)
        return method.wrap(call, dispatcher, slot) if method.stream else call

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method!r}>"


class AffineUnary(_Affine, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[misc] # no types
    pass


class AffineUnaryStream(_Affine, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[misc]
    pass


class AffineStreamUnary(_Affine, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[misc]
    pass


class AffineStreamStream(_Affine, grpc.aio.StreamStreamMultiCallable):  # type: ignore[misc]
    pass


AFFINE: dict[str, type[_Affine]] = {
    "unary_unary": AffineUnary,
    "unary_stream": AffineUnaryStream,
    "stream_unary": AffineStreamUnary,
    "stream_stream": AffineStreamStream,
}

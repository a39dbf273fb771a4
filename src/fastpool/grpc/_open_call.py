"""A call that goes on after it was begun: a stream, or a future of grpc's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc

from ._callbacks import callback as counted
from ._pending import Pending

if TYPE_CHECKING:
    from ._connections import Connections


class OpenCall(grpc.Call, grpc.Future):  # type: ignore[misc] # grpcio has no types
    """grpc's own call, or one that stands in line; its slot is given back by what began it.

    Passes on what it is asked. Dropped, it is grpc's to end, which cancels what has no callback to
    make.
    """

    def __init__(self, call: Any, connections: Connections) -> None:
        self._call = call
        self._connections = connections

    def __del__(self) -> None:
        call = self.__dict__.get("_call")
        if isinstance(call, Pending):
            call.dropped()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._call)

    next = __next__

    def __repr__(self) -> str:
        return repr(self._call)

    def __getattr__(self, name: str) -> Any:
        """What is grpcio's own beyond the interfaces."""
        if name.startswith("__") or name == "_call":
            raise AttributeError(name)
        return getattr(self._call, name)

    # -- grpc.RpcContext and grpc.Call -------------------------------------------------------------

    def is_active(self) -> Any:
        return self._call.is_active()

    def time_remaining(self) -> Any:
        return self._call.time_remaining()

    def cancel(self) -> Any:
        return self._call.cancel()

    def add_callback(self, callback: Callable[[], Any]) -> Any:
        return self._call.add_callback(counted(callback))

    def initial_metadata(self) -> Any:
        return self._call.initial_metadata()

    def trailing_metadata(self) -> Any:
        return self._call.trailing_metadata()

    def code(self) -> Any:
        return self._call.code()

    def details(self) -> Any:
        return self._call.details()

    # -- grpc.Future -------------------------------------------------------------------------------

    def cancelled(self) -> Any:
        return self._call.cancelled()

    def running(self) -> Any:
        return self._call.running()

    def done(self) -> Any:
        return self._call.done()

    def result(self, timeout: float | None = None) -> Any:
        return self._call.result(timeout)

    def exception(self, timeout: float | None = None) -> Any:
        return self._call.exception(timeout)

    def traceback(self, timeout: float | None = None) -> Any:
        return self._call.traceback(timeout)

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """`fn` is given grpc's own call, not this object, which it would keep from being
        dropped."""
        self._call.add_done_callback(counted(fn))


class Stream(OpenCall):
    """Dropped before its end it is cancelled. grpc does so by itself, but not where a done callback
    was added: its own call then refers to itself and is never collected. This object does not."""

    def __del__(self) -> None:
        call = self.__dict__.get("_call")
        if call is not None:
            call.cancel()

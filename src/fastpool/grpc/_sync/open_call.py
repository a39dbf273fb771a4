"""A call that goes on after it was begun: a stream, or a future of grpc's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc

from ...calls._grpc.stream_end import hang_up, needs_reader
from .callbacks import callback as counted
from .pending_call import Pending

if TYPE_CHECKING:
    from .connections import Connections


class OpenCall(grpc.Call, grpc.Future):  # type: ignore[misc] # grpcio has no types
    """grpc's own call, or one that stands in the queue; its slot is given back by what began it.

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

    @property
    def local(self) -> bool:
        """Whether it ended without being sent, as a LocalError says of itself."""
        call = self._call.call if isinstance(self._call, Pending) else self._call
        return bool(getattr(call, "local", False))

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
    """It is over when its reader is: at its end, at a message that cannot be read, and when it is
    dropped, where it is cancelled. grpc does not see to that by itself: not where a done callback
    was added, since its own call then refers to itself and is never collected; not where it gave
    the call a status of its own; and not where no thread of its looks after the call."""

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except Exception as error:
            if isinstance(error, StopIteration) or not self._call.is_active():
                self._over()
            raise

    next = __next__

    def cancel(self) -> Any:
        cancelled = self._call.cancel()
        self._forget()
        return cancelled

    def __del__(self) -> None:
        call = self.__dict__.get("_call")
        if call is not None:
            call.cancel()
            self._forget()

    def _over(self) -> None:
        call = self._call
        inner = call.call if isinstance(call, Pending) else call
        end = getattr(inner, "fastpool_end", None)
        if end is not None and not end.was_called:
            hang_up(inner)
            end()

    def _forget(self) -> None:
        """It was cancelled: nobody will read the end of one that only its reader learns of."""
        call = self._call
        inner = call.call if isinstance(call, Pending) else call
        if needs_reader(inner) and (end := getattr(inner, "fastpool_end", None)) is not None:
            end()

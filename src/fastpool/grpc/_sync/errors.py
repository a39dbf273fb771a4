"""Errors of calls that fastpool ended itself: they never reached the server.

A call that waits in the queue for a slot can end there, and then it is grpc's own kind of error
with `local` set: DEADLINE_EXCEEDED when its deadline has passed, RESOURCE_EXHAUSTED when the queue
is too long or `queue_timeout` is over.
"""

from __future__ import annotations

from typing import Any

import grpc

from ...errors import PoolOverloaded, PoolTimeout

CLOSED = "Cannot invoke RPC on closed channel!"


class Closed(ValueError):
    """The error that a closed grpc channel raises, word for word."""


def closed_error() -> Closed:
    return Closed(CLOSED)


class LocalError(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[misc] # no types
    """A call that was never sent. As the errors of grpc's own calls, it is a call and a future too,
    both of them ended."""

    local = True

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        Exception.__init__(self, code, details)  # these two are what a pickle needs
        self._code = code
        self._details = details

    def __str__(self) -> str:
        return f"<{type(self).__name__}: {self._code.name}: {self._details}>"

    __repr__ = __str__

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def __iter__(self) -> LocalError:
        return self

    def __next__(self) -> Any:
        raise self

    def debug_error_string(self) -> str:
        return self._details

    def initial_metadata(self) -> tuple[Any, ...]:
        return ()

    def trailing_metadata(self) -> tuple[Any, ...]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> Any:
        return None

    def add_callback(self, callback: Any) -> bool:
        return False

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> Any:
        raise self

    def exception(self, timeout: float | None = None) -> Exception:
        return self

    def traceback(self, timeout: float | None = None) -> Any:
        return self.__traceback__

    def add_done_callback(self, fn: Any) -> None:
        fn(self)


class LocalCancel(LocalError):
    """The end of a call that its caller cancelled in the queue."""

    def __init__(self) -> None:
        LocalError.__init__(self, grpc.StatusCode.CANCELLED, "Locally cancelled by application!")

    def cancelled(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> Any:
        raise grpc.FutureCancelledError

    exception = traceback = result


def refusal(
    target: str, error: PoolTimeout | PoolOverloaded, own: bool, most: int | None
) -> tuple[Any, str]:
    """The code and details for a call that did not get a slot. `own`: its own deadline passed, not
    `queue_timeout`; `most`: as many may wait."""
    if isinstance(error, PoolOverloaded):
        text = (
            f"to {target}: the queue is full: max_queue is {most}, and so many calls wait already"
        )
        return grpc.StatusCode.RESOURCE_EXHAUSTED, text
    waited = f"to {target}: no slot was free for {error.waited:.3f} s, so it was not sent"
    if own:
        return grpc.StatusCode.DEADLINE_EXCEEDED, f"Deadline Exceeded in the queue {waited}"
    return grpc.StatusCode.RESOURCE_EXHAUSTED, f"queue_timeout {waited}"

"""How calls of tasks end that fastpool ended itself: they never reached the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, NoReturn

import grpc

CANCELLED, UNKNOWN = grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN


class AioLocalError(grpc.aio.AioRpcError):  # type: ignore[misc] # grpcio has no types
    """What awaiting a call raises that was never sent: with `local` set, and otherwise as any error
    of a call."""

    local = True

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, details)
        self.args = (code, details)  # these two are what a pickle needs

    def __reduce__(self) -> Any:
        return type(self), self.args


def closed_error() -> grpc.aio.UsageError:
    """The error that a closed channel of grpc's raises, word for word."""
    return grpc.aio.UsageError("Channel is closed.")


class Ended:
    """Stands for grpc's call where there is none, since it ended before it was begun. `error` None:
    it was cancelled."""

    def __init__(self, error: BaseException | None = None) -> None:
        self._error = error

    @property
    def local(self) -> bool:
        """As of the error."""
        return isinstance(self._error, AioLocalError)

    def _raise(self) -> NoReturn:
        if self._error is None:
            raise asyncio.CancelledError
        raise self._error

    def cancelled(self) -> bool:
        return self._error is None

    def done(self) -> bool:
        return True

    def cancel(self) -> bool:
        return False

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        callback(self)

    def time_remaining(self) -> float | None:
        return None

    async def initial_metadata(self) -> Any:
        return grpc.aio.Metadata()

    async def trailing_metadata(self) -> Any:
        return grpc.aio.Metadata()

    async def code(self) -> grpc.StatusCode:
        if self._error is None:
            return CANCELLED
        if isinstance(self._error, grpc.aio.AioRpcError):
            code: grpc.StatusCode = self._error.code()
            return code
        return UNKNOWN

    async def details(self) -> str:
        if self._error is None:
            return "Locally cancelled by application!"
        if isinstance(self._error, grpc.aio.AioRpcError):
            return self._error.details() or ""
        return f"{type(self._error).__name__}: {self._error}"

    debug_error_string = details

    async def wait_for_connection(self) -> None:
        self._raise()

    def __await__(self) -> Generator[Any, None, Any]:
        self._raise()
        yield

    async def __aiter__(self) -> AsyncIterator[Any]:
        self._raise()
        yield

    async def read(self) -> Any:
        self._raise()

    async def write(self, request: Any) -> None:
        self._raise()

    async def done_writing(self) -> None:
        return None

"""What this side refuses, raised where callers of gRPC look for it: as an RpcError with a code."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from .._errors import CallError, CircuitOpen, DeadlineExceeded, Overloaded

CODES = {
    CircuitOpen: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class _Local:
    """A call that ended without leaving this process."""

    status: grpc.StatusCode
    plain: type[CallError]
    args: tuple[Any, ...]

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str:
        return str(self)

    def debug_error_string(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"{self.plain.__name__}{self.args!r}"

    def __reduce__(self) -> Any:  # without grpc at the other end
        return self.plain, self.args, self.__dict__


class _LocalCall(_Local, grpc.RpcError, grpc.Call):  # type: ignore[misc] # grpcio has no types
    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> Any:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Any) -> bool:
        return False


class _LocalAioError(_Local, grpc.aio.AioRpcError):  # type: ignore[misc]
    def initial_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata()

    def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata()


def _both(plain: type[CallError], base: type) -> type[CallError]:
    names = {"status": CODES[plain], "plain": plain, "__module__": "fastpool.calls"}
    return type(plain.__name__, (plain, base), names)


_SYNC = {plain: _both(plain, _LocalCall) for plain in CODES}
_AIO = {plain: _both(plain, _LocalAioError) for plain in CODES}


def as_rpc_error(error: CallError, *, aio: bool = False) -> CallError:
    """The same error, an RpcError as well."""
    kind = (_AIO if aio else _SYNC).get(type(error))
    if kind is None:  # it is one already, of a channel inside this one
        return error
    new = kind(*error.args)
    new.__dict__.update(error.__dict__)  # its notes, and what its budget said
    return new


def raise_rpc_error(error: BaseException) -> NoReturn:
    """Raise the error as threads see it: those of this side as an RpcError, others as they are."""
    if isinstance(error, CallError):
        raise as_rpc_error(error) from error.__cause__
    raise error

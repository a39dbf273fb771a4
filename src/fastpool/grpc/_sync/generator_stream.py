"""A stream that is a generator, which tools that patch grpc put in the place of its own call."""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import Any

import grpc


class Generated:
    """As a call, as far as a generator can be one: however it ends, that is the end of the call.

    It is sent with the first message that is asked for. Metadata and details stay the tool's own.
    """

    def __init__(self, messages: GeneratorType[Any, Any, Any]) -> None:
        self._messages = messages
        self._code: grpc.StatusCode | None = None
        self._callbacks: list[Callable[[], Any]] = []  # taken out by whoever makes them

    def __iter__(self) -> Generated:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._messages)
        except StopIteration:
            self._end(grpc.StatusCode.OK)
            raise
        except grpc.RpcError as error:
            code = getattr(error, "code", None)
            self._end(code() if code else grpc.StatusCode.UNKNOWN)
            raise
        except BaseException:
            if self._messages.gi_frame is None:
                self._end(grpc.StatusCode.UNKNOWN)
            raise  # else another thread is in it

    def _end(self, code: grpc.StatusCode) -> None:
        self._code = self._code or code
        while self._callbacks:
            self._callbacks.pop(0)()

    def code(self) -> grpc.StatusCode | None:
        """None: it has not ended."""
        return self._code

    def is_active(self) -> bool:
        return self._code is None

    def cancel(self) -> bool:
        if self._code is not None:
            return False
        try:
            self._messages.close()  # ends what it iterates over
        except ValueError:  # another thread is in it
            return False
        self._end(grpc.StatusCode.CANCELLED)
        return True

    def add_callback(self, callback: Callable[[], Any]) -> bool:
        if self._code is not None:
            return False
        self._callbacks.append(callback)
        return True

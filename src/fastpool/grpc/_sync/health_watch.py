"""The watch over one connection's health, by a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from ..._core import Event
from ..._runtime.launch import launch
from .._health import WATCH, Verdicts, request_of, status_in

if TYPE_CHECKING:
    from .connection import Connection

# Seconds before it is begun anew after the server has ended it.
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0


class Watch:
    """Tells the verdicts of each status. A server without the health service serves."""

    def __init__(self, connection: Connection, service: str, verdicts: Verdicts) -> None:
        self._connection = connection
        self._request = request_of(service)
        self._verdicts = verdicts
        self._ended = Event()
        self._call: Any = None
        launch("fastpool-grpc-health", self._run)

    def end(self) -> None:
        """The connection is closed, which ends the call."""
        self._ended.set()
        call = self._call
        if call is not None:
            call.cancel()

    def _run(self) -> None:
        method = self._connection.channel.unary_stream(WATCH)
        pause = FIRST_PAUSE
        while not self._ended.is_set():
            try:
                self._call = method(self._request, wait_for_ready=True)
                if self._ended.is_set():
                    self._call.cancel()
                for response in self._call:
                    pause = FIRST_PAUSE
                    applied = self._verdicts.say(self._connection, status_in(response))
                    while not applied and not self._ended.wait(FIRST_PAUSE):
                        applied = self._verdicts.apply()
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return
                # The connection is lost: what was said of it holds no longer.
                self._verdicts.say(self._connection, 0)
            except ValueError:  # the channel is closed
                return
            self._ended.wait(pause)
            pause = min(2 * pause, LAST_PAUSE)

"""The end of grpc's own streams, where grpcio does not bring it about by itself."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import grpc

_channel: Any = import_module("grpc._channel")  # private: no type checker knows it
DETAILS = "the reader of the stream is over"
# grpcio's own streams; none where it calls them otherwise.
STREAMS: tuple[type, ...] = tuple(
    kind for kind in [getattr(_channel, "_Rendezvous", None)] if kind is not None
)
THREADLESS: tuple[type, ...] = tuple(
    kind for kind in [getattr(_channel, "_SingleThreadedRendezvous", None)] if kind is not None
)


def hang_up(call: Any) -> None:
    """Ends it at the server too. When a message cannot be deserialised grpcio gives the stream its
    status at once, and lets it run: to cancel it does nothing from then on."""
    cancel = getattr(call, "cancel", None)
    if cancel is None:
        return
    cancel()
    inner: Any = getattr(call, "_call", None)
    if isinstance(call, STREAMS) and hasattr(inner, "cancel"):
        inner.cancel(grpc.StatusCode.CANCELLED.value[0], DETAILS)


def needs_reader(call: Any) -> bool:
    """Whether its end is learned by whoever reads it, and by nobody else: no thread of grpc's looks
    after it (`SingleThreadedUnaryStream`)."""
    return isinstance(call, THREADLESS)

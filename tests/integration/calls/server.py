"""A gRPC server that fails on demand, in this process: for tests of policies around channels.

Every method takes a list of steps as its request, separated by blanks, and does one at each call
that names the list anew: `OK`, a status code, a status code with `:ms` for a pushback or `~ms` for
RetryInfo among its details, `hang`.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

SERVICE = "fastpool.test.Script"


def _field(number: int, value: int | bytes) -> bytes:
    """A field of a protobuf message; its number is less than 16."""
    if isinstance(value, bytes):
        return bytes([number << 3 | 2]) + _varint(len(value)) + value
    return bytes([number << 3]) + _varint(value)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes(made) + bytes([value])


def status_with_retry_info(milliseconds: int) -> bytes:
    """A google.rpc.Status, as servers of Google's send it, with another detail before."""
    seconds, rest = divmod(milliseconds, 1000)
    delay = (_field(1, seconds) if seconds else b"") + (_field(2, rest * 10**6) if rest else b"")
    kind = b"type.googleapis.com/google.rpc."
    details = [
        _field(1, kind + b"DebugInfo") + _field(2, _field(2, b"in some place")),
        _field(1, kind + b"RetryInfo") + _field(2, _field(1, delay)),
    ]
    status = _field(1, 14) + _field(2, b"as the script says")
    return status + b"".join(_field(3, detail) for detail in details)


class ScriptServer:
    def __init__(self) -> None:
        self.seen: defaultdict[bytes, int] = defaultdict(int)  # request: calls with it
        self.open = 0  # calls in a handler
        self.cancelled = 0
        self.deadlines: list[float | None] = []
        self.gate = threading.Event()  # `first later CODE` waits for it
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(32))
        handlers = {
            "Say": grpc.unary_unary_rpc_method_handler(self._say),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
            "Join": grpc.stream_unary_rpc_method_handler(self._join),
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.target = f"127.0.0.1:{port}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()

    def _step(self, request: bytes, context: Any) -> bytes:
        """Does the next step of the list, and returns it if it goes well."""
        steps = request.decode().split()
        with self._lock:
            turn = self.seen[request]
            self.seen[request] += 1
            self.deadlines.append(context.time_remaining())
        step = steps[min(turn, len(steps) - 1)]
        if step == "hang":
            self._hang(context)
        if step.startswith("later-"):
            self.gate.wait(30)
            step = step.removeprefix("later-")
        step, _, retry_info = step.partition("~")
        if retry_info:
            status = status_with_retry_info(int(retry_info))
            context.set_trailing_metadata((("grpc-status-details-bin", status),))
        name, _, pushback = step.partition(":")
        if pushback:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", pushback),))
        if name not in ("OK", "hang"):
            context.abort(grpc.StatusCode[name], "as the script says")
        return f"{name} {turn + 1}".encode()

    def _hang(self, context: Any) -> None:
        gone = threading.Event()
        with self._lock:
            self.open += 1
        if context.add_callback(gone.set):
            gone.wait(30)
        with self._lock:
            self.open -= 1
            self.cancelled += 1

    def _say(self, request: bytes, context: Any) -> bytes:
        return self._step(request, context)

    def _count(self, request: bytes, context: Any) -> Iterator[bytes]:
        """`first CODE`: one message, then the code; `first later CODE`: when the gate is open."""
        if request.startswith(b"first"):
            with self._lock:
                self.seen[request] += 1
            yield b"first"
            if request == b"first hang":
                self._hang(context)
            elif code := request.decode().split()[1:]:
                if code[0] == "later":
                    assert self.gate.wait(30)
                context.abort(grpc.StatusCode[code[-1]], "after the first")
            return
        yield self._step(request, context)
        yield b"last"

    def _join(self, requests: Any, context: Any) -> bytes:
        return self._step(b" ".join(requests), context)

    def _chat(self, requests: Any, context: Any) -> Iterator[bytes]:
        for request in requests:
            yield self._step(request, context)

"""A gRPC server that fails on demand, in this process: for tests of policies around channels.

Every method takes a list of steps as its request, separated by blanks, and does one at each call
that names the list anew: `OK`, a status code, a status code with `:ms` for a pushback, `hang`.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

SERVICE = "fastpool.test.Script"


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

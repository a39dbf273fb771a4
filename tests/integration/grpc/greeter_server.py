"""The gRPC server that the documents talk to, in this process: `example.Greeter`.

Greet    replies b"hello " + the request
Slowly   the same, 20 ms later
Count    a stream of the numbers up to the request; b"" = it never ends
Chat     for a stream, a stream of greetings
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

STREAMS = 100  # at once on one connection


class GreeterServer:
    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        options = [("grpc.max_concurrent_streams", STREAMS)]
        self._server = grpc.server(futures.ThreadPoolExecutor(64), options=options)
        handlers = {
            "Greet": grpc.unary_unary_rpc_method_handler(greet),
            "Slowly": grpc.unary_unary_rpc_method_handler(slowly),
            "Count": grpc.unary_stream_rpc_method_handler(count),
            "Chat": grpc.stream_stream_rpc_method_handler(chat),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("example.Greeter", handlers),)
        )
        if certificate:
            pair = tuple(path.read_bytes() for path in certificate)
            credentials = grpc.ssl_server_credentials([pair])
            self.target = f"localhost:{self._server.add_secure_port('localhost:0', credentials)}"
        else:
            self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()

    def __enter__(self) -> GreeterServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def greet(request: bytes, context: Any) -> bytes:
    return b"hello " + request


def slowly(request: bytes, context: Any) -> bytes:
    time.sleep(0.02)
    return greet(request, context)


def count(request: bytes, context: Any) -> Iterator[bytes]:
    number = 0
    while context.is_active() and (not request or number < int(request)):
        number += 1
        yield b"%d" % number
        time.sleep(0.001)


def chat(requests: Any, context: Any) -> Iterator[bytes]:
    for request in requests:
        yield greet(request, context)

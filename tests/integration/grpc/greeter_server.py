"""The gRPC server that the documents talk to, in this process: that of examples/grpc_greeter.py."""

from __future__ import annotations

from pathlib import Path

import grpc

from examples.grpc_greeter import STREAMS, make_server

__all__ = ["STREAMS", "GreeterServer"]


class GreeterServer:
    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self._server = make_server()
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

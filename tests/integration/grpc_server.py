"""A gRPC server in a process of its own, for tests; run as a script it is that server.

It counts connections itself: the distinct peers that have made a call, and, where the kernel shows
its table, those that are open.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

SERVICE = "fastpool.test.Echo"


class Counts(NamedTuple):
    """The server's own count. `open` is None where the kernel shows no table of connections."""

    peers: int
    open: int | None


class GrpcServer:
    """`certificate` is a pair of PEM files, key and certificate, for TLS."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self._certificate = certificate or ()
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start, or start again, on the same port."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(self.port), *map(str, self._certificate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self._answer()["port"]

    @property
    def target(self) -> str:
        return f"localhost:{self.port}" if self._certificate else f"127.0.0.1:{self.port}"

    def counts(self) -> Counts:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Counts(**self._answer())

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def close(self) -> None:
        self._process.communicate()  # the end of its stdin ends it

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def serve(port: int, certificate: list[str]) -> None:
    from concurrent import futures

    import grpc

    peers: set[str] = set()

    def say(request: bytes, context: Any) -> bytes:
        peers.add(context.peer())
        return request

    def count(request: bytes, context: Any) -> Any:
        """As many answers as bytes; with b"..." it goes on until the caller is gone."""
        peers.add(context.peer())
        if request != b"...":
            yield from (bytes([byte]) for byte in request)
            return
        gone = threading.Event()
        context.add_callback(gone.set)
        yield b"first"
        gone.wait()

    def join(requests: Any, context: Any) -> bytes:
        return b"".join(requests)

    def chat(requests: Any, context: Any) -> Any:
        yield from requests

    server = grpc.server(futures.ThreadPoolExecutor(16))
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Join": grpc.stream_unary_rpc_method_handler(join),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if certificate:
        pair = tuple(Path(name).read_bytes() for name in certificate)
        port = server.add_secure_port(f"localhost:{port}", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"peers": len(peers), "open": established(port)}), flush=True)
    server.stop(None).wait()


def established(port: int) -> int | None:
    """Connections to `port` that are open, as the kernel's tables have them."""
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    if not tables:
        return None
    rows = [line.split() for path in tables for line in path.read_text().splitlines()[1:]]
    return sum(row[3] == "01" and int(row[1].rpartition(":")[2], 16) == port for row in rows)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:])

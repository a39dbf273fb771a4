"""The demo's servers. Each runs in a process of its own and counts its own connections.

Run as a script, `python server_process.py {echo,xmlrpc,grpc,burst} [PORT]`, it needs nothing of
fastpool. It listens on loopback, says {"port": N} on stdout, and answers each line on stdin with
one of JSON: "count" with its counts, "mark" with the same after setting the peak to what is open
now.

The end of stdin ends the process. The pipe's other end is the parent's alone and the kernel closes
it with the parent, so a server goes when its parent goes, whatever killed that.
"""

from __future__ import annotations

import json
import operator
import os
import selectors
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from typing import Any
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

HOST = "127.0.0.1"
# Above any burst of the demo: with a short queue a connection per call would be made to wait a
# second for its SYN to be sent again, and the comparison would be of that.
BACKLOG = 1024
# Calls at once on one connection of the server "burst"; 100 is what many servers and proxies allow.
STREAM_LIMIT = 100


class Ledger:
    """The connections of one server: accepted so far, open now, and the most open since a mark."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accepted = self._open = self._peak = 0

    def opened(self) -> None:
        with self._lock:
            self._accepted += 1
            self._open += 1
            self._peak = max(self._peak, self._open)

    def closed(self) -> None:
        with self._lock:
            self._open -= 1

    def mark(self) -> None:
        with self._lock:
            self._peak = self._open

    def counts(self) -> dict[str, int | None]:
        with self._lock:
            return {"accepted": self._accepted, "open": self._open, "peak": self._peak}


def serve_echo(port: int, ledger: Ledger) -> None:
    """Send back what comes. One thread for all connections, so that none is ever half counted."""
    listener = socket.create_server((HOST, port), backlog=BACKLOG)
    announce(listener.getsockname()[1])
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ledger.opened()
                waiting.register(connection, selectors.EVENT_READ)
                continue
            client: Any = key.fileobj
            try:
                data = client.recv(4096)
                client.sendall(data)  # short messages: the socket's buffer takes them whole
            except OSError:
                data = b""
            if not data:
                waiting.unregister(client)
                client.close()
                ledger.closed()


class KeepAliveHandler(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"  # SimpleXMLRPCServer's own default closes after each call


class CountingXMLRPCServer(socketserver.ThreadingMixIn, SimpleXMLRPCServer):
    """A thread per connection, which is kept open until the client closes it."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, port: int, ledger: Ledger) -> None:
        self._ledger = ledger
        super().__init__((HOST, port), KeepAliveHandler, logRequests=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._ledger.opened()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._ledger.closed()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that vanished in the middle of a call is not news here."""


def serve_xmlrpc(port: int, ledger: Ledger) -> None:
    server = CountingXMLRPCServer(port, ledger)
    server.register_function(operator.add, "add")  # pyright: ignore[reportArgumentType]
    announce(server.server_address[1])
    server.serve_forever()


class GrpcLedger(Ledger):
    """grpcio does not tell a server about connections, so they are counted by what they leave
    behind: the distinct peers that made a call, and the kernel's table of open connections. Where
    there is no such table, what is open is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.port = 0
        self.peers: set[str] = set()

    def counts(self) -> dict[str, int | None]:
        return {"accepted": len(self.peers), "open": self._established(), "peak": None}

    def _established(self) -> int | None:
        count = 0
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            try:
                with open(table) as lines:
                    next(lines)  # the heading
                    for line in lines:
                        _, local, _, state, *_ = line.split()
                        count += state == "01" and int(local.rpartition(":")[2], 16) == self.port
            except FileNotFoundError:
                if table == "/proc/net/tcp":
                    return None
        return count


def serve_grpc(port: int, ledger: GrpcLedger) -> None:
    """Send back the bytes that come, by a generic handler, so that no generated code is needed."""
    from concurrent import futures

    import grpc

    def say(request: bytes, context: grpc.ServicerContext) -> bytes:
        ledger.peers.add(context.peer())
        return request

    handlers = {"Say": grpc.unary_unary_rpc_method_handler(say)}
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("fastpool.demo.Echo", handlers),)
    )
    ledger.port = server.add_insecure_port(f"{HOST}:{port}")
    server.start()
    announce(ledger.port)
    server.wait_for_termination()


def serve_burst(port: int, ledger: GrpcLedger) -> None:
    """Reply after as many milliseconds as the request says, to any number of calls at once, but no
    more than STREAM_LIMIT of one connection."""
    import asyncio

    import grpc.aio

    async def wait(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        ledger.peers.add(context.peer())
        await asyncio.sleep(int(request) / 1000)
        return request

    async def serve() -> None:
        options = [("grpc.max_concurrent_streams", STREAM_LIMIT)]
        server = grpc.aio.server(options=options)
        handlers = {"Wait": grpc.unary_unary_rpc_method_handler(wait)}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("fastpool.demo.Echo", handlers),)
        )
        ledger.port = server.add_insecure_port(f"{HOST}:{port}")
        await server.start()
        announce(ledger.port)
        await server.wait_for_termination()

    asyncio.run(serve())


def announce(port: int) -> None:
    """Say where we listen; there is nothing to do if nobody hears it."""
    try:
        print(json.dumps({"port": port}), flush=True)
    except BrokenPipeError:
        os._exit(0)


def answer(ledger: Ledger) -> None:
    """Answer the parent's questions until it closes the pipe or is gone; then there is nothing to
    finish and nobody to tell."""
    try:
        for line in sys.stdin:
            if line.strip() == "mark":
                ledger.mark()
            print(json.dumps(ledger.counts()), flush=True)
    finally:
        os._exit(0)


def main(kind: str, port: int = 0) -> None:
    # Ctrl-C in the terminal reaches the whole process group. It is the parent's to act upon.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    servers: dict[str, tuple[Callable[[int, Any], None], Ledger]] = {
        "echo": (serve_echo, Ledger()),
        "xmlrpc": (serve_xmlrpc, Ledger()),
        "grpc": (serve_grpc, GrpcLedger()),
        "burst": (serve_burst, GrpcLedger()),
    }
    serve, ledger = servers[kind]
    # First of all, so that a parent which is gone while we start is noticed, too.
    threading.Thread(target=answer, args=(ledger,), daemon=True).start()
    serve(port, ledger)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

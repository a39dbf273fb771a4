"""Real HTTP servers on loopback: a site, over TLS or not, and proxies to it."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler
from typing import Any
from urllib.parse import urlsplit

from support.helpers import eventually


class Site(ThreadingHTTPServer):
    """A server that says what has been asked of it."""

    daemon_threads = True
    scheme = "http"

    def __init__(self, handler: type[BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
        self.port = self.server_address[1]
        self.seen: Counter[str] = Counter()  # requests by path
        self.gate = threading.Event()  # lets /wait answer
        self.waiting = 0  # requests of /wait that have come
        self.open: set[Any] = set()  # connections

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The other side may go at any moment."""


class Handler(BaseHTTPRequestHandler):
    """``/hello``; ``/wait``: once the gate is open; ``/move``: to /hello; ``/moves``: for ever;
    ``/busy``: 503 at first; ``/break``: the connection ends in the head; ``/cut``: in the body;
    ``/stream``: a megabyte in chunks; ``/last``: closes after its answer."""

    protocol_version = "HTTP/1.1"
    server: Site
    CHUNK = b"x" * 65536

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.seen[path] += 1
        getattr(self, "get_" + path.strip("/"), self.get_hello)()

    def do_POST(self) -> None:
        for _ in iter(self.read_chunk, b""):
            pass
        self.get_hello()

    def read_chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def get_hello(self) -> None:
        self.answer(200, b"hello")

    def get_wait(self) -> None:
        self.server.waiting += 1
        self.server.gate.wait(120)
        self.answer(200, b"waited")

    def get_move(self) -> None:
        self.answer(302, Location="/hello")

    def get_moves(self) -> None:
        self.answer(302, Location="/moves")

    def get_busy(self) -> None:
        self.answer(503 if self.server.seen["/busy"] == 1 else 200)

    def get_break(self) -> None:
        self.wfile.write(b"HTTP/1.1 2")
        self.close_connection = True

    def get_cut(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        self.close_connection = True

    def get_last(self) -> None:
        self.answer(200, b"last", Connection="close")

    def get_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(16):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(self.CHUNK), self.CHUNK))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: object) -> None:
        pass


class ProxyHandler(BaseHTTPRequestHandler):
    """Fetches for plain HTTP, makes tunnels for the rest."""

    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.seen[url.path] += 1
        assert url.hostname and url.port
        with socket.create_connection((url.hostname, url.port)) as upstream:
            head = f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n"
            upstream.sendall(head.encode())
            answer = b"".join(iter(lambda: upstream.recv(65536), b""))
        body = answer.partition(b"\r\n\r\n")[2]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        self.server.seen["CONNECT"] += 1
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as upstream:
            self.send_response(200)
            self.end_headers()
            tunnel(self.connection, upstream)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


class SocksHandler(BaseRequestHandler):
    """SOCKS5 without a password, names resolved by the proxy."""

    def handle(self) -> None:
        self.server.seen["SOCKS"] += 1  # type: ignore[attr-defined]
        client = self.request
        _, methods = client.recv(2)
        client.recv(methods)
        client.sendall(b"\x05\x00")
        _, _, _, kind = client.recv(4)
        assert kind in (1, 3)
        host = socket.inet_ntoa(client.recv(4)) if kind == 1 else client.recv(client.recv(1)[0])
        port = int.from_bytes(client.recv(2), "big")
        with socket.create_connection((host, port)) as upstream:
            client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            tunnel(client, upstream)


def tunnel(one: socket.socket, other: socket.socket) -> None:
    """Hand on what either says, until one is gone."""
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)


@contextmanager
def serving(
    handler: type[BaseRequestHandler] = Handler, tls: tuple[Path, Path] | None = None
) -> Iterator[Site]:
    """A server of this kind until the block ends; over TLS with a key and a certificate."""
    with Site(handler) as site:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls[1], tls[0])
            site.socket = context.wrap_socket(
                site.socket, server_side=True, do_handshake_on_connect=False
            )
            site.scheme = "https"
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            site.gate.set()
            site.shutdown()
            thread.join()
            for each in list(site.open):  # closed by the threads that serve them, and woken so
                with suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)
            eventually(lambda: not site.open)

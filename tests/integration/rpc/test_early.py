"""A server that refuses a big request before it has read it: 413, 401, or no word at all."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler
from typing import Any
from xmlrpc.client import ProtocolError, dumps

import pytest

pytest.importorskip("urllib3", reason="urllib3 is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

from fastpool.rpc import HttpError, aio_jsonrpc, aio_xmlrpc, jsonrpc, xmlrpc
from integration.rpc.servers import TcpServer, http, port_of, serving
from support.helpers import PATIENCE

BIG = "x" * (16 << 20)  # more than the system buffers

REFUSALS = {
    413: http(b"too long", "413 Content Too Large", "Connection: close"),
    401: http(b"who are you?", "401 Unauthorized", "Connection: close"),
}


class Early(StreamRequestHandler):
    """Answers small requests; of a big one it reads the head, and says what the test wants."""

    rbufsize = 0
    server: EarlyServer

    def handle(self) -> None:
        while line := self.rfile.readline():
            length = 0
            while line.strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
                line = self.rfile.readline()
            with self.server.lock:
                self.server.answered += 1
            if length > 1 << 20:
                self.wfile.write(self.server.refusal)
                if self.server.stays:
                    self.server.leave.wait(PATIENCE)
                return  # what is unread becomes a reset
            body = b""
            while len(body) < length:
                body += self.rfile.read(length - len(body))
            self.wfile.write(self.server.well(body))


class EarlyServer(TcpServer):
    def __init__(self, well: Any, refusal: bytes, stays: bool, certificate: Any) -> None:
        super().__init__(("127.0.0.1", 0), Early)
        self.well, self.refusal, self.stays = well, refusal, stays
        self.leave = threading.Event()
        self.context: Any = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate[1], certificate[0])

    def get_request(self) -> Any:
        request, address = super().get_request()
        if self.context is not None:
            request = self.context.wrap_socket(
                request, server_side=True, do_handshake_on_connect=False
            )
        return request, address

    @property
    def url(self) -> str:
        scheme = "http" if self.context is None else "https"
        return f"{scheme}://localhost:{port_of(self)}"


class Client:
    """A client of any kind, for one thread."""

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self.kind = kind
        if kind == "xmlrpc":
            self.proxy: Any = xmlrpc(url, size=1, timeout=PATIENCE, **options)
        elif kind == "jsonrpc":
            self.proxy = jsonrpc(url, size=1, timeout=PATIENCE, **options)
        else:
            self.loop = asyncio.new_event_loop()
            make: Any = aio_jsonrpc if kind == "aio_jsonrpc" else aio_xmlrpc
            self.proxy = make(url, size=1, timeout=PATIENCE, **options)

    def call(self, value: str) -> Any:
        if self.kind == "xmlrpc":
            return self.proxy.echo(value)
        if self.kind == "aio_xmlrpc":
            return self.loop.run_until_complete(self.proxy.echo(value))
        asked = self.proxy.call("echo", value)
        return asked if self.kind == "jsonrpc" else self.loop.run_until_complete(asked)

    def status(self, value: str) -> int:
        """Of the reply."""
        try:
            self.call(value)
        except HttpError as error:
            return error.status
        except ProtocolError as error:
            return error.errcode
        return 200

    def close(self) -> None:
        if self.kind == "xmlrpc":
            self.proxy("close")()
        elif self.kind == "jsonrpc":
            self.proxy.close()
        else:
            close = self.proxy("close") if self.kind == "aio_xmlrpc" else self.proxy.aclose
            self.loop.run_until_complete(close())
            self.loop.close()


@contextmanager
def client_and_server(
    kind: str, refusal: bytes, stays: bool = False, certificate: Any = None
) -> Iterator[tuple[Client, EarlyServer]]:
    def well(body: bytes) -> bytes:
        if kind.endswith("xmlrpc"):
            return http(dumps(("well",), methodresponse=True).encode())
        reply = {"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": "well"}
        return http(json.dumps(reply).encode())

    options: dict[str, Any] = {}
    if certificate is not None:
        options["context"] = ssl.create_default_context(cafile=str(certificate[1]))
    with serving(EarlyServer(well, refusal, stays, certificate)) as server:
        client = Client(kind, server.url, **options)
        try:
            yield client, server
        finally:
            server.leave.set()
            client.close()


KINDS = pytest.mark.parametrize("kind", ["xmlrpc", "jsonrpc", "aio_jsonrpc", "aio_xmlrpc"])


@KINDS
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_early_refusal_is_read_and_nothing_is_sent_again(
    kind: str, tls: bool, status: int, used: bool, certificate: tuple[Path, Path]
) -> None:
    """Although the connection broke in the middle of the request."""
    given = certificate if tls else None
    with client_and_server(kind, REFUSALS[status], certificate=given) as (client, server):
        if used:
            assert client.status("small") == 200
        assert client.status(BIG) == status
        assert server.answered == 1 + used


@KINDS
def test_early_refusal_is_read_while_nobody_reads_the_request(kind: str) -> None:
    """The server does not even close the connection; this side does."""
    with client_and_server(kind, REFUSALS[413], stays=True) as (client, server):
        assert client.status(BIG) == 413
        server.leave.set()
        assert client.status("small") == 200
        assert server.accepted == 2


@KINDS
def test_big_request_is_not_sent_twice(kind: str) -> None:
    """A server that says nothing, and closes a connection that was used before."""
    with client_and_server(kind, b"") as (client, server):
        assert client.status("small") == 200
        with pytest.raises(ConnectionError):
            client.status(BIG)
        assert server.answered == 2

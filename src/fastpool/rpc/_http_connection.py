"""Keep-alive connections of HTTP/1.1: urllib3's connection as the resource of a keyed pool."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Any

try:
    import urllib3
    from urllib3 import BaseHTTPResponse  # noqa: F401 - there was none before version 2
    from urllib3.connection import HTTPConnection, HTTPSConnection
except ImportError as error:
    raise ImportError(
        "fastpool.rpc.jsonrpc needs urllib3 2: pip install 'fastpool[rpc]'"
    ) from error

from ._address import Address, Origin
from ._bounds import PIECE, Bounds
from ._errors import BadReply
from ._http_messages import HttpResponse
from ._socket_connection import Wire
from ._socket_pool import connected_to

__all__ = ["Dial", "HttpConnection"]


class Dial:
    """The factory: a connection to an origin."""

    def __init__(
        self, patience: float | None, context: ssl.SSLContext | None, most: int | None
    ) -> None:
        self.patience = patience
        self.context = context
        self.most = most  # bytes of a reply

    def __call__(self, origin: Origin) -> HttpConnection:
        if origin.scheme == "https" and self.context is None:
            self.context = ssl.create_default_context()
        return HttpConnection(origin, self.patience, self.context, self.most)


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, origin: Origin, patience: float | None) -> None:
        super().__init__(origin.host, origin.port, timeout=patience)
        self._path, self._patience = origin.unix, patience

    def _new_conn(self) -> socket.socket:
        return connected_to(self._path, self._patience)


class HttpConnection:
    """One connection, whose socket is a wire."""

    def __init__(
        self,
        origin: Origin,
        patience: float | None,
        context: ssl.SSLContext | None,
        most: int | None,
    ) -> None:
        self.most = most
        self.connection: Any
        if origin.scheme == "https":
            self.connection = HTTPSConnection(
                origin.host, origin.port, timeout=patience, ssl_context=context
            )
        elif origin.unix:
            self.connection = UnixConnection(origin, patience)
        else:
            self.connection = HTTPConnection(origin.host, origin.port, timeout=patience)
        try:
            self.connection.connect()
        except urllib3.exceptions.HTTPError as error:
            self.connection.close()
            if isinstance(error.__cause__, OSError):  # what the socket said
                raise error.__cause__ from None
            raise ConnectionError(str(error)) from error
        except BaseException:
            self.connection.close()
            raise
        self.connection.auto_open = 0  # when it is closed, the pool opens another one
        self.wire = self.connection.sock = Wire(self.connection.sock, str(origin), gather=True)

    def post(self, address: Address, body: bytes) -> HttpResponse:
        """One request and all of its reply."""
        try:
            self.connection.request(
                "POST", address.path, body, address.headers, preload_content=False
            )
            reply = self.connection.getresponse()
            bounds = Bounds(self.most, self.wire.deadline, self.wire.name)
            bounds.announced(reply.headers.get("content-length"))
            pieces = [bounds.add(piece) for piece in reply.stream(PIECE, decode_content=True)]
            return HttpResponse(
                reply.status,
                reply.reason or "",
                {name.lower(): value for name, value in reply.headers.items()},
                b"".join(pieces),
            )
        except urllib3.exceptions.TimeoutError as error:
            raise (error.__cause__ or error) from None  # as the wire has it
        except urllib3.exceptions.ProtocolError as error:
            raise ConnectionResetError(
                f"{self.wire.name}: the reply breaks off: {error}"
            ) from error
        except OSError:
            raise
        except (http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
            raise BadReply(f"no HTTP: {error!r}") from error

    def close(self) -> None:
        self.connection.close()
        self.wire.hang_up()

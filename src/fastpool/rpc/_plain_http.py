"""An ordinary exchange of HTTP/1.1, without http.client.

Two thirds of the time of a small call go to http.client, which builds each request anew and reads
each reply's headers as those of a mail.  So a head is learned from it once, and the reply is read
here if it is an ordinary one, which is what servers of XML-RPC send.  Whatever else comes is put
back, and http.client reads it as ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.client import HTTPResponse, IncompleteRead

from ._bounds import PIECE, Bounds
from ._socket_connection import Wire

__all__ = ["Head", "ordinary", "other"]

#: 200, and how long the body is; no field that changes what follows, and none over two lines.
ORDINARY = re.compile(
    rb"HTTP/1\.1 200(?: [^\r\n]*)?\r\n"
    rb"(?:(?!content-length:|transfer-encoding:|content-encoding:|connection:|upgrade:|[ \t])"
    rb"[^\r\n]+\r\n)*"
    rb"content-length: *(\d{1,15})[ \t]*\r\n"
    rb"(?:(?!content-length:|transfer-encoding:|content-encoding:|connection:|upgrade:|[ \t])"
    rb"[^\r\n]+\r\n)*"
    rb"\r\n",
    re.IGNORECASE,
)


class Head:
    """The head of a request, learned from one with an empty body."""

    def __init__(self, learned: bytes) -> None:
        self._before, length, self._after = learned.partition(b"\r\nContent-Length: 0\r\n")
        if not length:
            raise ValueError("a request without a length")

    def of(self, body: bytes) -> bytes:
        """The request with this body."""
        length = b"\r\nContent-Length: %d\r\n" % len(body)
        return b"".join((self._before, length, self._after, body))


def ordinary(wire: Wire, bounds: Bounds) -> Iterator[bytes] | None:
    """The body of the reply that comes, in pieces; None where it is none for here."""
    data = wire.recv(PIECE)
    found = ORDINARY.match(data)
    if found is None:
        wire.unread(data)
        return None
    length = int(found[1])
    bounds.announced(str(length))
    return _body(wire, data[found.end() :], length)


def _body(wire: Wire, data: bytes, left: int) -> Iterator[bytes]:
    if len(data) > left:  # nobody has asked for what is more
        wire.close()
        data = data[:left]
    while True:
        left -= len(data)
        yield data
        if not left:
            return
        data = wire.recv(min(left, PIECE))
        if not data:
            raise IncompleteRead(b"", left)


def other(wire: Wire) -> HTTPResponse:
    """The reply that comes, as http.client reads it."""
    response = HTTPResponse(wire, method="POST")  # type: ignore[arg-type]
    try:
        response.begin()
    except BaseException:
        response.close()
        raise
    if response.will_close:
        wire.close()  # when the response has been read
    return response

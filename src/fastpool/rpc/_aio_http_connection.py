"""Keep-alive connections of HTTP/1.1 for tasks: httpx's engine without its pool.

`httpx.Limits` can cap connections, but a client of httpx belongs to one event loop, its queue is
its own, and it does not tell whether a connection had been used before it broke, nor whether a byte
of the reply had come.  So its connections are the resources of a FastPool instead.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

try:
    import httpcore
    import httpx
except ImportError as error:
    raise ImportError(
        "fastpool.rpc.aio_jsonrpc and aio_xmlrpc need httpx: pip install 'fastpool[rpc]'"
    ) from error

from fastpool import FastPool

from ._address import Address, Origin
from ._bounds import PIECE, Bounds
from ._deadline import Deadline
from ._errors import BadReply
from ._http_messages import HttpResponse
from ._socket_connection import GATHERED, STILLBORN

__all__ = ["AioHttpConnection", "dial", "live_connection"]


class Counted(httpcore.AsyncNetworkStream):
    """A stream that knows how much it has sent, whether anything of the reply has come, and whether
    it has ended.

    A server may answer before it has read all of a request, and end the connection. So while a long
    piece is sent it listens, and sends no more when something comes.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self.stream = stream
        self.sent = self.received = 0
        self.ended = False
        self.ahead: asyncio.Task[bytes] | None = None  # a read that began while it was sending

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        ahead, self.ahead = self.ahead, None
        data = await (self.stream.read(max_bytes, timeout) if ahead is None else ahead)
        self.received += len(data)
        self.ended = not data
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.sent += len(buffer)
        if len(buffer) <= GATHERED:
            await self.stream.write(buffer, timeout)
            return
        ahead = self.ahead = asyncio.ensure_future(self.stream.read(PIECE, None))
        writing = asyncio.ensure_future(self.stream.write(buffer, timeout))
        try:
            await asyncio.wait([ahead, writing], return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():  # httpx then reads what has come
                raise httpcore.WriteError("the reply came before the request was sent")
            writing.result()
        finally:
            await _end(writing)

    async def aclose(self) -> None:
        ahead, self.ahead = self.ahead, None
        try:
            if ahead is not None:
                await _end(ahead)
        finally:
            await self.stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancels it if it is not over; how it ended has been said, or is of no interest."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


class Coded(httpx.AsyncByteStream):
    """The body of a reply as it comes, for httpx to decode."""

    def __init__(self, reply: httpcore.Response) -> None:
        self.reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.reply.aiter_stream():
            yield piece


async def dial(
    origin: Origin, patience: float | None, context: ssl.SSLContext | None, most: int | None
) -> AioHttpConnection:
    """The factory: a connection to an origin."""
    backend: Any = httpcore.AnyIOBackend()
    try:
        if origin.unix:
            stream = await backend.connect_unix_socket(origin.unix, timeout=patience)
        else:
            stream = await backend.connect_tcp(origin.host, origin.port, timeout=patience)
        if context is not None:
            try:
                stream = await stream.start_tls(context, origin.host, patience)
            except BaseException:  # the pool cancels a handshake that takes too long
                await stream.aclose()
                raise
    except asyncio.CancelledError:
        await asyncio.sleep(0)  # in which asyncio closes what was connected: its place is free then
        raise
    except httpcore.TimeoutException:
        raise TimeoutError(f"{origin}: not connected within {patience:.3g} s") from None
    except httpcore.NetworkError as error:
        said = _of_the_socket(error)
        if said is not None:  # as it is, for its type says more than anybody's words
            raise said from None
        raise ConnectionError(f"{origin}: {error}") from error
    return AioHttpConnection(origin, Counted(stream), most)


def _of_the_socket(error: BaseException) -> OSError | None:
    """What the socket, or TLS, has said to whatever raised this in its place: of several addresses
    the first one's error."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if cause is None:
        return None
    deeper = _of_the_socket(cause)
    if deeper is not None:
        return deeper
    return cause if isinstance(cause, OSError) else None


class AioHttpConnection:
    """One connection."""

    def __init__(self, origin: Origin, stream: Counted, most: int | None) -> None:
        self.most = most  # bytes of a reply
        self.open = True
        self.process = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.name = str(origin)
        self.tls = origin.scheme == "https"
        self.stream = stream
        whole = httpcore.Origin(origin.scheme.encode(), origin.host.encode(), origin.port)
        self.connection = httpcore.AsyncHTTP11Connection(whole, stream)
        self.born = time.monotonic()
        self.uses = 0

    def alive(self) -> bool:
        """Whether it is fit for a turn: open, and nothing to read.  One system call."""
        if self.uses == 0:  # the session tickets of TLS may be there to be read
            return self.tls or not self.stream.get_extra_info("is_readable")
        read_ahead, _ = self.connection._h11_state.trailing_data  # belongs to no question
        return (
            not read_ahead and self.connection.is_available() and not self.connection.has_expired()
        )

    def check(self, began: float) -> bool:
        """As Wire.check."""
        if self.alive():
            return True
        if not self.uses and self.born >= began:
            raise ConnectionResetError(f"{self.name}: {STILLBORN}")
        return False

    def begin(self) -> None:
        self.stream.sent = self.stream.received = 0
        self.uses += 1

    def was_stale(self, error: OSError) -> bool:
        """As Wire.was_stale."""
        known = self.stream.received or self.stream.sent > GATHERED
        return isinstance(error, ConnectionError) and self.uses > 1 and not known

    async def post(self, address: Address, body: bytes, deadline: Deadline) -> HttpResponse:
        """One request and all of its reply."""
        scheme, host, port, _ = address.origin
        url = httpcore.URL(scheme=scheme, host=host, port=port, target=address.path)
        headers = [
            (name.encode(), text.encode("latin-1")) for name, text in address.headers.items()
        ]
        headers.append((b"content-length", b"%d" % len(body)))
        request = httpcore.Request("POST", url, headers=headers, content=body)
        try:
            reply = await self.connection.handle_async_request(request)
            # httpx knows about encodings, and has a reason of its own where it is told of none.
            reason = {"reason_phrase": reply.extensions["reason_phrase"]}
            answer = httpx.Response(
                reply.status, headers=reply.headers, stream=Coded(reply), extensions=reason
            )
            bounds = Bounds(self.most, deadline, self.name)
            try:
                bounds.announced(answer.headers.get("content-length"))
                pieces = [bounds.add(piece) async for piece in answer.aiter_bytes(PIECE)]
            finally:
                await reply.aclose()
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            if isinstance(error, httpcore.NetworkError) or self.stream.ended:
                raise ConnectionResetError(f"{self.name}: {error}") from error
            raise BadReply(f"no HTTP: {error}") from error
        except httpx.DecodingError as error:
            raise BadReply(f"no HTTP: {error}") from error
        return HttpResponse(
            answer.status_code, answer.reason_phrase, dict(answer.headers), b"".join(pieces)
        )

    async def aclose(self) -> None:
        self.shut_down()  # first, for the loop may end, and never go on after an await
        await self.connection.aclose()

    def leave(self) -> Awaitable[None] | None:
        """The pool's close hook.  Where the loop has ended nothing can be awaited, but the server
        must not count the connection any longer."""
        if not self.loop.is_closed():
            return self.aclose()
        self.shut_down()
        return None

    def __del__(self) -> None:
        self.shut_down()

    def shut_down(self) -> None:
        """Ends the connection for the other side, once.  That of a parent process is its own."""
        if not self.open or self.process != os.getpid():
            return
        self.open = False
        connected = self.stream.get_extra_info("socket")
        if connected is not None:
            try:  # by a socket of our own, since that of a uvloop has no shutdown
                with socket.fromfd(connected.fileno(), socket.AF_INET, socket.SOCK_STREAM) as ours:
                    ours.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@asynccontextmanager
async def live_connection(
    pool: FastPool[AioHttpConnection], deadline: Deadline
) -> AsyncIterator[AioHttpConnection]:
    """As the turn of threads."""
    began = time.monotonic()
    while True:
        left = deadline.left()
        if left == 0:
            raise deadline.missed("not begun")
        held = pool.lease(left)
        async with held as http:
            if not http.check(began):
                held.discard()
                continue
            http.begin()
            yield http
            if not http.connection.is_available():
                held.discard()
            return

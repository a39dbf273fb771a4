"""A connected socket with a deadline, and what must be known of it to use it twice."""

from __future__ import annotations

import io
import math
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ._deadline import Deadline

__all__ = ["GATHERED", "STILLBORN", "Wire"]

GATHERED = 1 << 16
"""Bytes that wait to be sent together, at most, and of a request that is sent again."""

PIECE = 1 << 16
"""Bytes that are received at a time."""

STILLBORN = "the server closed a new connection, or spoke on it, before anything was asked"


class _NoEnd(Deadline):
    def __init__(self) -> None:
        self.seconds = self.at = None


T = TypeVar("T")
Socket = socket.socket

NO_END = _NoEnd()

SOON = 1e-6
"""A timeout in seconds that is none any more: 0 would mean not to block."""

READ, WRITE = 1, 2
"""What a socket is waited for, and ready for."""

BROKEN = ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError
"""The connection has ended, and not as it should."""


class Wire:
    """A connected socket, for one user at a time.

    ``send``, ``sendall``, ``recv``, ``recv_into`` and ``makefile("rb")`` end by the deadline of the
    turn, however slowly the other side drips; past it they raise TimeoutError.  Everything else
    (``fileno``, ``getpeername``, ``getpeercert``, ...) is the socket's, which is ``.socket``.
    """

    __module__ = "fastpool.rpc"

    # A socket with a timeout lets go of the GIL when that is set, when it waits, and when it sends
    # or receives; where many threads call, each time another one goes on, and to get the GIL back
    # costs more than the system call.  So this one never blocks, and waits once for each reply.

    __slots__ = (
        *(
            "__weakref__",
            "_ahead",
            "_bounded",
            "_send_error",
            "_socket",
            "born",
            "closed",
            "deadline",
        ),
        *("name", "readers", "received", "sent", "tls", "unsent", "uses"),
    )

    def __init__(self, connected: Socket, name: str, *, gather: bool = False) -> None:
        connected.settimeout(0)
        self._socket = connected
        self._bounded = False  # whether somebody else has it, with a timeout
        self.name = name
        self.tls = connected if isinstance(connected, ssl.SSLSocket) else None
        self.deadline: Deadline = NO_END
        self.born = time.monotonic()
        self.uses = 0
        self.sent = self.received = 0  # bytes of this turn
        self.readers = 0
        self.closed = False
        # With `gather`, what is to be sent waits here until something is to be received: the head
        # and the body of a request in one system call, and one packet.
        self.unsent = bytearray() if gather else None
        # A server of HTTP may answer before it has read all of a request. So where that cannot be
        # sent to its end, what has come is read nevertheless: why it cannot, and what has come.
        self._send_error: Exception | None = None
        self._ahead = bytearray()

    @property
    def wire(self) -> Wire:
        """What is pooled has a wire; of plain sockets it is the wire."""
        return self

    # ---- A turn ---------------------------------------------------------------------------------

    def begin(self, deadline: Deadline) -> None:
        """A turn, which must be over by then."""
        self.deadline = deadline
        self.sent = self.received = 0
        self.uses += 1

    def alive(self) -> bool:
        """Whether it is fit for a turn: open, and nothing to read.  What can be read while nobody
        has asked anything is the end of the connection, or belongs to no question.

        One system call, which does not wait.
        """
        if self.closed:
            return False
        try:
            own = self._own()
            if self.tls is not None and self.tls.pending():
                return False
            Socket.recv(own, 1, socket.MSG_PEEK)  # of the bytes under TLS, too
        except BlockingIOError:
            return True
        except OSError:
            return False
        return self.tls is not None and self._only_about_tls(self.tls)

    def _only_about_tls(self, tls: ssl.SSLSocket) -> bool:
        """Session tickets come after the handshake and lie there until the first read."""
        try:
            tls.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            pass
        return False

    def check(self, began: float) -> bool:
        """``alive``, for a turn that began at that time.  An unused one that was made since must
        be, or it would be replaced again and again."""
        if self.alive():
            return True
        if not self.uses and self.born >= began:
            raise ConnectionResetError(f"{self.name}: {STILLBORN}")
        return False

    def was_stale(self, error: OSError) -> bool:
        """Whether the connection had ended between two turns, as far as can be known here: it was
        good once, and it broke before a byte of this reply.  A server that ends it while a long
        request is sent may mean that request, so such a one is not sent again."""
        known = self.received or self.sent > GATHERED
        return isinstance(error, BROKEN) and self.uses > 1 and not known

    # ---- As a socket ----------------------------------------------------------------------------

    def send(self, data: Any) -> int:
        own, waits = self._own(), 0
        while True:
            self._wait(waits)
            try:
                return own.send(data)
            except (BlockingIOError, ssl.SSLWantWriteError):
                waits = WRITE
            except ssl.SSLWantReadError:
                waits = READ

    def sendall(self, data: Any) -> None:
        if self.unsent is not None:
            self.unsent += data
            if len(self.unsent) >= GATHERED:
                self._flush()
            return
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self.send(rest) :]

    def take_unsent(self) -> bytes:
        """What was gathered, which is then not sent."""
        assert self.unsent is not None
        taken = bytes(self.unsent)
        self.unsent.clear()
        return taken

    def _flush(self) -> None:
        """Sends what was gathered, as far as it can be sent."""
        assert self.unsent is not None
        rest, self.unsent = memoryview(self.unsent), bytearray()
        try:
            while rest and self._send_error is None and (count := self._send_or_receive(rest)):
                self.sent += count
                rest = rest[count:]
        except BROKEN as error:
            self._send_error, self.closed = error, True

    def _send_or_receive(self, data: memoryview) -> int:
        """``send``, which ends with 0 when something comes before it could send."""
        own, waits = self._own(), 0
        while True:
            ready = self._wait(waits)
            if ready & READ and self._receive_pending():
                return 0
            try:
                return own.send(data)
            except (BlockingIOError, ssl.SSLWantWriteError):
                waits = WRITE | READ
            except ssl.SSLWantReadError:
                waits = READ

    def _receive_pending(self) -> bool:
        """Whether an answer has begun: then nothing more is sent."""
        try:
            data = self._own().recv(PIECE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False  # it was about TLS
        self._ahead += data
        self._send_error = ConnectionResetError(f"{self.name}: the connection ended in a request")
        self.closed = True
        return True

    def recv(self, size: int) -> bytes:
        data = self._take_ahead(size) or self._receive(self._own().recv, b"", size)
        self.received += len(data)
        return data

    def unread(self, data: bytes) -> None:
        """Puts back what was received: it is received again."""
        self._ahead[:0] = data
        self.received -= len(data)

    def recv_into(self, buffer: Any, size: int = 0) -> int:
        if ahead := self._take_ahead(size or len(buffer)):
            buffer[: len(ahead)] = ahead
            count = len(ahead)
        else:
            count = self._receive(self._own().recv_into, 0, buffer, size)
        self.received += count
        return count

    def _take_ahead(self, size: int) -> bytes:
        """What came in the middle of a request."""
        if self.unsent:
            self._flush()
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data

    def _receive(self, receive: Callable[..., T], end: T, *args: Any) -> T:
        """``end`` is what it returns at the end of the connection; where that was in the middle of
        a request and there is no answer, its error says more."""
        try:
            what = self._receive_some(receive, *args)
        except BROKEN as error:
            if self._send_error is None or self.received:
                raise
            raise self._send_error from error
        if self._send_error is not None and what == end and not self.received:
            raise self._send_error
        return what

    def _receive_some(self, receive: Callable[..., T], *args: Any) -> T:
        waits = READ if self.tls is None else 0  # TLS may have read ahead
        while True:
            self._wait(waits)
            try:
                return receive(*args)
            except (BlockingIOError, ssl.SSLWantReadError):
                waits = READ
            except ssl.SSLWantWriteError:
                waits = WRITE

    def makefile(self, mode: str = "rb", buffering: int = io.DEFAULT_BUFFER_SIZE) -> _Reader:
        """A buffered reader, to be closed within the turn.  What it has read ahead and nobody asked
        for by then ends the connection, for it would be missing from the next reply; so does one
        that is left open."""
        if mode not in ("r", "rb"):
            raise ValueError(f"makefile() of a pooled connection reads bytes ('rb'), not {mode!r}")
        return _Reader(_Raw(self), io.DEFAULT_BUFFER_SIZE if buffering < 0 else max(buffering, 1))

    def settimeout(self, value: float | None) -> None:
        """Does nothing: the deadline of the turn holds."""

    def gettimeout(self) -> float | None:
        """Seconds that are left of the turn; None: no end."""
        return self.deadline.left()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Ends it when its readers are closed, too: a server that says goodbye in the head of its
        reply is read to the end after the connection was given up."""
        self.closed = True
        if not self.readers:
            self._socket.close()

    def hang_up(self) -> None:
        """Ends it at once."""
        self.closed = True
        self._socket.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)

    def __repr__(self) -> str:
        return f"<Wire {self.name}{' (closed)' if self.closed else ''}>"

    @property
    def socket(self) -> Socket:
        """The socket, whose own calls take no longer than what is left now."""
        left = self.deadline.left()
        self._bounded = True
        if self._socket.fileno() >= 0:
            self._socket.settimeout(left if left != 0 else SOON)
        return self._socket

    def _own(self) -> Socket:
        """The socket, which does not block."""
        if self._bounded:
            self._bounded = False
            if self._socket.fileno() >= 0:
                self._socket.settimeout(0)
        return self._socket

    def _wait(self, until: int) -> int:
        """Until it is ready for one of these, and for which; 0: it may go on at once.  Past the
        deadline it may not."""
        while (left := self.deadline.left()) != 0:
            if until == 0:
                return 0
            if ready := _ready(self._socket, until, left):
                return ready
        raise self.deadline.missed(self.name)


class _Raw(io.RawIOBase):
    """The bytes of a wire."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.over = False
        wire.readers += 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return 0 if self.over else self.wire.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            self.wire.readers -= 1
            if self.wire.closed:
                self.wire.close()
        super().close()


class _Reader(io.BufferedReader):
    def close(self) -> None:
        raw = self.raw
        if not self.closed and isinstance(raw, _Raw):
            raw.over = True
            if self.peek(1):
                raw.wire.close()
        super().close()


def _ready(connected: Socket, until: int, seconds: float | None) -> int:
    """Waits so long, or a while; which of these it is ready for."""
    if seconds is not None:
        seconds = min(seconds, 3600.0)  # the system knows a longest time
    if connected.fileno() < 0:
        return until  # what follows will say that it is closed
    if not hasattr(select, "poll"):  # Windows
        one = [connected]
        reads, writes, fails = select.select(
            one if until & READ else [], one if until & WRITE else [], one, seconds
        )
        return until if fails else (READ if reads else 0) | (WRITE if writes else 0)
    poll = select.poll()
    events = (select.POLLIN if until & READ else 0) | (select.POLLOUT if until & WRITE else 0)
    poll.register(connected, events)
    for _, found in poll.poll(None if seconds is None else math.ceil(seconds * 1000)):
        ready = (READ if found & select.POLLIN else 0) | (WRITE if found & select.POLLOUT else 0)
        return (ready & until) or until  # an error is there for whichever asks
    return 0

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

__all__ = ["STILLBORN", "Wire"]

GATHERED = 1 << 16
"""Bytes that wait to be sent together, at most."""

STILLBORN = "the server closed a new connection, or spoke on it, before anything was asked"


class _NoEnd(Deadline):
    def __init__(self) -> None:
        self.seconds = self.at = None


T = TypeVar("T")
Socket = socket.socket

NO_END = _NoEnd()

SOON = 1e-6
"""A time-out in seconds that is none any more: 0 would mean not to block."""

READ, WRITE = "to be read", "to be written"


class Wire:
    """A connected socket, for one user at a time.

    ``send``, ``sendall``, ``recv``, ``recv_into`` and ``makefile("rb")`` end by the deadline of the
    turn, however slowly the other side drips; past it they raise TimeoutError.  Everything else
    (``fileno``, ``getpeername``, ``getpeercert``, ...) is the socket's, which is ``.socket``.
    """

    # A socket with a time-out lets go of the GIL when that is set, when it waits, and when it sends
    # or receives; where many threads call, each time another one goes on, and to get the GIL back
    # costs more than the system call.  So this one never blocks, and waits once for each reply.

    __slots__ = (
        *("__weakref__", "_bounded", "_socket", "born", "closed", "deadline", "name", "readers"),
        *("received", "tls", "unsent", "uses"),
    )

    def __init__(self, connected: Socket, name: str, *, gather: bool = False) -> None:
        connected.settimeout(0)
        self._socket = connected
        self._bounded = False  # whether somebody else has it, with a time-out
        self.name = name
        self.tls = connected if isinstance(connected, ssl.SSLSocket) else None
        self.deadline: Deadline = NO_END
        self.born = time.monotonic()
        self.uses = 0
        self.received = 0
        self.readers = 0
        self.closed = False
        # With `gather`, what is to be sent waits here until something is to be received: the head
        # and the body of a request in one system call, and one packet.
        self.unsent = bytearray() if gather else None

    @property
    def wire(self) -> Wire:
        """What is pooled has a wire; of plain sockets it is the wire."""
        return self

    # ---- A turn ---------------------------------------------------------------------------------

    def begin(self, deadline: Deadline) -> None:
        """A turn, which must be over by then."""
        self.deadline = deadline
        self.received = 0
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
        good once, and it broke before a byte of this reply."""
        broken = isinstance(error, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
        return broken and self.uses > 1 and not self.received

    # ---- As a socket ----------------------------------------------------------------------------

    def send(self, data: Any) -> int:
        own, waits = self._own(), None
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
            if len(self.unsent) < GATHERED:
                return
            data, self.unsent = self.unsent, bytearray()
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self.send(rest) :]

    def _flush(self) -> None:
        unsent, self.unsent = self.unsent, None
        try:
            self.sendall(unsent)
        finally:
            self.unsent = bytearray()

    def recv(self, size: int) -> bytes:
        data = self._receive(self._own().recv, size)
        self.received += len(data)
        return data

    def recv_into(self, buffer: Any, size: int = 0) -> int:
        count = self._receive(self._own().recv_into, buffer, size)
        self.received += count
        return count

    def _receive(self, receive: Callable[..., T], *args: Any) -> T:
        if self.unsent:
            self._flush()
        waits = READ if self.tls is None else None  # TLS may have read ahead
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

    def _wait(self, until: str | None) -> None:
        """Until there is something to be read, or room to write; None: it may go on at once.  Past
        the deadline it may not."""
        while (left := self.deadline.left()) != 0:
            if until is None or _ready(self._socket, until is READ, left):
                return
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


def _ready(connected: Socket, to_read: bool, seconds: float | None) -> bool:
    """Waits so long, or a while; whether it is."""
    if seconds is not None:
        seconds = min(seconds, 3600.0)  # the system knows a longest time
    if connected.fileno() < 0:
        return True  # what follows will say that it is closed
    if not hasattr(select, "poll"):  # Windows
        one = [connected]
        return any(select.select(one if to_read else [], [] if to_read else one, [], seconds))
    poll = select.poll()
    poll.register(connected, select.POLLIN if to_read else select.POLLOUT)
    return bool(poll.poll(None if seconds is None else math.ceil(seconds * 1000)))

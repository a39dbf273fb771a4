"""A connected socket with a deadline, and what must be known of it to use it twice."""

from __future__ import annotations

import io
import socket
import ssl
import time
from typing import Any

from ._deadline import Deadline

__all__ = ["STILLBORN", "Wire"]

GATHERED = 1 << 16
"""Bytes that wait to be sent together, at most."""

STILLBORN = "the server closed a new connection, or spoke on it, before anything was asked"


class _NoEnd(Deadline):
    def __init__(self) -> None:
        self.seconds = self.at = None


NO_END = _NoEnd()


class Wire:
    """A connected socket, for one user at a time.

    ``send``, ``sendall``, ``recv``, ``recv_into`` and ``makefile("rb")`` end by the deadline of the
    turn, however slowly the other side drips; past it they raise TimeoutError.  Everything else
    (``fileno``, ``getpeername``, ``getpeercert``, ...) is the socket's, which is ``.socket``.
    """

    __slots__ = (
        *("__weakref__", "born", "closed", "deadline", "name", "readers", "received", "socket"),
        *("tls", "unsent", "uses"),
    )

    def __init__(self, connected: socket.socket, name: str, *, gather: bool = False) -> None:
        self.socket = connected
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
        self.socket.settimeout(deadline.left())  # for what is not bounded below

    def alive(self) -> bool:
        """Whether it is fit for a turn: open, and nothing to read.  What can be read while nobody
        has asked anything is the end of the connection, or belongs to no question.

        Two system calls, none of which waits.
        """
        if self.closed:
            return False
        try:
            self.socket.settimeout(0)
            if self.tls is not None and self.tls.pending():
                return False
            socket.socket.recv(self.socket, 1, socket.MSG_PEEK)  # of the bytes under TLS, too
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
        try:
            return self._in_time().send(data)
        except TimeoutError as error:
            raise self._late(error) from None

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
        if self.unsent:
            self._flush()
        try:
            data = self._in_time().recv(size)
        except TimeoutError as error:
            raise self._late(error) from None
        self.received += len(data)
        return data

    def recv_into(self, buffer: Any, size: int = 0) -> int:
        if self.unsent:
            self._flush()
        try:
            count = self._in_time().recv_into(buffer, size)
        except TimeoutError as error:
            raise self._late(error) from None
        self.received += count
        return count

    def makefile(self, mode: str = "rb", buffering: int = io.DEFAULT_BUFFER_SIZE) -> _Reader:
        """A buffered reader, to be closed within the turn.  What it has read ahead and nobody asked
        for by then ends the connection, for it would be missing from the next reply; so does one
        that is left open."""
        if mode not in ("r", "rb"):
            raise ValueError(f"makefile() of a pooled connection reads bytes ('rb'), not {mode!r}")
        return _Reader(_Raw(self), io.DEFAULT_BUFFER_SIZE if buffering < 0 else max(buffering, 1))

    def settimeout(self, value: float | None) -> None:
        """Does nothing: the deadline of the turn holds."""

    def close(self) -> None:
        """Ends it when its readers are closed, too: a server that says goodbye in the head of its
        reply is read to the end after the connection was given up."""
        self.closed = True
        if not self.readers:
            self.socket.close()

    def hang_up(self) -> None:
        """Ends it at once."""
        self.closed = True
        self.socket.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)

    def __repr__(self) -> str:
        return f"<Wire {self.name}{' (closed)' if self.closed else ''}>"

    def _late(self, error: TimeoutError) -> TimeoutError:
        """The deadline, unless it is the system that has given up on the other side (ETIMEDOUT)."""
        return self.deadline.missed(self.name) if error.errno is None else error

    def _in_time(self) -> socket.socket:
        """The socket, whose next step takes no longer than what is left."""
        at = self.deadline.at
        if at is None:
            self.socket.settimeout(None)
        else:
            left = at - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
        return self.socket


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

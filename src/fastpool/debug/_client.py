"""The other end of the debug socket: for ``fastpool top``, and for tools of one's own."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import Any

from ._address import folders, parse

__all__ = ["Connection", "connect", "sockets"]

LONGEST = 64 * 1024 * 1024  # bytes of an answer


def sockets() -> dict[int, str]:
    """The addresses at which processes serve by default, by process number: those of this user,
    or of all users if this one is root.

    A socket that a killed process has left behind is among them: ``connect`` tells.
    """
    found: dict[int, str] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.sock")):
            if path.stem.isdecimal():
                found.setdefault(int(path.stem), f"unix:{path}")
    return found


def connect(address: str, *, token: str | None = None, timeout: float = 10.0) -> Connection:
    """Connect to the debug socket of a process; return a Connection, a context manager.

    ``address``: as ``Server.address`` has it.  ``token``: where the server wants one.  ``timeout``:
    seconds for each answer.  FileNotFoundError, ConnectionRefusedError: nobody listens there.
    PermissionError: the system or the server does not let us in.  TimeoutError: no answer.
    ValueError, TypeError: no such address can be.
    """
    if not isinstance(address, str):
        raise TypeError(f"address must be a string, not {type(address).__name__}")
    connection = Connection(parse(address).connected(timeout), address)
    try:
        connection._introduce(token)
    except BaseException:
        connection.close()
        raise
    return connection


class Connection:
    """A connection to a debug socket; made by ``connect``.  Thread-safe: one request at a time."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self._sock = sock
        self._timeout = sock.gettimeout() or 0.0
        self._lines = sock.makefile("rb")
        self._lock = threading.Lock()
        self.address = address

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and return its answer: ``ask(get="pools", holders=True)``.

        ValueError: what the server says is wrong with it.  ConnectionError: the process has gone,
        or has closed the connection.  TimeoutError: no answer, and the connection is closed.
        """
        answer = self._exchange(request)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            try:
                self._sock.sendall(json.dumps(request).encode() + b"\n")
                line = self._lines.readline(LONGEST)
            except TimeoutError:
                self.close()  # what comes late would be taken for the next answer
                raise TimeoutError(
                    f"{self.address}: no answer within {self._timeout:g} s"
                ) from None
            except (ConnectionError, ValueError):  # ValueError: it has been closed
                line = b""
        if not line.endswith(b"\n"):
            raise ConnectionResetError(f"{self.address} has closed the connection")
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError(f"{self.address} answers what is no object")
        return answer

    def _introduce(self, token: str | None) -> None:
        """Show the token, or see that none is wanted: a server that does not let us in closes."""
        try:
            self._exchange({"get": "pools", "id": 0} if token is None else {"token": token})
        except ConnectionError:
            if token is not None:
                why = "the token is wrong, or it has as many clients as it takes"
            else:
                why = "it wants a token, or has as many clients as it takes"
            raise PermissionError(f"{self.address} does not let us in: {why}") from None

    def close(self) -> None:
        """Close it; a request that waits for its answer ends.  Idempotent."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._sock.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection to {self.address}>"

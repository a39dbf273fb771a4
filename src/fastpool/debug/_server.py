"""The debug socket: one thread that costs the process next to nothing, whoever connects.

Whatever a client does, the thread looks at its sockets at most ``1 / PAUSE`` times a second, rests
``REST`` times as long as it has computed, reads at most ``LONGEST`` bytes of a request, answers one
request at a time, and closes who does not read or write within ``PATIENCE``.
"""

from __future__ import annotations

import atexit
import hmac
import json
import os
import selectors
import socket
import struct
import time
import warnings
from contextlib import suppress

from .._runtime.launch import launch
from ._address import Address, parse
from ._protocol import answer

__all__ = ["Server", "serve", "serve_by_environment"]

MOST_CLIENTS = 8
LONGEST = 4096  # bytes of a request
PAUSE = 0.02  # seconds between two looks: a wrong client costs this often, and no oftener
REST = 50  # times as long as it has computed: a fiftieth of a CPU is all that it takes
LONGEST_REST = 2.0  # seconds: a client waits for some more
PATIENCE = 10.0  # seconds for a request to end, or an answer to be read
QUIET = 600.0  # seconds between two requests
HANDSHAKE = 2.0  # seconds for the token
VARIABLE = "FASTPOOL_DEBUG_SOCKET"

_servers: set[Server] = set()  # those that listen


def serve(address: str | None = None, *, token: str | None = None, control: bool = False) -> Server:
    """Open a socket on which ``fastpool top`` and others may look at this process's pools.

    ``address``: "unix:PATH" or "tcp:HOST:PORT" on loopback; None: a Unix socket of mode 0600, named
    after the process, in a folder of this user's alone.  ``token``: what a client has to send
    first; required with TCP.  ``control``: whether pools may be flushed, suspended, resumed and
    resized through it.  Close the Server, or leave its ``with`` block; a forked child opens one of
    its own.  ValueError, TypeError; OSError: the address is taken.
    """
    if token is not None and (not isinstance(token, str) or not token):
        raise ValueError("token must be a string that is not empty, or None")
    endpoint = parse(address)
    if endpoint.path is None and token is None:
        raise ValueError("a socket on TCP needs a token: every user of this machine can reach it")
    return Server(endpoint, token, control)


class Server:
    """A debug socket that is open; made by ``serve``.  Thread-safe, a context manager."""

    def __init__(self, endpoint: Address, token: str | None, control: bool) -> None:
        self._token = token
        self._control = control
        self._open(endpoint)
        _servers.add(self)

    def _open(self, endpoint: Address) -> None:
        self._endpoint = endpoint
        self._listener = endpoint.bound()
        self._listener.setblocking(False)
        self._wake, self._woken = socket.socketpair()
        self._clients: dict[socket.socket, Client] = {}
        self._over = False
        self._pid = os.getpid()
        launch("fastpool-debug", self._run)

    def __repr__(self) -> str:
        return f"<Server {self.address}{', closed' if self._over else ''}>"

    @property
    def address(self) -> str:
        """Where it listens: what ``fastpool top`` is to be given."""
        return self._endpoint.text

    def close(self) -> None:
        """Close it and what is connected to it.  Idempotent."""
        if not self._over:
            self._over = True
            _servers.discard(self)
            self._endpoint.gone()
            with suppress(OSError):
                self._wake.send(b"x")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- its thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        with selectors.DefaultSelector() as self._selector:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._selector.register(self._woken, selectors.EVENT_READ)
            while not self._over:
                ready = self._selector.select(self._left())
                if self._over:
                    break
                begun = time.thread_time()
                for key, events in ready:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.data, Client):
                        self._attend(key.data, events)
                self._dismiss()
                rest = REST * (time.thread_time() - begun)
                time.sleep(max(PAUSE, min(rest, LONGEST_REST)))
        self._shut()

    def _left(self) -> float | None:
        """Seconds until the first client has had its time."""
        until = min((client.until for client in self._clients.values()), default=None)
        return None if until is None else max(0.0, until - time.monotonic())

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # it has gone again, or there are no descriptors left
            return
        if len(self._clients) >= MOST_CLIENTS or not _is_allowed(sock):
            sock.close()
            return
        sock.setblocking(False)
        client = Client(sock, self._token is None)
        self._clients[sock] = client
        self._selector.register(sock, selectors.EVENT_READ, client)

    def _attend(self, client: Client, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                client.receive()
            if client.line is not None and not client.unsent:
                self._handle(client, client.take_line())
            client.send()
        except (OSError, ValueError):
            self._drop(client)
            return
        busy = selectors.EVENT_WRITE if client.unsent else selectors.EVENT_READ
        if client.line is not None:  # the next request is there already
            busy = selectors.EVENT_WRITE
        self._selector.modify(client.sock, busy, client)

    def _handle(self, client: Client, line: bytes) -> None:
        if client.known:
            client.reply(answer(line, self._control))
            return
        try:
            said = json.loads(line)["token"]
        except (ValueError, TypeError, KeyError, RecursionError):
            said = ""
        if not hmac.compare_digest(str(said).encode(), str(self._token).encode()):
            raise ValueError("a wrong token")
        client.known = True
        client.reply(b'{"welcome": true}\n')

    def _dismiss(self) -> None:
        """Those who have had their time."""
        now = time.monotonic()
        for client in [each for each in self._clients.values() if each.until <= now]:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        self._selector.unregister(client.sock)
        del self._clients[client.sock]
        client.sock.close()

    def _shut(self) -> None:
        for sock in [self._listener, self._wake, self._woken, *self._clients]:
            sock.close()

    # ---- fork ------------------------------------------------------------------------------------

    def _open_in_child(self) -> None:
        self._shut()
        try:
            self._open(self._endpoint.for_child())
        except (OSError, RuntimeError) as error:
            self._over = True
            _servers.discard(self)
            warnings.warn(f"fastpool's debug socket: {error}", RuntimeWarning, stacklevel=2)


class Client:
    """Who is connected: what it has sent so far, and what it has not read yet."""

    def __init__(self, sock: socket.socket, known: bool) -> None:
        self.sock = sock
        self.known = known  # it has shown its token
        self.unsent = b""
        self._received = b""
        self.until = time.monotonic() + (QUIET if known else HANDSHAKE)

    @property
    def line(self) -> int | None:
        """Where the first request ends, if it is there."""
        end = self._received.find(b"\n")
        return None if end < 0 else end

    def receive(self) -> None:
        """ValueError: the request is too long.  OSError: it has gone."""
        piece = self.sock.recv(LONGEST)
        if not piece:
            raise ConnectionResetError("the client has gone")
        if not self._received and self.known:
            self.until = time.monotonic() + PATIENCE
        self._received += piece
        if len(self._received) > LONGEST:
            raise ValueError("a request that is too long")

    def take_line(self) -> bytes:
        line, _, self._received = self._received.partition(b"\n")
        return line

    def reply(self, said: bytes) -> None:
        self.unsent = said
        self.until = time.monotonic() + PATIENCE

    def send(self) -> None:
        if not self.unsent:
            return
        with suppress(BlockingIOError):
            self.unsent = self.unsent[self.sock.send(self.unsent) :]
        if not self.unsent:
            self.until = time.monotonic() + QUIET


def _is_allowed(sock: socket.socket) -> bool:
    """Whether the other end is this user's, or root's, where the system tells."""
    if sock.family != getattr(socket, "AF_UNIX", None) or not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[1] in (os.getuid(), 0)


def serve_by_environment() -> None:
    """Serve at the default address if FASTPOOL_DEBUG_SOCKET is 1; called by ``import fastpool``
    where the variable is set.  A warning if that cannot be done, for the program must run."""
    value = os.environ.get(VARIABLE, "")
    if value == "1":
        try:
            serve()
        except (OSError, RuntimeError) as error:
            warnings.warn(f"{VARIABLE}=1: {error}", RuntimeWarning, stacklevel=2)
    elif value not in ("", "0"):
        warnings.warn(f"{VARIABLE} is 1 or 0, not {value!r}", RuntimeWarning, stacklevel=2)


def _close_all() -> None:
    for server in list(_servers):
        if server._pid == os.getpid():
            server.close()


def _open_all_in_child() -> None:
    for server in list(_servers):
        server._open_in_child()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all_in_child)

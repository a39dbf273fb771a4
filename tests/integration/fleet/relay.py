"""Passes connections on to a port of this machine, until it is closed: then nobody gets through."""

from __future__ import annotations

import selectors
import socket
import threading

__all__ = ["Relay"]


class Relay:
    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._stop, self._stopped = socket.socketpair()
        self._other: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with selectors.DefaultSelector() as waits:
            waits.register(self._listener, selectors.EVENT_READ)
            waits.register(self._stopped, selectors.EVENT_READ)
            while self._stopped not in (ready := [key.fileobj for key, _ in waits.select()]):
                for end in ready:
                    if end is self._listener:
                        near, _ = self._listener.accept()
                        far = socket.create_connection(("127.0.0.1", self._to))
                        self._other |= {near: far, far: near}
                        waits.register(near, selectors.EVENT_READ)
                        waits.register(far, selectors.EVENT_READ)
                    elif end in self._other:
                        self._pass_on(end, waits)
        for end in (self._listener, self._stopped, *self._other):
            end.close()

    def _pass_on(self, end: socket.socket, waits: selectors.BaseSelector) -> None:
        other = self._other[end]
        try:
            data = end.recv(65536)
            other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for one in (end, other):
                waits.unregister(one)
                del self._other[one]
                one.close()

    def close(self) -> None:
        """Ends all connections, and takes no more."""
        self._stop.send(b"!")
        self._thread.join()
        self._stop.close()

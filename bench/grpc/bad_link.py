"""A TCP proxy on loopback that has bad days: it loses, delays, resets and half-closes."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset
BUFFER = 1 << 16


class Link:
    """One connection, and the one to the server behind it."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.swallows = False  # whatever is sent, in either direction, arrives nowhere
        self.delay = 0.0  # seconds for each piece
        self.carried = 0  # bytes, in both directions
        self.is_open = True  # as far as the client can see
        for source, sink in ((near, far), (far, near)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(BUFFER):
                self.carried += len(data)
                if self.delay:
                    time.sleep(self.delay)
                if not self.swallows:
                    sink.sendall(data)
        if source is self.near or not self.swallows:
            self.is_open = False
        while self.swallows:  # not even the end of it arrives
            if self.near.fileno() < 0:
                return
            time.sleep(0.05)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def half_close(self) -> None:
        """The server has nothing more to say, and hears on."""
        self.is_open = False
        with suppress(OSError):
            self.near.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.is_open = False
        for each in (self.near, self.far):
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                each.shutdown(socket.SHUT_RD)
            each.close()


class BadLink:
    """Listens on a port of its own and passes on to that of a server. A context manager.

    `swallow()` is what a network does that drops packets: connections that are open now get nothing
    any more and no word of it; new ones work, unless `all` are to be lost.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.links: list[Link] = []  # every one there ever was
        self.all_lost = False
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._port), 5)
                    far.settimeout(None)
                except OSError:
                    near.close()
                    continue
                link = Link(near, far)
                link.swallows = self.all_lost
                self.links.append(link)

    def swallow(self, *links: Link, all: bool = False) -> None:
        self.all_lost = all
        for link in links or self.links:
            link.swallows = True

    def one(self, dice: random.Random) -> Any:
        """Some link that its client holds open; None: there is none."""
        open_ones = [link for link in self.links if link.is_open]
        return dice.choice(open_ones) if open_ones else None

    def __enter__(self) -> BadLink:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Closed alone, it would go on accepting: the thread that waits in it keeps it.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()  # what it accepted last is one of the links now
        for link in self.links:
            link.reset()

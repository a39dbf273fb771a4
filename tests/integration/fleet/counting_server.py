"""A server that counts its connections, and tells each when it is counted."""

from __future__ import annotations

import selectors
import socket
import threading

__all__ = ["CountingServer"]


class CountingServer:
    """Says a byte to each connection, when it is counted, and closes it when the client does."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = self.most = 0
        self.stop, self.stopped = socket.socketpair()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with selectors.DefaultSelector() as waits:
            waits.register(self.listener, selectors.EVENT_READ)
            waits.register(self.stopped, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in waits.select()]
                if self.stopped in ready:
                    break
                for end in (end for end in ready if end is not self.listener):
                    waits.unregister(end)  # first those that have ended
                    self.open -= 1
                    end.close()  # type: ignore[union-attr]
                if self.listener in ready:
                    end, _ = self.listener.accept()
                    waits.register(end, selectors.EVENT_READ)
                    self.open += 1
                    self.most = max(self.most, self.open)
                    end.send(b"!")
            for key in list(waits.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]

    def close(self) -> None:
        self.stop.send(b"!")
        self.thread.join()
        self.stop.close()

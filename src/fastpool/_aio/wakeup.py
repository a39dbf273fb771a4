"""What any thread writes to when an event loop has mail: an eventfd, or a pair of sockets."""

from __future__ import annotations

import os
import socket

__all__ = ["WakeupFd"]


class WakeupFd:
    """``write_fd``: the descriptor to write to; ``read_fd``: the one that is readable then."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, ...] = ()
        if hasattr(os, "eventfd"):
            self.read_fd = self.write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            return
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)
        self.read_fd, self.write_fd = (end.fileno() for end in self._ends)

    def drain(self) -> None:
        """Takes in what was written."""
        try:
            if self._ends:
                self._ends[0].recv(4096)
            else:
                os.read(self.read_fd, 8)
        except BlockingIOError:
            pass

    def close(self) -> None:
        if self._ends:
            for end in self._ends:
                end.close()
        else:
            os.close(self.read_fd)

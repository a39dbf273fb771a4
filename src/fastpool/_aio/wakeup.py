"""What any thread writes to when an event loop has mail: an eventfd, or a pair of sockets."""

from __future__ import annotations

import os
import socket

__all__ = ["WakeupFd"]


class WakeupFd:
    """``rope``: the descriptor to write to; ``ear``: the one that is readable then."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, ...] = ()
        if hasattr(os, "eventfd"):
            self.ear = self.rope = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            return
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)
        self.ear, self.rope = (end.fileno() for end in self._ends)

    def hear(self) -> None:
        """Takes in what was written."""
        try:
            if self._ends:
                self._ends[0].recv(4096)
            else:
                os.read(self.ear, 8)
        except BlockingIOError:
            pass

    def close(self) -> None:
        if self._ends:
            for end in self._ends:
                end.close()
        else:
            os.close(self.ear)

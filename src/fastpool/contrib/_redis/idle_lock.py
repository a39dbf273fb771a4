"""The lock of a pool of threads: whoever has it has every idle connection.

What looks at all connections (a re-authentication, a server that moves, ``disconnect``) asks for
``pool._lock`` in redis-py, where each turn of a client takes that lock, too.  Here turns take no
lock: the holder takes the idle connections out of the pool instead, and new ones are not made
meanwhile.  Clients wait, as ever, for what comes back.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from fastpool import FastPool, PoolTimeout

__all__ = ["IdleLock"]


class IdleLock:
    """``with lock:`` - nobody else gets at what was idle.  Re-entrant; for threads."""

    def __init__(self, pool: FastPool[Any]) -> None:
        self.pool = pool
        self.held: list[Any] = []  # written by the owner of `creation` alone
        self.depth = 0  # written by the owner of `creation` alone
        self.owner = 0
        self._anew()

    def _anew(self) -> None:
        self._creation, self._process = threading.RLock(), os.getpid()

    @property
    def creation(self) -> Any:
        """Who makes a connection has this.  In a forked child, whose parent may have had it at that
        moment, it is a new one."""
        if self._process != os.getpid():
            self.held, self.depth, self.owner = [], 0, 0
            self._anew()
        return self._creation

    def mine(self) -> bool:
        """Whether the calling thread is inside the block."""
        return self.owner == threading.get_ident()

    def __enter__(self) -> IdleLock:
        self.creation.acquire()
        self.depth += 1
        if self.depth == 1:
            self.owner = threading.get_ident()
            self._take()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.depth == 1:
                self.owner = 0
                self._give_back()
        finally:
            self.depth -= 1
            self.creation.release()

    def _take(self) -> None:
        """All that is idle.  Where somebody else was quicker, one that was just made for it may be
        among them: it is not connected."""
        for _ in range(self.pool.qsize()):
            if not self.pool.qsize():
                return
            try:
                self.held.append(self.pool.get_nowait())
            except PoolTimeout:
                return

    def _give_back(self) -> None:
        """In the order in which they were taken: what was used last is on top again."""
        while self.held:
            self.pool.put(self.held.pop())

"""A process with a pool and a budget, told line by line what to do; it answers each with a line.

    python worker.py PATH LIMIT MAXSIZE SERVER SLOTS
    python worker.py redis://HOST:PORT LIMIT MAXSIZE SERVER SLOTS
    python worker.py PATH@redis://HOST:PORT LIMIT MAXSIZE SERVER SLOTS

SLOTS: it has a SharedPool, with so many slots for each resource; 0: a FastPool.
take N: borrows N more, as many as it gets, without waiting for the rest; give N; fork: a child
that borrows and gives back; stats; leads; close;
quit; leave: likewise, without a `close` of the pool.  With Redis a resource is a connection to
SERVER, a port; with a path before it the budget is that of a machine.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import Any

from fastpool import FastPool, SharedPool
from fastpool.fleet import LocalBudget, RedisBudget

PATIENCE = 60.0
leases: list[Any] = []  # lent until the process has ended
TTL, GRACE = 6.0, 1.5
LONG_TTL = 600.0  # of machines: no test could wait for the end of such a lease


class Resource:
    def close(self) -> None:
        pass


class Connection:
    """To a server that counts; closed when the server has closed it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.recv(1)  # counted

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)
        self.socket.recv(1)
        self.socket.close()


def main(path: str, limit: int, maxsize: int, server: int, slots: int) -> None:
    budget: Any
    factory: Any = Resource
    if path.startswith("redis:"):
        budget = RedisBudget(path, "orders", limit, ttl=TTL, grace=GRACE)
        factory = lambda: Connection(server)  # noqa: E731
    elif "@redis:" in path:
        path, _, url = path.partition("@")
        parent = RedisBudget(url, "orders", limit, ttl=LONG_TTL, grace=GRACE)
        budget = LocalBudget(path, parent=parent)
        factory = lambda: Connection(server)  # noqa: E731
    else:
        budget = LocalBudget(path, limit)
    options: Any = {"budget": budget, "timeout": PATIENCE, "warn_unclosed": False}
    pool: Any
    if slots:
        pool = SharedPool(factory, items=(0, maxsize), slots=slots, **options)
    else:
        pool = FastPool(maxsize, factory=factory, **options)

    def borrow() -> None:
        leases.append(pool.acquire())

    def in_child() -> None:
        child = os.fork()
        if child:
            say(f"{child}")
            return
        pool.acquire().release()  # waits until the budget has one for it
        say("child has borrowed")
        sys.stdin.readline()
        os._exit(0)

    say("ready")
    for line in sys.stdin:
        words = line.split()
        if words[0] == "take":
            for _ in range(int(words[1])):
                threading.Thread(target=borrow, daemon=True).start()
            say("ok")
        elif words[0] == "give":
            for _ in range(int(words[1])):
                leases.pop().release()
            say("ok")
        elif words[0] == "fork":
            in_child()
        elif words[0] == "close":
            pool.close(timeout=0)
            say("ok")
        elif words[0] == "leave":
            return
        elif words[0] == "leads":
            say(str(int(getattr(budget, "_lead", None) is not None)))
        elif words[0] == "stats":
            stats = pool.stats()
            say(f"{len(leases)} {stats.open} {stats.waiting} {stats.budget.lapses}")
        else:
            break
    pool.close(timeout=0)


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], *(int(word) for word in sys.argv[2:]))

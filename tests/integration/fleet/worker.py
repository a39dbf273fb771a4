"""A process with a pool and a budget, told line by line what to do; it answers each with a line.

    python worker.py PATH LIMIT MAXSIZE [SLOTS]

SLOTS: it has a SharedPool, with so many slots for each resource.
take N: borrows N more, as many as it gets, without waiting for the rest; give N; fork: a child
that borrows and gives back; stats; quit.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from fastpool import FastPool, SharedPool
from fastpool.fleet import LocalBudget

PATIENCE = 60.0


class Resource:
    def close(self) -> None:
        pass


def main(path: str, limit: int, maxsize: int, slots: int = 0) -> None:
    options: Any = {"budget": LocalBudget(path, limit), "timeout": PATIENCE, "warn_unclosed": False}
    pool: Any
    if slots:
        pool = SharedPool(Resource, items=(0, maxsize), slots=slots, **options)
    else:
        pool = FastPool(maxsize, factory=Resource, **options)
    leases: list[Any] = []

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
        elif words[0] == "stats":
            stats = pool.stats()
            say(f"{len(leases)} {stats.open} {stats.waiting}")
        else:
            break
    pool.close(timeout=0)


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], *(int(word) for word in sys.argv[2:]))

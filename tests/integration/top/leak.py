"""A service with pools, one of which leaks: what the tests of `fastpool top` look at.

    python leak.py [ADDRESS [TOKEN]]    without an address it opens no socket itself

It says "ready ADDRESS" and runs until its standard input ends, or is told: "turn" makes somebody
wait for a moment, "leak" leaks one more; after "step" it is where it was.
"""

from __future__ import annotations

import sys
import threading

import fastpool
from fastpool import FastPool, KeyedPool, PoolTimeout, SharedPool, WeightedSemaphore, WorkerPool


class Connection:
    """Whatever a driver returns."""


orders = FastPool(3, factory=Connection, name="orders", leak_after=3600)
servers = KeyedPool(lambda key: Connection(), max_total=5, name="servers")
shared = SharedPool(Connection, items=(1, 2), slots=10, name="shared")
memory = WeightedSemaphore(100, name="memory")
workers = WorkerPool(2, max_queue=3, thread_name_prefix="reports")
kept = []


def forget_to_release():
    kept.append(orders.acquire())  # THE LEAK


def turn():
    """One caller waits, and one has waited for too long."""
    with orders.lease():
        waiter = threading.Thread(target=lambda: orders.acquire().release())
        while orders.stats().leased < orders.maxsize:
            forget_to_release()
        waiter.start()
        try:
            orders.acquire(0.01)
        except PoolTimeout:
            pass
        while not orders.stats().waiting:
            pass
    waiter.join()


def main():
    address, token = (*sys.argv[1:], None, None)[:2]
    server = fastpool.debug.serve(address, token=token) if address else None
    held = [shared.acquire(), servers.acquire("a.example"), servers.acquire("b.example")]
    memory.acquire(40)
    thread = threading.Thread(target=forget_to_release, name="checkout-7")
    thread.start()
    thread.join()
    print("ready", server.address if server else "-", flush=True)
    for line in sys.stdin:
        {"turn": turn, "leak": forget_to_release, "step": bool}[line.strip()]()
        print("done", flush=True)
    del held


if __name__ == "__main__":
    from fastpool import debug  # noqa: F401 - reached as fastpool.debug

    main()

"""A process that makes calls to the partner of test_calls_processes.py, under a budget.

    python calling.py PATH LIMIT PORT CALLERS threads|tasks

It calls until it is killed, with so many callers at once.  A call is over when the partner says so.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading

from fastpool.calls import CallPolicy
from fastpool.fleet import LocalBudget


def threads(policy: CallPolicy, port: int, callers: int) -> None:
    @policy
    def call() -> None:
        with socket.create_connection(("127.0.0.1", port)) as partner:
            partner.sendall(b"%d\n" % os.getpid())
            partner.recv(1)

    def go_on() -> None:
        while True:
            call()

    for _ in range(callers):
        threading.Thread(target=go_on, daemon=True).start()
    threading.Event().wait()


def tasks(policy: CallPolicy, port: int, callers: int) -> None:
    @policy
    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"%d\n" % os.getpid())
        await reader.read(1)
        writer.close()

    async def go_on() -> None:
        while True:
            await call()

    async def main() -> None:
        await asyncio.gather(*(go_on() for _ in range(callers)))

    asyncio.run(main())


if __name__ == "__main__":
    path, limit, port, callers, kind = sys.argv[1:]
    policy = CallPolicy(limit=LocalBudget(path, int(limit)), name="partner")
    {"threads": threads, "tasks": tasks}[kind](policy, int(port), int(callers))

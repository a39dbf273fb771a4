"""Threads and tasks share one pool, and one line: first come, first served.

    python examples/threads_and_tasks.py

The factory is a plain function, so the pool serves both; it runs on the pool's own threads.
"""

import asyncio
import sqlite3
import threading
import time
from collections import Counter

from fastpool import FastPool

ROUND_TRIPS = 25  # for each of 4 threads and 4 tasks


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", check_same_thread=False)


def thread(pool: FastPool, served: list[str]) -> None:
    for _ in range(ROUND_TRIPS):
        with pool.lease(timeout=5) as db:
            db.execute("SELECT 1").fetchone()
            served.append("thread")
            time.sleep(0.001)


async def task(pool: FastPool, served: list[str]) -> None:
    for _ in range(ROUND_TRIPS):
        async with pool.lease(timeout=5) as db:
            await asyncio.to_thread(lambda: db.execute("SELECT 1").fetchone())
            served.append("task")
            await asyncio.sleep(0.001)


async def main() -> None:
    served: list[str] = []
    async with FastPool(2, factory=connect, name="db") as pool:
        threads = [threading.Thread(target=thread, args=(pool, served)) for _ in range(4)]
        for each in threads:
            each.start()
        await asyncio.gather(*(task(pool, served) for _ in range(4)))
        for each in threads:
            await asyncio.to_thread(each.join)
        stats = pool.stats()

    turns = Counter(served)
    print(f"{turns['thread']} turns of threads, {turns['task']} turns of tasks")
    print(f"{stats.created} connections, {stats.timeouts} timeouts")


if __name__ == "__main__":
    asyncio.run(main())

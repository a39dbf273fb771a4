"""Two event loops in two threads, and a third one after them, use one pool under one cap.

    python examples/several_loops.py

What an async factory makes belongs to the loop that made it and is never lent on another. When the
cap is reached, the connection idle longest is closed where it lives, and its place goes to whoever
waits.
"""

import asyncio
import threading

from fastpool import FastPool


class Connection:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def ask(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0.001)

    async def aclose(self) -> None:
        assert asyncio.get_running_loop() is self.loop


async def connect() -> Connection:
    return Connection()


async def ask(pool: FastPool, times: int) -> None:
    for _ in range(times):
        async with pool.lease(timeout=5) as connection:
            await connection.ask()


async def work(pool: FastPool) -> None:
    await asyncio.gather(*(ask(pool, 10) for _ in range(6)))


def main() -> None:
    pool = FastPool(4, factory=connect, name="service")
    loops = [threading.Thread(target=lambda: asyncio.run(work(pool))) for _ in range(2)]
    for each in loops:
        each.start()
    for each in loops:
        each.join()
    print(f"two loops at once: {pool.stats().uses} leases, {pool.stats().open} still open")

    asyncio.run(work(pool))  # those loops are closed; this one makes its own
    print(f"and a third one: {pool.stats().uses} leases")
    print(f"all is closed: {pool.close()}")


if __name__ == "__main__":
    main()

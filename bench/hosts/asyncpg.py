"""`python -m bench.hosts.asyncpg`: asyncpg's own pool, and FastPool with `asyncpg.connect`.

64 tasks on 8 connections of a PostgreSQL of our own, each turn a connection, `select 1` and the way
back: with `Connection.reset` there, as asyncpg's pool has it, and without.  Beside them the least
that a pool can cost: an `asyncio.Queue` of connections, each of which its borrower resets.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any

from bench import machine, servers
from bench.hosts.sqlalchemy import servers_ready
from bench.hosts.turns import Turns, of_run
from bench.measure import NotRun

TASKS, CONNECTIONS = 64, 8

Contestant = Callable[[float], Coroutine[Any, Any, Turns]]


async def turns(lend: Callable[[], Any], seconds: float) -> Turns:
    """Of all tasks, for so many seconds."""
    counts, worst = [0] * TASKS, [0.0] * TASKS
    began, cpu = time.perf_counter(), time.process_time()

    async def run(task: int) -> None:
        while (asked := time.perf_counter()) < began + seconds:
            async with lend() as connection:
                await connection.fetchval("select 1")
            worst[task] = max(worst[task], time.perf_counter() - asked)
            counts[task] += 1

    await asyncio.gather(*(run(task) for task in range(TASKS)))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return of_run(counts, worst, took, cpu)


async def with_theirs(dsn: str, options: dict[str, Any], seconds: float) -> Turns:
    import asyncpg

    async with asyncpg.create_pool(
        dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, **options
    ) as pool:
        return await turns(pool.acquire, seconds)


async def with_ours(dsn: str, options: dict[str, Any], seconds: float) -> Turns:
    import asyncpg

    from fastpool import FastPool

    async def connect() -> Any:
        return await asyncpg.connect(dsn)

    async with FastPool(CONNECTIONS, factory=connect, **options) as pool:
        await pool.awarm(CONNECTIONS)
        return await turns(pool.lease, seconds)


async def with_a_queue(dsn: str, seconds: float) -> Turns:
    import asyncpg

    idle: asyncio.Queue[Any] = asyncio.Queue()
    connections = [await asyncpg.connect(dsn) for _ in range(CONNECTIONS)]
    for connection in connections:
        idle.put_nowait(connection)

    @asynccontextmanager
    async def lend() -> AsyncIterator[Any]:
        connection = await idle.get()
        yield connection
        await connection.reset()
        idle.put_nowait(connection)

    found = await turns(lend, seconds)
    for connection in connections:
        await connection.close()
    return found


async def no_reset(connection: object) -> None:
    pass


def contestants(dsn: str) -> dict[str, Contestant]:
    """Name: a run of it.  The first is asyncpg's own pool."""
    import asyncpg

    return {
        "asyncpg's": partial(with_theirs, dsn, {}),
        "ours, reset=Connection.reset": partial(
            with_ours, dsn, {"reset": asyncpg.Connection.reset}
        ),
        "a queue, reset by hand": partial(with_a_queue, dsn),
        "asyncpg's, without a reset": partial(with_theirs, dsn, {"reset": no_reset}),
        "ours, without a reset": partial(with_ours, dsn, {}),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--port", type=int, help="of a PostgreSQL that trusts the user bench")
    asked = parser.parse_args()
    rounds, seconds = (3, 0.3) if asked.quick else (9, 1.0)
    described = machine.describe()
    described["peers"] = {"asyncpg": machine.version_of("asyncpg")}
    print("\n".join(machine.in_words(described)), flush=True)
    try:
        with nullcontext(asked.port) if asked.port else servers.postgresql() as port:
            servers_ready(port)
            runs = contestants(f"postgresql://bench@127.0.0.1:{port}/postgres")
            names = list(runs)
            found: dict[str, list[Turns]] = {name: [] for name in names}
            for round_ in range(rounds):
                first = round_ % len(names)
                for name in names[first:] + names[:first]:
                    found[name].append(asyncio.run(runs[name](seconds)))
            print(f"\nA select by {TASKS} tasks, {CONNECTIONS} connections")
            print(f"{'pool':<31}{'turns/s':>9}{'x host':>8}{'CPU':>11}{'least/most':>13}")
            for name, mine in found.items():
                print(row(name, mine, found[names[0]]), flush=True)
    except (NotRun, ImportError) as reason:
        print(f"NOT RUN: {reason}")
    return 0


def row(name: str, mine: list[Turns], own: list[Turns]) -> str:
    """Medians: of the rates, their ratio in a round, the CPU of a turn, least turns by most."""
    rate = statistics.median(turns.rate for turns in mine)
    times = statistics.median(a.rate / b.rate for a, b in zip(mine, own))
    cpu = statistics.median(turns.cpu for turns in mine)
    even = statistics.median(turns.least / turns.most for turns in mine)
    return f"{name:<31}{rate:>9,.0f}{times:>8.2f}{cpu:>8.1f} us{even:>13.2f}"


if __name__ == "__main__":
    sys.exit(main())

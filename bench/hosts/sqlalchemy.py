"""`python -m bench.hosts.sqlalchemy`: SQLAlchemy's pools and ours under its engines.

Threads by psycopg, tasks by asyncpg, on a PostgreSQL of our own: each turn is a connection, `select
1` and the way back with its rollback; 1, 4, 8 and 16 callers on 4 connections.  Contestants take
turns inside a round, beginning with another one each round; figures are medians over the rounds,
ratios those of the same round.  Then the CPU of `pool.connect().close()` alone, in one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from bench import machine, servers
from bench.measure import Case, NotRun, pair_times

CALLERS = (1, 4, 8, 16)
CONNECTIONS = 4


@dataclass(frozen=True)
class Turns:
    """What the callers of one run came to."""

    rate: float  # turns a second, of all callers
    least: int  # turns of the caller that got fewest
    most: int
    worst: float  # longest wait for a connection, in seconds
    cpu: float  # microseconds of this process for each turn


def of_run(turns: Sequence[int], waits: Sequence[float], seconds: float, cpu: float) -> Turns:
    total = sum(turns)
    return Turns(total / seconds, min(turns), max(turns), max(waits), cpu / max(total, 1) * 1e6)


# ---- Threads -------------------------------------------------------------------------------------


def thread_pools() -> dict[str, dict[str, Any]]:
    """Contestant: what `create_engine` is given."""
    from sqlalchemy.pool import QueuePool

    from fastpool.contrib.sqlalchemy import FastQueuePool

    return {
        "QueuePool": {"poolclass": QueuePool},
        "FastQueuePool": {"poolclass": FastQueuePool},
        'FastQueuePool, fairness="throughput"': {
            "poolclass": FastQueuePool,
            "fairness": "throughput",
        },
    }


def by_threads(port: int, options: dict[str, Any], callers: int, seconds: float) -> Turns:
    from sqlalchemy import create_engine, text

    url = f"postgresql+psycopg://bench@127.0.0.1:{port}/postgres"
    engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0, **options)
    statement = text("select 1")
    for connection in [engine.connect() for _ in range(CONNECTIONS)]:
        connection.execute(statement)
        connection.close()
    turns, waits = [0] * callers, [0.0] * callers
    start, over = threading.Barrier(callers + 1), threading.Event()

    def run(caller: int) -> None:
        start.wait()
        while not over.is_set():
            asked = time.perf_counter()
            with engine.connect() as connection:
                waits[caller] = max(waits[caller], time.perf_counter() - asked)
                connection.execute(statement)
            turns[caller] += 1

    threads = [threading.Thread(target=run, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    start.wait()
    began, cpu = time.perf_counter(), time.process_time()
    time.sleep(seconds)
    over.set()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    for thread in threads:
        thread.join()
    engine.dispose()
    return of_run(turns, waits, took, cpu)


# ---- Tasks ---------------------------------------------------------------------------------------


def task_pools() -> dict[str, dict[str, Any]]:
    from sqlalchemy.pool import AsyncAdaptedQueuePool

    from fastpool.contrib.sqlalchemy import AsyncFastQueuePool

    return {
        "AsyncAdaptedQueuePool": {"poolclass": AsyncAdaptedQueuePool},
        "AsyncFastQueuePool": {"poolclass": AsyncFastQueuePool},
    }


def task_engine(port: int, options: dict[str, Any]) -> Any:
    from sqlalchemy.ext.asyncio import create_async_engine

    url = f"postgresql+asyncpg://bench@127.0.0.1:{port}/postgres"
    return create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0, **options)


def by_tasks(port: int, options: dict[str, Any], callers: int, seconds: float) -> Turns:
    from sqlalchemy import text

    statement = text("select 1")

    async def main() -> Turns:
        engine = task_engine(port, options)
        for connection in [await engine.connect() for _ in range(CONNECTIONS)]:
            await connection.execute(statement)
            await connection.close()
        turns, waits = [0] * callers, [0.0] * callers
        began, cpu = time.perf_counter(), time.process_time()

        async def run(caller: int) -> None:
            while (asked := time.perf_counter()) < began + seconds:
                async with engine.connect() as connection:
                    waits[caller] = max(waits[caller], time.perf_counter() - asked)
                    await connection.execute(statement)
                turns[caller] += 1

        await asyncio.gather(*(run(caller) for caller in range(callers)))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        await engine.dispose()
        return of_run(turns, waits, took, cpu)

    return asyncio.run(main())


def second_loop(port: int, options: dict[str, Any]) -> str:
    """What eight tasks get on a second event loop, the engine having been used on a first."""
    from sqlalchemy import text

    engine = task_engine(port, options)

    async def turn() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))

    async def main() -> None:
        await asyncio.gather(*(turn() for _ in range(8)))

    asyncio.run(main())
    try:
        asyncio.run(main())
    except Exception as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:80]}"
    return "served"


# ---- One checkout --------------------------------------------------------------------------------


def checkouts(port: int, rounds: int) -> dict[str, float]:
    """Microseconds of CPU of `pool.connect().close()`, with a connection idle."""
    from sqlalchemy import create_engine

    url = f"postgresql+psycopg://bench@127.0.0.1:{port}/postgres"
    cases, engines = {}, []
    for name, options in thread_pools().items():
        engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0, **options)
        engine.connect().close()
        engines.append(engine)
        cases[name] = Case("pool.connect().close()", {"pool": engine.pool})
    times = pair_times(cases, rounds=rounds)
    for engine in engines:
        engine.dispose()
    return {name: series.median / 1e3 for name, series in times.items()}


# ---- The report ----------------------------------------------------------------------------------

Contestants = dict[str, dict[str, Any]]
By = Callable[[int, dict[str, Any], int, float], Turns]


def compare(port: int, pools: Contestants, by: By, rounds: int, seconds: float) -> list[str]:
    """Rows of a table: one for each number of callers and contestant; the first one is the host's
    own, which the others are divided by."""
    rows = []
    names = list(pools)
    for callers in CALLERS:
        found: dict[str, list[Turns]] = {name: [] for name in names}
        for round_ in range(rounds):
            first = round_ % len(names)
            for name in names[first:] + names[:first]:
                found[name].append(by(port, pools[name], callers, seconds))
        own = found[names[0]]
        for name in names:
            mine = found[name]
            median = {
                field: statistics.median(getattr(turns, field) for turns in mine)
                for field in ("rate", "least", "most", "worst", "cpu")
            }
            ratio = statistics.median(a.rate / b.rate for a, b in zip(mine, own))
            rows.append(
                f"| {callers} | {name} | {median['rate']:.0f} | {ratio:.2f} | "
                f"{median['least']:.0f} / {median['most']:.0f} | {median['worst'] * 1e3:.1f} | "
                f"{median['cpu']:.0f} |"
            )
            print(rows[-1], flush=True)
    return rows


COLUMNS = (
    "callers", "pool", "turns a second", "of the host's", "least / most turns", "worst wait, ms",
    "CPU of a turn, us",
)  # fmt: skip
HEAD = f"\n| {' | '.join(COLUMNS)} |\n|--:|---|--:|--:|--:|--:|--:|"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--port", type=int, help="of a PostgreSQL that trusts the user bench")
    asked = parser.parse_args()
    rounds, seconds = (3, 0.3) if asked.quick else (7, 1.0)
    described = machine.describe()
    described["peers"] = {
        name: machine.version_of(name) for name in ("sqlalchemy", "psycopg", "asyncpg")
    }
    print("\n".join(machine.in_words(described)), flush=True)
    try:
        with nullcontext(asked.port) if asked.port else servers.postgresql() as port:
            servers_ready(port)
            print(f"\nThreads, {CONNECTIONS} connections\n{HEAD}", flush=True)
            compare(port, thread_pools(), by_threads, rounds, seconds)
            print(f"\nTasks, {CONNECTIONS} connections\n{HEAD}", flush=True)
            compare(port, task_pools(), by_tasks, rounds, seconds)
            print("\n| pool | eight tasks on a second event loop |\n|---|---|")
            for name, options in task_pools().items():
                print(f"| {name} | {second_loop(port, options)} |", flush=True)
            print("\n| pool | CPU of `pool.connect().close()`, us | the host's / this |")
            print("|---|--:|--:|")
            times = checkouts(port, rounds)
            for name, cpu in times.items():
                print(f"| {name} | {cpu:.2f} | {times['QueuePool'] / cpu:.2f} |", flush=True)
    except (NotRun, ImportError) as reason:
        print(f"NOT RUN: {reason}")
    return 0


def servers_ready(port: int) -> None:
    """A port that is open is not yet a database that answers."""
    import psycopg

    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=bench dbname=postgres").close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())

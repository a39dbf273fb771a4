"""`python -m bench.hosts.psycopg`: psycopg_pool's pools and ours, on a PostgreSQL of our own.

Each turn is a block of `pool.connection()` with `select 1` in it and the commit at its end; 1, 4, 8
and 16 threads, then as many tasks, on 4 connections.  Then the CPU of an empty block, in one thread
and in one task, what a second event loop gets, and what happens when the server is killed and comes
back.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
from contextlib import nullcontext
from functools import partial
from typing import Any

from bench import machine, servers
from bench.hosts.outage import print_outages
from bench.hosts.redis import print_checkouts
from bench.hosts.sqlalchemy import kept_ready, servers_ready
from bench.hosts.turns import CONNECTIONS, Turns, by_threads, compare, head, of_run
from bench.measure import Case, NotRun, pair_times

Pools = dict[str, Any]
SECOND_LOOP = 10.0  # seconds that its tasks may take, since the host's wait for ever at times


def thread_pools(port: int) -> Pools:
    """Contestant: what makes its pool, open."""
    import psycopg_pool

    from fastpool.contrib.psycopg import ConnectionPool

    def pool(kind: Any, **options: Any) -> Any:
        return partial(kind, conninfo(port), min_size=CONNECTIONS, timeout=60, open=True, **options)

    return {
        "psycopg_pool's": pool(psycopg_pool.ConnectionPool),
        "ours": pool(ConnectionPool),
        'ours, fairness="throughput"': pool(ConnectionPool, fairness="throughput"),
    }


def task_pools(port: int) -> Pools:
    import psycopg_pool

    from fastpool.contrib.psycopg import AsyncConnectionPool

    def pool(kind: Any) -> Any:
        return partial(kind, conninfo(port), min_size=CONNECTIONS, timeout=60, open=False)

    return {
        "psycopg_pool's": pool(psycopg_pool.AsyncConnectionPool),
        "ours": pool(AsyncConnectionPool),
    }


def conninfo(port: int) -> str:
    return f"host=127.0.0.1 port={port} user=bench dbname=postgres"


def threads_turns(make: Any, callers: int, seconds: float) -> Turns:
    pool = make()
    pool.wait()

    def turn() -> None:
        with pool.connection() as connection:
            connection.execute("select 1")

    try:
        return by_threads(turn, callers, seconds)
    finally:
        pool.close()


def tasks_turns(make: Any, callers: int, seconds: float) -> Turns:
    async def main() -> Turns:
        async with make() as pool:
            await pool.wait()
            turns, worst = [0] * callers, [0.0] * callers
            began, cpu = time.perf_counter(), time.process_time()

            async def run(caller: int) -> None:
                while (asked := time.perf_counter()) < began + seconds:
                    async with pool.connection() as connection:
                        await connection.execute("select 1")
                    worst[caller] = max(worst[caller], time.perf_counter() - asked)
                    turns[caller] += 1

            await asyncio.gather(*(run(caller) for caller in range(callers)))
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            return of_run(turns, worst, took, cpu)

    return asyncio.run(main())


def blocks(port: int, rounds: int) -> dict[str, float]:
    """Microseconds of CPU of an empty block, with a connection idle; and what psycopg's own block
    costs of it, which a pool that costs nothing would cost too."""
    import psycopg

    pools = {name: make() for name, make in thread_pools(port).items()}
    for pool in pools.values():
        pool.wait()
    cases = {
        name: Case("with pool.connection(): pass", {"pool": pool}) for name, pool in pools.items()
    }
    connection = psycopg.connect(conninfo(port))
    connection._pool = next(iter(pools.values()))  # so its block leaves it open
    cases["of it psycopg's own block"] = Case("with one: pass", {"one": connection})
    times = pair_times(cases, rounds=rounds)
    connection._pool = None
    connection.close()
    for pool in pools.values():
        pool.close()
    return {name: series.median / 1e3 for name, series in times.items()}


def task_blocks(port: int, rounds: int, turns: int = 500) -> dict[str, float]:
    """The same in one task."""
    found: dict[str, list[float]] = {}

    async def run(name: str, make: Any) -> None:
        async with make() as pool:
            await pool.wait()
            gc.collect()
            start = time.thread_time()
            for _ in range(turns):
                async with pool.connection():
                    pass
            found.setdefault(name, []).append((time.thread_time() - start) / turns * 1e6)

    for _ in range(rounds):
        for name, make in task_pools(port).items():
            asyncio.run(run(name, make))
    return {name: statistics.median(times) for name, times in found.items()}


def second_loop(make: Any) -> str:
    """What eight tasks get on a second event loop, the pool having been opened on a first."""
    pool = make()

    async def turn() -> None:
        async with pool.connection() as connection:
            await connection.execute("select 1")

    async def main(close: bool) -> None:
        await pool.open()
        async with asyncio.timeout(SECOND_LOOP):
            await asyncio.gather(*(turn() for _ in range(8)))
        if close:
            await pool.close()

    asyncio.run(main(False))
    try:
        asyncio.run(main(True))
    except Exception as error:
        return type(error).__name__
    return "served"


def after_outage() -> None:
    """What the pools of threads make of a server that is killed; on one of its own."""

    def turn(pool: Any) -> None:
        with pool.connection() as connection:
            connection.execute("select 1")

    with servers.postgresql_cluster() as start, kept_ready(start) as (again, port):
        with again():
            pools = {name: make() for name, make in thread_pools(port).items()}
            for pool in pools.values():
                pool.wait()
        print_outages(again, {name: partial(turn, pool) for name, pool in pools.items()})
        with again():
            for pool in pools.values():
                pool.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--port", type=int, help="of a PostgreSQL that trusts the user bench")
    asked = parser.parse_args()
    rounds, seconds = (3, 0.3) if asked.quick else (7, 1.0)
    described = machine.describe()
    described["peers"] = {name: machine.version_of(name) for name in ("psycopg", "psycopg-pool")}
    print("\n".join(machine.in_words(described)), flush=True)
    try:
        with nullcontext(asked.port) if asked.port else servers.postgresql() as port:
            servers_ready(port)
            threads, tasks = thread_pools(port), task_pools(port)
            print(f"\nA select by threads, {CONNECTIONS} connections; worst turn in ms\n{head()}")
            turns = {name: partial(threads_turns, pool) for name, pool in threads.items()}
            compare(turns, rounds, seconds)
            print(f"\nA select by tasks, {CONNECTIONS} connections\n{head()}")
            turns = {name: partial(tasks_turns, pool) for name, pool in tasks.items()}
            compare(turns, rounds, seconds)
            print_checkouts("an empty block in one thread", blocks(port, rounds))
            print_checkouts("an empty block in one task", task_blocks(port, rounds))
            print("\nEight tasks on a second event loop")
            for name, pool in tasks.items():
                print(f"        {name:<30}{second_loop(pool)}", flush=True)
        if not asked.port:
            after_outage()
    except (NotRun, ImportError) as reason:
        print(f"NOT RUN: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

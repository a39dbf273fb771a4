"""`python -m bench.hosts.sqlalchemy`: SQLAlchemy's pools and ours under its engines.

Threads by psycopg, tasks by asyncpg, on a PostgreSQL of our own: each turn is a connection, `select
1` and the way back with its rollback; 1, 4, 8 and 16 callers on 4 connections.  Then what a second
event loop gets, the CPU of `pool.connect().close()` alone, in one thread, and what happens when the
server is killed and comes back.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from bench import machine, servers
from bench.hosts.outage import print_outages
from bench.hosts.turns import CONNECTIONS, Turns, by_threads, compare, head, of_run
from bench.measure import Case, NotRun, pair_times

# ---- Threads -------------------------------------------------------------------------------------


def thread_pools() -> dict[str, dict[str, Any]]:
    """Contestant: what `create_engine` is given."""
    from sqlalchemy.pool import QueuePool

    from fastpool.contrib.sqlalchemy import FastQueuePool

    return {
        "QueuePool": {"poolclass": QueuePool},
        "FastQueuePool": {"poolclass": FastQueuePool},
        "FastQueuePool, throughput": {
            "poolclass": FastQueuePool,
            "fairness": "throughput",
        },
    }


def with_threads(port: int, options: dict[str, Any], callers: int, seconds: float) -> Turns:
    from sqlalchemy import create_engine, text

    url = f"postgresql+psycopg://bench@127.0.0.1:{port}/postgres"
    engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0, **options)
    statement = text("select 1")
    for connection in [engine.connect() for _ in range(CONNECTIONS)]:
        connection.execute(statement)
        connection.close()

    def turn() -> None:
        with engine.connect() as connection:
            connection.execute(statement)

    try:
        return by_threads(turn, callers, seconds)
    finally:
        engine.dispose()


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


def with_tasks(port: int, options: dict[str, Any], callers: int, seconds: float) -> Turns:
    from sqlalchemy import text

    statement = text("select 1")

    async def main() -> Turns:
        engine = task_engine(port, options)
        for connection in [await engine.connect() for _ in range(CONNECTIONS)]:
            await connection.execute(statement)
            await connection.close()
        turns, worst = [0] * callers, [0.0] * callers
        began, cpu = time.perf_counter(), time.process_time()

        async def run(caller: int) -> None:
            while (asked := time.perf_counter()) < began + seconds:
                async with engine.connect() as connection:
                    await connection.execute(statement)
                worst[caller] = max(worst[caller], time.perf_counter() - asked)
                turns[caller] += 1

        await asyncio.gather(*(run(caller) for caller in range(callers)))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        await engine.dispose()
        return of_run(turns, worst, took, cpu)

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
    """Microseconds of CPU of `pool.connect().close()`, with a connection idle; and with a pool that
    costs nothing, since it has one connection and keeps no account."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import QueuePool

    class OneRecord(QueuePool):
        record: Any = None

        def _do_get(self) -> Any:
            self.record = self.record or self._create_connection()
            return self.record

        def _do_return_conn(self, record: Any) -> None:
            pass

    url = f"postgresql+psycopg://bench@127.0.0.1:{port}/postgres"
    cases, engines = {}, []
    pools = {**thread_pools(), "of it SQLAlchemy's own part": {"poolclass": OneRecord}}
    for name, options in pools.items():
        engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0, **options)
        engine.connect().close()
        engines.append(engine)
        cases[name] = Case("pool.connect().close()", {"pool": engine.pool})
    times = pair_times(cases, rounds=rounds)
    for engine in engines:
        engine.dispose()
    return {name: series.median / 1e3 for name, series in times.items()}


def after_outage() -> None:
    """What the pools of threads make of a server that is killed; on one of its own."""
    from sqlalchemy import create_engine, text

    statement = text("select 1")

    def turn(engine: Any) -> None:
        with engine.connect() as connection:
            connection.execute(statement)

    with servers.postgresql_cluster() as start, kept_ready(start) as (again, port):
        url = f"postgresql+psycopg://bench@127.0.0.1:{port}/postgres"
        engines = {
            name: create_engine(url, pool_size=CONNECTIONS, max_overflow=0, **options)
            for name, options in thread_pools().items()
        }
        print_outages(again, {name: partial(turn, each) for name, each in engines.items()})
        for engine in engines.values():
            engine.dispose()


Start = Callable[[int], AbstractContextManager[int]]


@contextmanager
def kept_ready(start: Start) -> Iterator[tuple[Callable[[], AbstractContextManager[int]], int]]:
    """How to run a cluster's server until it is killed, ready each time; and its port."""

    @contextmanager
    def again() -> Iterator[int]:
        with start(signal.SIGQUIT) as port:
            servers_ready(port)
            yield port

    with again() as port:
        pass
    yield again, port


# ---- The report ----------------------------------------------------------------------------------

By = Callable[[int, dict[str, Any], int, float], Turns]


def table(port: int, pools: dict[str, dict[str, Any]], by: By, rounds: int, seconds: float) -> None:
    print(head(), flush=True)
    contestants = {name: partial(by, port, options) for name, options in pools.items()}
    compare(contestants, rounds, seconds)


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
            print(f"\nA select by threads, {CONNECTIONS} connections; worst turn in ms")
            table(port, thread_pools(), with_threads, rounds, seconds)
            print(f"\nA select by tasks, {CONNECTIONS} connections")
            table(port, task_pools(), with_tasks, rounds, seconds)
            print("\nEight tasks on a second event loop")
            for name, options in task_pools().items():
                print(f"        {name:<24}{second_loop(port, options)}", flush=True)
            print("\nCPU of pool.connect().close(), one thread")
            times = checkouts(port, rounds)
            for name, cpu in times.items():
                ratio = times["QueuePool"] / cpu
                print(f"        {name:<38}{cpu:>8.2f} us {ratio:>6.2f}", flush=True)
        if not asked.port:
            after_outage()
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

"""`python -m bench.hosts.redis`: redis-py's pools and ours under its clients, on a real server.

Each turn is a GET; 1, 4, 8 and 16 threads, then as many tasks, on 4 connections.  Then the CPU of a
checkout and its return alone, what a second event loop gets, and what happens when the server is
killed and comes back.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from bench import machine, servers
from bench.hosts.outage import print_outages
from bench.hosts.turns import CONNECTIONS, Turns, by_threads, compare, head, of_run
from bench.measure import Case, NotRun, pair_times

Pools = dict[str, Callable[[], Any]]


def thread_pools(port: int) -> Pools:
    """Contestant: what makes its pool."""
    import redis

    from fastpool.contrib.redis import BlockingConnectionPool

    def pool(kind: Any, **options: Any) -> Callable[[], Any]:
        return partial(kind, port=port, max_connections=CONNECTIONS, timeout=60, **options)

    return {
        "redis-py's": pool(redis.BlockingConnectionPool),
        "ours": pool(BlockingConnectionPool),
        'ours, fairness="throughput"': pool(BlockingConnectionPool, fairness="throughput"),
    }


def threads_turns(pool: Callable[[], Any], callers: int, seconds: float) -> Turns:
    import redis

    made = pool()
    client = redis.Redis(connection_pool=made)
    for connection in [made.get_connection() for _ in range(CONNECTIONS)]:
        made.release(connection)
    found = by_threads(partial(client.get, "key"), callers, seconds)
    made.disconnect()
    return found


def task_pools(port: int) -> Pools:
    import redis.asyncio

    from fastpool.contrib.redis.asyncio import BlockingConnectionPool

    def pool(kind: Any) -> Callable[[], Any]:
        return partial(kind, port=port, max_connections=CONNECTIONS, timeout=60)

    return {
        "redis.asyncio's": pool(redis.asyncio.BlockingConnectionPool),
        "ours": pool(BlockingConnectionPool),
    }


def tasks_turns(pool: Callable[[], Any], callers: int, seconds: float) -> Turns:
    import redis.asyncio

    async def main() -> Turns:
        made = pool()
        client = redis.asyncio.Redis(connection_pool=made)
        for connection in [await made.get_connection() for _ in range(CONNECTIONS)]:
            await made.release(connection)
        turns, worst = [0] * callers, [0.0] * callers
        began, cpu = time.perf_counter(), time.process_time()

        async def run(caller: int) -> None:
            while (asked := time.perf_counter()) < began + seconds:
                await client.get("key")
                worst[caller] = max(worst[caller], time.perf_counter() - asked)
                turns[caller] += 1

        await asyncio.gather(*(run(caller) for caller in range(callers)))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        await made.disconnect()
        return of_run(turns, worst, took, cpu)

    return asyncio.run(main())


def checkouts(port: int, rounds: int) -> dict[str, float]:
    """Microseconds of CPU of `release(get_connection())`, with a connection idle; and of what
    redis-py's look at the connection costs of it."""
    cases = {}
    pools = {name: make() for name, make in thread_pools(port).items()}
    for name, pool in pools.items():
        pool.release(pool.get_connection())
        cases[name] = Case("pool.release(pool.get_connection())", {"pool": pool})
    connection = pools["ours"].get_connection()

    def look() -> None:
        connection.connect()
        connection.can_read()

    cases["redis-py's own look at it"] = Case("look()", {"look": look})
    times = pair_times(cases, rounds=rounds)
    for pool in pools.values():
        pool.disconnect()
    return {name: series.median / 1e3 for name, series in times.items()}


def task_checkouts(port: int, rounds: int, turns: int = 500) -> dict[str, float]:
    """The same, awaited in one task."""
    found: dict[str, list[float]] = {}

    async def run(name: str, make: Callable[[], Any]) -> None:
        pool = make()
        await pool.release(await pool.get_connection())
        gc.collect()
        start = time.thread_time()
        for _ in range(turns):
            await pool.release(await pool.get_connection())
        found.setdefault(name, []).append((time.thread_time() - start) / turns * 1e6)
        await pool.disconnect()

    for _ in range(rounds):
        for name, make in task_pools(port).items():
            asyncio.run(run(name, make))
    return {name: statistics.median(times) for name, times in found.items()}


def after_outage(port: int) -> None:
    """What the pools of threads make of a server that is killed."""
    import redis

    made = {name: pool() for name, pool in thread_pools(port).items()}
    turns = {
        name: partial(redis.Redis(connection_pool=pool).get, "key") for name, pool in made.items()
    }
    print_outages(partial(servers.redis, port=port, stop=signal.SIGKILL), turns)
    for pool in made.values():
        pool.disconnect()


def second_loop(pool: Callable[[], Any]) -> str:
    """What eight tasks get on a second event loop, the pool having been used on a first."""
    import redis.asyncio

    client = redis.asyncio.Redis(connection_pool=pool())

    async def main() -> None:
        asked = [client.get("key") for _ in range(8)]
        for end in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(end, BaseException):
                raise end

    asyncio.run(main())
    try:
        asyncio.run(main())
    except Exception as error:
        return type(error).__name__
    return "served"


def print_checkouts(what: str, times: dict[str, float]) -> None:
    own = next(iter(times.values()))
    print(f"\nCPU of a checkout and its return, {what}")
    for name, cpu in times.items():
        print(f"        {name:<30}{cpu:>9.2f} us{own / cpu:>7.2f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--port", type=int, help="of a Redis on this machine, which is not killed")
    asked = parser.parse_args()
    rounds, seconds = (3, 0.2) if asked.quick else (15, 0.4)
    described = machine.describe()
    described["peers"] = {"redis": machine.version_of("redis")}
    print("\n".join(machine.in_words(described)), flush=True)
    try:
        with nullcontext(asked.port) if asked.port else servers.redis() as port:
            threads, tasks = thread_pools(port), task_pools(port)
            print(f"\nGET by threads, {CONNECTIONS} connections; worst turn in ms\n{head()}")
            turns = {name: partial(threads_turns, pool) for name, pool in threads.items()}
            compare(turns, rounds, seconds)
            print(f"\nGET by tasks, {CONNECTIONS} connections\n{head()}")
            turns = {name: partial(tasks_turns, pool) for name, pool in tasks.items()}
            compare(turns, rounds, seconds)
            print_checkouts("one thread", checkouts(port, rounds))
            print_checkouts("one task", task_checkouts(port, rounds))
            print("\nEight tasks on a second event loop")
            for name, pool in tasks.items():
                print(f"        {name:<30}{second_loop(pool)}", flush=True)
        if not asked.port:
            after_outage(servers.free_port())
    except (NotRun, ImportError) as reason:
        print(f"NOT RUN: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.hosts.dbutils`: DBUtils' PooledDB, ours in its place, and `dbapi.Pool`.

Threads by psycopg2 on a PostgreSQL of our own: each turn is a connection, `select 1`, the row, and
the way back with its rollback; 1, 4, 8 and 16 callers on 4 connections.  Then the CPU of a checkout
and its return alone, in one thread, and that of a turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bench import machine, servers
from bench.hosts.turns import CONNECTIONS, Turns, by_threads, compare, head
from bench.measure import Case, NotRun, pair_times


class Contestant:
    """A pool of at most CONNECTIONS, which are open, and what lends one."""

    def __init__(self, pool: Any, lend: Callable[[], Any]) -> None:
        self.pool, self.lend = pool, lend
        for connection in [lend() for _ in range(CONNECTIONS)]:
            connection.close()

    def turn(self) -> None:
        connection = self.lend()
        cursor = connection.cursor()
        cursor.execute("select 1")
        cursor.fetchone()
        connection.close()

    def checkout(self) -> None:
        self.lend().close()


class Floor:
    """What DBUtils does itself of a checkout and its return, by a pool that costs nothing: the
    question whether a ping is due, a proxy, and the reset."""

    def __init__(self, dsn: str) -> None:
        import psycopg2
        from dbutils import pooled_db

        self.pool = pooled_db.PooledDB(psycopg2, dsn=dsn)
        self.steady = self.pool.steady_connection()
        self.proxy = pooled_db.PooledDedicatedDBConnection

    def checkout(self) -> None:
        self.steady._ping_check()
        self.proxy(self, self.steady).close()

    def cache(self, steady: Any) -> None:
        steady._reset(force=True)

    def end(self) -> None:
        self.steady.close()
        self.pool.close()


def contestants(dsn: str) -> dict[str, Callable[[], Contestant]]:
    """Name: what makes it."""
    import psycopg2
    from dbutils import pooled_db

    from fastpool.contrib.dbapi import Pool, PooledDB

    def pooled(kind: Any, **options: Any) -> Contestant:
        pool = kind(psycopg2, 0, 0, 0, CONNECTIONS, True, dsn=dsn, **options)
        return Contestant(pool, pool.connection)

    def plain(**options: Any) -> Contestant:
        pool = Pool(psycopg2, dsn, maxsize=CONNECTIONS, timeout=60, **options)
        return Contestant(pool, pool.connect)

    return {
        "DBUtils'": partial(pooled, pooled_db.PooledDB),
        "our PooledDB": partial(pooled, PooledDB),
        "our PooledDB, throughput": partial(
            pooled, PooledDB, fastpool={"fairness": "throughput"}
        ),
        "our Pool": plain,
        "our Pool, throughput": partial(plain, fairness="throughput"),
    }  # fmt: skip


def turns(make: Callable[[], Contestant], callers: int, seconds: float) -> Turns:
    contestant = make()
    found = by_threads(contestant.turn, callers, seconds)
    contestant.pool.close()
    return found


def costs(
    makes: dict[str, Callable[[], Contestant]], call: str, rounds: int, floor: Floor | None = None
) -> dict[str, float]:
    """Microseconds of CPU of one call of a contestant, in one thread."""
    made = {name: make() for name, make in makes.items() if "throughput" not in name}
    cases = {name: Case(f"one.{call}()", {"one": one}) for name, one in made.items()}
    if floor is not None:
        cases["of it DBUtils' own part"] = Case(f"one.{call}()", {"one": floor})
    times = pair_times(cases, rounds=rounds)
    for one in made.values():
        one.pool.close()
    return {name: series.median / 1e3 for name, series in times.items()}


def servers_ready(dsn: str) -> None:
    """A port that is open is not yet a database that answers."""
    import psycopg2

    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg2.connect(dsn).close()
            return
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    rounds, seconds = (3, 0.3) if parser.parse_args().quick else (7, 1.0)
    described = machine.describe()
    described["peers"] = {
        name: machine.version_of(name) for name in ("DBUtils", "psycopg2-binary")
    }  # fmt: skip
    print("\n".join(machine.in_words(described)), flush=True)
    try:
        with servers.postgresql() as port:
            dsn = f"host=127.0.0.1 port={port} user=bench dbname=postgres"
            servers_ready(dsn)
            pools = contestants(dsn)
            print(f"\nA select by threads, {CONNECTIONS} connections; worst turn in ms\n{head()}")
            compare({name: partial(turns, make) for name, make in pools.items()}, rounds, seconds)
            floor = Floor(dsn)
            for call, what in (("checkout", "a checkout and its return"), ("turn", "a turn")):
                print(f"\nCPU of {what}, one thread")
                times = costs(pools, call, rounds, floor if call == "checkout" else None)
                for name, cpu in times.items():
                    own = times["DBUtils'"]
                    print(f"        {name:<30}{cpu:>9.2f} us{own / cpu:>7.2f}", flush=True)
            floor.end()
    except (NotRun, ImportError) as reason:
        print(f"NOT RUN: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One process of the service: threads that lease a connection, use it, give it back.

    python -m bench.fleet.service WAY CONNINFO MOST BUDGET HOLD

It says "ready" after its first turn, works until its input ends, and prints what happened as JSON.
``MOST``: connections of this process at most; ``HOLD``: seconds that a query takes; ``BUDGET``: the
file of its budget, the URL of a Redis, or FILE@URL for a machine that is one member there.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg

THREADS = 20
TIMEOUT = 5.0  # seconds that a borrower waits
THINK = 0.05  # seconds between two turns of a thread

Lease = Callable[[], AbstractContextManager[Any]]
turns: Counter[int] = Counter()  # by second of CLOCK_MONOTONIC, which all processes share
failures: Counter[int] = Counter()  # likewise: turns that ended with an error
errors: Counter[str] = Counter()  # which errors these were
refusals: list[float] = []  # when the server did not let a connection in


def connect(conninfo: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        if "connection slots" in str(error) or "too many clients" in str(error):
            refusals.append(time.monotonic())
        raise


def close(connection: psycopg.Connection[Any]) -> None:
    """Close it, and wait until the server has closed its end: until then its slot is taken."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        connection.close()
        end.settimeout(TIMEOUT)
        try:
            while end.recv(4096):
                pass
        except OSError:  # it has been broken before
            pass


def of_fastpool(conninfo: str, most: int, budget: str) -> tuple[Lease, Callable[[], object]]:
    from fastpool import FastPool

    pool = FastPool(
        most,
        factory=lambda: connect(conninfo),
        close=close,
        budget=budget_of(budget),
        timeout=TIMEOUT,
        on_create_error="wait",
    )
    return pool.lease, pool.close


def budget_of(where: str) -> Any:
    from fastpool.fleet import LocalBudget, RedisBudget

    path, _, url = where.rpartition("@") if "redis:" in where else (where, "", "")
    if not url:
        return LocalBudget(path)
    return LocalBudget(path, parent=RedisBudget(url, "app")) if path else RedisBudget(url, "app")


def of_psycopg_pool(conninfo: str, most: int, _: str) -> tuple[Lease, Callable[[], object]]:
    import psycopg_pool

    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # it logs each refusal

    class Connection(psycopg.Connection[Any]):
        @classmethod
        def connect(cls, conninfo: str = "", **options: Any) -> Any:  # type: ignore[override]
            try:
                return super().connect(conninfo, **options)
            except psycopg.OperationalError as error:
                if "connection slots" in str(error) or "too many clients" in str(error):
                    refusals.append(time.monotonic())
                raise

    pool = psycopg_pool.ConnectionPool(
        conninfo,
        min_size=0,
        max_size=most,
        timeout=TIMEOUT,
        kwargs={"autocommit": True},
        connection_class=Connection,
        open=True,
    )
    return pool.connection, pool.close


def of_sqlalchemy(conninfo: str, most: int, _: str) -> tuple[Lease, Callable[[], object]]:
    from sqlalchemy.pool import QueuePool

    def creator() -> Any:
        return connect(conninfo)

    pool = QueuePool(creator, pool_size=most, max_overflow=0, timeout=TIMEOUT)

    @contextmanager
    def lease() -> Any:
        lent = pool.connect()
        try:
            yield lent.driver_connection
        finally:
            lent.close()

    return lease, pool.dispose


WAYS = {"fastpool": of_fastpool, "psycopg_pool": of_psycopg_pool, "SQLAlchemy": of_sqlalchemy}


def work(lease: Lease, hold: float, over: threading.Event, begun: threading.Event) -> None:
    while not over.is_set():
        try:
            with lease() as connection:
                connection.execute("SELECT pg_sleep(%s)", [hold])
        except Exception as error:
            errors[type(error).__name__] += 1
            failures[int(time.monotonic())] += 1
        else:
            turns[int(time.monotonic())] += 1
        begun.set()
        over.wait(THINK)


def main(way: str, conninfo: str, most: str, budget: str, hold: str) -> None:
    lease, end = WAYS[way](conninfo, int(most), budget)
    over, begun = threading.Event(), threading.Event()
    given = lease, float(hold), over, begun
    threads = [threading.Thread(target=work, args=given) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    begun.wait()
    print("ready", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    end()
    said = {"turns": turns, "failures": failures, "errors": errors, "refusals": refusals}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""``on_lapse="close"``: Redis is gone, and what PostgreSQL counts is what is guaranteed.

Real servers, which are killed; connections that are idle, lent, in a transaction, in a query.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from bench.measure import NotRun
from fastpool import FastPool, KeyedPool, SharedPool
from fastpool.fleet import LocalBudget, PostgresFence, RedisBudget
from integration.drivers import killed_servers
from integration.fleet.relay import Relay
from support.helpers import PATIENCE, ThreadRunner, eventually

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
redis = pytest.importorskip("redis")
pytestmark = [
    pytest.mark.once,  # what passes between processes; `contract/fleet` is tried on each
    pytest.mark.servers,
    pytest.mark.process,
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
]
LIMIT, GUARANTEED = 6, 2


@pytest.fixture(scope="module")
def postgres() -> Iterator[Any]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(killed_servers.running(killed_servers.PostgreSQL))
        except NotRun as reason:
            pytest.skip(str(reason))
        with psycopg.connect(conninfo(server, "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE app LOGIN CONNECTION LIMIT {LIMIT}")
            connection.execute("ALTER ROLE app SET client_connection_check_interval = '100ms'")
        yield server


@pytest.fixture
def count(postgres: Any) -> Iterator[Callable[[], int]]:
    """How many sessions of the pools the server has."""
    with psycopg.connect(conninfo(postgres, "postgres"), autocommit=True) as connection:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
        yield lambda: connection.execute(asked).fetchone()[0]
        eventually(lambda: connection.execute(asked).fetchone()[0] == 0)


def conninfo(server: Any, role: str = "app") -> str:
    return f"host=127.0.0.1 port={server.port} user={role} dbname=postgres"


def url_of(engine: Any) -> str:
    return f"redis://127.0.0.1:{engine.port}"


def budget_of(url: str, **options: Any) -> RedisBudget:
    options = {"ttl": 2.0, "grace": 2.0, "guaranteed": GUARANTEED, "on_lapse": "close", **options}
    return RedisBudget(url, "orders", LIMIT, **options)


class Relied:
    """Its close waits for the server, so that the permit of a closed one is free there too."""

    @staticmethod
    def close(connection: Any) -> None:
        with socket.socket(fileno=os.dup(connection.fileno())) as end:
            connection.close()
            end.settimeout(PATIENCE)
            try:
                while end.recv(4096):
                    pass
            except OSError:  # it has ended before
                pass


KINDS: dict[str, Callable[..., Any]] = {
    "pool": lambda make, **o: FastPool(LIMIT, factory=make, **o),
    "shared": lambda make, **o: SharedPool(make, items=(0, LIMIT), slots=1, **o),
    "keyed": lambda make, **o: KeyedPool(make, max_total=LIMIT, max_per_key=LIMIT, **o),
}
ARGS = {"pool": (), "shared": (), "keyed": ("one",)}


@pytest.mark.parametrize("of", KINDS)
def test_no_more_than_guaranteed_outlives_the_lease(
    of: str, postgres: Any, engine: Any, count: Callable[[], int], runner: ThreadRunner
) -> None:
    """Redis is killed: idle sessions, those in a transaction and one in a query end; borrowers see
    it, and the pool is full again when Redis is back, empty as it is."""
    connect = lambda *_: psycopg.connect(conninfo(postgres))  # noqa: E731
    pool = KINDS[of](connect, budget=budget_of(url_of(engine)), timeout=PATIENCE)

    def take() -> Any:
        return pool.acquire(*ARGS[of])

    with closing(pool):
        leases = [take() for _ in range(LIMIT)]
        assert count() == LIMIT
        leases.pop().release()
        for lease in leases:
            lease.resource.execute("SELECT 1")
        sleeping = leases.pop()
        sleeper = runner.start(lambda: sleeping.resource.execute("SELECT pg_sleep(600)"))
        engine.kill()
        eventually(lambda: count() <= GUARANTEED)
        ended = 0
        for lease in leases:
            try:
                lease.resource.execute("SELECT 1")
                lease.release()
            except psycopg.OperationalError:
                ended += 1
                lease.discard()
        surplus = LIMIT - GUARANTEED - 1  # beside the idle one
        if ended == surplus:  # the one in the query was kept
            sleeping.resource.cancel()
        with pytest.raises(psycopg.Error):
            sleeper.result()
        sleeping.discard()
        assert ended in (surplus, surplus - 1)
        for _ in range(GUARANTEED):  # they go on, and are replaced
            with pool.lease(*ARGS[of]) as connection:
                connection.execute("SELECT 1")
        assert count() <= GUARANTEED
        engine.start()
        leases = [take() for _ in range(LIMIT)]
        for lease in leases:
            assert lease.resource.execute("SELECT 1").fetchone() == (1,)
        assert count() == LIMIT and pool.stats().leased == LIMIT
        for lease in leases:
            lease.release()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "asyncpg terminate"])
def test_sessions_of_tasks_end_too(
    driver: str, postgres: Any, engine: Any, count: Callable[[], int]
) -> None:
    terminate = None
    if driver.startswith("asyncpg"):
        asyncpg = pytest.importorskip("asyncpg")
        if driver.endswith("terminate"):
            terminate = asyncpg.Connection.terminate

        async def connect() -> Any:
            return await asyncpg.connect(
                host="127.0.0.1", port=postgres.port, user="app", database="postgres"
            )
    else:

        async def connect() -> Any:
            return await psycopg.AsyncConnection.connect(conninfo(postgres))

    budget = budget_of(url_of(engine), guaranteed=0, terminate=terminate)
    pool: Any = FastPool(LIMIT, factory=connect, budget=budget, timeout=PATIENCE)

    async def use(asked: str) -> BaseException | None:
        try:
            async with pool.lease() as connection:
                await connection.execute(asked)
        except Exception as error:
            return error
        return None

    async def main() -> None:
        tasks = [asyncio.create_task(use("SELECT pg_sleep(600)")) for _ in range(LIMIT)]
        await asyncio.to_thread(eventually, lambda: count() == LIMIT)
        await asyncio.to_thread(engine.kill)
        assert all(await asyncio.gather(*tasks))
        await asyncio.to_thread(eventually, lambda: count() == pool.stats().open == 0)
        await asyncio.to_thread(engine.start)
        assert await asyncio.gather(*(use("SELECT 1") for _ in range(LIMIT))) == [None] * LIMIT
        await pool.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("fenced", [False, True], ids=["no fence", "fence"])
def test_permits_of_one_that_is_cut_off_are_free_at_the_server(
    fenced: bool, postgres: Any, engine: Any, count: Callable[[], int], runner: ThreadRunner
) -> None:
    """Two members; one cannot reach Redis any more, and its borrowers keep their leases.  The other
    one gets all permits, and the server, which lets no more in than the limit, refuses none."""
    relay = Relay(engine.port)
    name = PostgresFence.application_name
    fence = PostgresFence(conninfo(postgres, "postgres")) if fenced else None
    cut = budget_of(f"redis://127.0.0.1:{relay.port}", guaranteed=0)
    well = budget_of(url_of(engine), guaranteed=0, fence=fence)

    def pool_of(budget: RedisBudget) -> Any:
        def connect() -> Any:
            return psycopg.connect(conninfo(postgres), application_name=name(budget.member))

        return FastPool(LIMIT, factory=connect, close=Relied.close, budget=budget, timeout=PATIENCE)

    with closing(pool_of(cut)) as first, closing(pool_of(well)) as second:
        lost = [first.acquire() for _ in range(LIMIT - 1)]
        kept = second.acquire()
        assert count() == LIMIT
        others = [runner.start(second.acquire) for _ in range(LIMIT - 1)]
        eventually(lambda: second.stats().waiting == LIMIT - 1)
        relay.close()
        leases = [kept, *(other.result() for other in others)]
        assert count() == LIMIT
        for lease in lost:
            with pytest.raises(psycopg.OperationalError):
                lease.resource.execute("SELECT 1")
            lease.discard()
        eventually(lambda: first.stats().open == 0)
        for lease in leases:
            assert lease.resource.execute("SELECT 1").fetchone() == (1,)
            lease.release()


def test_processes_of_a_machine_end_theirs(
    tmp_path: Path, postgres: Any, engine: Any, count: Callable[[], int]
) -> None:
    """Each of its pools, for what it has lent itself: here two budgets of the same file."""
    parent = budget_of(url_of(engine))
    budgets = [LocalBudget(str(tmp_path / "m.budget"), parent=parent) for _ in range(2)]
    connect = lambda: psycopg.connect(conninfo(postgres))  # noqa: E731
    pools = [
        FastPool(LIMIT, factory=connect, budget=budget, timeout=PATIENCE) for budget in budgets
    ]
    leases = [pools[i % 2].acquire() for i in range(LIMIT)]
    assert count() == LIMIT
    engine.kill()
    eventually(lambda: count() <= GUARANTEED)
    for lease in leases:
        lease.discard()
    eventually(lambda: all(pool.stats().open == 0 for pool in pools))
    engine.start()
    leases = [pools[i % 2].acquire() for i in range(LIMIT)]
    assert count() == LIMIT
    for lease in leases:
        lease.release()
    for pool in pools:
        pool.close()


def test_what_a_function_of_the_user_does_is_done(
    postgres: Any, engine: Any, count: Callable[[], int]
) -> None:
    """Once for each; in a thread of the pool."""
    ended: list[Any] = []
    threads: list[str] = []

    def terminate(connection: Any) -> None:
        ended.append(connection)
        threads.append(threading.current_thread().name)

    budget = budget_of(url_of(engine), terminate=terminate)
    connect = lambda: psycopg.connect(conninfo(postgres))  # noqa: E731
    with FastPool(LIMIT, factory=connect, budget=budget, timeout=PATIENCE, name="mine") as pool:
        leases = [pool.acquire() for _ in range(LIMIT)]
        engine.kill()
        eventually(lambda: len(ended) == LIMIT - GUARANTEED)
        assert len(set(map(id, ended))) == LIMIT - GUARANTEED
        assert all(name.startswith("fastpool-mine") for name in threads)
        for lease in leases:
            lease.release()
        eventually(lambda: pool.stats().open <= GUARANTEED)
        assert len(ended) == LIMIT - GUARANTEED

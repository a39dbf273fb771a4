"""Engines on real servers: eight threads on four connections, servers that are killed, loops.

Each is asked of SQLAlchemy's own `except` clauses: what a user catches is what they catch today.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from bench.measure import NotRun
from integration.drivers import killed_servers as servers
from support.helpers import PATIENCE, ThreadRunner, all_warnings, eventually

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

from sqlalchemy import create_engine, event, exc, text
from sqlalchemy.ext.asyncio import create_async_engine

from fastpool.contrib.sqlalchemy import AsyncFastQueuePool, FastQueuePool

pytestmark = [pytest.mark.servers, pytest.mark.once]

POSTGRESQL, MARIADB = servers.PostgreSQL, servers.MariaDB
URLS = {
    "psycopg": (POSTGRESQL, "postgresql+psycopg://postgres@127.0.0.1:{}/postgres"),
    "psycopg2": (POSTGRESQL, "postgresql+psycopg2://postgres@127.0.0.1:{}/postgres"),
    "pymysql": (MARIADB, "mysql+pymysql://root@127.0.0.1:{}/"),
    "asyncpg": (POSTGRESQL, "postgresql+asyncpg://postgres@127.0.0.1:{}/postgres"),
    "aiomysql": (MARIADB, "mysql+aiomysql://root@127.0.0.1:{}/"),
}
ME = {POSTGRESQL: "select pg_backend_pid()", MARIADB: "select connection_id()"}


@pytest.fixture(scope="module")
def running() -> Iterator[dict[Any, Any]]:
    """The servers that tests of this file have asked for, by their kind."""
    with contextlib.ExitStack() as stack:
        yield {object: stack}


class At:
    """A server and how its driver is reached."""

    def __init__(self, running: dict[Any, Any], driver: str) -> None:
        kind, url = URLS[driver]
        try:
            importlib.import_module(driver)
        except ImportError:
            pytest.skip(f"{driver} is not installed")
        if kind not in running:
            try:
                running[kind] = running[object].enter_context(servers.running(kind))
            except NotRun as reason:
                running[kind] = reason
        if isinstance(running[kind], NotRun):
            pytest.skip(str(running[kind]))
        self.server = running[kind]
        self.url = url.format(self.server.port)
        self.me = ME[kind]

    def restart(self) -> None:
        """Kills it and starts it again, as soon as the processes that served its connections have
        noticed and let go of its memory."""
        self.server.kill()
        eventually(self._starts)

    def _starts(self) -> bool:
        try:
            self.server.start()
            return True
        except NotRun:
            return False

    def engine(self, **options: Any) -> Any:
        options = {"pool_size": 4, "max_overflow": 0, "pool_timeout": PATIENCE} | options
        return create_engine(self.url, poolclass=FastQueuePool, **options)

    def aengine(self, **options: Any) -> Any:
        options = {"pool_size": 4, "max_overflow": 0, "pool_timeout": PATIENCE} | options
        return create_async_engine(self.url, poolclass=AsyncFastQueuePool, **options)


@pytest.fixture(params=["psycopg", "psycopg2", "pymysql"])
def at(request: pytest.FixtureRequest, running: Any) -> At:
    return At(running, request.param)


@pytest.fixture(params=["asyncpg", "psycopg", "aiomysql"])
def aat(request: pytest.FixtureRequest, running: Any) -> At:
    return At(running, request.param)


# ---- Threads -------------------------------------------------------------------------------------


def test_eight_threads_on_four_connections_all_get_turns(at: At, runner: ThreadRunner) -> None:
    """In each turn a transaction of its own, rolled back at its end."""
    engine, turns, over = at.engine(), [0] * 8, threading.Event()
    for connection in [engine.connect() for _ in range(4)]:  # who opens one has no turn meanwhile
        connection.close()

    def borrow(index: int) -> None:
        while not over.is_set():
            with engine.connect() as connection:
                connection.execute(text("select 1"))
            turns[index] += 1
            if turns[index] == 80:
                over.set()

    runner.together(8, borrow)
    runner.finish()
    assert min(turns) >= 8, turns
    assert engine.pool.fastpool.stats().created == engine.pool.checkedin() == 4
    engine.dispose()


def test_a_transaction_left_open_goes_to_nobody(at: At) -> None:
    engine = at.engine(pool_size=1)
    with engine.connect() as connection:
        connection.execute(text("create schema other"))
        connection.execute(text("create table other.lines (number int)"))
        connection.commit()
        connection.execute(text("insert into other.lines values (1)"))
    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from other.lines")).scalar() == 0
        connection.execute(text("drop table other.lines"))
        connection.execute(text("drop schema other"))
        connection.commit()
    engine.dispose()


@pytest.mark.parametrize("pre_ping", [False, True])
def test_the_server_is_killed_and_back(at: At, runner: ThreadRunner, pre_ping: bool) -> None:
    """Under load: no connection that had failed is lent again, and all threads go on."""
    engine = at.engine(pool_pre_ping=pre_ping)
    failed: set[Any] = set()  # the numbers of connections that the server has cut
    again: list[Any] = []
    back, over = threading.Event(), threading.Event()
    done = [0] * 8

    def borrow(index: int) -> None:
        while not over.is_set():
            number = None
            try:
                with engine.connect() as connection:
                    number = id(connection.connection.dbapi_connection), connection.info["made"]
                    if number in failed:
                        again.append(number)
                    connection.execute(text("select 1"))
                if back.is_set():
                    done[index] += 1
            except exc.DBAPIError as error:  # as users write it
                if number is not None and error.connection_invalidated:
                    failed.add(number)

    made: list[int] = []

    def connected(connection: Any, record: Any) -> None:
        made.append(1)
        record.info["made"] = len(made)

    event.listen(engine, "connect", connected)
    runner.together(8, borrow)
    eventually(lambda: engine.pool.fastpool.stats().uses > 100)
    at.restart()
    back.set()
    eventually(lambda: min(done) >= 5, 3 * PATIENCE)
    over.set()
    runner.finish()
    assert not again, "a dead connection was lent twice"
    assert engine.pool.checkedout() == 0 and engine.pool.checkedin() <= 4
    engine.dispose()


def test_one_that_dies_idle_fails_one_turn(at: At) -> None:
    """And with it, as SQLAlchemy has it, all that were opened before are replaced unseen."""
    engine = at.engine()
    held = [engine.connect() for _ in range(4)]
    before = {connection.execute(text(at.me)).scalar() for connection in held}
    for connection in held:
        connection.close()
    at.restart()
    failures = 0
    for _ in range(8):
        try:
            with engine.connect() as connection:
                connection.execute(text("select 1"))
        except exc.DBAPIError:
            failures += 1
    assert failures == 1 and len(before) == 4
    engine.dispose()


FORKED = """
import os, sys, traceback
from sqlalchemy import create_engine, text
from fastpool.contrib.sqlalchemy import FastQueuePool

url, me = sys.argv[1:]
engine = create_engine(url, poolclass=FastQueuePool, pool_size=2, max_overflow=0)

def who(connection):
    return connection.execute(text(me)).scalar()

with engine.connect() as lent:
    with engine.connect() as idle:
        mine = {who(lent), who(idle)}
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with engine.connect() as own, engine.connect() as second:
                assert mine.isdisjoint({who(own), who(second)})
            engine.dispose()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with engine.connect() as idle:
        assert {who(lent), who(idle)} == mine
engine.dispose()
print("done")
"""


def test_a_forked_child_has_connections_of_its_own(at: At) -> None:
    """Without a word to the engine, where SQLAlchemy's own pool wants `dispose(close=False)`."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, at.url, at.me],
        capture_output=True, text=True, timeout=4 * PATIENCE,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


# ---- Tasks ---------------------------------------------------------------------------------------


async def turns_of(engine: Any, tasks: int, turns: int) -> None:
    async def borrow() -> None:
        for _ in range(turns):
            async with engine.connect() as connection:
                assert (await connection.execute(text("select 1"))).scalar() == 1

    await asyncio.wait_for(asyncio.gather(*(borrow() for _ in range(tasks))), PATIENCE)


LOOPS = """
import asyncio, sys, threading
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from fastpool.contrib.sqlalchemy import AsyncFastQueuePool

engine = create_async_engine(
    sys.argv[1], poolclass=AsyncFastQueuePool, pool_size=3, max_overflow=0, pool_timeout=30
)
failed = []

async def borrow():
    for _ in range(6):
        async with engine.connect() as connection:
            assert (await connection.execute(text("select 1"))).scalar() == 1

async def main():
    await asyncio.gather(*(borrow() for _ in range(8)))

def run():
    try:
        asyncio.run(main())
    except BaseException as error:
        failed.append(error)

for _ in range(3):
    run()
    assert engine.pool.checkedin() == 3
threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert engine.pool.checkedout() == 0

async def last():
    await main()
    await engine.dispose()
    assert engine.pool.status().startswith("Pool size: 3  Connections in pool: 0")

asyncio.run(last())
print(failed)
"""


def test_loops_one_after_the_other_and_at_once(aat: At) -> None:
    """SQLAlchemy's own pool raises RuntimeError.  In a process of its own, since drivers warn of
    the connections that a loop leaves when it is closed."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOPS, aat.url],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stdout + done.stderr


def test_dispose_has_closed_when_it_returns(aat: At) -> None:
    """So a loop may end right after, and drivers have nothing to warn of."""
    made: list[Any] = []

    async def main() -> None:
        engine = aat.aengine()
        event.listen(
            engine.sync_engine, "connect", lambda _, record: made.append(record.driver_connection)
        )
        await turns_of(engine, 6, 3)
        pool = engine.pool
        await engine.dispose()
        assert pool.fastpool.stats().open == 0

    asyncio.run(main())
    assert made and all(map(is_closed, made))


def test_a_dropped_asynchronous_engine_leaves_nothing(aat: At) -> None:
    """Not disposed, while its loop runs: its connections are closed there, and nothing is said; at
    the latest when the timeouts are over of those who have waited."""
    made: list[Any] = []

    async def main() -> None:
        engine = aat.aengine(pool_timeout=0.5)
        event.listen(
            engine.sync_engine, "connect", lambda _, record: made.append(record.driver_connection)
        )
        await turns_of(engine, 1, 3)
        gone = weakref.ref(engine.pool)
        del engine
        async with asyncio.timeout(PATIENCE):
            while gone() is not None or not all(map(is_closed, made)):
                gc.collect()
                await asyncio.sleep(0.01)

    with all_warnings() as warned:
        asyncio.run(main())
        made.clear()
        gc.collect()
    assert [str(each.message) for each in warned if each.category is not DeprecationWarning] == []


def is_closed(connection: Any) -> bool:
    told = getattr(connection, "is_closed", None)
    return bool(told() if told else connection.closed)


def test_tasks_see_the_server_killed_and_back(aat: At) -> None:
    """Under load: no connection that had failed is lent again, and all tasks go on."""
    failures: list[Exception] = []
    failed: list[Any] = []  # kept, so that none has the number of another
    again: list[Any] = []

    async def borrow(engine: Any, over: asyncio.Event, back: asyncio.Event) -> int:
        done = 0
        while not over.is_set():
            raw: Any = None
            try:
                async with engine.connect() as connection:
                    raw = (await connection.get_raw_connection()).driver_connection
                    if any(raw is each for each in failed):
                        again.append(raw)
                    await connection.execute(text("select 1"))
                done += back.is_set()
                if done >= 5:
                    return done
            except Exception as error:  # before SQLAlchemy 2.1 connects raise asyncpg's own
                failures.append(error)
                if raw is not None:
                    failed.append(raw)
                await asyncio.sleep(0.01)
        return done

    async def main() -> None:
        engine = aat.aengine(pool_pre_ping=True)
        over, back = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(borrow(engine, over, back)) for _ in range(8)]
        async with asyncio.timeout(PATIENCE):
            while engine.pool.fastpool.stats().uses < 50:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(aat.restart)
        back.set()
        assert await asyncio.wait_for(asyncio.gather(*tasks), 3 * PATIENCE) == [5] * 8
        assert engine.pool.checkedout() == 0
        await engine.dispose()

    asyncio.run(main())
    assert not again, "a dead connection was lent twice"

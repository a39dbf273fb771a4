"""Drivers on real servers: killed under load and back, eight threads on four connections, fork.

Each is asked of the driver's own `except` clauses: what a user catches is what they catch today.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bench.measure import NotRun
from fastpool.contrib.dbapi import Pool
from integration.drivers import killed_servers as servers
from support.helpers import PATIENCE, ThreadRunner, eventually

pytestmark = [
    pytest.mark.servers,
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore:.*unclosed <socket"),  # left by pg8000, when it was cut
]

POSTGRESQL, MARIADB = servers.PostgreSQL, servers.MariaDB
#: Driver: its server, and the user there.
DRIVERS: dict[str, tuple[type[servers.Server], dict[str, Any]]] = {
    "psycopg2": (POSTGRESQL, {"user": "postgres"}),
    "psycopg": (POSTGRESQL, {"user": "postgres"}),
    "pg8000.dbapi": (POSTGRESQL, {"user": "postgres"}),
    "pymysql": (MARIADB, {"user": "root"}),
    "MySQLdb": (MARIADB, {"user": "root"}),
    "mysql.connector": (MARIADB, {"user": "root", "use_pure": True}),
    "mariadb": (MARIADB, {"user": "root"}),
}
ME = {POSTGRESQL: "select pg_backend_pid()", MARIADB: "select connection_id()"}
KILL = {POSTGRESQL: "select pg_terminate_backend({}, 5000)", MARIADB: "kill {}"}


@pytest.fixture(scope="module")
def running() -> Iterator[dict[Any, Any]]:
    """The servers that tests of this file have asked for, by their kind."""
    with contextlib.ExitStack() as stack:
        yield {object: stack}


class At:
    """A server and how its driver is reached."""

    def __init__(self, running: dict[Any, Any], driver: str) -> None:
        kind, options = DRIVERS[driver]
        try:
            self.driver: Any = importlib.import_module(driver)
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
        self.options = {"host": "127.0.0.1", "port": self.server.port, **options}
        self.me, self.kill = ME[kind], KILL[kind]
        self.errors = (self.driver.Error, OSError, EOFError)  # pg8000 lets those of sockets through

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

    def pool(self, **options: Any) -> Pool:
        options = {"maxsize": 4, "timeout": PATIENCE} | options
        return Pool(self.driver, kwargs=self.options, **options)


@pytest.fixture(params=DRIVERS)
def at(request: pytest.FixtureRequest, running: Any) -> Iterator[At]:
    yield At(running, request.param)
    gc.collect()  # what a driver has left is not for a later test to hear of


def ask(connection: Any, statement: str) -> Any:
    cursor = connection.cursor()
    cursor.execute(statement)
    found = cursor.fetchone()
    cursor.close()
    return found[0]


def run(connection: Any, *statements: str) -> None:
    for statement in statements:
        connection.cursor().execute(statement)


def test_a_block_commits_close_rolls_back(at: At) -> None:
    pool = at.pool(maxsize=1)
    with pool.connect() as connection:
        run(connection, "create schema other", "create table other.lines (number int)")
        run(connection, "insert into other.lines values (1)")
    connection = pool.connect()
    run(connection, "insert into other.lines values (2)")
    connection.close()
    with pytest.raises(KeyError), pool.connect() as connection:
        run(connection, "insert into other.lines values (3)")
        raise KeyError
    with pool.connect() as connection:
        assert ask(connection, "select sum(number) from other.lines") == 1
        run(connection, "drop table other.lines", "drop schema other")
    assert pool.fastpool.stats().created == 1 and pool.close()


def test_a_statement_that_fails_costs_no_connection(at: At) -> None:
    """And the transaction that it has spoilt is nobody's afterwards."""
    pool = at.pool(maxsize=1)
    for leave in ("block", "close"):
        connection = pool.connect()
        with pytest.raises(at.driver.Error), connection if leave == "block" else pass_on():
            run(connection, "select nonsense from nowhere")
        connection.close()
    with pool.connect() as connection:
        assert ask(connection, "select 1") == 1
    assert pool.fastpool.stats().created == 1 and pool.close()


@contextlib.contextmanager
def pass_on() -> Iterator[None]:
    yield


def test_after_its_return_a_connection_and_its_cursors_are_dead(at: At) -> None:
    pool = at.pool(maxsize=1)
    connection = pool.connect()
    cursor, open_still = connection.cursor(), connection.cursor()
    cursor.execute("select 1")
    cursor.fetchall()
    open_still.execute("select 1 union select 2")
    open_still.fetchall()
    connection.close()
    with pytest.raises(at.driver.InterfaceError):
        connection.cursor()
    for each in (cursor, open_still):
        with pytest.raises((*at.errors, ReferenceError, AttributeError)):  # of mysql.connector
            each.execute("select 1")
    with pool.connect() as again:
        assert ask(again, "select 1") == 1
    assert pool.close()


def test_setup_survives_the_rollback(at: At) -> None:
    """PostgreSQL undoes SET with the transaction that it was in."""
    name = "statement_timeout" if at.me == ME[POSTGRESQL] else "max_statement_time"
    setup = f"set {name} = {'4321' if name.startswith('st') else '4.321'}"
    pool = at.pool(maxsize=1, setup=setup)
    pool.connect().close()
    with pool.connect() as connection:
        asks = "show statement_timeout" if name.startswith("st") else f"select @@{name}"
        assert str(ask(connection, asks)).startswith("4")
    assert pool.fastpool.stats().created == 1 and pool.close()


def test_eight_threads_on_four_connections_all_get_turns(at: At, runner: ThreadRunner) -> None:
    pool, turns, over = at.pool(), [0] * 8, threading.Event()
    for connection in [pool.connect() for _ in range(4)]:  # who opens one has no turn meanwhile
        connection.close()

    def borrow(index: int) -> None:
        while not over.is_set():
            with pool.connect() as connection:
                ask(connection, "select 1")
            turns[index] += 1
            if turns[index] == 80:
                over.set()

    runner.together(8, borrow)
    runner.finish()
    assert min(turns) >= 8, turns
    assert pool.fastpool.stats().created == pool.fastpool.stats().idle == 4
    assert pool.close()


@pytest.mark.parametrize("leave", ["block", "close"])
@pytest.mark.parametrize("check", [None, True])
def test_the_server_is_killed_and_back(
    at: At, runner: ThreadRunner, leave: str, check: Any
) -> None:
    """Under load: no connection that had failed is lent again, and all threads go on."""
    pool = at.pool(check=check, check_after=0.01)
    failed: set[int] = set()  # those that the server has cut; kept, so that no number comes twice
    kept: list[Any] = []
    again: list[Any] = []
    back, over = threading.Event(), threading.Event()
    done = [0] * 8

    def borrow(index: int) -> None:
        while not over.is_set():
            number = None
            try:
                connection = pool.connect()
                number = id(connection.dbapi_connection)
                if number in failed:
                    again.append(number)
                raw = connection.dbapi_connection
                if leave == "block":
                    with connection:
                        ask(connection, "select 1")
                else:
                    try:
                        ask(connection, "select 1")
                    finally:
                        connection.close()
                if back.is_set():
                    done[index] += 1
            except at.errors:  # as users write it
                if number is not None:
                    kept.append(raw)
                    failed.add(number)

    runner.together(8, borrow)
    eventually(lambda: pool.fastpool.stats().uses > 100)
    at.restart()
    back.set()
    eventually(lambda: min(done) >= 5, 3 * PATIENCE)
    over.set()
    runner.finish()
    assert not again, "a dead connection was lent twice"
    assert pool.fastpool.stats().created > 4 and pool.fastpool.stats().leased == 0
    assert pool.close()


def test_a_check_finds_one_that_was_killed_idle(at: At) -> None:
    pool = at.pool(maxsize=2, check=True, check_after=0)
    with pool.connect() as first, pool.connect() as other:
        name = ask(first, at.me)
        victim = first.dbapi_connection
        survivor = other.dbapi_connection
    killer = at.driver.connect(**at.options)
    run(killer, at.kill.format(name))
    killer.close()
    with pool.connect() as one, pool.connect() as two:
        found = {id(one.dbapi_connection), id(two.dbapi_connection)}
        assert ask(one, "select 1") == ask(two, "select 1") == 1
    assert id(survivor) in found and id(victim) not in found
    assert pool.fastpool.stats().closed["check"] == 1
    assert pool.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_alone(at: At) -> None:
    """It opens its own, and its parent's go on working, lent and idle."""
    pool = at.pool()
    lent = pool.connect()
    before = ask(lent, at.me)
    with pool.connect() as idle:
        other = ask(idle, at.me)
    child = os.fork()
    if not child:
        code = 1
        try:
            with pool.connect() as own:
                assert ask(own, at.me) not in (before, other)
            lent.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask(lent, at.me) == before
    lent.close()
    with pool.connect() as one, pool.connect() as two:
        assert {ask(one, at.me), ask(two, at.me)} == {before, other}
    assert pool.close()


# ---- PooledDB ------------------------------------------------------------------------------------


def pooled_db(at: At) -> Any:
    pytest.importorskip("dbutils", reason="DBUtils is not installed")
    from fastpool.contrib.dbapi import PooledDB

    # mysqlclient warns of how DBUtils calls ping(), mysql.connector of a row that it does not fetch
    ping: Any = 1 if at.driver.__name__ == "mysql.connector" else "select 1"
    return PooledDB(at.driver, 0, 0, 0, 4, True, ping=ping, **at.options)


def test_pooled_db_sees_the_server_killed_and_back(at: At, runner: ThreadRunner) -> None:
    """Its steady connections are DBUtils', which reconnects those that fail."""
    pool, done = pooled_db(at), [0] * 8
    back, over = threading.Event(), threading.Event()

    def borrow(index: int) -> None:
        while not over.is_set():
            try:
                with pool.connection() as connection:
                    ask(connection, "select 1")
                if back.is_set():
                    done[index] += 1
            except at.errors:
                pass

    runner.together(8, borrow)
    eventually(lambda: pool.fastpool.stats().uses > 100)
    at.restart()
    back.set()
    eventually(lambda: min(done) >= 5, 3 * PATIENCE)
    over.set()
    runner.finish()
    assert pool.fastpool.stats().leased == 0 and pool.fastpool.stats().open <= 4
    pool.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_leaves_the_connections_of_pooled_db_alone(at: At) -> None:
    pool = pooled_db(at)
    lent, idle = pool.connection(), pool.connection()
    before, other = ask(lent, at.me), ask(idle, at.me)
    idle.close()
    child = os.fork()
    if not child:
        code = 1
        try:
            own = pool.connection()
            assert ask(own, at.me) not in (before, other)
            lent.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    again = pool.connection()
    assert (ask(lent, at.me), ask(again, at.me)) == (before, other)
    lent.close()
    again.close()
    pool.close()

"""`fastpool.contrib.django.postgresql` and `.mysql` on real servers that are killed at times.

Django's handler of connections gives each thread a wrapper of its own, as in a server; a request
ends as there, by `close_if_unusable_or_obsolete`.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from integration.contrib.test_psycopg_threads import restart
from integration.drivers import killed_servers
from support.helpers import PATIENCE, ThreadRunner, eventually

pytest.importorskip("django", reason="Django is not installed")

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import utils
from django.db.utils import ConnectionHandler

pytestmark = [
    pytest.mark.servers,
    pytest.mark.once,
    pytest.mark.skipif(django.VERSION < (5, 1), reason="Django has pools from 5.1 on"),
]

if not settings.configured:
    settings.configure(USE_TZ=True)
    django.setup()

ME = {"postgresql": "select pg_backend_pid()", "mysql": "select connection_id()"}
KILL = {"postgresql": "select pg_terminate_backend(%s, 5000)", "mysql": "kill %s"}
USER = {"postgresql": "postgres", "mysql": "root"}
NAME = {"postgresql": "postgres", "mysql": "information_schema"}
SERVER = {"postgresql": "killed_postgresql", "mysql": "killed_mariadb"}
NEEDS = {"postgresql": "psycopg_pool", "mysql": "MySQLdb"}


class Database:
    """A server, and sites on it: handlers of connections, one for each test and set of options."""

    def __init__(self, kind: str, server: killed_servers.Server) -> None:
        self.kind, self.server = kind, server
        self.me, self.kill = ME[kind], KILL[kind]
        self.sites: list[Any] = []

    def settings(self, pool: Any, **more: Any) -> dict[str, Any]:
        return {
            "ENGINE": f"fastpool.contrib.django.{self.kind}",
            "HOST": "127.0.0.1",
            "PORT": str(self.server.port),
            "USER": USER[self.kind],
            "NAME": NAME[self.kind],
            "OPTIONS": {} if pool is None else {"pool": pool},
        } | more

    def site(self, pool: Any = None, **more: Any) -> Any:
        self.sites.append(ConnectionHandler({"default": self.settings(pool, **more)}))
        return self.sites[-1]

    def close(self) -> None:
        for site in self.sites:
            site["default"].close()
            site["default"].close_pool()


@pytest.fixture(params=["postgresql", "mysql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Django's own PostgreSQL and MariaDB; pools of a test end with it."""
    pytest.importorskip(NEEDS[request.param])
    database = Database(request.param, request.getfixturevalue(SERVER[request.param]))
    yield database
    database.close()


def ask(connection: Any, statement: str = "select 1", *values: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchone()[0] if cursor.description else None


def request_ends(site: Any) -> None:
    """What `django.db.close_old_connections` does for the connections of settings.DATABASES."""
    for connection in site.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()


def stats(site: Any) -> Any:
    pool = site["default"].pool
    return getattr(pool, "fastpool", pool).stats()


def test_requests_of_many_threads_share_a_few_connections(
    database: Database, runner: ThreadRunner
) -> None:
    """All get their turns; each request commits what it has done."""
    site = database.site({"min_size": 0, "max_size": 2, "timeout": PATIENCE})
    turns, over = [0] * 6, threading.Event()

    def serve(index: int) -> None:
        try:
            while not over.is_set():
                assert ask(site["default"]) == 1
                request_ends(site)
                turns[index] += 1
                if turns[index] == 40:
                    over.set()
        finally:
            site.close_all()

    runner.together(6, serve)
    runner.finish()
    assert min(turns) >= 4, turns
    assert stats(site).created <= 2 and stats(site).leased == 0


def test_without_a_word_there_is_a_pool(database: Database) -> None:
    """The engine alone; `"pool": False` is Django's own backend."""
    site = database.site()
    ask(site["default"])
    assert stats(site).maxsize == 4
    other = database.site(False, ENGINE=f"fastpool.contrib.django.{database.kind}")
    other["default"].close_pool()
    assert other["default"].pool is None and ask(other["default"]) == 1
    other["default"].close()


def test_settings_that_cannot_be(database: Database) -> None:
    for pool, more, says in (
        ({}, {"CONN_MAX_AGE": 60}, "persistent connections"),
        ({"nonsense": 1}, {}, "nonsense"),
        ({"min_size": 3, "max_size": 2}, {}, "size"),
    ):
        site = ConnectionHandler({"default": database.settings(pool, **more)})
        with pytest.raises((ImproperlyConfigured, TypeError, ValueError), match=says):
            site["default"].ensure_connection()
        site["default"].connection = None


def test_what_a_request_leaves_open_goes_to_nobody(database: Database) -> None:
    """A transaction, and the settings of a connection that Django made."""
    site = database.site({"min_size": 1, "max_size": 1})
    connection = site["default"]
    text = "text" if database.kind == "postgresql" else "varchar(20)"
    ask(connection, "create schema shop")
    ask(connection, f"create table shop.orders (what {text})")
    request_ends(site)
    connection.set_autocommit(False)
    ask(connection, "insert into shop.orders values ('tea')")
    request_ends(site)
    assert connection.connection is None
    assert ask(connection, "select count(*) from shop.orders") == 0
    assert connection.get_autocommit()
    if database.kind == "mysql":
        assert ask(connection, "select @@tx_isolation") == "READ-COMMITTED"
    ask(connection, "drop table shop.orders")
    ask(connection, "drop schema shop")
    assert stats(site).created == 1


def test_a_session_is_set_up_once(database: Database) -> None:
    """With MySQL, and again where another isolation level is wanted."""
    if database.kind != "mysql":
        pytest.skip("psycopg_pool's `configure` does it")
    site = database.site({"min_size": 1, "max_size": 1})
    connection = site["default"]
    connection.force_debug_cursor = True
    connection.ensure_connection()
    first = len(connection.queries_log)
    assert first > 0
    request_ends(site)
    connection.ensure_connection()
    assert len(connection.queries_log) == first
    request_ends(site)
    connection.settings_dict["OPTIONS"]["isolation_level"] = "serializable"
    assert ask(connection, "select @@tx_isolation") == "SERIALIZABLE"
    assert stats(site).created == 1


def test_closed_in_an_atomic_block(database: Database) -> None:
    """The connection goes back at once, and the block cannot be gone on with."""
    site = database.site({"min_size": 1, "max_size": 1})
    connection = site["default"]
    connection.ensure_connection()
    connection.in_atomic_block = True
    connection.close()
    assert connection.connection is None and stats(site).leased == 0
    with pytest.raises(utils.ProgrammingError, match="atomic block"):
        connection.ensure_connection()
    connection.in_atomic_block = connection.closed_in_transaction = False


def test_the_except_clauses_of_django(database: Database) -> None:
    """Waiting in vain is an OperationalError that says why."""
    site = database.site({"min_size": 1, "max_size": 1, "timeout": 0.05, "leak_after": 60})
    ask(site["default"])

    def wait_in_vain(seen: list[Any]) -> None:
        try:
            site["default"].ensure_connection()
        except Exception as error:
            seen.append(error)

    seen: list[Any] = []
    thread = threading.Thread(target=wait_in_vain, args=(seen,))
    thread.start()
    thread.join()
    (error,) = seen
    assert isinstance(error, utils.OperationalError)
    assert "default: no resource within" in str(error) and "held by MainThread" in str(error)


def test_a_thread_that_ends_without_a_word_loses_no_connection(
    database: Database, runner: ThreadRunner
) -> None:
    """As under ASGI, where no signal ends the request of a thread: with psycopg_pool the
    connection is lost to the pool, and soon all are."""
    site = database.site({"min_size": 0, "max_size": 1, "timeout": PATIENCE})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # which says so
        for _ in range(3):
            runner.start(lambda: ask(site["default"])).result()
            gc.collect()
        assert runner.start(lambda: (ask(site["default"]), site.close_all())[0]).result() == 1
    assert stats(site).closed["lost"] == 3 and stats(site).leased == 0


def test_health_checks_replace_what_is_dead(database: Database) -> None:
    """CONN_HEALTH_CHECKS: no request sees a connection that died idle."""
    site = database.site({"min_size": 1, "max_size": 1}, CONN_HEALTH_CHECKS=True)
    watcher = database.site(False)["default"]
    connection = site["default"]
    if database.kind == "mysql":  # looked at after half a second of idleness otherwise
        connection.ensure_connection()
        connection.pool.configure(check_after=0)
    for _ in range(3):
        number = ask(connection, database.me)
        request_ends(site)
        ask(watcher, database.kill, number)
        assert ask(connection, database.me) != number
    assert stats(site).created == 4


def test_the_server_is_killed_and_back(database: Database, runner: ThreadRunner) -> None:
    """Under load: no connection that had failed is lent again, and all threads go on."""
    site = database.site({"min_size": 0, "max_size": 3, "timeout": PATIENCE})
    failed: list[Any] = []
    again: list[Any] = []
    back, over = threading.Event(), threading.Event()
    done = [0] * 6

    def serve(index: int) -> None:
        wrapper = site["default"]
        try:
            while not over.is_set():
                try:
                    wrapper.ensure_connection()
                    raw = wrapper.connection
                    if any(raw is each for each in failed):
                        again.append(raw)
                    try:
                        ask(wrapper)
                    except utils.DatabaseError:
                        failed.append(raw)
                        raise
                    done[index] += back.is_set()
                except (utils.OperationalError, utils.InterfaceError):  # as users write it
                    pass
                request_ends(site)
        finally:
            site.close_all()

    runner.together(6, serve)
    eventually(lambda: stats(site).uses > 60)
    restart(database.server)
    back.set()
    eventually(lambda: min(done) >= 5, 3 * PATIENCE)
    over.set()
    runner.finish()
    assert not again, "a dead connection was lent twice"
    assert stats(site).leased == 0 and stats(site).open <= 3


def test_another_database_has_another_pool(database: Database) -> None:
    """As that of the tests, whose name is put into the settings when it has been made."""
    site = database.site({"min_size": 1, "max_size": 1})
    connection = site["default"]
    name = {"postgresql": "select current_database()", "mysql": "select database()"}[database.kind]
    before = ask(connection, name)
    first = connection.pool
    ask(connection, "create database other_one")
    connection.close()
    connection.settings_dict["NAME"] = "other_one"
    assert ask(connection, name) == "other_one"
    assert connection.pool is not first and first.closed
    connection.close()
    connection.settings_dict["NAME"] = before
    assert ask(connection, name) == before
    ask(connection, "drop database other_one")


PROGRAM = """
import os, sys, threading
driver, engine, port, user, name, me = sys.argv[1:]
if driver == "pymysql":
    import pymysql
    pymysql.install_as_MySQLdb()
from django.conf import settings
settings.configure(DATABASES={"default": {
    "ENGINE": engine, "HOST": "127.0.0.1", "PORT": port, "USER": user, "NAME": name,
    "OPTIONS": {"pool": {"min_size": 1, "max_size": 2}},
}})
import django
django.setup()
from django.core.signals import request_finished, request_started
from django.db import connection, connections, transaction

def ask():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(me)
        return cursor.fetchone()[0]

mine = set()
def serve():
    for _ in range(10):
        request_started.send(sender=None)
        mine.add(ask())
        request_finished.send(sender=None)

threads = [threading.Thread(target=serve) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(mine) <= 2, mine
child = os.fork()
if child == 0:
    code = 1
    try:
        assert ask() not in mine
        connection.close()
        connection.close_pool()
        code = 0
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert ask() in mine
connections.close_all()
print("done")
"""


@pytest.mark.parametrize("driver", ["psycopg", "MySQLdb", "pymysql"])
def test_a_program_with_signals_and_a_fork(driver: str, request: pytest.FixtureRequest) -> None:
    """`request_started` and `request_finished` end the loans; a forked child opens its own."""
    pytest.importorskip(driver)
    kind = "postgresql" if driver == "psycopg" else "mysql"
    server = request.getfixturevalue(
        "killed_postgresql" if driver == "psycopg" else "killed_mariadb"
    )
    user, name = (
        ("postgres", "postgres") if kind == "postgresql" else ("root", "information_schema")
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", PROGRAM, driver,
         f"fastpool.contrib.django.{kind}", str(server.port), user, name, ME[kind]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True, text=True, timeout=4 * PATIENCE,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("done\n", "")

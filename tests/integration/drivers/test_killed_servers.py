"""Connections that die under a pool, on real servers: each is lent to at most one borrower more.

`discard_on` and `check_after` are the defaults.  The first test kills one connection, or the server
where it offers no other way; the second the server while there is one in use.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bench.measure import NotRun
from fastpool import FastPool, KeyedPool, SharedPool
from integration.drivers import killed_drivers as drivers
from integration.drivers import killed_servers as servers
from support.helpers import eventually

pytestmark = [
    pytest.mark.servers,
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of pyasn1, imported by ldap3
]

ROUND_TRIPS = 30  # after the death; one that is lent again would fail all of them
EACH = [
    drivers.Psycopg, drivers.Psycopg2, drivers.Pg8000, drivers.PyMySQL, drivers.MySQLdb,
    drivers.MySQLConnector, drivers.MariaDBConnector, drivers.Redis, drivers.Valkey,
    drivers.Paramiko, drivers.Ldap3, drivers.HttpClient,
]  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[dict[type[servers.Server], Any]]:
    """The servers that tests of this file have asked for, by their kind."""
    with contextlib.ExitStack() as stack:
        yield {object: stack}  # type: ignore[dict-item]


def server_of(running: Any, kind: type[servers.Server]) -> Any:
    """A server, started when it is first asked for; skips where there is none."""
    if kind not in running:
        try:
            running[kind] = running[object].enter_context(servers.running(kind))
        except NotRun as reason:
            running[kind] = reason
    if isinstance(running[kind], NotRun):
        pytest.skip(str(running[kind]))
    return running[kind]


def driver_of(running: Any, kind: type[drivers.Driver]) -> Any:
    try:
        return kind(server_of(running, kind.server))
    except NotRun as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=EACH, ids=lambda kind: kind.__name__)
def driver(request: pytest.FixtureRequest, running: Any) -> Any:
    return driver_of(running, request.param)


def failures(pool: Any, driver: Any, *key: str) -> list[BaseException]:
    """What turns raise, one after the other."""
    failed: list[BaseException] = []
    for _ in range(ROUND_TRIPS):
        try:
            with pool.lease(*key) as connection:
                driver.use(connection)
        except Exception as error:
            failed.append(error)
    return failed


def pool_of(driver: Any, maxsize: int = 2, **options: Any) -> Any:
    return FastPool(maxsize, factory=driver.connect, close=driver.close, **options)


def test_a_dead_connection_fails_one_turn_at_most(driver: Any) -> None:
    with pool_of(driver) as pool:
        with pool.lease() as connection:
            driver.use(connection)
            name = driver.name_of(connection)
        driver.kill(name)
        failed = failures(pool, driver)
        assert len(failed) <= 1, failed
        assert pool.stats().closed_total == len(failed)


def test_each_of_several_that_die_at_once_fails_one_turn_at_most(driver: Any) -> None:
    """The server is killed while all are idle, and is there again."""
    with pool_of(driver, 3) as pool:
        held = [pool.acquire() for _ in range(3)]
        for lease in held:
            driver.use(lease.resource)
        for lease in held:
            lease.release()
        driver.at.restart()
        failed = failures(pool, driver)
        assert len(failed) <= 3, failed
        with pool.lease() as connection:
            driver.use(connection)


def test_one_that_dies_in_use_is_not_lent_again(driver: Any) -> None:
    with pool_of(driver) as pool:
        with contextlib.suppress(Exception):
            with pool.lease() as connection:
                driver.use(connection)
                driver.kill(driver.name_of(connection))
                driver.use(connection)
        assert failures(pool, driver) == []


@pytest.mark.parametrize(
    "kind", [drivers.Psycopg, drivers.PyMySQL, drivers.Paramiko, drivers.Ldap3]
)
def test_pools_of_keys_know_it_too(running: Any, kind: Any) -> None:
    driver = driver_of(running, kind)
    with KeyedPool(lambda key: driver.connect(), close=driver.close) as pool:
        with pool.lease("key") as connection:
            driver.use(connection)
            name = driver.name_of(connection)
        driver.kill(name)
        assert len(failures(pool, driver, "key")) <= 1


@pytest.mark.parametrize("kind", [drivers.Psycopg, drivers.Redis])
def test_shared_pools_know_it_too(running: Any, kind: Any) -> None:
    driver = driver_of(running, kind)
    with SharedPool(driver.connect, items=1, close=driver.close) as pool:
        with pool.lease() as connection:
            driver.use(connection)
            name = driver.name_of(connection)
        driver.kill(name)
        assert len(failures(pool, driver)) <= 1


# ---- What keeps the connection -------------------------------------------------------------------


def keeps(pool: Any, driver: Any, statement: str, *before: str) -> BaseException:
    """A statement that fails leaves the connection where it was; what it raised."""
    with pytest.raises(Exception) as caught:
        with pool.lease() as connection:
            for other in before:
                driver.run(connection, other)
            driver.run(connection, statement)
    with pool.lease() as again:
        assert again is connection, f"closed for {caught.value!r}"
        with contextlib.suppress(Exception):
            again.rollback()
        driver.use(again)
    assert pool.stats().closed_total == 0
    return caught.value


OF_POSTGRESQL = [drivers.Psycopg, drivers.Psycopg2, drivers.Pg8000]
OF_MARIADB = [
    drivers.PyMySQL, drivers.MySQLdb, drivers.MySQLConnector, drivers.MariaDBConnector,
]  # fmt: skip
SLOW = (
    "select sleep(30) from (select 1) one"  # of MariaDB; without a table it is cut short in silence
)


@pytest.mark.parametrize("kind", OF_POSTGRESQL + OF_MARIADB)
def test_what_a_database_refuses_keeps_the_connection(running: Any, kind: Any) -> None:
    """A syntax error, a unique violation, a statement that is cancelled or takes too long, a lock
    that is not to be had, a deadlock."""
    driver = driver_of(running, kind)
    of_postgresql = kind in OF_POSTGRESQL
    table = f"t_{kind.__name__.lower()}"
    other = driver.connect()
    if not of_postgresql:
        driver.run(other, "create database if not exists test")
        driver.run(other, "use test")
    driver.run(other, f"create table {table} (n int primary key, m int)")
    driver.run(other, f"insert into {table} values (1, 0), (2, 0)")

    with pool_of(driver, 1) as pool:
        if not of_postgresql:
            with pool.lease() as connection:
                driver.run(connection, "use test")
        keeps(pool, driver, "select select")
        keeps(pool, driver, f"insert into {table} values (1, 0)")
        if of_postgresql:  # a setting is undone with the statement that it is sent with
            keeps(pool, driver, "set statement_timeout = 50; select pg_sleep(30)")
        else:
            keeps(pool, driver, f"set statement max_statement_time = 0.05 for {SLOW}")
        cancelled(pool, driver, other, of_postgresql)

        driver.run(other, "begin")
        driver.run(other, f"update {table} set m = 1 where n = 1")
        blocked = f"update {table} set m = 2 where n = 1"
        if of_postgresql:
            keeps(pool, driver, f"set lock_timeout = 50; {blocked}")
        else:
            keeps(pool, driver, blocked, "set innodb_lock_wait_timeout = 1")
        driver.run(other, "rollback")

        if not of_postgresql:
            with pool.lease() as connection:
                driver.run(connection, "set innodb_lock_wait_timeout = 50")
        deadlocked(pool, driver, other, table, of_postgresql)
    other.close()


def cancelled(pool: Any, driver: Any, other: Any, of_postgresql: bool) -> None:
    """Another session ends the statement, and not the connection."""
    with pool.lease() as connection:
        name = driver.name_of(connection)
    over = threading.Event()
    watcher = driver.connect()

    def cancel() -> None:
        ask = f"select pg_cancel_backend({name})" if of_postgresql else f"kill query {name}"
        while not over.wait(0.05):
            driver.run(watcher, ask)

    thread = threading.Thread(target=cancel)
    slow = "select pg_sleep(30)" if of_postgresql else SLOW
    with pytest.raises(Exception) as caught:
        with pool.lease() as connection:
            thread.start()
            try:
                driver.run(connection, slow)
            finally:
                over.set()
                thread.join()
    watcher.close()
    with contextlib.suppress(Exception):  # what was cancelled too late
        driver.use(connection)
    with pool.lease() as again:
        assert again is connection, f"closed for {caught.value!r}"
        driver.use(again)


def deadlocked(pool: Any, driver: Any, other: Any, table: str, of_postgresql: bool) -> None:
    """Each waits for the other; ours is chosen, since it is the first to look, or has done less."""
    waits = "select count(*) from pg_locks where not granted"
    if of_postgresql:
        driver.run(other, "set deadlock_timeout = '30s'")
    else:
        waits = "select variable_value from information_schema.global_status "
        waits += "where variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'"
    watcher = driver.connect()
    driver.run(other, "begin")
    many = ", ".join(f"({n}, 0)" for n in range(10, 100))
    driver.run(other, f"insert into {table} values {many}")
    driver.run(other, f"update {table} set m = 1 where n = 2")
    thread = threading.Thread(
        target=driver.run, args=(other, f"update {table} set m = 1 where n = 1")
    )
    with pytest.raises(Exception) as caught:
        with pool.lease() as connection:
            driver.run(connection, "begin")
            driver.run(connection, f"update {table} set m = 2 where n = 1")
            thread.start()
            eventually(lambda: int(driver.run(watcher, waits)[0][0]))
            driver.run(connection, f"update {table} set m = 2 where n = 2")
    with pool.lease() as again:
        assert again is connection, f"closed for {caught.value!r}"
        driver.run(again, "rollback")
    thread.join()
    assert "deadlock" in str(caught.value).lower()
    driver.run(other, "rollback")
    watcher.close()


def test_an_ssh_server_that_refuses_keeps_the_session(running: Any) -> None:
    """The session goes on; the channel is what was refused."""
    driver = driver_of(running, drivers.Paramiko)
    with pool_of(driver, 1) as pool:
        with pytest.raises(driver.module.SSHException):
            with pool.lease() as client:
                client.get_transport().open_session().invoke_subsystem("no-such-subsystem")
        with pytest.raises(driver.module.SSHException):
            with pool.lease() as client:
                client.get_transport().open_channel("no-such-kind")
        with pool.lease() as again:
            assert again is client
            driver.use(again)


def test_an_ldap_server_that_refuses_keeps_the_connection(running: Any) -> None:
    driver = driver_of(running, drivers.Ldap3)
    exceptions = driver.module.core.exceptions
    with pool_of(driver, 1) as pool:
        with pytest.raises(exceptions.LDAPException):
            with pool.lease() as connection:
                connection.search("dc=test", "(((")
        with pytest.raises(exceptions.LDAPException):
            with pool.lease() as again:
                assert again is connection
                connection.raise_exceptions = True
                connection.delete("cn=nobody,dc=test")
        with pool.lease() as again:
            assert again is connection


def test_a_reply_of_redis_that_is_an_error_keeps_the_connection(running: Any) -> None:
    driver = driver_of(running, drivers.Redis)
    with pool_of(driver, 1) as pool:
        with pytest.raises(driver.module.ResponseError):
            with pool.lease() as client:
                client.execute_command("NO-SUCH-COMMAND")
        with pool.lease() as again:
            assert again is client
            driver.use(again)


def test_http_connections_that_are_out_of_step_are_closed(running: Any) -> None:
    """The second request was sent before the first was answered, and the pool does not know."""
    driver = driver_of(running, drivers.HttpClient)
    with pool_of(driver, 1) as pool:
        with pytest.raises(driver.module.CannotSendRequest):
            with pool.lease() as connection:
                connection.request("GET", "/")
                connection.request("GET", "/")
        eventually(lambda: pool.stats().closed == {"error": 1})
        assert failures(pool, driver) == []


def cut_http(driver: Any) -> tuple[Any, Any]:
    client = driver.connect()

    def read(path: str) -> None:
        client.request("GET", path)
        client.getresponse().read()

    return client, read


def cut_urllib3(driver: Any) -> tuple[Any, Any]:
    client = pytest.importorskip("urllib3").PoolManager(retries=False)
    return client, lambda path: client.request("GET", driver.url(path))


def cut_requests(driver: Any) -> tuple[Any, Any]:
    client = pytest.importorskip("requests").Session()
    return client, lambda path: client.get(driver.url(path))


def cut_httpx(driver: Any) -> tuple[Any, Any]:
    client = pytest.importorskip("httpx").Client(trust_env=False)
    return client, lambda path: client.get(driver.url(path))


@pytest.mark.parametrize("client", [cut_http, cut_urllib3, cut_requests, cut_httpx])
def test_an_answer_that_is_cut_short_closes_what_it_came_by(running: Any, client: Any) -> None:
    driver = driver_of(running, drivers.HttpClient)
    reads: dict[int, Any] = {}

    def connect() -> Any:
        made, read = client(driver)
        reads[id(made)] = read
        return made

    with FastPool(1, factory=connect) as pool:
        with pool.lease() as first:
            reads[id(first)]("/")
        with pytest.raises(Exception) as caught:
            with pool.lease() as first:
                reads[id(first)]("/cut")
        with pool.lease() as second:
            assert second is not first, f"kept after {caught.value!r}"
            reads[id(second)]("/")
        eventually(lambda: pool.stats().closed == {"error": 1})


def test_a_check_finds_what_is_suspect(running: Any) -> None:
    """An error of the application's own says nothing, and yet the session may be dead."""
    driver = driver_of(running, drivers.Psycopg)

    class Wrapped:  # whom nobody can ask
        def __init__(self) -> None:
            self.inner = driver.connect()

        def ping(self) -> bool:
            driver.use(self.inner)
            return True

        def close(self) -> None:
            self.inner.close()

    class Lost(Exception):
        pass

    with FastPool(1, factory=Wrapped, check=Wrapped.ping, check_after=3600) as pool:
        with pytest.raises(Lost):
            with pool.lease() as wrapped:
                driver.kill(driver.name_of(wrapped.inner))
                raise Lost
        for _ in range(3):
            with pool.lease() as other:
                assert other is not wrapped
                other.ping()
        assert pool.stats().closed == {"check": 1}

"""`fastpool.contrib.dbapi.PooledDB` does what DBUtils' does: most is asked of both.

DBUtils' own tests run on it too: tools/hosts_dbutils.py.
"""

from __future__ import annotations

import gc
import sqlite3
import threading
import time
import warnings
from typing import Any

import pytest

from integration.dbapi import recorded
from integration.dbapi.recorded import Driver
from support.helpers import PATIENCE, ThreadRunner, eventually

pytest.importorskip("dbutils", reason="DBUtils is not installed")

from dbutils import pooled_db

from fastpool import PoolTimeout
from fastpool.contrib.dbapi import PooledDB

BOTH = pytest.mark.parametrize("kind", [pooled_db.PooledDB, PooledDB])


def driver_of(**more: Any) -> Any:
    """With the error that DBUtils looks for besides those of ours."""
    driver: Any = Driver()
    driver.InternalError = recorded.InterfaceError
    for name, value in more.items():
        setattr(driver, name, value)
    return driver


def story(kind: Any) -> list[Any]:
    """What one pool does, from its first connection to its last."""
    driver = driver_of()
    pool = kind(driver, 2, 2, 0, 3, setsession=["set a"], maxusage=4)
    log: list[Any] = [driver.open()]
    held = [pool.connection() for _ in range(3)]
    with pytest.raises(pooled_db.TooManyConnectionsError):
        pool.connection()
    for each in held:
        each.close()
        log.append(driver.open())
    with pytest.raises(pooled_db.InvalidConnectionError):
        held[0].cursor()
    with pool.connection() as connection:
        connection.cursor().execute("one")
        connection.begin()
        connection.cursor().execute("two")
    for _ in range(7):
        with pool.dedicated_connection() as connection:
            connection.cursor().execute("three")
    again = pool.connection()
    del again  # which gives it back
    pool.close()
    log.append(driver.open())
    pool.connection().close()
    log.append(driver.open())
    driver.made[2].calls.clear()  # of one too many, which ours has rolled back before it was closed
    return [*log, [each.calls for each in driver.made]]


def test_the_same_story() -> None:
    """What is opened, sent and closed when."""
    assert story(PooledDB) == story(pooled_db.PooledDB)


@BOTH
def test_one_that_died_idle_is_replaced_when_it_is_lent(kind: Any) -> None:
    driver = driver_of()
    pool = kind(driver, 1, ping="select 1")
    driver.made[0].dead = recorded.OperationalError("gone")
    with pool.connection() as connection:
        connection.cursor().execute("mine")
    assert driver.made[1].calls[:1] == ["mine"] and driver.open() == [1]


@BOTH
def test_a_statement_that_fails_is_run_again_on_a_new_connection(kind: Any) -> None:
    """So says DBUtils of what is not between begin() and commit()."""
    driver = driver_of()
    pool = kind(driver, 1, ping=0)
    connection = pool.connection()
    driver.made[0].dead = recorded.OperationalError("gone")
    connection.cursor().execute("mine")
    connection.close()
    assert driver.made[1].calls == ["mine", "rollback"] and driver.open() == [1]


@BOTH
def test_shared_ones_are_dbutils_own(kind: Any) -> None:
    driver = driver_of(threadsafety=2)
    pool = kind(driver, 0, 0, 1)
    one, other = pool.connection(), pool.connection()
    assert len(driver.made) == 1 and type(one) is pooled_db.PooledSharedDBConnection
    one.close()
    other.close()
    assert pool.connection(False)._con._con is driver.made[0]
    assert getattr(pool, "fastpool", None) is None


def test_refusals_have_their_cause() -> None:
    """And what the FastPool under it is told by `fastpool=`."""
    options = {"timeout": 0.01, "leak_after": 60, "name": "orders"}
    pool = PooledDB(driver_of(), 0, 0, 0, 1, True, fastpool=options)
    held = pool.connection()
    with pytest.raises(pooled_db.TooManyConnectionsError, match="orders: no resource") as caught:
        pool.connection()
    assert isinstance(caught.value.__cause__, PoolTimeout)
    assert "held by MainThread" in str(caught.value.__cause__)
    held.close()


@pytest.mark.parametrize("limit", [0, None])
def test_no_limit(limit: Any) -> None:
    driver = driver_of()
    pool = PooledDB(driver, 0, 3, 0, limit)
    held = [pool.connection() for _ in range(40)]
    assert len(driver.open()) == 40 == pool._connections
    for each in held:
        each.close()
    assert len(driver.open()) == 3 == len(pool._idle_cache)


def test_a_hanging_connect_keeps_nobody_else_waiting(runner: ThreadRunner) -> None:
    """DBUtils connects, pings and rolls back under the one lock of its pool."""
    driver, go_on = driver_of(), threading.Event()

    def connect() -> Any:
        if threading.get_ident() != main:
            go_on.wait(PATIENCE)
        return driver.connect()

    main = threading.get_ident()
    pool = PooledDB(connect, 0, 0, 0, 8, failures=recorded.Error)
    connect.threadsafety = 1  # type: ignore[attr-defined]
    hanging = [runner.start(lambda: pool.connection().close()) for _ in range(6)]
    for each in hanging:
        each.parked()
    pool.connection().close()
    go_on.set()
    runner.finish()


def test_eight_threads_on_two_connections_all_get_turns(runner: ThreadRunner) -> None:
    driver, turns, over = driver_of(), [0] * 8, threading.Event()
    pool = PooledDB(driver, 0, 0, 0, 2, True)
    holders: dict[int, int] = {}

    def borrow(index: int) -> None:
        while not over.is_set():
            with pool.connection() as connection:
                number = connection._con._con.number
                assert holders.setdefault(number, index) == index, "lent to two"
                time.sleep(0.0005)
                del holders[number]
            turns[index] += 1
            if turns[index] == 100:
                over.set()

    runner.together(8, borrow)
    runner.finish()
    assert min(turns) >= 10, turns
    assert len(driver.made) == 2
    pool.close()
    assert driver.open() == []


def test_a_dropped_pool_closes_what_it_has_and_says_nothing() -> None:
    """At once, as DBUtils', or when the last of its connections is given back."""
    driver = driver_of()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool = PooledDB(driver, 2)
        lent = pool.connection()
        del pool
        assert driver.open() == [0, 1]
        del lent
        eventually(lambda: (gc.collect(), not driver.open())[1])


def test_sqlite(tmp_path: Any) -> None:
    pool = PooledDB(sqlite3, 1, 2, database=tmp_path / "base", check_same_thread=False)
    with pool.connection() as connection:
        connection.cursor().execute("create table t (n int)")
        connection.cursor().execute("insert into t values (1)")
        connection.commit()
        connection.cursor().execute("insert into t values (2)")
    with pool.connection() as connection:
        cursor = connection.cursor()
        cursor.execute("select n from t")
        assert cursor.fetchall() == [(1,)]
    pool.close()


def test_an_unknown_option_of_the_fastpool_is_refused() -> None:
    with pytest.raises(TypeError, match="FastPool has no option 'pool_size'"):
        PooledDB(driver_of(), fastpool={"pool_size": 5})

"""`fastpool.contrib.dbapi.Pool`: lending, giving back, and what a returned connection does."""

from __future__ import annotations

import contextvars
import functools
import gc
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastpool import PoolClosed, PoolDeadlock, PoolError, PoolOverloaded, PoolTimeout
from fastpool.contrib.dbapi import Pool
from integration.dbapi import recorded
from integration.dbapi.recorded import Driver
from support.helpers import PATIENCE, ThreadRunner, eventually


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Pool]:
    """A pool of sqlite3's, over a file with an empty table."""
    pool = Pool(sqlite3, tmp_path / "base", maxsize=2, setup="create table if not exists t (n int)")
    yield pool
    assert pool.close(), "a connection was not given back"


def rows(pool: Pool) -> list[Any]:
    with pool.connect() as connection:
        return connection.cursor().execute("select n from t order by n").fetchall()


# ---- Giving back ---------------------------------------------------------------------------------


def test_close_gives_it_back_and_rolls_back(base: Pool) -> None:
    connection = base.connect()
    first = connection.dbapi_connection
    connection.cursor().execute("insert into t values (1)")
    connection.close()
    assert base.fastpool.stats().idle == 1 and rows(base) == []
    with base.connect() as again:
        assert again.dbapi_connection is first
    connection.close()  # once more does nothing
    assert base.fastpool.stats().open == 1


def test_closed_by_two_threads_at_once_it_goes_back_once(
    driver: Driver, runner: ThreadRunner
) -> None:
    """One of them does it; the connection is rolled back once, and not in the pool twice."""
    pool = Pool(driver, maxsize=2)
    for turn in range(1, 51):
        connection = pool.connect()
        runner.together(2, lambda _, close=connection.close: close())
        runner.finish()
        assert driver.made[0].calls == ["rollback"] * turn
    assert pool.fastpool.stats().idle == pool.fastpool.stats().open == 1
    assert pool.close()


def test_a_block_commits_and_gives_it_back(base: Pool) -> None:
    with base.connect() as connection:
        connection.cursor().execute("insert into t values (1)")
        assert base.fastpool.stats().leased == 1
    assert base.fastpool.stats().leased == 0 and rows(base) == [(1,)]


def test_an_exception_rolls_back_and_gives_it_back(base: Pool) -> None:
    with pytest.raises(sqlite3.IntegrityError), base.connect() as connection:
        connection.execute("create table u (n int unique)")
        connection.execute("insert into t values (1)")
        connection.execute("insert into u values (1), (1)")
    assert rows(base) == [] and base.fastpool.stats().created == 1


def test_a_commit_that_fails_is_the_callers(driver: Driver) -> None:
    """And what it was part of is rolled back, so the next one begins with nothing."""
    pool = Pool(driver, maxsize=1)
    with pytest.raises(recorded.Error, match="conflict"), pool.connect() as connection:
        connection.commit = _raises(recorded.Error("conflict"))
    assert driver.made[0].calls == ["rollback"]
    assert pool.fastpool.stats().idle == 1


def _raises(error: Exception) -> Any:
    def fail() -> None:
        raise error

    return fail


def test_a_block_that_was_closed_inside_ends_quietly(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1)
    with pool.connect() as connection:
        connection.close()
    assert driver.made[0].calls == ["rollback"]


def test_what_a_block_has_committed_is_not_rolled_back_again(driver: Driver) -> None:
    """Which is a round trip with some drivers."""
    pool = Pool(driver, maxsize=1)
    with pool.connect():
        pass
    assert driver.made[0].calls == ["commit"]
    with pytest.raises(KeyError), pool.connect():
        raise KeyError
    assert driver.made[0].calls == ["commit", "rollback"]


def test_without_a_reset_nothing_is_sent(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1, reset=None)
    with pool.connect():
        pass
    with pytest.raises(KeyError), pool.connect():
        raise KeyError
    pool.connect().close()
    assert driver.made[0].calls == [] and pool.fastpool.stats().created == 1


def test_a_reset_of_ones_own_is_the_last_word(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1, reset=lambda connection: connection.note("mine"))
    with pool.connect():
        pass
    with pytest.raises(KeyError), pool.connect():
        raise KeyError
    pool.connect().close()
    assert driver.made[0].calls == ["commit", "mine", "mine", "mine"]


# ---- After that ----------------------------------------------------------------------------------


def test_use_after_close_is_the_drivers_interface_error(base: Pool) -> None:
    connection = base.connect()
    connection.close()
    uses = (
        connection.cursor, connection.commit, connection.rollback, connection.__enter__,
        lambda: connection.execute("select 1"), lambda: connection.total_changes,
        lambda: connection.dbapi_connection, lambda: setattr(connection, "row_factory", None),
    )  # fmt: skip
    for use in uses:
        with pytest.raises(sqlite3.InterfaceError, match=r"pool-.*was given back"):
            use()
    assert connection.closed is True and "given back" in repr(connection)


def test_a_cursor_ends_with_its_connection(base: Pool) -> None:
    """Those by connection.execute(), and however many there were."""
    connection = base.connect()
    cursors = [connection.cursor() for _ in range(100)] + [connection.execute("select 1")]
    execute = connection.execute
    connection.close()
    for cursor in cursors:
        with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
            cursor.execute("select 1")
    with pytest.raises(sqlite3.InterfaceError):
        execute("select 1")


def test_cursors_that_are_gone_cost_nothing(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1)
    with pool.connect() as connection:
        kept = connection.cursor()
        for _ in range(10_000):
            connection.cursor()
        [notes] = [each for each in gc.get_referents(connection) if type(each) is list]
        assert len(notes) < 100
    assert kept.closed == 1


def test_a_forgotten_one_is_closed_and_told_of(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1)
    connection = pool.connect()
    with pytest.warns(ResourceWarning, match="released"):
        del connection
        gc.collect()
    eventually(lambda: not driver.open())
    pool.connect().close()
    assert driver.open() == [1]


def test_attributes_are_the_drivers(base: Pool, driver: Driver) -> None:
    with base.connect() as connection:
        connection.row_factory = sqlite3.Row
        assert connection.execute("select 1 as one").fetchone()["one"] == 1
        assert connection.in_transaction is False and "iterdump" in dir(connection)
        assert connection.dbapi_connection.row_factory is sqlite3.Row
        connection.row_factory = None
        with pytest.raises(AttributeError, match=r"'sqlite3\.Connection' object has no attribute"):
            connection.nothing  # noqa: B018
    pool = Pool(driver, maxsize=1)
    with pool.connect() as other:
        other.autocommit = True
        assert driver.made[0].autocommit is True
        del other.autocommit
        assert driver.made[0].autocommit is False


# ---- Broken ones ---------------------------------------------------------------------------------


def test_one_that_cannot_be_rolled_back_is_closed_in_silence(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1)
    connection = pool.connect()
    driver.made[0].dead = recorded.OperationalError("gone")
    connection.close()
    assert driver.open() == []
    pool.connect().close()
    assert driver.open() == [1]


def test_one_that_the_exception_says_is_broken_is_asked_nothing(driver: Driver) -> None:
    """A rollback might hang."""
    pool = Pool(driver, maxsize=1)
    for error in (ConnectionResetError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), pool.connect():
            raise error
    assert driver.open() == [] and [each.calls for each in driver.made] == [[], []]


def test_close_in_a_finally_hears_of_the_exception(driver: Driver) -> None:
    """As a block does, but of one that was on its way before it is told nothing."""
    pool = Pool(driver, maxsize=1)

    def use(error: Exception) -> None:
        connection = pool.connect()
        try:
            raise error
        finally:
            connection.close()

    with pytest.raises(OSError):
        use(OSError())
    assert driver.open() == [] and driver.made[0].calls == []
    try:
        raise OSError
    except OSError:
        pool.connect().close()
        with pytest.raises(KeyError):
            use(KeyError())
    assert driver.open() == [1] and driver.made[1].calls == ["rollback"] * 2


def test_discard_on(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1, discard_on=("broken", KeyError))
    with pytest.raises(KeyError), pool.connect():
        raise KeyError
    assert driver.open() == []
    with pytest.raises(ValueError), pool.connect():
        raise ValueError
    assert driver.open() == [1]


def test_an_interrupt_in_a_rollback_loses_nothing(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1)
    for leave in ("close", "block"):
        connection = pool.connect()
        driver.made[-1].dead = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            connection.close() if leave == "close" else connection.__exit__(
                ValueError, ValueError(), None
            )
        assert driver.open() == []
    pool.connect().close()
    assert driver.open() == [2]


def test_a_driver_that_tells_its_health_is_asked(driver: Driver) -> None:
    """oracledb's rollback does not reach the server if nothing was begun."""
    pool = Pool(driver, maxsize=1)
    sound = [True]
    recorded.Connection.is_healthy = lambda self: sound[0]  # type: ignore[attr-defined]
    try:
        pool.connect().close()
        assert driver.open() == [0]
        sound[0] = False
        with pool.connect():
            pass
        assert driver.open() == []
    finally:
        del recorded.Connection.is_healthy  # type: ignore[attr-defined]


@pytest.mark.parametrize("check", ["select 1", True, lambda connection: connection.note("mine")])
def test_a_check_replaces_one_that_died_idle(driver: Driver, check: Any) -> None:
    pool = Pool(driver, maxsize=1, check=check, check_after=0)
    pool.connect().close()
    pool.connect().close()
    asked = ["select 1", "rollback"] if not callable(check) else ["mine"]
    assert driver.made[0].calls == ["rollback", *asked, "rollback"]
    driver.made[0].dead = recorded.OperationalError("gone")
    with pool.connect() as connection:
        assert connection.number == 1


def test_a_drivers_own_ping(driver: Driver) -> None:
    """Told not to reconnect, if it knows of that."""
    pool = Pool(driver, maxsize=1, check=True, check_after=0)
    answers: list[Any] = []
    recorded.Connection.ping = lambda self, **how: answers.append(how)  # type: ignore[attr-defined]
    try:
        for _ in range(2):
            pool.connect().close()
        recorded.Connection.ping = lambda self: answers.append("plain")  # type: ignore[attr-defined]
        pool.connect().close()
    finally:
        del recorded.Connection.ping  # type: ignore[attr-defined]
    assert answers == [{"reconnect": False}, "plain"] and driver.open() == [0]


# ---- What the pool raises ------------------------------------------------------------------------


def test_errors_are_the_drivers(driver: Driver) -> None:
    """What existing `except` clauses catch; the cause is the pool's own."""
    pool = Pool(driver, maxsize=1, timeout=0, max_waiting=0)
    held = pool.connect()
    with pytest.raises(recorded.OperationalError, match="no resource within") as timeout:
        pool.connect()
    assert isinstance(timeout.value.__cause__, PoolTimeout)
    with pytest.raises(recorded.OperationalError, match="max_waiting is 0") as overload:
        pool.connect(timeout=1)
    assert isinstance(overload.value.__cause__, PoolOverloaded)
    held.close()
    with pool.connect(), pytest.raises(recorded.OperationalError) as deadlock:
        pool.connect(timeout=None)
    assert isinstance(deadlock.value.__cause__, (PoolDeadlock, PoolOverloaded))
    assert pool.close() and pool.closed
    with pytest.raises(recorded.InterfaceError, match="closed") as closed:
        pool.connect()
    assert isinstance(closed.value.__cause__, PoolClosed)


def test_a_thread_that_waits_for_itself_is_told(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1, timeout=PATIENCE)
    with pool.connect(), pytest.raises(recorded.OperationalError) as caught:
        pool.connect()
    assert isinstance(caught.value.__cause__, PoolDeadlock)


def test_what_connecting_raises_comes_as_it_is(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1)
    driver.fails.append(recorded.OperationalError("no such database"))
    with pytest.raises(recorded.OperationalError, match="no such database") as caught:
        pool.connect()
    assert caught.value.__cause__ is None
    pool.connect().close()


def test_without_known_errors_the_pools_own(driver: Driver) -> None:
    """Where neither the function nor its connections come from a module of that kind."""

    class Bare:
        def cursor(self) -> None: ...
        def rollback(self) -> None: ...
        def close(self) -> None: ...

    pool = Pool(Bare, maxsize=1, timeout=0)
    held = pool.connect()
    with pytest.raises(PoolTimeout):
        pool.connect()
    held.close()
    with pytest.raises(PoolError, match="given back"):
        held.cursor()


def test_the_errors_of_a_function_are_those_of_its_connections() -> None:
    """A lambda says nothing of the driver, a connection does; or a partial of its function."""
    opens = lambda: sqlite3.connect(":memory:", check_same_thread=False)  # noqa: E731
    for connect in (opens, functools.partial(sqlite3.connect, ":memory:")):
        pool = Pool(connect, maxsize=1, timeout=0)
        with pool.connect(), pytest.raises(sqlite3.OperationalError):
            pool.connect()
        assert pool.close()


# ---- Opening -------------------------------------------------------------------------------------


def test_connects_in_the_callers_thread_and_context(driver: Driver, runner: ThreadRunner) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen = []

    def connect(*args: Any, **kwargs: Any) -> Any:
        seen.append((threading.get_ident(), request.get()))
        return driver.connect(*args, **kwargs)

    def borrow() -> Any:
        request.set("mine")
        pool.connect().close()
        return threading.get_ident(), "mine"

    pool = Pool(connect, "dbname=app", kwargs={"port": 5}, maxsize=1)
    assert runner.start(borrow).result() == seen[0]
    assert driver.given == [(("dbname=app",), {"port": 5})]


def test_setup_runs_on_each_new_one_and_is_committed(driver: Driver) -> None:
    """PostgreSQL undoes SET with the transaction that it was in."""
    for setup in (["set a", "set b"], lambda connection: connection.note("set c")):
        pool = Pool(driver, maxsize=1, setup=setup)
        pool.connect().close()
        pool.connect().close()
    first, second = (each.calls for each in driver.made)
    assert first == ["set a", "set b", "commit", "rollback", "rollback"]
    assert second == ["set c", "commit", "rollback", "rollback"]


def test_a_setup_that_fails_leaves_nothing_open(driver: Driver) -> None:
    pool = Pool(driver, maxsize=1, setup=_raise_one)
    with pytest.raises(ZeroDivisionError):
        pool.connect()
    assert driver.open() == [] and pool.fastpool.stats().open == 0


def _raise_one(connection: Any) -> None:
    raise ZeroDivisionError


def test_sqlite_is_told_that_threads_take_turns(base: Pool, runner: ThreadRunner) -> None:
    base.connect().close()
    assert runner.start(rows, base).result() == []
    assert base.fastpool.stats().created == 1
    with pytest.raises(ValueError, match="check_same_thread=True keeps a connection"):
        Pool(sqlite3, ":memory:", kwargs={"check_same_thread": True})


def test_what_cannot_be_is_refused_at_once(driver: Driver) -> None:
    with pytest.raises(TypeError, match="a function that connects, or a module"):
        Pool("dbname=app")
    with pytest.raises(TypeError, match="check must be a statement"):
        Pool(driver, check=5)
    with pytest.raises(TypeError, match='reset must be "rollback"'):
        Pool(driver, reset="commit")
    with pytest.raises(TypeError, match="maxsize"):
        Pool(driver, pool_size=5)
    driver.threadsafety = 0
    with pytest.raises(ValueError, match="threadsafety = 0"):
        Pool(driver)
    with pytest.raises(TypeError, match=r"has no cursor\(\)"):
        Pool(object, maxsize=1).connect()


def test_a_coroutine_is_no_connection() -> None:
    async def connect() -> None: ...

    with pytest.raises(TypeError, match="has made a coroutine, which has no cursor"):
        Pool(connect, maxsize=1).connect()


# ---- Many threads, and the end -------------------------------------------------------------------


def test_eight_threads_on_two_connections_all_get_turns(
    driver: Driver, runner: ThreadRunner
) -> None:
    """No connection for two, and none that was left in the middle of something."""
    pool, turns, over = Pool(driver, maxsize=2, timeout=PATIENCE), [0] * 8, threading.Event()
    holders: dict[int, int] = {}

    def borrow(index: int) -> None:
        while not over.is_set():
            with pool.connect() as connection:
                number = connection.number
                assert holders.setdefault(number, index) == index, "lent to two"
                assert not connection.calls or connection.calls[-1] == "commit"
                connection.execute("select 1")
                time.sleep(0.0005)
                del holders[number]
            turns[index] += 1
            if turns[index] == 100:
                over.set()

    runner.together(8, borrow)
    runner.finish()
    assert min(turns) >= 10, turns
    assert len(driver.made) == 2 and pool.close()
    assert driver.open() == []


def test_a_dropped_pool_closes_what_it_has_and_says_nothing(driver: Driver) -> None:
    """But lives as long as one of its connections is lent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool = Pool(driver, maxsize=2)
        lent, idle = pool.connect(), pool.connect()
        idle.close()
        gone = weakref.ref(pool)
        del pool, idle
        gc.collect()
        assert driver.open() == [0, 1]
        lent.close()
        del lent
        eventually(lambda: (gc.collect(), gone() is None and not driver.open())[1])


def test_closing_waits_for_what_is_lent(driver: Driver) -> None:
    with Pool(driver, maxsize=2) as pool:
        lent = pool.connect()
        pool.connect().close()
        assert pool.close(0) is False and driver.open() == [0]
        lent.close()
    assert driver.open() == [] and driver.made[0].calls == ["rollback"]
    assert "closed" in repr(pool)

"""`discard_on="broken"`: what counts as broken, driver by driver as their classes are named.

The real classes of the real drivers are in tests/integration/drivers/test_broken_drivers.py; here
are those of the standard library, and others that are made after their names.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import http.client
import imaplib
import sqlite3
from typing import Any

import pytest

import fastpool
from fastpool import PoolClosed, PoolTimeout, is_broken
from fastpool.pool._broken import is_broken_for_all
from support.helpers import eventually


def of_driver(name: str, *bases: type, **attributes: Any) -> Any:
    """A class as a driver has it: `of_driver("psycopg.errors.AdminShutdown", base)`."""
    module, _, plain = name.rpartition(".")
    body = {"__module__": module, "__qualname__": plain, **attributes}
    return type(plain, bases or (Exception,), body)


def pool_error() -> PoolTimeout:
    return PoolTimeout("pool", "wait", 0.1, {})


OperationalError = of_driver("psycopg.OperationalError", of_driver("psycopg.Error", sqlstate=None))


def with_state(code: str | None) -> Exception:
    error: Exception = of_driver("psycopg.errors.Some", OperationalError, sqlstate=code)()
    return error


# ---- 1. The operating system, and what is no Exception -------------------------------------------


class Stop(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (EOFError(), True),
        (asyncio.IncompleteReadError(b"", 4), True),
        (KeyboardInterrupt(), True),
        (asyncio.CancelledError(), True),
        (Stop(), True),
        (ValueError(), False),
        (pool_error(), False),
        (PoolClosed("pool", "closed"), False),
        (ExceptionGroup("", [ConnectionResetError()]), True),
        (ExceptionGroup("", [ValueError(), ExceptionGroup("", [EOFError()])]), True),
        (BaseExceptionGroup("", [ValueError(), asyncio.CancelledError()]), True),
        (ExceptionGroup("", [ValueError(), pool_error()]), False),
        (ExceptionGroup("", [pool_error()]), False),
    ],
    ids=repr,
)
def test_errors_of_the_system_and_what_is_no_exception_are_broken(
    error: BaseException, broken: bool
) -> None:
    assert is_broken(error) is broken
    assert is_broken(error, object()) is broken


def test_causes_do_not_count() -> None:
    error = ValueError()
    error.__cause__ = ConnectionResetError()
    error.__context__ = EOFError()
    assert not is_broken(error)


def test_nested_groups_of_any_depth_are_read() -> None:
    group: Exception = ConnectionResetError()
    for _ in range(5000):
        group = ExceptionGroup("", [group])
    assert is_broken(group)
    while isinstance(group, ExceptionGroup):  # or its destructor recurses
        group = group.exceptions[0]


# ---- 2. What the resource says -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dead", "alive"),
    [
        ("psycopg.Connection", {"closed": True}, {"closed": False}),
        ("psycopg2.extensions.connection", {"closed": 2}, {"closed": 0}),
        (
            "asyncpg.connection.Connection",
            {"is_closed": lambda self: True},
            {"is_closed": lambda self: False},
        ),
        ("pymysql.connections.Connection", {"open": False}, {"open": True}),
        ("MySQLdb.connections.Connection", {"open": 0}, {"open": 1}),
        (
            "paramiko.client.SSHClient",
            {"get_transport": lambda self: None},
            {"get_transport": lambda self: Transport()},
        ),
    ],
)
def test_a_connection_that_says_that_it_is_dead_is_broken(name: str, dead: Any, alive: Any) -> None:
    """Whatever left the block; one of a subclass too."""
    error = ValueError("of the application")
    assert is_broken(error, of_driver(name, object, **dead)())
    assert not is_broken(error, of_driver(name, object, **alive)())

    kind = of_driver(name, object, **dead)
    assert is_broken(error, of_driver("shop.Connection", kind)())
    assert not is_broken(pool_error(), kind())


Transport = of_driver("paramiko.transport.Transport", object, is_active=lambda self: True)


def test_alive_decides_only_where_the_table_says_so() -> None:
    """An SSH session that goes on has refused a channel; an open socket of MySQL means little."""
    refused = of_driver("paramiko.ssh_exception.SSHException")("Channel closed.")
    assert is_broken(refused)
    assert not is_broken(refused, Transport())

    lost = of_driver("pymysql.err.OperationalError")(2013, "Lost connection")
    assert is_broken(lost, of_driver("pymysql.connections.Connection", object, open=True)())


def test_nothing_is_called_that_is_not_in_the_table() -> None:
    """mysql-connector's is_connected() pings the server, and so does `open` of mariadb."""

    def ping(self: object) -> bool:
        raise AssertionError("this would talk to the server")

    name = "mysql.connector.connection.MySQLConnection"
    connection = of_driver(name, object, is_connected=ping, ping=ping, close=ping)()
    assert not is_broken(ValueError(), connection)

    name = "mariadb.connections.Connection"
    connection = of_driver(name, object, open=property(ping), ping=ping, _closed=False)()
    assert not is_broken(ValueError(), connection)


def test_a_stranger_is_not_asked() -> None:
    """An attribute of that name means what it likes elsewhere."""

    class Valve:
        closed = True

    assert not is_broken(ValueError(), Valve())


# ---- 3. What the exception says ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "broken"),
    [
        ("08000", True), ("08003", True), ("08006", True), ("57P01", True), ("57P02", True),
        ("57P03", True), ("57014", False), ("40P01", False), ("55P03", False), ("23505", False),
        (None, True),  # of libpq itself: there was no answer of the server
    ],
)  # fmt: skip
def test_the_sqlstate_decides_not_the_class(code: str | None, broken: bool) -> None:
    assert is_broken(with_state(code)) is broken


@pytest.mark.parametrize(
    "driver", ["pymysql.err", "MySQLdb", "MySQLdb._exceptions", "asyncmy.errors"]
)
@pytest.mark.parametrize(
    ("code", "broken"),
    [
        (2006, True), (2013, True), (2055, True), (4031, True), (1927, True), (0, True),
        (1205, False), (1213, False), (1317, False), (1969, False), (1064, False), (1062, False),
    ],
)  # fmt: skip
def test_the_number_of_mysql_decides_not_the_class(driver: str, code: int, broken: bool) -> None:
    assert is_broken(of_driver(f"{driver}.OperationalError")(code, "text")) is broken


def test_sqlite_never_counts() -> None:
    """One in memory is lost by closing it."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for error in (sqlite3.OperationalError("locked"), sqlite3.DatabaseError(), sqlite3.Error()):
            assert not is_broken(error)
            assert not is_broken(error, connection)


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (http.client.IncompleteRead(b""), True),
        (http.client.BadStatusLine(""), True),
        (http.client.CannotSendRequest(), True),
        (http.client.InvalidURL(), False),
        (imaplib.IMAP4.abort(), True),
        (imaplib.IMAP4.error(), False),
        (concurrent.futures.BrokenExecutor(), True),
    ],
    ids=repr,
)
def test_of_the_standard_library(error: Exception, broken: bool) -> None:
    assert is_broken(error) is broken


def test_a_member_of_a_group_is_recognised() -> None:
    assert is_broken(ExceptionGroup("", [ValueError(), with_state("57P01")]))
    assert not is_broken(ExceptionGroup("", [ValueError(), with_state("57014")]))


def test_a_class_of_ones_own_is_recognised_by_its_base() -> None:
    class Lost(http.client.HTTPException):
        pass

    assert is_broken(Lost())


def test_the_nearest_base_decides() -> None:
    """A reply of Redis is a ConnectionError for its clients."""
    lost = of_driver("redis.exceptions.ConnectionError")
    assert is_broken(lost())
    assert not is_broken(of_driver("redis.exceptions.BusyLoadingError", lost)())


def test_an_error_that_stands_for_another_is_read_through() -> None:
    many = of_driver("urllib3.exceptions.MaxRetryError", reason=None)
    error = many()
    assert not is_broken(error)
    error.reason = of_driver("urllib3.exceptions.ProtocolError")()
    assert is_broken(error)
    error.reason = error  # for ever
    assert not is_broken(error)


# ---- It never raises -----------------------------------------------------------------------------


class Hostile:
    """All that a resource or an error can do when it is asked."""

    @property
    def closed(self) -> bool:
        raise RuntimeError("half torn down")

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")

    __eq__ = None  # type: ignore[assignment]

    def __format__(self, spec: str) -> str:
        raise RuntimeError("no")


class Unreadable(Exception):
    __module__ = "psycopg"
    __qualname__ = "OperationalError"

    @property
    def sqlstate(self) -> str:
        raise RuntimeError("no")

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")


def test_it_never_raises() -> None:
    resource = of_driver("psycopg.Connection", Hostile)()
    assert not is_broken(ValueError(), resource)
    assert is_broken(with_state("57P01"), resource), "the error is asked all the same"
    assert not is_broken(Unreadable())
    assert not is_broken(with_state(Hostile()))  # type: ignore[arg-type]
    for code in ([], {}, object(), 1.5, True):
        assert is_broken(with_state(code)), "that is no code"  # type: ignore[arg-type]
    for args in ((), ([],), ("text",)):
        assert is_broken(of_driver("pymysql.err.OperationalError")(*args)), "that is no number"


def test_classes_of_no_readable_name_are_those_of_strangers() -> None:
    class Nameless(Exception):
        __module__ = Hostile()  # type: ignore[assignment]

    assert not is_broken(Nameless(), resource=type("R", (), {"__module__": Hostile()})())
    assert not is_broken_for_all(Nameless())


def test_groups_that_lie_about_their_members_are_read_truly() -> None:
    class Lying(ExceptionGroup[Exception]):
        exceptions = property(lambda self: 1 / 0)  # type: ignore[assignment]

    assert is_broken(Lying("", [ConnectionResetError()]))


# ---- As the option -------------------------------------------------------------------------------


class MyError(Exception):
    pass


LEFT = [
    ("broken", with_state("57P01"), True),
    ("broken", with_state("57014"), False),
    ("broken", MyError(), False),
    (("broken", MyError), MyError(), True),
    (("broken", MyError), ExceptionGroup("", [MyError()]), True),
    (["broken", MyError], with_state("57P01"), True),
    ({"broken", MyError}, ValueError(), False),
    (("broken",), ConnectionResetError(), True),
    (MyError, ExceptionGroup("", [MyError()]), True),
    ((MyError,), ConnectionResetError(), False),
    ((MyError,), BaseExceptionGroup("", [Stop()]), True),
    ((Exception,), ExceptionGroup("", [pool_error()]), False),
    (is_broken, with_state("57P01"), True),
]


@pytest.mark.parametrize(("rule", "error", "closed"), LEFT)
def test_the_option_takes_the_word_and_classes(
    accounted: Any, rule: Any, error: BaseException, closed: bool
) -> None:
    pool, _ = accounted(1, discard_on=rule)
    with pytest.raises(type(error)):
        with pool.lease():
            raise error
    eventually(lambda: pool.stats().closed_total == closed)
    assert pool.stats().idle == (not closed)


@pytest.mark.parametrize(("rule", "error", "closed"), LEFT)
def test_keyed_pools_take_it_too(keyed: Any, rule: Any, error: BaseException, closed: bool) -> None:
    pool, _ = keyed(1, discard_on=rule)
    with pytest.raises(type(error)):
        with pool.lease("key"):
            raise error
    eventually(lambda: pool.stats().closed_total == closed)


@pytest.mark.parametrize("kind", ["accounted", "keyed", "shared"])
def test_it_is_the_default(request: pytest.FixtureRequest, kind: str) -> None:
    pool, _ = request.getfixturevalue(kind)(1)
    key = ("key",) if kind == "keyed" else ()
    for error in (with_state("57014"), ExceptionGroup("", [pool_error()])):
        with pytest.raises(type(error)):
            with pool.lease(*key):
                raise error
    assert pool.stats().closed_total == 0
    for error in (with_state("57P01"), ExceptionGroup("", [ConnectionResetError()])):
        with pytest.raises(type(error)):
            with pool.lease(*key):
                raise error
    eventually(lambda: pool.stats().closed == {"error": 2})


@pytest.mark.parametrize(
    ("error", "closed"),
    [
        (TimeoutError(), False),
        (asyncio.CancelledError(), False),
        (BaseExceptionGroup("", [TimeoutError(), asyncio.CancelledError()]), False),
        (ExceptionGroup("", [TimeoutError(), ConnectionResetError()]), True),
        (of_driver("redis.exceptions.TimeoutError")(), False),
        (of_driver("redis.exceptions.ConnectionError")(), True),
        (pool_error(), False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("rule", ["broken", ("broken", MyError), is_broken_for_all])
def test_what_may_be_ones_own_leaves_a_shared_resource_alone(
    shared: Any, rule: Any, error: BaseException, closed: bool
) -> None:
    """A timeout may be the caller's, and who is cancelled has just gone away."""
    pool, _ = shared(1, discard_on=rule)
    with pytest.raises(type(error)):
        with pool.lease():
            raise error
    eventually(lambda: pool.stats().closed_total == closed)


@pytest.mark.parametrize("rule", ["brokn", ("broken", "MyError"), ("broken", 3), b"broken"])
def test_what_is_misspelt_is_refused(rule: Any) -> None:
    for make in (fastpool.FastPool, fastpool.SharedPool, fastpool.KeyedPool):
        with pytest.raises(TypeError, match=r'discard_on .*"broken"'):
            make(factory=object, discard_on=rule)


def test_penalties_have_no_such_word() -> None:
    with pytest.raises(TypeError, match="penalize_on"):
        fastpool.SharedPool(object, penalize_on="broken")


def test_a_sqlite_database_in_memory_outlives_a_syntax_error() -> None:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(":memory:", check_same_thread=False)

    with fastpool.FastPool(1, factory=connect, check=lambda c: c.execute("select 1")) as pool:
        with pool.lease() as connection:
            connection.execute("create table t (n)")
            connection.execute("insert into t values (7)")
        with pytest.raises(sqlite3.OperationalError):
            with pool.lease() as connection:
                connection.execute("select no such thing")
        with pool.lease() as connection:
            assert connection.execute("select n from t").fetchone() == (7,)
        assert pool.stats().created == 1

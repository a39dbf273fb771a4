"""`is_broken` and the real classes of real drivers, as far as they are installed.

Their names are what the rule goes by: a driver that moves a class fails here.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from fastpool import is_broken
from fastpool.pool import _driver_errors

pytestmark = pytest.mark.once


def find(name: str) -> Any:
    """A class by its qualified name in some module; skips without that module's package."""
    module, _, path = name.partition(":")
    found = pytest.importorskip(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


#: Where to import the class from, what to make it with, and whether it means a lost connection.
ERRORS: list[tuple[str, tuple[Any, ...], bool]] = [
    ("psycopg:OperationalError", ("the connection is closed",), True),
    ("psycopg:errors.AdminShutdown", (), True),
    ("psycopg:errors.CrashShutdown", (), True),
    ("psycopg:errors.CannotConnectNow", (), True),
    ("psycopg:errors.ConnectionFailure", (), True),
    ("psycopg:errors.IdleInTransactionSessionTimeout", (), True),
    ("psycopg:errors.ConnectionTimeout", (), True),
    ("psycopg:errors.UniqueViolation", (), False),
    ("psycopg:errors.SyntaxError", (), False),
    ("psycopg:errors.QueryCanceled", (), False),
    ("psycopg:errors.DeadlockDetected", (), False),
    ("psycopg:errors.LockNotAvailable", (), False),
    ("psycopg:errors.TooManyConnections", (), False),
    ("psycopg:errors.PipelineAborted", (), False),
    ("psycopg:InterfaceError", ("the cursor is closed",), False),
    ("psycopg2:OperationalError", ("server closed the connection unexpectedly",), True),
    ("psycopg2:InterfaceError", ("cursor already closed",), False),
    ("psycopg2:ProgrammingError", (), False),
    ("asyncpg:AdminShutdownError", ("",), True),
    ("asyncpg:ConnectionDoesNotExistError", ("",), True),
    ("asyncpg:exceptions.ConnectionFailureError", ("",), True),
    ("asyncpg:UniqueViolationError", ("",), False),
    ("asyncpg:QueryCanceledError", ("",), False),
    ("asyncpg:DeadlockDetectedError", ("",), False),
    ("asyncpg:LockNotAvailableError", ("",), False),
    ("asyncpg:InterfaceError", ("another operation is in progress",), False),
    ("asyncpg:InternalClientError", ("unknown state",), True),
    ("pg8000.exceptions:InterfaceError", ("network error",), True),
    ("pg8000.exceptions:DatabaseError", ({"C": "57P01"},), True),
    ("pg8000.exceptions:DatabaseError", ({"C": "40P01"},), False),
    ("pymysql.err:OperationalError", (2013, "Lost connection"), True),
    ("pymysql.err:OperationalError", (1205, "Lock wait timeout exceeded"), False),
    ("pymysql.err:OperationalError", (1213, "Deadlock found"), False),
    ("pymysql.err:OperationalError", (1317, "Query execution was interrupted"), False),
    ("pymysql.err:OperationalError", (1927, "Connection was killed"), True),
    ("pymysql.err:InterfaceError", (0, ""), True),
    ("pymysql.err:IntegrityError", (1062, "Duplicate entry"), False),
    ("pymysql.err:ProgrammingError", (1064, "You have an error"), False),
    ("MySQLdb:OperationalError", (2006, "Server has gone away"), True),
    ("MySQLdb:OperationalError", (1205, "Lock wait timeout exceeded"), False),
    ("MySQLdb:ProgrammingError", (2014, "Commands out of sync"), True),
    ("asyncmy.errors:OperationalError", (2013, "Lost connection"), True),
    ("asyncmy.errors:OperationalError", (1213, "Deadlock found"), False),
    ("mysql.connector.errors:OperationalError", ("MySQL Connection not available",), True),
    ("mysql.connector.errors:InterfaceError", ("Lost connection", 2013), True),
    ("mysql.connector.errors:InterfaceError", ("No result set to fetch from",), False),
    ("mysql.connector.errors:DatabaseError", ("Lock wait timeout exceeded", 1205), False),
    ("mysql.connector.errors:InternalError", ("Deadlock found", 1213), False),
    ("mariadb:ProgrammingError", ("",), False),
    ("sqlite3:OperationalError", ("database is locked",), False),
    ("sqlite3:DatabaseError", ("disk image is malformed",), False),
    ("pyodbc:OperationalError", ("08S01", "Communication link failure"), True),
    ("pyodbc:OperationalError", ("HYT00", "Timeout expired"), False),
    ("pyodbc:IntegrityError", ("23000", "Violation of UNIQUE KEY"), False),
    ("pymssql:OperationalError", (20047, b"DBPROCESS is dead"), True),
    ("pymssql:OperationalError", ((20004, b"Read from the server failed"),), True),
    ("pymssql:OperationalError", (1205, b"deadlock victim"), False),
    ("pymssql:InterfaceError", ("Connection is closed.",), True),
    ("clickhouse_driver.errors:NetworkError", (), True),
    ("clickhouse_driver.errors:ServerException", ("", 62), False),
    ("redis.exceptions:ConnectionError", (), True),
    ("redis.exceptions:TimeoutError", (), True),
    ("redis.exceptions:ResponseError", (), False),
    ("redis.exceptions:ReadOnlyError", (), False),
    ("redis.exceptions:BusyLoadingError", (), False),
    ("redis.exceptions:AuthenticationError", (), False),
    ("redis.exceptions:MaxConnectionsError", (), False),
    ("redis.exceptions:WatchError", (), False),
    ("valkey.exceptions:ConnectionError", (), True),
    ("valkey.exceptions:TimeoutError", (), True),
    ("valkey.exceptions:BusyLoadingError", (), False),
    ("paramiko:SSHException", ("SSH session not active",), True),
    ("paramiko:ChannelException", (1, "administratively prohibited"), False),
    ("paramiko:AuthenticationException", (), False),
    ("asyncssh:ConnectionLost", ("",), True),
    ("asyncssh:ChannelOpenError", (1, ""), False),
    ("ldap3.core.exceptions:LDAPSessionTerminatedByServerError", (), True),
    ("ldap3.core.exceptions:LDAPSocketSendError", (), True),
    ("ldap3.core.exceptions:LDAPResponseTimeoutError", (), True),
    ("ldap3.core.exceptions:LDAPNoSuchObjectResult", (), False),
    ("ldap:SERVER_DOWN", (), True),
    ("ldap:NO_SUCH_OBJECT", (), False),
    ("kafka.errors:KafkaConnectionError", (), True),
    ("kafka.errors:CorrelationIdError", (), True),
    ("kafka.errors:MessageSizeTooLargeError", (), False),
    ("pika.exceptions:StreamLostError", (), True),
    ("pika.exceptions:ConnectionClosedByBroker", (320, "shutdown"), True),
    ("pika.exceptions:ChannelClosedByBroker", (404, "no queue"), False),
    ("amqp.exceptions:ConnectionForced", (), True),
    ("amqp.exceptions:NotFound", (), False),
    ("nats.errors:ConnectionClosedError", (), True),
    ("nats.errors:TimeoutError", (), True),  # of asyncio
    ("nats.errors:MaxPayloadError", (), False),
    ("stomp.exception:NotConnectedException", (), True),
    ("pymemcache.exceptions:MemcacheUnexpectedCloseError", (), True),
    ("pymemcache.exceptions:MemcacheClientError", (), False),
    ("zmq:ZMQError", (88,), True),
    ("zmq:ContextTerminated", (), True),
    ("zmq:Again", (), False),
    ("pynng:Closed", ("", 7), True),
    ("pynng:Timeout", ("", 5), False),
    ("http.client:IncompleteRead", (b"",), True),
    ("httpx:ReadError", ("",), True),
    ("httpx:RemoteProtocolError", ("",), True),
    ("httpx:ConnectTimeout", ("",), True),
    ("httpx:PoolTimeout", ("",), False),
    ("httpx:UnsupportedProtocol", ("",), False),
    ("httpx:DecodingError", ("",), False),
    ("httpcore:ReadError", (), True),
    ("httpcore:RemoteProtocolError", (), True),
    ("httpcore:PoolTimeout", (), False),
    ("urllib3.exceptions:ProtocolError", (), True),
    ("urllib3.exceptions:ReadTimeoutError", (None, "", ""), True),
    ("urllib3.exceptions:IncompleteRead", (1, 2), True),
    ("urllib3.exceptions:DecodeError", (), False),
    ("urllib3.exceptions:EmptyPoolError", (None, ""), False),
    ("requests:ConnectionError", (), True),
    ("requests:exceptions.ChunkedEncodingError", (), True),
    ("aiohttp:ServerDisconnectedError", (), True),
    ("aiohttp:ClientPayloadError", (), True),
    ("aiohttp:InvalidURL", ("x",), False),
    ("websockets.exceptions:ConnectionClosedError", (None, None), True),
    ("websockets.exceptions:InvalidURI", ("x", "y"), False),
    ("thrift.transport.TTransport:TTransportException", (), True),
    ("thrift.protocol.TProtocol:TProtocolException", (), True),
    ("thrift.Thrift:TApplicationException", (), False),
    ("thriftpy2.transport:TTransportException", (), True),
    ("grpc:RpcError", (), False),  # the channel connects anew
    ("pymongo.errors:AutoReconnect", (), False),  # so does the client
    ("anyio:BrokenResourceError", (), True),
    ("anyio:EndOfStream", (), True),
    ("anyio:BusyResourceError", ("reading",), False),
    ("trio:BrokenResourceError", (), True),
    ("trio:BusyResourceError", (), False),
]


@pytest.mark.parametrize(
    ("name", "args", "broken"), ERRORS, ids=[f"{name}{args}" for name, args, _ in ERRORS]
)
def test_an_error_of_a_driver(name: str, args: tuple[Any, ...], broken: bool) -> None:
    assert is_broken(find(name)(*args)) is broken


def test_the_ones_of_kafka_have_codes() -> None:
    kafka = pytest.importorskip("confluent_kafka")
    for code, broken in ((-195, True), (-187, True), (-150, True), (3, False), (-185, False)):
        assert is_broken(kafka.KafkaException(kafka.KafkaError(code))) is broken


def test_the_ones_of_mariadb_have_numbers() -> None:
    mariadb = pytest.importorskip("mariadb")
    for number, broken in ((2013, True), (2006, True), (1205, False), (1213, False)):
        error = mariadb.InterfaceError("text")
        error.errno = number
        assert is_broken(error) is broken


def test_oracle_says_whether_the_session_is_dead() -> None:
    oracledb = pytest.importorskip("oracledb")
    errors = importlib.import_module("oracledb.errors")
    lost = errors._Error("DPY-4011: the database or network closed the connection")
    assert is_broken(oracledb.OperationalError(lost))
    for code in (1, 60, 1013):  # unique constraint, deadlock, cancelled
        assert not is_broken(oracledb.DatabaseError(errors._Error(f"ORA-{code:05}", code=code)))


def test_sqlalchemy_says_so_itself_or_its_driver_does() -> None:
    exc = pytest.importorskip("sqlalchemy.exc")
    pymysql = pytest.importorskip("pymysql.err")
    lost, deadlock = pymysql.OperationalError(2013, ""), pymysql.OperationalError(1213, "")
    assert is_broken(exc.OperationalError("select 1", {}, lost))
    assert is_broken(exc.OperationalError("select 1", {}, ConnectionResetError()))
    assert not is_broken(exc.OperationalError("select 1", {}, deadlock))
    assert is_broken(exc.DBAPIError("", {}, deadlock, connection_invalidated=True))
    assert not is_broken(exc.StatementError("", "select 1", {}, lost)), "it was not sent"


def test_retries_of_urllib3_have_a_reason() -> None:
    exceptions = pytest.importorskip("urllib3.exceptions")
    assert is_broken(exceptions.MaxRetryError(None, "/", exceptions.ProtocolError()))
    full = exceptions.ResponseError("too many 500 error responses")
    assert not is_broken(exceptions.MaxRetryError(None, "/", full))
    assert not is_broken(exceptions.MaxRetryError(None, "/"))


# ---- The names in the tables are those of the drivers --------------------------------------------


def names() -> list[str]:
    return sorted({*_driver_errors.ERRORS, *_driver_errors.RESOURCES, *_driver_errors.TIMEOUTS})


#: Of versions that are not the newest, or imported from elsewhere than they say.
ELSEWHERE = {"cimpl": "confluent_kafka", "MySQLdb._exceptions": ""}


@pytest.mark.parametrize("name", names())
def test_a_name_in_the_table_is_the_one_that_its_class_has(name: str) -> None:
    """By that the rule knows it."""
    parts = name.split(".")
    for n in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:n])
        where = ELSEWHERE.get(module, module)
        if not where:
            pytest.skip(f"{module} is that of older versions")
        try:
            found: Any = importlib.import_module(where)
        except ImportError:
            continue
        break
    else:
        pytest.skip(f"{parts[0]} is not installed")
    if importlib.util.find_spec(parts[0] if where == module else where) is None:
        pytest.skip(f"{parts[0]} is not installed")
    for part in parts[n:]:
        if not hasattr(found, part):
            pytest.fail(f"{module} has no {'.'.join(parts[n:])}")
        found = getattr(found, part)
    assert f"{found.__module__}.{found.__qualname__}" == name


@pytest.mark.parametrize("name", sorted(_driver_errors.RESOURCES))
def test_what_a_connection_is_asked_is_there(name: str) -> None:
    """An attribute of the class, or one that its source sets."""
    module, _, plain = name.rpartition(".")
    kind = getattr(pytest.importorskip(module), plain)
    first = _driver_errors.RESOURCES[name].removeprefix("not ").split(".")[0].removesuffix("()")
    if hasattr(kind, first):
        return
    try:
        source = importlib.import_module("inspect").getsource(kind)
    except (OSError, TypeError):
        pytest.skip(f"{name} is compiled, and has {first} only when it is made")
    assert f"self.{first} = " in source

"""What known drivers say of a connection and of an error: tables of names, nothing imported.

Names are those of the classes as the drivers give them, module and qualified name, also of a base
of what is at hand.  ``_broken.py`` reads the tables; docs/reference/broken.md is their page.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["ALIVE_DECIDES", "ERRORS", "RESOURCES", "TIMEOUTS", "Code", "Inner"]


class Code:
    """Where an error keeps its code, and which codes mean that the connection is gone: exactly
    those of a set, or all that begin as one of a tuple of strings.  ``otherwise``: what an error
    without a code means."""

    __slots__ = ("dead", "otherwise", "path")

    def __init__(self, path: str, dead: Container[object], otherwise: bool) -> None:
        self.path = path
        self.dead = dead
        self.otherwise = otherwise


class Inner:
    """Where an error keeps the one that it stands for; ``flag``: what may say that it is gone."""

    __slots__ = ("flag", "path")

    def __init__(self, path: str, flag: str = "") -> None:
        self.path = path
        self.flag = flag


# ---- What a connection says of itself ------------------------------------------------------------
#
# A path of attributes and methods that tells a dead one: by what is true, or with "not" what is
# false.  None of them does any I/O; what does, such as is_connected() of mysql-connector and `open`
# of mariadb, which ping the server, must never stand here.

RESOURCES = {
    # PostgreSQL
    "psycopg.Connection": "closed",
    "psycopg.AsyncConnection": "closed",
    "psycopg2.extensions.connection": "closed",
    "asyncpg.connection.Connection": "is_closed()",
    "asyncpg.pool.PoolConnectionProxy": "is_closed()",
    "aiopg.connection.Connection": "closed",
    # MySQL and MariaDB
    "pymysql.connections.Connection": "not open",
    "MySQLdb.connections.Connection": "not open",
    "aiomysql.connection.Connection": "closed",
    "asyncmy.connection.Connection": "not connected",
    "mariadb.connections.Connection": "_closed",
    # Other databases
    "oracledb.connection.Connection": "not is_healthy()",
    "oracledb.connection.AsyncConnection": "not is_healthy()",
    "pyodbc.Connection": "closed",
    "pymssql._pymssql.Connection": "not _conn.connected",
    "sqlalchemy.engine.base.Connection": "invalidated",
    # SSH and LDAP
    "paramiko.transport.Transport": "not is_active()",
    "paramiko.client.SSHClient": "not get_transport().is_active()",
    "paramiko.channel.Channel": "closed",
    "paramiko.sftp_client.SFTPClient": "sock.closed",
    "asyncssh.connection.SSHConnection": "is_closed()",
    "ldap3.core.connection.Connection": "closed",
    # Messages
    "pika.adapters.blocking_connection.BlockingConnection": "not is_open",
    "pika.adapters.blocking_connection.BlockingChannel": "not is_open",
    "pika.connection.Connection": "not is_open",
    "pika.channel.Channel": "not is_open",
    "amqp.connection.Connection": "not connected",
    "amqp.channel.Channel": "not is_open",
    "nats.aio.client.Client": "is_closed",
    "zmq.sugar.socket.Socket": "closed",
    # HTTP
    "httpx.Client": "is_closed",
    "httpx.AsyncClient": "is_closed",
    "httpcore.HTTPConnection": "is_closed()",
    "httpcore.AsyncHTTPConnection": "is_closed()",
    "aiohttp.client.ClientSession": "closed",
    "aiohttp.client_ws.ClientWebSocketResponse": "closed",
}

#: Where a connection that is not dead is alive, whatever class the error is of: those of paramiko
#: are the same for a session that is gone and a channel that the server has refused.
ALIVE_DECIDES = {
    "paramiko.transport.Transport",
    "paramiko.client.SSHClient",
}

# ---- What an error says --------------------------------------------------------------------------
#
# True: the connection is gone, or its two ends do not agree any more.  False: it is sound, though a
# base of the class would say otherwise.

#: Connection exceptions, and what the server says before it hangs up: shutdown, crash, start, a
#: dropped database, sessions that were idle for too long.
SQLSTATES = ("08", "57P01", "57P02", "57P03", "57P04", "57P05", "25P03")

#: "Gone away", "lost connection", "lost connection at", idle for too long; the server is about to
#: shut down, forces a close, could not read or write; killed; commands out of sync.
MYSQL_CODES = {2006, 2013, 2055, 4031, 1053, 1080, 1158, 1159, 1160, 1161, 1927, 2014}

#: DB-Library: timed out, could not read or write, end of file, a dead process.
DBLIB_CODES = {20003, 20004, 20006, 20017, 20047}

#: librdkafka: transport, all brokers down, fatal, fenced.
KAFKA_CODES = {-195, -187, -150, -144}

#: The context ended, the socket is closed, a request socket is out of step.
ZMQ_CODES = {156384765, 88, 156384763}

_sqlstate, _pgcode = Code("sqlstate", SQLSTATES, False), Code("pgcode", SQLSTATES, False)
_lost, _pglost = Code("sqlstate", SQLSTATES, True), Code("pgcode", SQLSTATES, True)
_mysql, _mysql_lost = Code("args.0", MYSQL_CODES, False), Code("args.0", MYSQL_CODES, True)
_errno, _errno_lost = Code("errno", MYSQL_CODES, False), Code("errno", MYSQL_CODES, True)
_dblib = Code("args.0", DBLIB_CODES, True)

ERRORS: dict[str, bool | Code | Inner] = {
    # SQLite has no connection that could be lost, and one in memory is lost by closing it.
    "sqlite3.Error": False,
    # PostgreSQL
    "psycopg.OperationalError": _lost,
    "psycopg.Error": _sqlstate,
    "psycopg.errors.PipelineAborted": False,
    "psycopg2.OperationalError": _pglost,
    "psycopg2.Error": _pgcode,
    "asyncpg.exceptions._base.PostgresError": _sqlstate,
    "asyncpg.exceptions._base.InternalClientError": True,
    "pg8000.exceptions.InterfaceError": True,
    "pg8000.exceptions.DatabaseError": Code("args.0.C", SQLSTATES, False),
    # MySQL and MariaDB; aiomysql raises the errors of pymysql
    "pymysql.err.OperationalError": _mysql_lost,
    "pymysql.err.InterfaceError": _mysql_lost,
    "pymysql.err.MySQLError": _mysql,
    "MySQLdb.OperationalError": _mysql_lost,
    "MySQLdb.InterfaceError": _mysql_lost,
    "MySQLdb.MySQLError": _mysql,
    "MySQLdb._exceptions.OperationalError": _mysql_lost,
    "MySQLdb._exceptions.InterfaceError": _mysql_lost,
    "MySQLdb._exceptions.MySQLError": _mysql,
    "asyncmy.errors.OperationalError": _mysql_lost,
    "asyncmy.errors.InterfaceError": _mysql_lost,
    "asyncmy.errors.MySQLError": _mysql,
    "mysql.connector.errors.OperationalError": _errno_lost,
    "mysql.connector.errors.Error": _errno,
    "mariadb.OperationalError": _errno_lost,
    "mariadb.Error": _errno,
    # Other databases
    "oracledb.exceptions.Error": Code("args.0.is_session_dead", {True}, False),
    "pyodbc.Error": Code("args.0", ("08", "01002"), False),
    "pymssql.exceptions.OperationalError": _dblib,
    "pymssql.exceptions.InterfaceError": _dblib,
    "clickhouse_driver.errors.NetworkError": True,
    "clickhouse_driver.errors.SocketTimeoutError": True,
    "clickhouse_driver.errors.PartiallyConsumedQueryError": True,
    "sqlalchemy.exc.DBAPIError": Inner("orig", flag="connection_invalidated"),
    # Redis and Valkey; the replies among these errors leave the connection as it was
    "redis.exceptions.ConnectionError": True,
    "redis.exceptions.TimeoutError": True,
    "redis.exceptions.InvalidResponse": True,
    "redis.exceptions.BusyLoadingError": False,
    "redis.exceptions.AuthenticationError": False,
    "redis.exceptions.AuthorizationError": False,
    "redis.exceptions.MaxConnectionsError": False,
    "valkey.exceptions.ConnectionError": True,
    "valkey.exceptions.TimeoutError": True,
    "valkey.exceptions.InvalidResponse": True,
    "valkey.exceptions.BusyLoadingError": False,
    "valkey.exceptions.AuthenticationError": False,
    "valkey.exceptions.AuthorizationError": False,
    "valkey.exceptions.MaxConnectionsError": False,
    "pymemcache.exceptions.MemcacheUnexpectedCloseError": True,
    # SSH and LDAP
    "paramiko.ssh_exception.SSHException": True,
    "paramiko.ssh_exception.AuthenticationException": False,
    "paramiko.ssh_exception.ChannelException": False,
    "asyncssh.misc.DisconnectError": True,
    "ldap3.core.exceptions.LDAPCommunicationError": True,
    "ldap3.core.exceptions.LDAPResponseTimeoutError": True,
    "ldap3.core.exceptions.LDAPReferralError": False,
    "ldap.SERVER_DOWN": True,
    "ldap.CONNECT_ERROR": True,
    # Messages
    "kafka.errors.KafkaConnectionError": True,
    "kafka.errors.KafkaProtocolError": True,
    "aiokafka.errors.KafkaConnectionError": True,
    "cimpl.KafkaException": Code("args.0.code()", KAFKA_CODES, False),
    "pika.exceptions.AMQPConnectionError": True,
    "amqp.exceptions.ConnectionError": True,
    "nats.errors.ConnectionClosedError": True,
    "nats.errors.StaleConnectionError": True,
    "nats.errors.NoServersError": True,
    "stomp.exception.NotConnectedException": True,
    "stomp.exception.ConnectionClosedException": True,
    "zmq.error.ZMQError": Code("errno", ZMQ_CODES, False),
    "pynng.exceptions.Closed": True,
    "pynng.exceptions.ConnectionAborted": True,
    "pynng.exceptions.ConnectionRefused": True,
    "pynng.exceptions.ConnectionReset": True,
    # HTTP and WebSockets; a full pool within a client says nothing of its connections
    "http.client.HTTPException": True,
    "http.client.InvalidURL": False,
    "httpx.TransportError": True,
    "httpx.PoolTimeout": False,
    "httpx.UnsupportedProtocol": False,
    "httpcore.NetworkError": True,
    "httpcore.ProtocolError": True,
    "httpcore.ProxyError": True,
    "httpcore.TimeoutException": True,
    "httpcore.PoolTimeout": False,
    "urllib3.exceptions.ProtocolError": True,
    "urllib3.exceptions.TimeoutError": True,
    "urllib3.exceptions.SSLError": True,
    "urllib3.exceptions.ProxyError": True,
    "urllib3.exceptions.ClosedPoolError": True,
    "urllib3.exceptions.MaxRetryError": Inner("reason"),
    "aiohttp.client_exceptions.ClientConnectionError": True,
    "aiohttp.client_exceptions.ClientPayloadError": True,
    "websockets.exceptions.ConnectionClosed": True,
    # Remote calls
    "thrift.transport.TTransport.TTransportException": True,
    "thrift.protocol.TProtocol.TProtocolException": True,
    "thriftpy2.transport.base.TTransportException": True,
    "thriftpy2.protocol.exc.TProtocolException": True,
    # Streams, mail, processes
    "anyio.BrokenResourceError": True,
    "anyio.ClosedResourceError": True,
    "anyio.EndOfStream": True,
    "anyio.IncompleteRead": True,
    "trio.BrokenResourceError": True,
    "trio.ClosedResourceError": True,
    "imaplib.IMAP4.abort": True,
    "concurrent.futures._base.BrokenExecutor": True,
}

#: Those of them that may be one caller's own timeout: in a SharedPool they say nothing of what the
#: others use.
TIMEOUTS = {
    "redis.exceptions.TimeoutError",
    "valkey.exceptions.TimeoutError",
    "clickhouse_driver.errors.SocketTimeoutError",
    "ldap3.core.exceptions.LDAPResponseTimeoutError",
    "httpx.TimeoutException",
    "httpcore.TimeoutException",
    "urllib3.exceptions.TimeoutError",
}

"""Drivers and clients whose connections tests kill: how each is opened, used, named and killed.

A driver that is not installed is NotRun, as is a server.
"""

from __future__ import annotations

import importlib
import os
import signal
from typing import Any

from bench.measure import NotRun
from integration.drivers import killed_servers as servers


def module(name: str, package: str | None = None) -> Any:
    """The driver's module."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotRun(f"{package or name} is not installed: {error}")


class Driver:
    """How a connection of this driver to ``server`` is opened, used and killed.

    ``use`` makes one round trip; what it raises is what the borrower would get.
    """

    needs: str
    package: str | None = None
    server: type[servers.Server]

    def __init__(self, server: Any) -> None:
        self.at = server
        self.module = module(self.needs, self.package)

    def connect(self) -> Any:
        raise NotImplementedError

    def use(self, connection: Any) -> None:
        raise NotImplementedError

    def close(self, connection: Any) -> None:
        connection.close()

    def name_of(self, connection: Any) -> Any:
        """What the server calls this connection."""

    def kill(self, name: Any) -> None:
        """Ends that connection on the server's side."""
        self.at.restart()


class Sql(Driver):
    """What speaks PEP 249."""

    whoami: str
    end: str
    probe = "select 1"

    def run(self, connection: Any, statement: str) -> Any:
        cursor = connection.cursor()
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else None
        cursor.close()
        return rows

    def use(self, connection: Any) -> None:
        self.run(connection, self.probe)

    def name_of(self, connection: Any) -> Any:
        return self.run(connection, self.whoami)[0][0]

    def kill(self, name: Any) -> None:
        other = self.connect()
        self.run(other, self.end.format(name))
        other.close()


class OfPostgreSQL(Sql):
    server = servers.PostgreSQL
    whoami = "select pg_backend_pid()"
    end = "select pg_terminate_backend({}, 5000)"  # waits until it is gone
    slow = "select pg_sleep(30)"

    @property
    def options(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.at.port, "user": "postgres"}

    def connect(self) -> Any:
        connection = self.module.connect(**self.options)
        connection.autocommit = True
        return connection


class Psycopg(OfPostgreSQL):
    needs = "psycopg"


class Psycopg2(OfPostgreSQL):
    needs, package = "psycopg2", "psycopg2-binary"


class Pg8000(OfPostgreSQL):
    needs, package = "pg8000.dbapi", "pg8000"


class OfMariaDB(Sql):
    server = servers.MariaDB
    whoami = "select connection_id()"
    end = "kill {}"

    def connect(self) -> Any:
        return self.module.connect(
            host="127.0.0.1", port=self.at.port, user="root", autocommit=True, **self.more()
        )

    def more(self) -> dict[str, Any]:
        return {}


class PyMySQL(OfMariaDB):
    needs = "pymysql"


class MySQLdb(OfMariaDB):
    needs, package = "MySQLdb", "mysqlclient"


class MySQLConnector(OfMariaDB):
    needs, package = "mysql.connector", "mysql-connector-python"

    def more(self) -> dict[str, Any]:
        return {"use_pure": True}


class MariaDBConnector(OfMariaDB):
    needs = "mariadb"


class Redis(Driver):
    server = servers.Redis
    needs = "redis"
    client = "Redis"

    def connect(self) -> Any:
        make = getattr(self.module, self.client)
        return make(port=self.at.port, single_connection_client=True, **self.more())

    def more(self) -> dict[str, Any]:
        """A client that does not hide what happened by trying again."""
        retry = importlib.import_module(f"{self.needs}.retry")
        backoff = importlib.import_module(f"{self.needs}.backoff")
        return {"retry": retry.Retry(backoff.NoBackoff(), 0)}

    def use(self, connection: Any) -> None:
        connection.ping()

    def name_of(self, connection: Any) -> Any:
        return connection.client_id()

    def kill(self, name: Any) -> None:
        other = self.connect()
        other.execute_command("CLIENT", "KILL", "ID", name)
        other.close()


class Valkey(Redis):
    needs = "valkey"
    client = "Valkey"


class Paramiko(Driver):
    server = servers.SSH
    needs = "paramiko"

    def connect(self) -> Any:
        client = self.module.SSHClient()
        client.set_missing_host_key_policy(self.module.AutoAddPolicy())
        before = set(self.at.connections())
        client.connect(
            "127.0.0.1", self.at.port, self.at.login, key_filename=str(self.at.key),
            allow_agent=False, look_for_keys=False,
        )  # fmt: skip
        client.served_by = set(self.at.connections()) - before
        return client

    def use(self, connection: Any) -> None:
        connection.get_transport().open_session(timeout=20).close()

    def name_of(self, connection: Any) -> Any:
        return connection.served_by

    def kill(self, name: Any) -> None:
        for pid in name:
            os.kill(pid, signal.SIGKILL)


class Ldap3(Driver):
    server = servers.LDAP
    needs = "ldap3"

    def connect(self) -> Any:
        server = self.module.Server("127.0.0.1", self.at.port, get_info=self.module.NONE)
        return self.module.Connection(server, "cn=admin,dc=test", "secret", auto_bind=True)

    def use(self, connection: Any) -> None:
        connection.search("dc=test", "(objectClass=*)")

    def close(self, connection: Any) -> None:
        connection.unbind()


class HttpClient(Driver):
    """The standard library's."""

    server = servers.HTTP
    needs = "http.client"

    def connect(self) -> Any:
        return self.module.HTTPConnection("127.0.0.1", self.at.port, timeout=20)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.at.port}{path}"

    def use(self, connection: Any) -> None:
        connection.request("GET", "/")
        connection.getresponse().read()

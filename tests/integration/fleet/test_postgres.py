"""What outlives its client at a PostgreSQL server, and PostgresFence, which ends it.

Clients are processes of their own, each in the middle of a query that takes longer than any test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

from bench.measure import NotRun  # noqa: E402
from fastpool.fleet import Fence, PostgresFence  # noqa: E402
from integration.drivers import killed_servers  # noqa: E402
from support.helpers import PATIENCE, eventually  # noqa: E402

pytestmark = [pytest.mark.servers, pytest.mark.once]  # what passes between processes

CLIENT = """
import sys, psycopg
with psycopg.connect(sys.argv[1], application_name=sys.argv[2], autocommit=True) as connection:
    print(connection.info.backend_pid, flush=True)
    connection.execute("SELECT pg_sleep(600)")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(killed_servers.running(killed_servers.PostgreSQL))
        except NotRun as reason:
            pytest.skip(str(reason))
        with psycopg.connect(conninfo(server), autocommit=True) as connection:
            connection.execute("CREATE ROLE app LOGIN")
            connection.execute("CREATE ROLE careful LOGIN")
            connection.execute("ALTER ROLE careful SET client_connection_check_interval = '100ms'")
            connection.execute("CREATE ROLE nobody LOGIN")
            connection.execute("CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats")
            connection.execute("CREATE ROLE warden LOGIN IN ROLE pg_read_all_stats")
            connection.execute("GRANT pg_signal_backend TO warden")
        yield server


def conninfo(server: Any, role: str = "postgres") -> str:
    return f"host=127.0.0.1 port={server.port} user={role} dbname=postgres"


@pytest.fixture
def admin(server: Any) -> Iterator[Any]:
    with psycopg.connect(conninfo(server), autocommit=True) as connection:
        yield connection


class Client:
    """A process in the middle of a query."""

    def __init__(self, where: str, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, where, name], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.session = int(self.process.stdout.readline())  # pid of its backend
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Start = Callable[..., Client]


@pytest.fixture
def start(server: Any, admin: Any) -> Iterator[Start]:
    clients: list[Client] = []

    def start(name: str, role: str = "app") -> Client:
        clients.append(Client(conninfo(server, role), name))
        eventually(lambda: queries(admin, clients[-1]) == ["SELECT pg_sleep(600)"])
        return clients[-1]

    yield start
    for client in clients:
        client.kill()
        admin.execute("SELECT pg_terminate_backend(%s)", [client.session])


def queries(admin: Any, client: Client) -> list[str]:
    """What the session of a client is at; nothing: it has ended."""
    asked = "SELECT query FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
    return [query for (query,) in admin.execute(asked, [client.session]).fetchall()]


# ---- The truth about sessions ----


def test_session_of_a_killed_client_stays_until_its_query_ends(start: Start, admin: Any) -> None:
    """Unless the server is told to look for its client: client_connection_check_interval."""
    plain, careful = start("plain"), start("careful", "careful")
    plain.kill()
    careful.kill()
    eventually(lambda: not queries(admin, careful))
    assert queries(admin, plain)


def test_role_has_a_limit_behind_the_limit(server: Any, admin: Any) -> None:
    """ALTER ROLE ... CONNECTION LIMIT holds whatever clients believe."""
    admin.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 2")
    open_ = [psycopg.connect(conninfo(server, "few")) for _ in range(2)]
    try:
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            psycopg.connect(conninfo(server, "few"))
    finally:
        for connection in open_:
            connection.close()


# ---- The fence ----


def test_it_is_a_fence(server: Any) -> None:
    fence: Fence = PostgresFence(conninfo(server))
    fence("a member of whom nothing is there")


@pytest.mark.parametrize(
    "end", [Client.kill, lambda client: client.process.send_signal(signal.SIGSTOP)]
)
def test_sessions_of_a_member_end_and_no_others(
    end: Callable[[Client], None], start: Start, server: Any, admin: Any
) -> None:
    """Whether it was killed or is only stopped; when the fence returns there is none any more."""
    name = PostgresFence.application_name
    expired = [start(name("member-1", "orders")), start(name("member-1"))]
    others = [start(name("member-11", "orders")), start("member-1"), start("orders")]
    for client in expired:
        end(client)
    fence = PostgresFence(conninfo(server))
    fence("member-1")
    assert [queries(admin, client) for client in expired] == [[], []]
    assert all(queries(admin, client) for client in others)
    fence("member-1")  # once more does no harm


def test_role_needs_the_right_to_it(start: Start, server: Any, admin: Any) -> None:
    """To whom the server hides whose a session is, it does not say that there is none."""
    client = start(PostgresFence.application_name("member-2"))
    with pytest.raises(PermissionError, match=r"'nobody' may not see.*GRANT pg_read_all_stats"):
        PostgresFence(conninfo(server, "nobody"))("member-2")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        PostgresFence(conninfo(server, "watcher"))("member-2")
    assert queries(admin, client)
    PostgresFence(conninfo(server, "warden"))("member-2")
    assert not queries(admin, client)


def test_session_that_does_not_end_is_an_error(start: Start, server: Any, admin: Any) -> None:
    """So its permits are not used: here the backend itself is stopped."""
    client = start(PostgresFence.application_name("member-3"))
    os.kill(client.session, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError, match=f"'member-3' have not ended.*pid {client.session}"):
            PostgresFence(conninfo(server), timeout=0.1)("member-3")
    finally:
        os.kill(client.session, signal.SIGCONT)
    PostgresFence(conninfo(server), timeout=PATIENCE)("member-3")
    assert not queries(admin, client)


def test_server_that_cannot_be_reached_is_an_error() -> None:
    """Nobody knows what is open there."""
    with pytest.raises(psycopg.OperationalError):
        PostgresFence("host=127.0.0.1 port=1")("member-4")


def test_check_says_what_is_missing_at_the_server(server: Any, admin: Any) -> None:
    fence = PostgresFence(conninfo(server))
    missing = fence.check("app")
    assert len(missing) == 2
    assert "client_connection_check_interval is 0" in missing[0]
    assert "ALTER ROLE app CONNECTION LIMIT n" in missing[1]
    assert fence.check("absent") == ["there is no role 'absent'"]
    admin.execute("CREATE ROLE checked LOGIN CONNECTION LIMIT 65")
    admin.execute("ALTER ROLE checked SET client_connection_check_interval = '1s'")
    assert fence.check("checked") == []


# ---- Without a server ----


def test_name_of_an_application_ends_with_the_member() -> None:
    """Within the 63 bytes that the server keeps, whatever the name is."""
    name = PostgresFence.application_name
    assert name("m1") == "#m1" and name("m1", "orders") == "orders#m1"
    long = name("m1", "\N{SNOWMAN}" + "x" * 100)
    assert len(long) == 63 and long.startswith("?x") and long.endswith("x#m1")
    assert name("m" * 62) == "#" + "m" * 62


@pytest.mark.parametrize("member", ["", "m" * 63, "\N{SNOWMAN}", "a\nb"])
def test_id_that_the_server_would_change_is_refused(member: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        PostgresFence.application_name(member)
    with pytest.raises(ValueError, match="printable ASCII"):
        PostgresFence("host=127.0.0.1 port=1")(member)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="conninfo must be a str, not 5"):
        PostgresFence(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout must be above 0 seconds, not 0"):
        PostgresFence("", timeout=0)
    with pytest.raises(psycopg.ProgrammingError):
        PostgresFence("what=this")


def test_password_is_not_shown() -> None:
    shown = repr(PostgresFence("host=db.example user=app password=hunter2"))
    assert "db.example" in shown and "hunter2" not in shown

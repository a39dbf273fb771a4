"""fastpool.rpc.sockets over TCP, TLS and Unix sockets: who is closed, when, and what a turn may
take."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastpool import PoolClosed, PoolDeadlock, PoolTimeout
from fastpool.calls import budget
from fastpool.rpc import Wire, _deadline, sockets
from fastpool.rpc._deadline import Deadline
from integration.rpc.servers import TcpServer, TlsServer, UnixServer, Upper, ask, port_of, serving
from support.helpers import PATIENCE, ThreadRunner, eventually

UNIX = hasattr(socket, "AF_UNIX")


@pytest.fixture
def tcp() -> Iterator[Any]:
    with serving(TcpServer(("127.0.0.1", 0), Upper)) as server:
        yield server


@pytest.fixture(params=["tcp", "tls", *(["unix"] if UNIX else [])])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, Any, Any]]:
    """A server of each kind, and what `sockets` needs to reach it."""
    if request.param == "tls":
        certificate = request.getfixturevalue("certificate")
        context = ssl.create_default_context(cafile=str(certificate[1]))
        made: Any = TlsServer(("127.0.0.1", 0), Upper, certificate=certificate)
        how = {"tls": context, "server_hostname": "localhost"}
        address: Any = ("127.0.0.1", port_of(made))
    elif request.param == "unix":
        address, how = tmp_path / "socket", {}
        made = UnixServer(str(address), Upper)
    else:
        made, how = TcpServer(("127.0.0.1", 0), Upper), {}
        address = ("127.0.0.1", port_of(made))
    with serving(made) as server:
        yield server, address, how


def of(server: Any, **options: Any) -> Any:
    return sockets(("127.0.0.1", port_of(server)), **options)


def test_threads_share_a_few_connections(kind: Any, runner: ThreadRunner) -> None:
    server, address, how = kind
    with sockets(address, size=4, **how) as pool:

        def turns(_: int) -> None:
            for number in range(25):
                with pool.lease() as connection:
                    assert ask(connection, f"line {number}") == f"LINE {number}"

        runner.together(16, turns)
        runner.finish()
        assert server.answered == 400
        created = pool.pool.stats().created
        assert created <= 4
        eventually(lambda: server.accepted == server.most == created)  # it may be slow to accept
    eventually(lambda: not server.open)


def test_a_connection_closed_while_idle_is_not_used(kind: Any) -> None:
    server, address, how = kind
    with sockets(address, size=2, **how) as pool:
        for turn in range(1, 4):
            with pool.lease() as connection:
                assert ask(connection, "hello") == "HELLO"
                assert connection.uses == 1
            server.drop()
            assert server.accepted == turn
        assert pool.pool.stats().open == 1


def test_a_connection_kept_from_before_the_first_use_is_used(kind: Any) -> None:
    """Over TLS there is something to read on it, the session tickets: that is not its end."""
    server, address, how = kind
    with sockets(address, size=1, **how) as pool:
        pool.pool.warm(1)
        if how:
            with pool.pool.lease() as wire:  # and if they have not come yet, they come now
                eventually(lambda: not nothing_to_read(wire.socket))
        for _ in range(3):
            with pool.lease() as connection:
                assert ask(connection, "hello") == "HELLO"
        assert server.accepted == 1


def nothing_to_read(connection: socket.socket) -> bool:
    connection.settimeout(0)
    try:
        socket.socket.recv(connection, 1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


def test_a_connection_with_an_answer_nobody_read_is_not_used(kind: Any) -> None:
    server, address, how = kind
    with sockets(address, size=1, **how) as pool:
        with pool.lease() as connection:
            connection.sendall(b"one\ntwo\n")
            answer = b""
            while answer != b"ONE\n":
                answer += connection.recv(4 - len(answer))
            first = connection
        # with TLS, too, what comes second is a record of its own
        eventually(lambda: select.select([first.socket], [], [], 0)[0])
        with pool.lease() as connection:
            assert connection is not first and first.closed
            assert ask(connection, "three") == "THREE"


def test_what_tls_has_deciphered_and_nobody_read_is_seen(certificate: tuple[Path, Path]) -> None:
    """One record of TLS, half of which was read: there is nothing more on the socket."""
    context = ssl.create_default_context(cafile=str(certificate[1]))
    with serving(TlsServer(("127.0.0.1", 0), Upper, certificate=certificate)) as server:
        with of(server, size=1, tls=context, server_hostname="localhost") as pool:
            with pool.lease() as first:
                first.sendall(b"one and two\n")
                assert first.recv(3) == b"ONE"
                assert first.socket.pending() == len(" AND TWO\n")
            with pool.lease() as connection:
                assert connection is not first and first.closed


@pytest.mark.parametrize(
    "error", [OSError("broken"), EOFError(), ValueError("half a reply"), KeyboardInterrupt()]
)
def test_whatever_leaves_the_block_closes_the_connection(tcp: Any, error: BaseException) -> None:
    with of(tcp, size=1) as pool:
        with pytest.raises(type(error)):
            with pool.lease() as connection:
                assert ask(connection, "hello") == "HELLO"
                raise error
        assert connection.socket.fileno() == -1
        with pool.lease() as other:
            assert other is not connection and ask(other, "again") == "AGAIN"


def test_discard_on_says_what_else_keeps_it(tcp: Any) -> None:
    with of(tcp, size=1, discard_on=(OSError, EOFError)) as pool:
        with pytest.raises(KeyError):
            with pool.lease() as connection:
                raise KeyError("not found, says the server")
        with pool.lease() as other:
            assert other is connection


def test_closed_in_the_block_it_is_not_used_again(tcp: Any) -> None:
    with of(tcp, size=1) as pool:
        with pool.lease() as connection:
            connection.close()
        assert pool.pool.stats().open == 0
        with pool.lease() as other:
            assert ask(other, "hello") == "HELLO"


# ---- Time ---------------------------------------------------------------------------------------


class Mute(Upper):
    """Once asked, it drips a byte now and then that is no end of anything."""

    def handle(self) -> None:
        self.rfile.read(1)
        while not self.server.over.wait(0.02):  # type: ignore[attr-defined]
            try:
                self.wfile.write(b".")
            except OSError:
                return


@pytest.fixture
def mute() -> Iterator[Any]:
    server = TcpServer(("127.0.0.1", 0), Mute)
    server.over = threading.Event()  # type: ignore[attr-defined]
    with serving(server):
        yield server
        server.over.set()  # type: ignore[attr-defined]


@pytest.mark.parametrize("reader", ["recv", "recv_into", "makefile"])
def test_the_deadline_holds_over_all_reads_of_a_turn(mute: Any, reader: str) -> None:
    """However often a byte comes: a socket's own timeout would begin anew with each."""
    with of(mute, size=1) as pool:
        pool.pool.warm(1)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"127\.0\.0\.1:\d+: no answer within 0\.3 s"):
            with pool.lease(timeout=0.3) as connection:
                connection.sendall(b"?")
                if reader == "makefile":
                    with connection.makefile("rb") as lines:
                        lines.readline()
                while True:
                    assert (
                        connection.recv(1)
                        if reader == "recv"
                        else connection.recv_into(bytearray(1))
                    )
        assert 0.29 < time.monotonic() - began < 30
        assert connection.closed


def test_more_than_the_system_buffers_goes_both_ways(kind: Any) -> None:
    """The other side reads a line to its end before it answers: sending waits for it, and so does
    receiving."""
    _, address, how = kind
    line = b"x" * 4_000_000 + b"\n"
    with sockets(address, size=1, **how) as pool:
        for _ in range(2):
            with pool.lease(timeout=30) as connection:
                connection.sendall(line)
                with connection.makefile("rb") as lines:
                    assert lines.readline() == line.upper()
        assert pool.pool.stats().created == 1


@pytest.mark.parametrize("theirs", [False, True], ids=["as a socket", "the socket"])
def test_what_the_socket_alone_can_do_ends_in_time(mute: Any, tcp: Any, theirs: bool) -> None:
    """And leaves it fit for what comes after."""
    with of(tcp, size=1) as pool, pool.lease(timeout=30) as connection:
        own = connection.socket if theirs else connection
        own.sendmsg([b"hel", b"lo\n"])
        assert own.recvfrom(99)[0] == b"HELLO\n"
        assert ask(connection, "again") == "AGAIN"
    with of(mute, size=1) as pool:
        began = time.monotonic()
        with pytest.raises(TimeoutError), pool.lease(timeout=0.05) as connection:
            own = connection.socket if theirs else connection
            own.recvfrom(1)
        assert time.monotonic() - began < 30


def test_a_deadline_may_be_as_far_away_as_one_likes(tcp: Any) -> None:
    with of(tcp, size=1) as pool, pool.lease(timeout=1e9) as connection:
        assert ask(connection, "in time") == "IN TIME"


def test_each_read_has_only_what_is_left(tcp: Any) -> None:
    with of(tcp, size=1) as pool, pool.lease(timeout=30) as connection:
        left = [connection.gettimeout()]
        for _ in range(3):
            assert ask(connection, "hello") == "HELLO"
            left.append(connection.gettimeout())
        assert left == sorted(left, reverse=True) and len({*left}) == 4


def test_the_wait_in_queue_is_part_of_the_time(mute: Any, runner: ThreadRunner) -> None:
    with of(mute, size=1, timeout=0.3) as pool:
        held = pool.pool.acquire()
        began = time.monotonic()

        def let_go() -> None:
            eventually(lambda: pool.pool.stats().waiting)
            time.sleep(0.1)
            held.release()

        runner.start(let_go)
        with pytest.raises(TimeoutError):
            with pool.lease() as connection:
                assert connection.gettimeout() < 0.25
                connection.sendall(b"?")
                while connection.recv(1):
                    pass
        assert time.monotonic() - began < 30


def test_nobody_waits_longer_than_the_budget(tcp: Any) -> None:
    with of(tcp, size=1) as pool:
        held = pool.pool.acquire()
        with budget(0.02), pytest.raises(PoolTimeout):
            with pool.lease():
                pass
        held.release()


def test_a_budget_that_is_spent_takes_no_connection(tcp: Any) -> None:
    with of(tcp, size=1) as pool:
        with budget(0), pytest.raises(TimeoutError, match="not begun"):
            with pool.lease():
                pass
        assert pool.pool.stats().created == 0


class Vanished(socket.socket):
    """The system has given up on the other side."""

    def gone(self, *args: Any) -> Any:
        raise TimeoutError(errno.ETIMEDOUT, "gone")

    send = recv = recv_into = gone


@pytest.mark.parametrize("timeout", [None, 30])
def test_a_time_out_of_the_system_is_no_deadline(timeout: float | None) -> None:
    with Vanished() as connected:
        wire = Wire(connected, "somewhere")
        wire.begin(Deadline(timeout))
        for act in (
            lambda: wire.sendall(b"x"),
            lambda: wire.recv(1),
            lambda: wire.recv_into(bytearray(1)),
        ):
            with pytest.raises(TimeoutError, match="gone"):
                act()


def test_what_cannot_be_sent_in_time_ends(mute: Any) -> None:
    with of(mute, size=1) as pool, pytest.raises(TimeoutError):
        with pool.lease(timeout=0.2) as connection:
            while True:
                connection.sendall(b"x" * 1_000_000)


# ---- Files --------------------------------------------------------------------------------------


def test_a_file_that_read_too_much_ends_the_connection(tcp: Any) -> None:
    with of(tcp, size=1) as pool:
        with pool.lease() as connection, connection.makefile("rb") as lines:
            connection.sendall(b"one\n")
            assert lines.readline() == b"ONE\n"
        assert not connection.closed
        with pool.lease() as connection:
            connection.sendall(b"one\ntwo\n")
            eventually(lambda: len(connection.socket.recv(99, socket.MSG_PEEK)) == 8)
            with connection.makefile("rb") as lines:
                assert lines.readline() == b"ONE\n"
            assert connection.closed


def test_a_file_left_open_does_not_keep_a_connection_open(tcp: Any) -> None:
    with of(tcp, size=1) as pool:
        with pytest.raises(OSError, match="broken"):
            with pool.lease() as connection:
                lines = connection.makefile("rb")
                raise OSError("broken")
        assert connection.socket.fileno() == -1
        lines.close()


@pytest.mark.parametrize("error", [None, ValueError("not of the connection")])
def test_a_file_left_open_ends_the_connection(tcp: Any, error: Exception | None) -> None:
    """It may have read ahead, and would close the connection in the turn of somebody else."""
    with of(tcp, size=1, discard_on=OSError) as pool:
        with contextlib.suppress(ValueError), pool.lease() as connection:
            lines = connection.makefile("rb")
            if error is not None:
                raise error
        with pool.lease() as another:
            assert another is not connection
            lines.close()
            assert ask(another, "hello") == "HELLO"


def test_files_buffer_as_those_of_a_socket(tcp: Any) -> None:
    with of(tcp, size=1) as pool, pool.lease() as connection:
        connection.sendall(b"x" * 999 + b"\n")
        eventually(lambda: len(connection.socket.recv(1000, socket.MSG_PEEK)) == 1000)
        with connection.makefile("rb", -1) as lines:
            assert len(lines.peek(1)) == 1000
            assert lines.read(999) == b"X" * 999
            assert lines.readline() == b"\n"
        with connection.makefile("rb", 0) as lines:  # which reads nothing ahead
            connection.sendall(b"ab\n")
            assert lines.read(1) == b"A"
        assert not connection.closed
        assert connection.recv(2) == b"B\n"


def test_files_are_for_reading_bytes(tcp: Any) -> None:
    with of(tcp, size=1) as pool, pool.lease() as connection:
        with pytest.raises(ValueError, match="reads bytes"):
            connection.makefile("w")


# ---- Connecting, closing ------------------------------------------------------------------------


def test_connecting_fails_as_the_socket_does(runner: ThreadRunner) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with sockets(nobody.getsockname(), size=2) as pool:
            for _ in range(3):
                with pytest.raises(ConnectionRefusedError):
                    with pool.lease():
                        pass
            assert pool.pool.stats().open == 0


class Greeter(Upper):
    def handle(self) -> None:
        self.wfile.write(b"welcome\n")
        super().handle()


def test_the_greeting_of_a_server_that_speaks_first() -> None:
    def read_greeting(connection: Any) -> None:
        with connection.makefile("rb") as lines:
            assert lines.readline() == b"welcome\n"

    with serving(TcpServer(("127.0.0.1", 0), Greeter)) as server:
        with of(server, size=1, setup=read_greeting) as pool:
            for turn in range(1, 3):
                with pool.lease() as connection:
                    assert ask(connection, "hello") == "HELLO"
                    assert connection.uses == turn
        with of(server, size=1) as pool:  # once more, when nobody reads it
            began = time.monotonic()
            pool.pool.warm(1)
            with pool.pool.lease() as wire:
                eventually(lambda: not wire.alive())
                with pytest.raises(ConnectionResetError, match="or spoke on it"):
                    wire.check(began)


def test_one_that_was_closed_before_its_first_use_is_replaced(tcp: Any) -> None:
    with of(tcp, size=2) as pool:
        pool.pool.warm(2)
        eventually(lambda: len(tcp.open) == 2)
        tcp.drop()
        with pool.lease() as connection:
            assert ask(connection, "hello") == "HELLO"
        assert tcp.accepted == 3


def test_a_login_that_hangs_ends(mute: Any) -> None:
    def log_in(connection: Any) -> None:
        while connection.recv(1):
            pass

    with of(mute, size=1, setup=log_in, connect_timeout=0.2) as pool:
        with pytest.raises(TimeoutError):
            with pool.lease():
                pass
        eventually(lambda: pool.pool.stats().open == 0)


def test_setup_has_what_connecting_has_left(tcp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now, create, left = [100.0], socket.create_connection, []

    def slow(*args: Any) -> socket.socket:
        now[0] += 3
        return create(*args)

    monkeypatch.setattr(socket, "create_connection", slow)
    monkeypatch.setattr(_deadline, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def setup(connection: Any) -> None:
        left.append(connection.gettimeout())

    with of(tcp, size=1, setup=setup, connect_timeout=10) as pool:
        with pool.lease(timeout=30) as connection:
            assert connection.gettimeout() == 27  # connecting is part of the turn
    assert left == [7]


def test_small_messages_are_not_held_back(tcp: Any) -> None:
    """By Nagle's algorithm, which waits 40 ms for the answer to the one before."""
    with of(tcp, size=1) as pool, pool.lease() as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(not UNIX, reason="no Unix sockets")
def test_connecting_to_a_path_has_its_time_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noted(socket.socket):
        def connect(self, address: Any) -> None:
            noted.append((self, self.gettimeout()))
            super().connect(address)

    noted: list[tuple[socket.socket, float | None]] = []
    monkeypatch.setattr(socket, "socket", Noted)
    with sockets(tmp_path / "nobody", size=1, connect_timeout=7) as pool:
        with pytest.raises(FileNotFoundError), pool.lease():
            pass
        assert [(each.fileno(), timeout) for each, timeout in noted] == [(-1, 7)]


@pytest.mark.parametrize("hook", ["check", "reset"])
def test_hooks_are_not_bound_by_the_turn_before(tcp: Any, hook: str) -> None:
    """Their own deadline holds."""

    def greet(connection: Any) -> bool:
        times.append(connection.deadline.left())
        return ask(connection, "hello") == "HELLO"

    times: list[float] = []
    with of(tcp, size=1, check_after=0, hook_timeout=60, **{hook: greet}) as pool:
        with pool.lease(timeout=30) as connection:
            connection.deadline.at = 0.0  # it is over
            assert connection.gettimeout() == 0
        with pool.lease(timeout=30):
            pass
    assert times and all(30 < left <= 60 for left in times)
    assert tcp.accepted == 1


def test_a_hook_that_hears_nothing_ends(mute: Any) -> None:
    over = threading.Event()

    def ping(connection: Any) -> None:
        try:
            connection.recv(1)
        finally:
            over.set()

    with of(mute, size=1, check=ping, check_after=0, hook_timeout=0.1, timeout=None) as pool:
        for _ in range(2):  # a slow machine has the first one checked, too: it is not so new then
            with contextlib.suppress(PoolTimeout), pool.lease():  # or another one is opened by then
                pass
        assert over.wait(PATIENCE)  # and its thread is free again
        eventually(lambda: pool.pool.stats().closed_total)
        assert pool.pool.stats().closed.keys() == {"check"}, pool.pool.stats()


def test_setup_leaves_no_file_open(tcp: Any) -> None:
    files: list[Any] = []

    def greet(connection: Any) -> None:
        files.append(connection.makefile("rb"))

    with of(tcp, setup=greet) as pool:
        with pytest.raises(RuntimeError, match="left a file open"):
            with pool.lease():
                pass
    files[0].close()


class Slam(Upper):
    def handle(self) -> None:
        """Closes at once."""


def test_a_server_that_closes_new_connections_is_not_asked_for_more() -> None:
    with serving(TcpServer(("127.0.0.1", 0), Slam)) as server:
        with of(server, size=2, timeout=5) as pool:
            for _ in range(5):
                with pytest.raises((OSError, EOFError)):
                    with pool.lease() as connection:
                        ask(connection, "anybody there?")
            assert server.accepted <= 6


def test_a_certificate_for_somebody_else_is_refused(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(certificate[1]))
    with serving(TlsServer(("127.0.0.1", 0), Upper, certificate=certificate)) as server:
        with of(server, tls=context, server_hostname="example.org") as pool:
            with pytest.raises(ssl.SSLCertVerificationError):
                with pool.lease():
                    pass
        with of(server, tls=True, server_hostname="localhost") as pool:  # nobody vouches for it
            with pytest.raises(ssl.SSLCertVerificationError):
                with pool.lease():
                    pass
        eventually(lambda: not server.open)


def test_a_handshake_that_hangs_ends(mute: Any) -> None:
    """The server speaks, but no TLS; a silent one ends by connect_timeout, as any hook does."""
    with of(mute, size=1, tls=True, server_hostname="localhost", connect_timeout=0.5) as pool:
        with pytest.raises(OSError):
            with pool.lease():
                pass
        eventually(lambda: pool.pool.stats().open == 0)


def test_who_holds_all_connections_is_told_instead_of_waiting(tcp: Any) -> None:
    with of(tcp, size=1) as pool, pool.lease() as connection:
        with pytest.raises(PoolDeadlock):
            with pool.lease():
                pass
        assert ask(connection, "hello") == "HELLO"


def test_pool_tells_its_numbers(tcp: Any) -> None:
    """As the FastPool inside."""
    with of(tcp, size=3) as pool:
        with pool.lease() as connection:
            assert ask(connection, "x") == "X"
            stats = pool.stats()
            assert (stats.leased, stats.idle, stats.maxsize) == (1, 0, 3)
        assert pool.stats() == pool.pool.stats()
        assert pool.stats().idle == 1


def test_a_closed_pool_says_so(tcp: Any) -> None:
    pool = of(tcp, size=1)
    assert pool.close() is True
    with pytest.raises(PoolClosed):
        with pool.lease():
            pass


@pytest.mark.parametrize(
    ("address", "how", "said"),
    [
        ("", {"tls": 1}, "tls must be"),
        (("localhost",), {}, "address must be"),
        (("localhost", "80"), {}, "address must be"),
        (80, {}, "address must be"),
        (("localhost", 80), {"server_hostname": "x"}, "server_hostname is for"),
        (("localhost", 80), {"timeout": "1"}, "timeout must be a number"),
        (("localhost", 80), {"connect_timeout": True}, "connect_timeout must be a number"),
        (("localhost", 80), {"colour": "red"}, "colour"),
        (("localhost", 80), {"size": "1"}, "maxsize"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(address: Any, how: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        sockets(address, **how)


def test_no_connection_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        sockets(("localhost", 80), size=0)


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout must be more than 0 s"):
        sockets(("localhost", 80), timeout=0)


@pytest.mark.skipif(not UNIX, reason="no Unix sockets")
def test_a_path_may_be_text_or_a_path(tmp_path: Path) -> None:
    with serving(UnixServer(str(tmp_path / "s"), Upper)):
        for path in (str(tmp_path / "s"), tmp_path / "s"):
            with sockets(path, size=1) as pool, pool.lease() as connection:
                assert ask(connection, "hello") == "HELLO"

"""fastpool.rpc.Wire by itself, over a pair of sockets: what is sent when, who closes it, and what
is known of it afterwards."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastpool.rpc import Wire, sockets
from fastpool.rpc._deadline import Deadline
from fastpool.rpc._socket_connection import GATHERED
from integration.rpc.servers import TcpServer, TlsServer, Upper, ask, port_of, serving

LONG = 20.0  # seconds that only a bug waits


class Ends:
    """A wire and the other side of it, which waits for nothing."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(0)
        self._ours = ours
        self.wire = Wire(ours, "somewhere")
        self.wire.begin(Deadline(LONG))

    def gathering(self) -> Wire:
        self.wire = Wire(self._ours, "somewhere", gather=True)
        self.wire.begin(Deadline(LONG))
        return self.wire

    def has_come(self) -> bytes:
        """All that has been sent to the other side."""
        try:
            return self.theirs.recv(1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.theirs.close()
        self._ours.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


# ---- What is sent together ----------------------------------------------------------------------


def test_a_gathering_wire_sends_when_it_is_to_receive_and_again_in_each_turn(ends: Ends) -> None:
    wire = ends.gathering()
    for _ in range(3):
        wire.sendall(b"head ")
        wire.sendall(b"body")
        assert ends.has_come() == b""
        ends.theirs.sendall(b"reply")
        assert wire.recv(99) == b"reply"
        assert ends.has_come() == b"head body"


def test_a_gathering_wire_keeps_no_more_than_a_packet(ends: Ends) -> None:
    """A big request is not copied as a whole before the first byte of it is sent."""
    wire = ends.gathering()
    wire.sendall(b"x" * (GATHERED - 1))
    assert ends.has_come() == b""
    wire.sendall(b"y")
    assert len(ends.has_come()) == GATHERED
    wire.sendall(b"z")
    assert ends.has_come() == b""


def test_what_a_wire_sends_at_once_is_not_sent_again(ends: Ends) -> None:
    ends.wire.sendall(b"one")
    ends.theirs.sendall(b"reply")
    assert ends.wire.recv(99) == b"reply"
    assert ends.has_come() == b"one"


# ---- Who closes it ------------------------------------------------------------------------------


def test_a_closed_wire_is_read_to_its_end_and_is_not_alive(ends: Ends) -> None:
    """The last reader closes the socket; no turn gets the wire meanwhile."""
    lines, others = ends.wire.makefile("rb"), ends.wire.makefile("rb", 0)
    ends.wire.close()
    assert ends.wire.closed and not ends.wire.alive() and ends.wire.fileno() >= 0
    ends.theirs.sendall(b"goodbye\n")
    assert lines.readline() == b"goodbye\n"
    lines.close()
    lines.close()  # counts once
    assert ends.wire.fileno() >= 0
    others.close()
    assert ends.wire.fileno() == -1


def test_a_wire_hung_up_is_closed_at_once_whoever_reads(ends: Ends) -> None:
    lines = ends.wire.makefile("rb")
    ends.wire.hang_up()
    assert ends.wire.closed and ends.wire.fileno() == -1
    lines.close()


# ---- What is known of it ------------------------------------------------------------------------


@pytest.mark.parametrize("reader", ["recv", "recv_into", "makefile"])
def test_a_wire_was_stale_only_before_a_byte_of_this_reply(ends: Ends, reader: str) -> None:
    wire, broken = ends.wire, ConnectionResetError()
    assert not wire.was_stale(broken)  # this is its first turn
    wire.begin(Deadline(LONG))
    assert wire.was_stale(broken) and wire.was_stale(ssl.SSLEOFError())
    assert not wire.was_stale(TimeoutError())
    ends.theirs.sendall(b"\n")
    if reader == "recv":
        assert wire.recv(9) == b"\n"
    elif reader == "recv_into":
        assert wire.recv_into(bytearray(9)) == 1
    else:
        with wire.makefile("rb") as lines:
            assert lines.readline() == b"\n"
            assert not wire.was_stale(broken)
    assert not wire.was_stale(broken)
    wire.begin(Deadline(LONG))
    assert wire.was_stale(broken)


def test_a_new_wire_that_is_dead_is_an_error_and_an_old_one_is_replaced(ends: Ends) -> None:
    wire = Wire(ends._ours, "somewhere")
    ends.theirs.close()
    assert wire.check(wire.born + 1) is False  # made before that turn: it may be replaced
    with pytest.raises(ConnectionResetError, match="closed a new connection"):
        wire.check(wire.born)
    wire.begin(Deadline(LONG))
    assert wire.check(wire.born) is False


# ---- Time ---------------------------------------------------------------------------------------


def test_past_its_deadline_the_socket_itself_times_out_too(ends: Ends) -> None:
    """A socket with a timeout of 0 would say that it does not block."""
    ends.wire.begin(Deadline(1e-9))
    while ends.wire.gettimeout() != 0:
        pass
    with pytest.raises(TimeoutError):
        ends.wire.socket.recv(1)
    for act in (lambda: ends.wire.recv(1), lambda: ends.wire.sendall(b"x")):
        with pytest.raises(TimeoutError, match="somewhere: no answer within"):
            act()
    assert ends.has_come() == b""


def test_after_the_socket_was_lent_its_own_calls_keep_the_deadline(ends: Ends) -> None:
    """Whoever has the socket gets what is left; what the wire does for itself never blocks."""
    assert 0 < (ends.wire.socket.gettimeout() or 0) <= LONG
    assert ends.wire.alive()  # a look, which must not wait for something to read
    assert ends._ours.gettimeout() == 0
    ends.wire.begin(Deadline(None))
    assert ends.wire.socket.gettimeout() is None
    ends.theirs.sendall(b"x")
    assert ends.wire.recv(1) == b"x"
    assert ends._ours.gettimeout() == 0


def test_for_ever_is_no_deadline() -> None:
    def check(connection: Wire) -> None:
        checked.append((connection.gettimeout(), connection.socket.gettimeout()))

    checked: list[Any] = []
    with serving(TcpServer(("127.0.0.1", 0), Upper)) as server:
        address, ever = ("127.0.0.1", port_of(server)), float("inf")
        with sockets(address, size=1, timeout=ever, connect_timeout=ever) as pool:
            with pool.lease() as connection:
                assert connection.gettimeout() is None
                assert connection.socket.gettimeout() is None
                assert ask(connection, "hello") == "HELLO"
            with pool.lease(timeout=ever) as connection:
                assert connection.gettimeout() is None
        more: Any = {"check": check, "check_after": 0, "hook_timeout": ever}
        with sockets(address, size=1, **more) as pool:
            for _ in range(2):
                with pool.lease() as connection:
                    assert ask(connection, "hello") == "HELLO"
    assert checked == [(None, None)]


def test_what_tls_has_read_ahead_is_received_without_waiting(
    certificate: tuple[Path, Path],
) -> None:
    """There is nothing more on the socket, which a wait for it would wait for."""
    context = ssl.create_default_context(cafile=str(certificate[1]))
    how: Any = {"tls": context, "server_hostname": "localhost"}
    with serving(TlsServer(("127.0.0.1", 0), Upper, certificate=certificate)) as server:
        with sockets(("127.0.0.1", port_of(server)), size=1, **how) as pool:
            with pool.lease(timeout=LONG) as connection:
                connection.sendall(b"one and two\n")
                assert connection.recv(3) == b"ONE"
                assert connection.socket.pending() == len(" AND TWO\n")
                assert connection.recv(99) == b" AND TWO\n"

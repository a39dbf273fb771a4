"""The look of `contrib.redis` and `.valkey` at a connection that is about to be lent."""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fastpool._core import socket_is_silent
from integration.drivers import killed_servers
from support.helpers import eventually

pytestmark = [pytest.mark.once, pytest.mark.servers]


@pytest.fixture(params=["redis", "valkey"])
def host(request: pytest.FixtureRequest, killed_redis: killed_servers.Server) -> Iterator[Any]:
    """The package, its client, one of our pools with its look, and one of its connections."""
    package = pytest.importorskip(request.param)
    pools = importlib.import_module(f"fastpool.contrib.{request.param}")
    silence = importlib.import_module("fastpool.contrib._redis.silence").Silence
    pool = pools.BlockingConnectionPool.from_url(
        f"{request.param}://127.0.0.1:{killed_redis.port}?protocol=2", max_connections=2
    )
    connection = pool.get_connection("_")
    client = getattr(package, request.param.capitalize())
    yield SimpleNamespace(
        package=package, client=client, pool=pool, silent=silence(request.param), mine=connection
    )
    pool.release(connection)
    pool.disconnect()


def test_a_socket_is_silent_until_there_is_something_to_read() -> None:
    """Data, the end of the stream, and what is no open socket at all."""
    one, other = socket.socketpair()
    with one, other:
        assert socket_is_silent(one.fileno())
        other.send(b"x")
        assert not socket_is_silent(one.fileno())
        assert one.recv(1) == b"x" and socket_is_silent(one.fileno())
        other.shutdown(socket.SHUT_WR)
        assert not socket_is_silent(one.fileno()) and socket_is_silent(other.fileno())
    assert not socket_is_silent(one.fileno())  # -1: closed


def test_what_is_fit_is_silent(host: Any) -> None:
    """As the host's own look says, which is not asked then."""
    assert host.silent(host.mine) and not host.mine.can_read(0)
    host.mine.disconnect()
    assert not host.silent(host.mine)
    host.mine.connect()
    assert host.silent(host.mine)


def test_an_answer_that_nobody_has_read_is_heard(host: Any) -> None:
    """In the socket, and when the parser has it already.  The next borrower has a connection
    without it."""
    host.mine.send_command("PING")
    eventually(lambda: not host.silent(host.mine))
    assert host.mine.can_read(0)  # reads it into the parser's buffer
    assert socket_is_silent(host.mine._sock.fileno()) and not host.silent(host.mine)
    host.pool.release(host.mine)
    again = host.pool.get_connection("_")
    assert again is host.mine and host.silent(again)
    again.send_command("ECHO", "mine")
    assert again.read_response() in (b"mine", "mine")


def test_an_end_of_the_stream_is_heard(host: Any) -> None:
    """The server has closed it while it was idle: connected anew before it is lent."""
    other = host.client(connection_pool=host.pool)
    host.mine.send_command("CLIENT", "ID")
    other.client_kill_filter(_id=host.mine.read_response())
    eventually(lambda: not host.silent(host.mine))
    host.pool.release(host.mine)
    taken = [host.pool.get_connection("_") for _ in range(2)]
    for each in taken:
        each.send_command("PING")
        assert each.read_response() in (b"PONG", "PONG")
    host.pool.release(next(each for each in taken if each is not host.mine))


def test_of_what_it_does_not_know_it_says_nothing(host: Any) -> None:
    """A subclass may have a look of its own, and so may another parser."""
    kind = host.package.Connection

    class Own(kind):  # type: ignore[misc, valid-type]
        pass

    class OwnParser(type(host.mine._parser)):  # type: ignore[misc]
        pass

    port = host.mine.port
    for other in (Own(port=port), kind(port=port, protocol=2, parser_class=OwnParser)):
        other.connect()
        assert not host.silent(other) and not other.can_read(0)
        other.disconnect()
    assert not host.silent(object())


def test_a_checkout_lets_go_of_the_gil_nowhere(host: Any) -> None:
    """Of the calls in C none is one that waits for a socket: neither a time-out set nor a read."""
    called = []

    def see(_: Any, event: str, what: Any) -> None:
        if event == "c_call":
            called.append(what.__qualname__)

    host.pool.release(host.pool.get_connection("_"))
    sys.setprofile(see)
    try:
        host.pool.release(host.pool.get_connection("_"))
    finally:
        sys.setprofile(None)
    assert {each for each in called if each.startswith("socket.")} == {"socket.fileno"}

"""How the clients of fastpool.rpc connect: in which time, with which headers, and nowhere else."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Transport

import pytest

from fastpool import PoolTimeout
from fastpool.rpc import BadReply, HttpError, sockets, xmlrpc
from integration.rpc.servers import (
    JsonServer,
    ScriptedServer,
    TlsServer,
    Upper,
    XmlServer,
    answer,
    http,
    pool_of,
    port_of,
    reply_to,
    serving,
    vanishing,
    warmed,
)
from support.helpers import eventually

pytest.importorskip("urllib3", reason="urllib3 is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

import httpcore
import urllib3

from fastpool.rpc import aio_jsonrpc, jsonrpc

# ---- In its time --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sockets", "xmlrpc", "jsonrpc", "aio_jsonrpc"])
def test_a_connection_that_takes_too_long_is_given_up_by_the_pool_too(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the time of the socket does not count: the name of the host, a setup that is busy."""
    over = threading.Event()
    how: Any = {"connect_timeout": 0.1, "timeout": 40}

    class Slow(Transport):
        def make_connection(self, host: Any) -> Any:
            over.wait(20)
            return super().make_connection(host)

    async def call(url: str) -> None:
        async with aio_jsonrpc(url, **how) as client:
            await client.call("echo", 1)

    async def slow(*args: Any, **named: Any) -> None:
        await asyncio.sleep(20)
        raise OSError("nobody")

    with serving(XmlServer()) as server, pytest.raises((PoolTimeout, TimeoutError)):
        try:
            if kind == "sockets":
                how["setup"] = lambda _: over.wait(20)
                with sockets(("127.0.0.1", port_of(server)), **how) as pool, pool.lease():
                    pass
            elif kind == "xmlrpc":
                proxy = xmlrpc(server.url, transport=Slow, **how)
                try:
                    proxy.echo(1)
                finally:
                    over.set()
                    proxy("close")()
            elif kind == "jsonrpc":
                connection = urllib3.connection.HTTPConnection
                monkeypatch.setattr(connection, "connect", lambda self: over.wait(20))
                with jsonrpc(server.url, **how) as client:
                    client.call("echo", 1)
            else:
                monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", slow)
                asyncio.run(call(server.url))
        finally:
            over.set()


def test_the_system_is_told_how_long_connecting_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Noting(httpcore.AnyIOBackend):
        async def connect_tcp(self, *args: Any, **named: Any) -> Any:
            told.append(named["timeout"])
            return await super().connect_tcp(*args, **named)

    def noting(module: Any) -> None:
        create = module.create_connection

        def created(address: Any, timeout: Any, *more: Any, **named: Any) -> Any:
            told.append(timeout)
            return create(address, timeout, *more, **named)

        monkeypatch.setattr(module, "create_connection", created)

    async def ask(url: str) -> Any:
        async with aio_jsonrpc(url, connect_timeout=7) as client:
            return await client.call("echo", 3)

    monkeypatch.setattr(httpcore, "AnyIOBackend", Noting)
    noting(urllib3.util.connection)
    noting(socket)
    with serving(XmlServer()) as xml, serving(JsonServer()) as json:
        with xmlrpc(xml.url, connect_timeout=7) as proxy:
            assert proxy.echo(1) == 1
        with jsonrpc(json.url, connect_timeout=7) as client:
            assert client.call("echo", 2) == 2
        assert asyncio.run(ask(json.url)) == 3
    assert told == [7, 7, 7]


def test_what_fails_once_it_is_connected_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever keeps the exception, and with it the frames that it has passed."""
    kind = urllib3.connection.HTTPConnection
    connect = kind.connect

    def failing(self: Any) -> None:
        connect(self)
        raise LookupError("no such proxy")

    monkeypatch.setattr(kind, "connect", failing)
    with serving(JsonServer()) as server, jsonrpc(server.url) as client:
        with pytest.raises(LookupError) as kept:
            client.call("echo", 1)
        eventually(lambda: server.accepted == 1 and not server.open)
        assert kept.value.__traceback__ is not None


@pytest.mark.parametrize("kind", ["xmlrpc", "jsonrpc", "aio_jsonrpc"])
def test_the_certificates_of_the_system_are_read_once(
    kind: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[ssl.SSLContext] = []

    def trusting() -> ssl.SSLContext:
        contexts.append(create(cafile=str(certificate[1])))
        return contexts[-1]

    create = ssl.create_default_context
    with serving(TlsServer(("127.0.0.1", 0), Upper, certificate=certificate)) as server:
        url = f"https://localhost:{port_of(server)}"
        monkeypatch.setattr(ssl, "create_default_context", trusting)
        # Its answers are none, so that each call is made on a connection of its own.
        if kind == "aio_jsonrpc":

            async def calls() -> None:
                async with aio_jsonrpc(url) as client:
                    for _ in range(2):
                        with pytest.raises(BadReply):
                            await client.call("f")

            asyncio.run(calls())
        elif kind == "jsonrpc":
            with jsonrpc(url) as client:
                for _ in range(2):
                    with pytest.raises(BadReply):
                        client.call("f")
        else:
            with xmlrpc(url) as proxy:
                for _ in range(2):
                    with pytest.raises(HTTPException):
                        proxy.f()
        assert server.accepted == 2
    assert len(contexts) == 1


# ---- Only by the pool ---------------------------------------------------------------------------


def test_a_transport_that_loses_its_connection_does_not_open_one_by_itself() -> None:
    """It would be one more than the pool knows of."""

    class Losing(Transport):
        def send_request(self, host: Any, *args: Any) -> Any:
            self.make_connection(host).close()
            return super().send_request(host, *args)

    with serving(XmlServer()) as server, xmlrpc(server.url, transport=Losing) as proxy:
        for n in (1, 2):
            with pytest.raises(Exception):  # noqa: B017 - as http.client has it
                proxy.echo(1)
            assert (pool_of(proxy).stats().open, server.answered) == (0, 0)
            assert pool_of(proxy).stats().created == n


def test_nor_does_a_client_of_json_rpc() -> None:
    with serving(JsonServer()) as server, jsonrpc(server.url) as client:
        ask = client._address
        with pytest.raises(Exception), client.pool.lease(ask.origin) as line:  # noqa: B017
            line.connection.close()
            line.post(ask, b'{"jsonrpc": "2.0", "method": "echo", "params": [1], "id": 1}')
        assert server.answered == 0
        assert client.call("echo", 1) == 1


# ---- With all that was asked for ----------------------------------------------------------------


def test_headers_that_can_be_read_once_are_sent_on_every_connection() -> None:
    def say(number: int, body: bytes, write: Any) -> bool:
        write(answer(number))
        return False

    with serving(ScriptedServer(say)) as server:
        with xmlrpc(server.url, headers=iter([("X-Trace", "7")]), max_uses=1) as proxy:
            assert [proxy.echo() for _ in range(3)] == [0, 1, 2]
        assert server.accepted == 3
        assert [headers["x-trace"] for _, headers in server.heads] == ["7"] * 3


def test_another_address_has_the_ways_of_the_first() -> None:
    """Its time, whether it sends again, and its headers, where it names no others itself."""
    over = threading.Event()

    def say(number: int, body: bytes, write: Any) -> bool:
        if number == 0:
            over.wait(20)
        write(reply_to(body, number))
        return False

    with serving(ScriptedServer(say)) as server:
        how: Any = {"timeout": 0.25, "headers": {"X-One": "1", "X-Two": "2"}}
        with jsonrpc(server.url, **how) as client:
            more = client.at("/more", headers={"X-Two": "other"})
            warmed(client, server.url, 1)
            with pytest.raises(TimeoutError, match=r"no answer within 0\.25 s"):
                more.call("f")
            over.set()
        _, headers = server.heads[0]
        assert (headers["x-one"], headers["x-two"]) == ("1", "other")
    with serving(ScriptedServer(vanishing(1))) as server:
        with jsonrpc(server.url, retry=False) as client:
            more = client.at("/more")
            assert more.call("f") == 0
            with pytest.raises(ConnectionResetError):
                more.call("f")
            assert server.answered == 2


@pytest.mark.parametrize("status", ["300 Choices", "304 Not Modified"])
def test_a_status_that_is_no_success_is_an_error(status: str) -> None:
    def say(number: int, body: bytes, write: Any) -> bool:
        reply = reply_to(body, 1).partition(b"\r\n\r\n")[2]
        write(http(b"" if status.startswith("304") else reply, status))
        return True

    with serving(ScriptedServer(say)) as server, jsonrpc(server.url, timeout=20) as client:
        with pytest.raises(HttpError) as raised:
            client.call("f")
        assert raised.value.status == int(status[:3])
        assert client.pool.stats().open == 0


def test_an_explicit_none_is_no_end_whatever_the_pool_has() -> None:
    with serving(XmlServer()) as server:
        with sockets(("127.0.0.1", port_of(server)), timeout=30) as pool:
            with pool.lease() as connection:
                assert 0 < connection.gettimeout() <= 30
            with pool.lease(timeout=None) as connection:
                assert connection.gettimeout() is None
            with pool.lease(timeout=5) as connection:
                assert 0 < connection.gettimeout() <= 5


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1", ConnectionRefusedError),
        ("http://localhost:1", ConnectionRefusedError),
        ("http://no-such-host.invalid", socket.gaierror),
    ],
)
@pytest.mark.parametrize("make", [jsonrpc, aio_jsonrpc])
def test_connecting_fails_with_what_the_socket_said(make: Any, url: str, error: Any) -> None:
    """For tasks as for threads."""
    client = make(url)
    with pytest.raises(error):
        if make is jsonrpc:
            client.call("f")
        else:
            asyncio.run(client.call("f"))

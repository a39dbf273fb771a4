"""A signal handler raises at any instruction of a call of an RPC client, and of what it calls in
the standard library and in urllib3: see ``contract/interrupts/test_every_instruction.py``.

Afterwards another thread has as many connections as the client may open, and once the client is
closed the server has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from fastpool.rpc import sockets, xmlrpc
from integration.rpc.servers import (
    JsonServer,
    TcpServer,
    Upper,
    XmlServer,
    ask,
    port_of,
    serving,
)
from support.helpers import PATIENCE, eventually
from support.interrupted_pools import AT_LENGTH, World, endure

pytestmark = [
    pytest.mark.process,
    # of a response of the standard library, or what a finaliser was struck in
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    *AT_LENGTH,
]

SIZE = 2


class Client(World):
    """A client of a server; ``used``: with a connection that has carried a call."""

    server: Any

    def __init__(self, server: Any, used: bool) -> None:
        super().__init__()
        self.server = server
        self.begin()
        if used:
            self.call()

    def begin(self) -> None:
        raise NotImplementedError

    def call(self) -> Any:
        raise NotImplementedError

    def acquire(self) -> Any:
        return self.pool.acquire(timeout=PATIENCE)

    def close(self) -> None:
        assert self.pool.close(timeout=PATIENCE)

    def look(self) -> None:
        if not self.pool.closed:
            self.call()
            for lease in [self.acquire() for _ in range(SIZE)]:
                lease.release()
        self.close()
        eventually(lambda: not self.server.open)


class XmlRpc(Client):
    def begin(self) -> None:
        self.proxy = xmlrpc(self.server.url, size=SIZE, timeout=3 * PATIENCE)
        self.pool = cast("Any", self.proxy)("transport").pool

    def call(self) -> Any:
        assert self.proxy.echo("hello") == "hello"


class JsonRpc(Client):
    def begin(self) -> None:
        from fastpool.rpc import jsonrpc

        self.client = jsonrpc(self.server.url, size=SIZE, timeout=3 * PATIENCE)
        self.pool = self.client.pool
        self.call()
        self.key = next(iter(self.pool.stats().keys))
        self.pool.flush()

    def call(self) -> Any:
        assert self.client.call("echo", "hello") == "hello"

    def acquire(self) -> Any:
        return self.pool.acquire(self.key, timeout=PATIENCE)


class Socket(Client):
    def begin(self) -> None:
        address = "127.0.0.1", port_of(self.server)
        self.client = sockets(address, size=SIZE, timeout=3 * PATIENCE)
        self.pool = self.client.pool

    def call(self) -> Any:
        with self.client.lease() as connection:
            assert ask(connection, "hello") == "HELLO"


KINDS: dict[str, tuple[Callable[[], Any], type[Client]]] = {
    "xmlrpc": (XmlServer, XmlRpc),
    "jsonrpc": (JsonServer, JsonRpc),
    "sockets": (lambda: TcpServer(("127.0.0.1", 0), Upper), Socket),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[tuple[str, Callable[[bool], Client]]]:
    make, client = KINDS[request.param]
    if request.param == "jsonrpc":
        pytest.importorskip("urllib3")
    with serving(make()) as server:
        yield request.param, lambda used: client(server, used)


@pytest.mark.costly
@pytest.mark.parametrize("used", [False, True], ids=["new connection", "used connection"])
def test_interrupted_call_loses_nothing(kind: Any, used: bool) -> None:
    name, make = kind
    endure(f"{name}-call-{used}", lambda: make(used), lambda client: client.call())


def test_interrupted_close_loses_nothing(kind: Any) -> None:
    name, make = kind
    endure(f"{name}-close", lambda: make(True), lambda client: client.close())

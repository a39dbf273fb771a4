"""The contestants of the demo: ways to call a server from many threads, as people write them.

A way is a context manager: entering sets up what it needs and gives a `Running`, whose `call` makes
one call from any thread; leaving closes everything. Every reply is checked.
"""

from __future__ import annotations

import queue
import select
import socket
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ... import FastPool
from .servers import Server

if TYPE_CHECKING:
    from ...stats import PoolStats

# Far above any real call here: it only keeps the demo finite when something is stuck. In seconds.
TIMEOUT = 10.0
MESSAGE = b"fastpool" * 8
METHOD = "/fastpool.demo.Echo/Say"


class Running(NamedTuple):
    """A way that is set up: what makes one call; the pool if it is a FastPool; what it can say of
    itself in one line, if anything."""

    call: Callable[[], None]
    pool: FastPool[Any] | None = None
    stats: Callable[[], str] | None = None


class Way(NamedTuple):
    """One contestant: its label in a table, its name in a sentence, and how it is set up."""

    label: str
    name: str
    open: Callable[[Server], AbstractContextManager[Running]]


def check(reply: object, expected: object) -> None:
    if reply != expected:
        raise ValueError(f"wrong reply {reply!r}")


# -- TCP echo --------------------------------------------------------------------------------------


class EchoClient:
    """One connection to the echo server. One call at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self) -> None:
        self._socket.sendall(MESSAGE)
        reply = b""
        while len(reply) < len(MESSAGE):
            data = self._socket.recv(4096)
            if not data:
                raise EOFError("the server closed the connection")
            reply += data
        check(reply, MESSAGE)

    def alive(self) -> bool:
        """Whether the connection is still quiet: an end or a stray byte would make it readable."""
        return not select.select([self._socket], [], [], 0)[0]

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> EchoClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


# -- XML-RPC ---------------------------------------------------------------------------------------


class XmlRpcClient:
    """A ServerProxy with its connection already open. One call at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        host = "{}:{}".format(*address)
        self._proxy = xmlrpc.client.ServerProxy(f"http://{host}")
        # Dial now, so that "a client made" and "a connection opened" are one and the same.
        connection = self._proxy("transport").make_connection(host)
        connection.timeout = TIMEOUT
        connection.connect()

    def call(self) -> None:
        check(self._proxy.add(2, 3), 5)

    def close(self) -> None:
        self._proxy("close")()

    def __enter__(self) -> XmlRpcClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


# -- ways to use such a client ---------------------------------------------------------------------

Client = type[EchoClient] | type[XmlRpcClient]


@contextmanager
def connection_per_call(client: Client, server: Server) -> Iterator[Running]:
    def call() -> None:
        with client(server.address) as connection:
            connection.call()

    yield Running(call)


@contextmanager
def lifo_queue(client: Client, size: int, server: Server) -> Iterator[Running]:
    idle: queue.LifoQueue[Any] = queue.LifoQueue()
    for _ in range(size):
        idle.put(client(server.address))

    def call() -> None:
        connection = idle.get(timeout=TIMEOUT)
        try:
            connection.call()
        except Exception:
            connection.close()
            connection = client(server.address)
            raise
        finally:
            idle.put(connection)

    try:
        yield Running(call)
    finally:
        while not idle.empty():
            idle.get().close()


@contextmanager
def fast_pool(client: Client, size: int, server: Server) -> Iterator[Running]:
    with FastPool(size, factory=lambda: client(server.address), name=server.kind) as pool:

        def call() -> None:
            with pool.lease(timeout=TIMEOUT) as connection:
                connection.call()

        yield Running(call, pool, lambda: describe(pool.stats()))


def describe(stats: PoolStats) -> str:
    """The stats of a pool in one line."""
    waits = stats.wait_time
    return (
        f"uses {stats.uses:,}, made {stats.created}, closed {stats.closed_total},"
        f" open {stats.open}, waited {waits.count:,} (p99 < {waits.quantile(0.99) * 1000:.0f} ms)"
    )


# -- ways to use gRPC, which brings its own clients ------------------------------------------------


def say(stub: Callable[..., bytes]) -> None:
    check(stub(MESSAGE, timeout=TIMEOUT), MESSAGE)


@contextmanager
def channel_per_call(server: Server) -> Iterator[Running]:
    import grpc

    def call() -> None:
        with grpc.insecure_channel(server.target) as channel:
            say(channel.unary_unary(METHOD))

    yield Running(call)


@contextmanager
def lifo_queue_of_channels(size: int, server: Server) -> Iterator[Running]:
    import grpc

    channels = [grpc.insecure_channel(server.target) for _ in range(size)]
    idle: queue.LifoQueue[Callable[..., bytes]] = queue.LifoQueue()
    for channel in channels:
        idle.put(channel.unary_unary(METHOD))

    def call() -> None:
        stub = idle.get(timeout=TIMEOUT)
        try:
            say(stub)
        finally:
            idle.put(stub)

    try:
        yield Running(call)
    finally:
        for channel in channels:
            channel.close()


@contextmanager
def shared_channel(server: Server) -> Iterator[Running]:
    from ...grpc import shared, stats, wait_ready

    with shared(server.target) as channel:
        wait_ready(channel, TIMEOUT)
        stub = channel.unary_unary(METHOD)
        yield Running(
            lambda: say(stub),
            stats=lambda: "; ".join(
                f"{each.target} {each.kind}, {each.references} reference" for each in stats()
            ),
        )

"""Pooled TCP, TLS and Unix sockets, for protocols of one's own."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import EllipsisType
from typing import Any

from fastpool import FastPool

from ._deadline import Deadline, seconds
from ._exchange import capped, live_connection
from ._pool_owner import PoolOwner
from ._socket_connection import Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastpool.stats import PoolStats

__all__ = ["SocketPool", "sockets"]


def sockets(
    address: tuple[str, int] | str | os.PathLike[str],
    *,
    size: int = 10,
    timeout: float | None = 30.0,
    connect_timeout: float | None = 10.0,
    tls: ssl.SSLContext | bool = False,
    server_hostname: str | None = None,
    setup: Callable[[Wire], object] | None = None,
    **options: Any,
) -> SocketPool:
    """A pool of connections to one address.

    ``address``: ``(host, port)``, or the path of a Unix socket.  ``size``: most connections open at
    once.  ``timeout``: seconds for a whole ``with pool.lease()`` block: its wait in the queue, the
    connecting, and all sending and receiving; None: no end.  ``connect_timeout``: seconds for
    connecting, the TLS handshake included.  ``tls``: True for the system's certificates, or a
    context; ``server_hostname`` is the name to be verified if it is not ``host``.  ``setup`` is
    called with each new connection before its first use: to log in, or to read the greeting of a
    server that speaks first; it is part of connecting.  ``options`` are those of FastPool; its
    ``check`` and ``reset`` are called with a Wire and have their ``hook_timeout`` for all they do.
    By default any exception that leaves a block closes the connection, since it may have come in
    the middle of a reply.

    Connecting fails with the socket's own error.  Thread-safe; after a fork the child has
    connections of its own.  Cost over a plain socket: some 6 us a block.
    """
    patience = seconds(connect_timeout, "connect_timeout")
    dial = _Dial(address, patience, tls, server_hostname, setup)
    options.setdefault("discard_on", Exception)
    options.setdefault("name", f"sockets {dial.name}")
    for hook in ("check", "reset"):
        if not callable(options.get(hook)):
            continue
        from inspect import iscoroutinefunction  # a costly import that few pools need

        if not iscoroutinefunction(options[hook]):
            options[hook] = _in_time(options[hook], options.get("hook_timeout", HOOK_TIMEOUT))
    size = capped(size)
    pool = FastPool(size, factory=dial, close=Wire.hang_up, create_timeout=patience, **options)
    return SocketPool(pool, seconds(timeout, "timeout"))


HOOK_TIMEOUT = 5.0
"""FastPool's own."""


def _in_time(hook: Callable[[Wire], Any], span: float | None) -> Callable[[Wire], Any]:
    """The hook with a deadline of its own: it is called between two turns."""

    def bounded(wire: Wire) -> Any:
        wire.deadline = Deadline(None if span == float("inf") else span)
        return hook(wire)

    return bounded


class SocketPool(PoolOwner):
    """Connections to one address, made by ``sockets``.  ``with pool.lease() as connection:``"""

    __module__ = "fastpool.rpc"

    pool: FastPool[Wire]

    def __init__(self, pool: FastPool[Wire], timeout: float | None) -> None:
        self.pool = pool
        self._timeout = timeout

    def lease(self, timeout: float | EllipsisType | None = ...) -> AbstractContextManager[Wire]:
        """A connection for one ``with`` block, which has ``timeout`` seconds for all it does
        (default: the pool's), less where a ``fastpool.calls.budget`` ends sooner.

        It behaves as a socket (see ``Wire``), and is one that the other side has neither closed
        nor written to since its last use.  Closed in the block it is not used again.  PoolTimeout,
        PoolClosed and PoolOverloaded as FastPool; past the deadline TimeoutError.
        """
        span = self._timeout if timeout is ... else seconds(timeout, "timeout")
        return live_connection(self.pool.lease, Deadline(span))

    def stats(self) -> PoolStats:
        """``FastPool.stats``: an immutable snapshot."""
        return self.pool.stats()

    def __repr__(self) -> str:
        return f"<SocketPool {self.pool.name!r}>"


class _Dial:
    """The factory: connects once a call."""

    def __init__(
        self,
        address: Any,
        timeout: float | None,
        tls: ssl.SSLContext | bool,
        name: str | None,
        setup: Callable[[Wire], object] | None,
    ) -> None:
        self.address, self.timeout, self.setup = _checked(address), timeout, setup
        self.unix = not isinstance(self.address, tuple)
        self.name = self.address if self.unix else "{}:{}".format(*self.address)
        if not isinstance(tls, bool | ssl.SSLContext):
            raise TypeError(f"tls must be True, False or an ssl.SSLContext, not {tls!r}")
        if name is not None and not tls:
            raise TypeError("server_hostname is for tls=True or tls=context")
        context = ssl.create_default_context() if tls is True else tls
        self.tls = context if isinstance(context, ssl.SSLContext) else None
        self.server_hostname = name or (None if self.unix else self.address[0])

    def __call__(self) -> Wire:
        until = Deadline(self.timeout)
        connected = self._connect()
        try:
            if self.tls:
                connected = self.tls.wrap_socket(connected, server_hostname=self.server_hostname)
            wire = Wire(connected, self.name)
            wire.begin(until)
            if self.setup is not None:
                self.setup(wire)
                if wire.readers:
                    raise RuntimeError("setup has left a file open, which may have read ahead")
            wire.uses = 0
        except BaseException:
            connected.close()
            raise
        return wire

    def _connect(self) -> socket.socket:
        if not self.unix:
            connected = socket.create_connection(self.address, self.timeout)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        return connected_to(self.address, self.timeout)


def connected_to(path: str, timeout: float | None) -> socket.socket:
    """A Unix socket, connected within so many seconds."""
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(timeout)
        connected.connect(path)
    except BaseException:
        connected.close()
        raise
    return connected


def _checked(address: Any) -> Any:
    """``address`` as the socket module takes it."""
    if isinstance(address, str | os.PathLike):
        if not hasattr(socket, "AF_UNIX"):
            raise TypeError("this system has no Unix sockets: address must be (host, port)")
        return os.fspath(address)
    match address:
        case (str(), int()):
            return tuple(address)
    raise TypeError(f"address must be (host, port) or the path of a Unix socket, not {address!r}")

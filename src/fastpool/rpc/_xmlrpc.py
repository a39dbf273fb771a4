"""XML-RPC: the standard library's ServerProxy over a pool of its own transports."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator
from gzip import BadGzipFile
from typing import Any, cast
from xmlrpc.client import Fault, ProtocolError, SafeTransport, ServerProxy, Transport

from fastpool import FastPool

from ._address import header_value, refuse_framing, taken_apart
from ._bounds import MAX_REPLY, PIECE, Bounds, bounded
from ._deadline import Deadline, seconds
from ._errors import BadReply
from ._exchange import capped, exchange
from ._plain_http import Head, ordinary, other
from ._socket_connection import Wire
from ._xmlrpc_codec import is_no_fault, read_finite, refuse_host, refuse_infinite

__all__ = ["PooledTransport", "xmlrpc"]


def xmlrpc(
    url: str,
    *,
    size: int = 10,
    timeout: float | None = 30.0,
    connect_timeout: float | None = 10.0,
    retry: bool = True,
    max_reply: int | None = MAX_REPLY,
    refuse_nan: bool = False,
    transport: Callable[[], Transport] | None = None,
    encoding: str | None = None,
    verbose: bool = False,
    allow_none: bool = False,
    use_datetime: bool = False,
    use_builtin_types: bool = False,
    headers: Iterable[tuple[str, str]] = (),
    context: ssl.SSLContext | None = None,
    **options: Any,
) -> ServerProxy:
    """``xmlrpc.client.ServerProxy(url)`` for any number of threads.

    ``size``: most connections open at once.  ``timeout``: seconds for a whole call: its wait in
    queue, the connecting, sending and receiving; None: no end.  ``connect_timeout``: seconds for
    connecting, the TLS handshake included.  ``retry``: a call whose connection had been used before
    and ended without a byte of the reply, and before 64 KiB of the call had gone, is sent once
    more; False: never.  ``max_reply``: bytes of a reply, decompressed; a longer one is a BadReply.
    ``refuse_nan``: NaN and infinities, which XML-RPC does not have, are a ValueError in a call, and
    make a reply a BadReply.  ``transport``: makes one Transport of the standard library, called
    once a connection.  What follows it is ServerProxy's own; ``options`` are those of FastPool.

    The result is a ServerProxy: nested names, MultiCall, Fault and ``with`` are the standard
    library's.  ``proxy("transport")`` is the PooledTransport, whose ``.pool`` is the FastPool;
    ``proxy("close")()`` and the end of a ``with`` block close it for good.

    A call raises Fault (the connection is kept), what ServerProxy raises when the connection or the
    protocol fails (it is closed), PoolTimeout, PoolClosed or PoolOverloaded; past its deadline
    TimeoutError.  Thread-safe; after a fork the child has connections of its own.
    """
    parts = taken_apart("xmlrpc", url)
    if transport is None:
        given = use_datetime, use_builtin_types, headers, context
        transport = _maker(parts.scheme, *given, bounded(max_reply), refuse_nan)
    elif not callable(transport):
        raise TypeError(
            "transport must be callable and make a Transport, one for each connection: "
            f"{transport!r} can carry one call at a time"
        )
    elif use_datetime or use_builtin_types or headers or context is not None or refuse_nan:
        raise TypeError(
            "use_datetime, use_builtin_types, headers, context and refuse_nan are for the "
            "transports that xmlrpc() makes; have yours made with them"
        )
    else:
        bounded(max_reply)  # of its own replies a transport sees to itself
    pooled = PooledTransport(
        parts.netloc, parts.query, transport, size, timeout, connect_timeout, retry, **options
    )
    pooled.refuse_nan = refuse_nan
    return ServerProxy(
        f"{parts.scheme}://{pooled.name}{parts.path}",  # which it shows: so without what is secret
        cast("Transport", pooled),
        encoding=encoding,
        verbose=verbose,
        allow_none=allow_none,
    )


def _maker(
    scheme: str,
    use_datetime: bool,
    use_builtin_types: bool,
    headers: Iterable[tuple[str, str]],
    context: ssl.SSLContext | None,
    most: int | None,
    refuse_nan: bool,
) -> Callable[[], Transport]:
    """What makes the transports that ServerProxy would make for itself."""
    headers = list(headers)
    for name, value in headers:
        refuse_framing(name)
        header_value(name, value.decode("latin-1") if isinstance(value, bytes) else value)
        refuse_host(name)
    given: dict[str, Any] = {
        "use_datetime": use_datetime,
        "use_builtin_types": use_builtin_types,
        "headers": headers,
    }
    if scheme == "http":
        return lambda: _Plain(most, refuse_nan, **given)
    context = context or ssl.create_default_context()  # once: it reads the system's certificates
    return lambda: _Safe(most, refuse_nan, **given, context=context)


class _Bounded:
    """Of a transport: the replies that it reads are no longer than they may be, and do not go on
    past the deadline."""

    wire: Wire

    def __init__(self, most: int | None, refuse_nan: bool, **given: Any) -> None:
        super().__init__(**given)
        self.most = most
        self.refuse_nan = refuse_nan
        self._heads: dict[str, Head] = {}

    def single_request(
        self, host: Any, handler: str, request_body: Any, verbose: Any = False
    ) -> Any:
        """As Transport has it, with less ado where all is as usual."""
        if verbose or self.encode_threshold is not None:  # type: ignore[attr-defined]
            return super().single_request(host, handler, request_body, verbose)  # type: ignore[misc]
        wire = self.wire
        try:
            head = self._heads.get(handler) or self._learn(host, handler)
            wire.sendall(head.of(request_body))
            pieces = ordinary(wire, bounds := self._bounds())
            if pieces is not None:
                return self._meaning(pieces, bounds)
            response = other(wire)
            if response.status == 200:
                return self.parse_response(response)
        except Fault:
            raise
        except Exception:
            self.close()  # type: ignore[attr-defined]
            raise
        if response.getheader("content-length", ""):
            response.read()
        headers = dict(response.getheaders())
        raise ProtocolError(f"{host}{handler}", response.status, response.reason, headers)

    def _learn(self, host: Any, handler: str) -> Head:
        """What is sent before the body: the connection writes to a wire, which gathers it."""
        self.send_request(host, handler, b"", False)  # type: ignore[attr-defined]
        head = self._heads[handler] = Head(self.wire.take_unsent())
        return head

    def _bounds(self) -> Bounds:
        return Bounds(self.most, self.wire.deadline, self.wire.name)

    def parse_response(self, response: Any) -> Any:
        bounds = self._bounds()
        bounds.announced(response.getheader("content-length"))
        packed = response.getheader("content-encoding", "") == "gzip"
        return self._meaning(
            _unpacked(response) if packed else iter(lambda: response.read(PIECE), b""), bounds
        )

    def _meaning(self, pieces: Iterable[bytes], bounds: Bounds) -> Any:
        parser, unmarshaller = self.getparser()  # type: ignore[attr-defined]
        if self.refuse_nan:
            read_finite(unmarshaller)
        for piece in pieces:
            parser.feed(bounds.add(piece))
        parser.close()
        return unmarshaller.close()


class _Plain(_Bounded, Transport):
    pass


class _Safe(_Bounded, SafeTransport):
    pass


def _unpacked(response: Any) -> Iterator[bytes]:
    """What gzip has packed, a piece at a time."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        while packed := response.read(PIECE):
            while packed:
                yield unpacking.decompress(packed, PIECE)
                packed = unpacking.unconsumed_tail
        yield unpacking.flush()
    except zlib.error as error:
        raise BadGzipFile(str(error)) from None
    if not unpacking.eof:
        raise EOFError("the packed reply breaks off")


class PooledTransport:
    """What a ServerProxy made by ``xmlrpc`` sends its calls through."""

    __module__ = "fastpool.rpc"

    refuse_nan = False

    def __init__(
        self,
        host: str,
        query: str,
        make: Callable[[], Transport],
        size: int,
        timeout: float | None,
        connect_timeout: float | None,
        retry: bool,
        **options: Any,
    ) -> None:
        self._timeout = seconds(timeout, "timeout")
        self._retry = retry
        patience = seconds(connect_timeout, "connect_timeout")
        self._host = host  # with name and password, as transports take it
        self._query = f"?{query}" if query else ""
        self.name = name = host.rpartition("@")[2]
        self.pool: FastPool[_Connection] = FastPool(
            capped(size),
            factory=lambda: _Connection(make(), host, name, patience),
            create_timeout=patience,
            **{"name": f"xmlrpc {name}", "discard_on": is_no_fault, **options},
        )

    def request(self, host: str, handler: str, request_body: bytes, verbose: bool = False) -> Any:
        """One call and its result; ServerProxy calls this, with a host and a handler that it may
        show.  Thread-safe."""
        path = handler + self._query
        if self.refuse_nan:
            refuse_infinite(request_body)

        def ask(connection: _Connection) -> Any:
            try:
                return connection.transport.single_request(self._host, path, request_body, verbose)
            except ProtocolError as error:
                error.url = self.name + handler
                raise
            except (MemoryError, OverflowError) as error:  # an error with an endless length
                raise BadReply(f"{connection.wire.name}: an endless reply: {error!r}") from None

        return exchange(self.pool.lease, Deadline(self._timeout), self._retry, ask)

    def close(self) -> None:
        """Closes the pool, for good."""
        self.pool.close()

    def __repr__(self) -> str:
        return f"<PooledTransport {self.pool.name!r}>"


class _Connection:
    """One connection: a transport of the standard library whose socket is a wire."""

    def __init__(self, transport: Transport, host: str, name: str, patience: float | None) -> None:
        self.transport = transport
        connection: Any = transport.make_connection(host)
        if transport.make_connection(host) is not connection:
            raise TypeError(
                f"{type(transport).__name__}.make_connection() makes another connection each time; "
                "it must keep the one that it has made, as Transport does"
            )
        connection.timeout = patience
        connection.connect()
        connection.auto_open = 0  # when it is closed, the pool opens another one
        self.wire = connection.sock = Wire(connection.sock, name, gather=True)
        if isinstance(transport, _Bounded):
            transport.wire = self.wire

    def close(self) -> None:
        self.transport.close()
        self.wire.hang_up()

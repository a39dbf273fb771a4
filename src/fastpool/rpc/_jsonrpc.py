"""A JSON-RPC 2.0 client for threads."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from fastpool import KeyedPool

from ._address import Origin
from ._bounds import MAX_REPLY, bounded
from ._deadline import Deadline, seconds
from ._exchange import exchange
from ._http_connection import Dial, HttpConnection
from ._http_messages import Request
from ._jsonrpc_batch import Collected
from ._jsonrpc_codec import Codec, dumps, is_no_answer
from ._jsonrpc_endpoint import Endpoint
from ._pool_owner import PoolOwner

__all__ = ["Batch", "JsonRpc", "jsonrpc"]


def jsonrpc(
    url: str,
    *,
    size: int = 10,
    timeout: float | None = 30.0,
    connect_timeout: float | None = 10.0,
    retry: bool = True,
    max_reply: int | None = MAX_REPLY,
    refuse_nan: bool = False,
    lenient: bool = False,
    uds: str | os.PathLike[str] | None = None,
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
    dumps: Callable[[Any], str | bytes] = dumps,
    loads: Callable[[bytes], Any] = json.loads,
    **options: Any,
) -> JsonRpc:
    """A JSON-RPC 2.0 client for any number of threads, over HTTP.

    ``size``: most connections open at once to one host and port.  ``timeout``: seconds for a whole
    call: its wait in the queue, the connecting, sending and receiving; None: no end.
    ``connect_timeout``: seconds for connecting, the TLS handshake included.  ``retry``: a call
    whose connection had been used before and ended without a byte of the reply, and before 64 KiB
    of the call had gone, is sent once more; False: never.  ``max_reply``: bytes of a reply,
    decompressed; a longer one is a BadReply.  ``refuse_nan``: NaN and infinities in a reply, which
    JSON does not have, make it a BadReply; in a call they always are a ValueError.  ``lenient``:
    replies of version 1 are taken, too: without a version, and with both a result and an error, one
    of which is null; an error that is no object is a RemoteError of code 0.  ``uds``: the path of a
    Unix socket, over which all is sent, whatever host the address names.  ``headers`` are sent with
    each call; ``context`` is for https.  ``dumps`` and ``loads`` turn messages into text or bytes
    and back.  ``options`` are those of KeyedPool, whose keys are the hosts; ``max_total`` bounds
    them together.

    Needs urllib3.  Thread-safe; after a fork the child has connections of its own.
    """
    patience = seconds(connect_timeout, "connect_timeout")
    language = Codec(dumps, loads, lenient, refuse_nan)
    endpoint = Endpoint("jsonrpc", url, headers, uds, language)
    given = {"name": f"jsonrpc {endpoint.address.origin}", "discard_on": is_no_answer, **options}
    dial = Dial(patience, context, bounded(max_reply))
    pool: KeyedPool[Origin, HttpConnection] = KeyedPool(
        dial, max_per_key=size, create_timeout=patience, **given
    )
    return JsonRpc(endpoint, pool, seconds(timeout, "timeout"), retry)


class JsonRpc(PoolOwner):
    """A client made by ``jsonrpc``.  Its methods raise RemoteError for what the server answers with
    an error object; BadReply or HttpError for what is no answer; OSError when the connection fails,
    PoolTimeout, PoolClosed or PoolOverloaded as KeyedPool; past the deadline TimeoutError."""

    pool: KeyedPool[Origin, HttpConnection]

    def __init__(
        self,
        endpoint: Endpoint,
        pool: KeyedPool[Origin, HttpConnection],
        timeout: float | None,
        retry: bool,
    ) -> None:
        self.url = endpoint.url
        self.pool = pool
        self._endpoint = endpoint
        self._address = endpoint.address
        self._language = endpoint.language
        self._timeout = timeout
        self._retry = retry

    def call(self, method: str, /, *params: Any, **named: Any) -> Any:
        """The result of a remote method, with positional or with named parameters."""
        return self._ask(self._language.call(method, params, named))

    def notify(self, method: str, /, *params: Any, **named: Any) -> None:
        """Tells the server, which does not answer: what becomes of it is not known."""
        self._ask(self._language.notification(method, params, named))

    def batch(self) -> Batch:
        """``with client.batch() as batch:`` - its calls are sent together at the end."""
        return Batch(self._language, self._ask)

    def at(self, url: str, headers: Mapping[str, str] | None = None) -> JsonRpc:
        """A client of another address, absolute or relative to this one, over the same connections
        and under the same limits.  This one's headers are sent to its own host only."""
        return JsonRpc(self._endpoint.at(url, headers), self.pool, self._timeout, self._retry)

    def __repr__(self) -> str:
        return f"<JsonRpc for {self._address}>"

    def _ask(self, question: Request) -> Any:
        address, pool = self._address, self.pool

        def lease(left: float | None) -> Any:
            return pool.lease(address.origin, left)

        def ask(connection: HttpConnection) -> Any:
            return question.read(connection.post(address, question.body))

        return exchange(lease, Deadline(self._timeout), self._retry, ask)


class Batch(Collected):
    """Calls that are sent together at the end of the ``with`` block, unless an exception leaves it.

    RemoteError at the end if the server refuses the batch as a whole; the errors of single calls
    come with their ``result()``.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if question := self._question(error):
            self._ask(question)

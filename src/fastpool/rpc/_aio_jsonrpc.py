"""A JSON-RPC 2.0 client for tasks."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from ._aio_client import AioClient, AioPools
from ._bounds import MAX_REPLY, bounded
from ._deadline import seconds
from ._jsonrpc_batch import Collected
from ._jsonrpc_codec import Codec, dumps, is_no_answer
from ._jsonrpc_endpoint import Endpoint

__all__ = ["AioBatch", "AioJsonRpc", "aio_jsonrpc"]


def aio_jsonrpc(
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
) -> AioJsonRpc:
    """``jsonrpc`` for tasks, of any number of event loops: the same parameters, but that
    ``options`` are those of FastPool.  Needs httpx."""
    patience = seconds(connect_timeout, "connect_timeout")
    language = Codec(dumps, loads, lenient, refuse_nan)
    endpoint = Endpoint("aio_jsonrpc", url, headers, uds, language)
    given = {"discard_on": is_no_answer, **options}
    pools = AioPools(size, patience, context, bounded(max_reply), given)
    client = AioClient("jsonrpc", endpoint.address, pools, seconds(timeout, "timeout"), retry)
    return AioJsonRpc(endpoint, client)


class AioJsonRpc:
    """A client made by ``aio_jsonrpc``; raises what JsonRpc raises."""

    def __init__(self, endpoint: Endpoint, client: AioClient) -> None:
        self.url = endpoint.url
        self.pool = client.pool
        self._endpoint = endpoint
        self._language = endpoint.language
        self._client = client
        self._ask = client.ask

    async def call(self, method: str, /, *params: Any, **named: Any) -> Any:
        """The result of a remote method, with positional or with named parameters."""
        return await self._ask(self._language.call(method, params, named))

    async def notify(self, method: str, /, *params: Any, **named: Any) -> None:
        """Tells the server, which does not answer: what becomes of it is not known."""
        await self._ask(self._language.notification(method, params, named))

    def batch(self) -> AioBatch:
        """``async with client.batch() as batch:`` - its calls are sent together at the end."""
        return AioBatch(self._language, self._ask)

    def at(self, url: str, headers: Mapping[str, str] | None = None) -> AioJsonRpc:
        """A client of another address, absolute or relative to this one: of the same host over the
        same connections, of another over up to ``size`` of its own.  This one's headers are sent to
        its own host only; closing one closes them all."""
        endpoint = self._endpoint.at(url, headers)
        return AioJsonRpc(endpoint, self._client.at("jsonrpc", endpoint.address))

    async def aclose(self, timeout: float | None = 5.0) -> bool:
        """``FastPool.aclose``: no new calls, idle connections go now, the others when they come."""
        return await self._client.pools.aclose(timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.pools.leave(kind, error, trace)

    def __repr__(self) -> str:
        return f"<AioJsonRpc for {self._client.address}>"


class AioBatch(Collected):
    """Batch for tasks: ``async with``."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if question := self._question(error):
            await self._ask(question)

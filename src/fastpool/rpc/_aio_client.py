"""What the clients for tasks have in common: pools of connections, and questions sent over them."""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Any

from fastpool import FastPool

from ._address import Address, Origin
from ._aio_http_connection import AioHttpConnection, dial, live_connection
from ._deadline import Deadline
from ._exchange import capped
from ._http_messages import Request

__all__ = ["AioClient", "AioPools"]


class AioPools:
    """A pool for each address that is called, all alike, closed together.

    Thread-safe: a pool that is made in vain, since another thread was quicker, is closed unused.
    """

    def __init__(
        self,
        size: int,
        connect_timeout: float | None,
        context: ssl.SSLContext | None,
        most: int | None,
        options: dict[str, Any],
    ) -> None:
        self._size = capped(size)
        self._patience = connect_timeout
        self._context = context
        self._most = most  # bytes of a reply
        self._options = options
        self._name = options.get("name")
        self._pools: dict[Origin, FastPool[AioHttpConnection]] = {}
        self._closed = False

    def of(self, origin: Origin, kind: str) -> FastPool[AioHttpConnection]:
        """The pool of connections to this origin; closed once one of them is."""
        found = self._pools.get(origin)
        if found is None:
            made = self._make(origin, kind)
            found = self._pools.setdefault(origin, made)
            if found is not made or self._closed:
                made.close(0)
        return found

    def _make(self, origin: Origin, kind: str) -> FastPool[AioHttpConnection]:
        patience, context, most = self._patience, None, self._most
        if origin.scheme == "https":
            context = self._context = self._context or ssl.create_default_context()

        async def connect() -> AioHttpConnection:
            return await dial(origin, patience, context, most)

        given = {
            "close": AioHttpConnection.leave,
            **self._options,
            "name": self._name or f"{kind} {origin}",
        }
        return FastPool(self._size, factory=connect, create_timeout=patience, **given)

    async def aclose(self, timeout: float | None) -> bool:
        """``FastPool.aclose`` of each."""
        self._closed = True
        closed = await asyncio.gather(*(pool.aclose(timeout) for pool in self._pools.values()))
        return all(closed)

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The end of an ``async with`` block."""
        self._closed = True
        for pool in list(self._pools.values()):
            await pool.__aexit__(kind, error, trace)


class AioClient:
    """Asks questions of one address."""

    def __init__(
        self, kind: str, address: Address, pools: AioPools, timeout: float | None, retry: bool
    ) -> None:
        self.address = address
        self.pools = pools
        self.pool = pools.of(address.origin, kind)
        self._timeout = timeout
        self._retry = retry

    def at(self, kind: str, address: Address) -> AioClient:
        """One for another address, over the same pools and in the same way."""
        return AioClient(kind, address, self.pools, self._timeout, self._retry)

    async def ask(self, question: Request) -> Any:
        """What the answer means.  Once more over another connection where that is safe."""
        deadline = Deadline(self._timeout)
        if self._retry:
            async with live_connection(self.pool, deadline) as http:
                try:
                    return await self._exchange(http, question, deadline)
                except OSError as error:
                    if not http.was_stale(error):
                        raise
                    await http.aclose()
        async with live_connection(self.pool, deadline) as http:
            return await self._exchange(http, question, deadline)

    async def _exchange(
        self, http: AioHttpConnection, question: Request, deadline: Deadline
    ) -> Any:
        try:
            async with asyncio.timeout(deadline.left()):
                answer = await http.post(self.address, question.body, deadline)
        except TimeoutError:
            raise deadline.missed(http.name) from None
        return question.read(answer)

"""A JSON-RPC 2.0 client for tasks."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from fastpool import FastPool

from ._address import Address
from ._aio_http import AioLine, dial, turn
from ._bounds import MAX_REPLY, bounded
from ._deadline import Deadline, seconds
from ._errors import RemoteError
from ._jsonrpc_batch import Collected
from ._messages import Language, Question, dumps, reader
from ._turns import capped

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
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
    dumps: Callable[[Any], str | bytes] = dumps,
    loads: Callable[[bytes], Any] = json.loads,
    **options: Any,
) -> AioJsonRpc:
    """``jsonrpc`` for tasks, of any number of event loops: the same parameters, but that
    ``options`` are those of FastPool.  Needs httpx."""
    address = Address("aio_jsonrpc", url, headers)
    patience = seconds(connect_timeout, "connect_timeout")
    most = bounded(max_reply)
    if address.origin.scheme == "http":
        context = None
    elif context is None:
        context = ssl.create_default_context()

    async def connect() -> AioLine:
        return await dial(address.origin, patience, context, most)

    given = {"name": f"jsonrpc {address.origin}", "discard_on": _is_no_answer, **options}
    pool = FastPool(capped(size), factory=connect, create_timeout=patience, **given)
    language = Language(dumps, reader(loads, refuse_nan))
    return AioJsonRpc(address, pool, language, seconds(timeout, "timeout"), retry)


class AioJsonRpc:
    """A client made by ``aio_jsonrpc``; raises what JsonRpc raises."""

    def __init__(
        self,
        address: Address,
        pool: FastPool[AioLine],
        language: Language,
        timeout: float | None,
        retry: bool,
    ) -> None:
        self.pool = pool
        self._address = address
        self._language = language
        self._timeout = timeout
        self._retry = retry

    async def call(self, method: str, /, *params: Any, **named: Any) -> Any:
        """The result of a remote method, with positional or with named parameters."""
        return await self._ask(self._language.call(method, params, named))

    async def notify(self, method: str, /, *params: Any, **named: Any) -> None:
        """Tells the server, which does not answer: what becomes of it is not known."""
        await self._ask(self._language.notification(method, params, named))

    def batch(self) -> AioBatch:
        """``async with client.batch() as batch:`` - its calls are sent together at the end."""
        return AioBatch(self)

    async def aclose(self, timeout: float | None = 5.0) -> bool:
        """``FastPool.aclose``: no new calls, idle connections go now, the others when they come."""
        return await self.pool.aclose(timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.pool.__aexit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<AioJsonRpc for {self._address}>"

    async def _ask(self, question: Question) -> Any:
        deadline = Deadline(self._timeout)
        if self._retry:
            async with turn(self.pool, deadline) as line:
                try:
                    return await self._exchange(line, question, deadline)
                except OSError as error:
                    if not line.was_stale(error):
                        raise
                    await line.aclose()
        async with turn(self.pool, deadline) as line:
            return await self._exchange(line, question, deadline)

    async def _exchange(self, line: AioLine, question: Question, deadline: Deadline) -> Any:
        try:
            async with asyncio.timeout(deadline.left()):
                answer = await line.post(self._address, question.body, deadline)
        except TimeoutError:
            raise deadline.missed(line.name) from None
        return question.read(answer)


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
            await self._client._ask(question)


def _is_no_answer(error: BaseException, line: AioLine) -> bool:
    return not isinstance(error, RemoteError)

"""An XML-RPC client for tasks."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from xmlrpc.client import MultiCallIterator

from ._address import Address
from ._aio_client import AioClient, AioPools
from ._bounds import MAX_REPLY, bounded
from ._deadline import seconds
from ._xmlrpc_codec import Codec, is_no_fault, refuse_host

__all__ = ["AioMultiCall", "AioServerProxy", "aio_xmlrpc"]


def aio_xmlrpc(
    url: str,
    *,
    size: int = 10,
    timeout: float | None = 30.0,
    connect_timeout: float | None = 10.0,
    retry: bool = True,
    max_reply: int | None = MAX_REPLY,
    refuse_nan: bool = False,
    encoding: str | None = None,
    allow_none: bool = False,
    use_datetime: bool = False,
    use_builtin_types: bool = False,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    context: ssl.SSLContext | None = None,
    **options: Any,
) -> AioServerProxy:
    """``xmlrpc`` for tasks, of any number of event loops: ``await proxy.method(1, 2)``.

    The parameters are those of ``xmlrpc``, but for ``transport`` and ``verbose``; ``headers`` are a
    mapping or pairs, and each name is sent once.  ``options`` are those of FastPool.  Needs httpx.

    ``proxy("pool")`` is the FastPool; ``await proxy("close")()`` and the end of an ``async with``
    block close it for good.  Several calls in one: ``AioMultiCall``.

    A call raises Fault (the connection is kept), ProtocolError for another status than 200,
    BadReply and what the standard library's parser raises for what is no answer, OSError when the
    connection fails, PoolTimeout, PoolClosed or PoolOverloaded; past its deadline TimeoutError.
    """
    given_headers = dict(headers)
    for name in given_headers:
        refuse_host(name)
    address = Address("aio_xmlrpc", url, given_headers, media="text/xml", path="/RPC2")
    patience = seconds(connect_timeout, "connect_timeout")
    given = {"discard_on": is_no_fault, **options}
    pools = AioPools(size, patience, context, bounded(max_reply), given)
    client = AioClient("xmlrpc", address, pools, seconds(timeout, "timeout"), retry)
    language = Codec(address, encoding, allow_none, use_datetime, use_builtin_types, refuse_nan)
    return AioServerProxy(client, language)


class AioServerProxy:
    """A client made by ``aio_xmlrpc``: every name is a remote method, and may be nested."""

    def __init__(self, client: AioClient, language: Codec) -> None:
        self.__client = client
        self.__language = language

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):  # what Python asks every object for
            raise AttributeError(f"AioServerProxy has no attribute {name!r}")
        return _Name(self.__ask, name)

    async def __ask(self, method: str, params: tuple[Any, ...]) -> Any:
        return await self.__client.ask(self.__language.question(method, params))

    def __call__(self, attribute: str) -> Any:
        """What is no remote method: "close", a coroutine function, or "pool"."""
        if attribute == "close":
            return self.__close
        if attribute == "pool":
            return self.__client.pool
        raise AttributeError(f"attribute {attribute!r} not found: there are 'close' and 'pool'")

    async def __close(self, timeout: float | None = 5.0) -> bool:
        return await self.__client.pools.aclose(timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.__client.pools.leave(kind, error, trace)

    def __repr__(self) -> str:
        return f"<AioServerProxy for {self.__client.address}>"


class AioMultiCall:
    """Several calls in one, where the server has ``system.multicall``: MultiCall for tasks.

    ``calls.add(1, 2)`` and the like collect; ``await calls()`` sends them, and gives their results
    to be iterated over, where the one of a call that failed raises its Fault.
    """

    def __init__(self, proxy: AioServerProxy) -> None:
        self.__proxy = proxy
        self.__calls: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"AioMultiCall has no attribute {name!r}")
        return _Name(self.__add, name)

    def __add(self, method: str, params: tuple[Any, ...]) -> None:
        self.__calls.append({"methodName": method, "params": params})

    async def __call__(self) -> MultiCallIterator:
        calls, self.__calls = self.__calls, []
        return MultiCallIterator(await self.__proxy.system.multicall(calls))

    def __repr__(self) -> str:
        return f"<AioMultiCall of {len(self.__calls)}>"


class _Name:
    """A remote method, or what its name begins with."""

    def __init__(self, send: Callable[[str, tuple[Any, ...]], Any], name: str) -> None:
        self.__send = send
        self.__name = name

    def __getattr__(self, name: str) -> _Name:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"{self!r} has no attribute {name!r}")
        return _Name(self.__send, f"{self.__name}.{name}")

    def __call__(self, *params: Any) -> Awaitable[Any] | None:
        return self.__send(self.__name, params)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<remote method {self.__name!r}>"

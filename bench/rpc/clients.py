"""The contestants. Each is used as its documentation has it, with `SIZE` connections where it has a
pool, and waits for one of them as ours does.

A contestant is opened for one turn: `ask(number)` is one call from any thread, and returns the
number or raises; `close()` ends it. Those for tasks are asked with `await`.
"""

from __future__ import annotations

import itertools
import json
import threading
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple
from xmlrpc.client import ServerProxy, Transport

SIZE = 8
TIMEOUT = 5.0
HEADERS = {"Content-Type": "application/json"}

_ids = itertools.count(1)


class Client(NamedTuple):
    ask: Callable[[int], Any]
    close: Callable[[], Any]


class Contestant(NamedTuple):
    name: str
    open: Callable[[str], Client]
    tasks: bool = False


def nothing() -> None:
    pass


# ---- XML-RPC ------------------------------------------------------------------------------------


def our_xmlrpc(url: str) -> Client:
    from fastpool.rpc import xmlrpc

    proxy = xmlrpc(url, size=SIZE, timeout=TIMEOUT)
    return Client(proxy.echo, proxy("close"))  # type: ignore[call-overload]


def proxy_per_call(url: str) -> Client:
    def ask(number: int) -> Any:
        with ServerProxy(url) as proxy:
            return proxy.echo(number)

    return Client(ask, nothing)


def proxy_per_thread(url: str) -> Client:
    mine = threading.local()
    made: list[ServerProxy] = []

    def ask(number: int) -> Any:
        if not hasattr(mine, "proxy"):
            mine.proxy = ServerProxy(url)
            made.append(mine.proxy)
        return mine.proxy.echo(number)

    def close() -> None:
        for proxy in made:
            proxy("close")()

    return Client(ask, close)


class Patient(Transport):
    """With a timeout: a thread whose reply another one has read would wait for ever."""

    def make_connection(self, host: Any) -> Any:
        connection = super().make_connection(host)
        connection.timeout = 0.5
        return connection


def shared_proxy(url: str) -> Client:
    proxy = ServerProxy(url, Patient())
    return Client(proxy.echo, proxy("close"))


def locked_proxy(url: str) -> Client:
    proxy = ServerProxy(url)
    lock = threading.Lock()

    def ask(number: int) -> Any:
        with lock:
            return proxy.echo(number)

    return Client(ask, proxy("close"))


# ---- JSON-RPC -----------------------------------------------------------------------------------


def message(number: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "echo", "params": [number], "id": next(_ids)}


def encoded(number: int) -> bytes:
    return json.dumps(message(number)).encode()


def our_jsonrpc(url: str) -> Client:
    from fastpool.rpc import jsonrpc

    client = jsonrpc(url, size=SIZE, timeout=TIMEOUT)
    return Client(lambda number: client.call("echo", number), client.close)


def urllib_per_call(url: str) -> Client:
    def ask(number: int) -> Any:
        request = urllib.request.Request(url, encoded(number), HEADERS)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            return json.load(reply)["result"]

    return Client(ask, nothing)


def urllib3_pool(url: str) -> Client:
    import urllib3

    pool = urllib3.connection_from_url(url, maxsize=SIZE, block=True, timeout=TIMEOUT)

    def ask(number: int) -> Any:
        return pool.request("POST", "/", body=encoded(number), headers=HEADERS).json()["result"]

    return Client(ask, pool.close)


def requests_session(url: str) -> Client:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_maxsize=SIZE, pool_block=True))

    def ask(number: int) -> Any:
        return session.post(url, json=message(number), timeout=TIMEOUT).json()["result"]

    return Client(ask, session.close)


def httpx_client(url: str) -> Client:
    import httpx

    limits = httpx.Limits(max_connections=SIZE, max_keepalive_connections=SIZE)
    client = httpx.Client(limits=limits, timeout=TIMEOUT)
    return Client(lambda n: client.post(url, json=message(n)).json()["result"], client.close)


# ---- JSON-RPC from tasks ------------------------------------------------------------------------


def our_aio_jsonrpc(url: str) -> Client:
    from fastpool.rpc import aio_jsonrpc

    client = aio_jsonrpc(url, size=SIZE, timeout=TIMEOUT)
    return Client(lambda number: client.call("echo", number), client.aclose)


def httpx_async_client(url: str) -> Client:
    import httpx

    limits = httpx.Limits(max_connections=SIZE, max_keepalive_connections=SIZE)
    client = httpx.AsyncClient(limits=limits, timeout=TIMEOUT)

    async def ask(number: int) -> Any:
        return (await client.post(url, json=message(number))).json()["result"]

    return Client(ask, client.aclose)


#: Row: what it is, and the contestants, ours first.
ROWS: dict[str, tuple[str, tuple[Contestant, ...]]] = {
    "X": (
        "XML-RPC, threads",
        (
            Contestant("fastpool.rpc.xmlrpc", our_xmlrpc),
            Contestant("a ServerProxy per thread", proxy_per_thread),
            Contestant("a ServerProxy per call", proxy_per_call),
            Contestant("one ServerProxy and a lock", locked_proxy),
            Contestant("one ServerProxy, shared", shared_proxy),
        ),
    ),
    "J": (
        "JSON-RPC, threads",
        (
            Contestant("fastpool.rpc.jsonrpc", our_jsonrpc),
            Contestant("urllib3 pool, block=True", urllib3_pool),
            Contestant("requests.Session", requests_session),
            Contestant("httpx.Client", httpx_client),
            Contestant("urllib.request per call", urllib_per_call),
        ),
    ),
    "A": (
        "JSON-RPC, tasks",
        (
            Contestant("fastpool.rpc.aio_jsonrpc", our_aio_jsonrpc, tasks=True),
            Contestant("httpx.AsyncClient", httpx_async_client, tasks=True),
        ),
    ),
}

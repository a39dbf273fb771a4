"""What is secret stays so: names, passwords and tokens are in no error and no repr."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from collections.abc import Callable
from typing import Any
from xmlrpc.client import ProtocolError

import pytest

pytest.importorskip("urllib3", reason="urllib3 is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

from fastpool.rpc import HttpError, aio_jsonrpc, aio_xmlrpc, jsonrpc, xmlrpc
from integration.rpc.servers import ScriptedServer, http, port_of, serving

SECRET = "s3cret"
CLIENTS: dict[str, Callable[..., Any]] = {
    "xmlrpc": xmlrpc,
    "jsonrpc": jsonrpc,
    "aio_jsonrpc": aio_jsonrpc,
    "aio_xmlrpc": aio_xmlrpc,
}
KINDS = pytest.mark.parametrize("kind", CLIENTS)


def call(kind: str, client: Any) -> Any:
    asked = client.echo(1) if kind.endswith("xmlrpc") else client.call("echo", 1)
    return asyncio.run(asked) if kind.startswith("aio") else asked


def told(error: BaseException) -> str:
    """All that a log or a report shows of it."""
    due: list[Any] = [error]
    seen: list[Any] = []
    texts = []
    while due:
        one = due.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        texts += [str(one), repr(one), repr(getattr(one, "url", ""))]
        texts += traceback.format_exception_only(one)
        due += [one.__cause__, one.__context__]
    return "\n".join(texts)


@KINDS
@pytest.mark.parametrize(
    "url",
    [
        f"ftp://user:{SECRET}@example.com/rpc",
        f"user:{SECRET}@example.com/rpc",
        f"http://user:{SECRET}@/rpc",
        f"http://user:{SECRET}@example.com:port/rpc",
        f"http://user:a/{SECRET}@example.com/rpc",
        f"http://user:{SECRET}@[example.com/rpc",
        f"http://user:{SECRET}@example.com:99999/rpc",
    ],
)
def test_address_that_is_refused_does_not_show_its_password(kind: str, url: str) -> None:
    with pytest.raises(ValueError) as caught:
        CLIENTS[kind](url)
    assert SECRET not in told(caught.value)


@KINDS
def test_client_does_not_show_its_password(kind: str) -> None:
    client = CLIENTS[kind](f"http://user:{SECRET}@example.com/rpc?token={SECRET}")
    shown = [repr(client), str(client)]
    if kind == "xmlrpc":
        pool = client("transport").pool
    else:
        pool = client("pool") if kind == "aio_xmlrpc" else client.pool
    shown += [repr(pool), pool.name, str(pool.stats())]
    if kind == "xmlrpc":
        shown.append(repr(client("transport")))
        client("close")()
    elif kind == "jsonrpc":
        shown.append(repr(client.batch()))
        client.close()
    else:
        asyncio.run(client("close")() if kind == "aio_xmlrpc" else client.aclose())
    assert SECRET not in "\n".join(shown)


@KINDS
@pytest.mark.parametrize(
    "reply",
    [
        http(SECRET.encode(), "401 Unauthorized", f"Set-Cookie: id={SECRET}"),
        http(SECRET.encode(), "500 No", f"Set-Cookie: id={SECRET}"),
        b"",
    ],
)
def test_refused_call_does_not_show_its_password(kind: str, reply: bytes) -> None:
    """Nor what the server said in a body or a cookie, which the error has as attributes."""

    def say(number: int, body: bytes, write: Any) -> bool:
        write(reply)
        return True

    with serving(ScriptedServer(say)) as server:
        url = f"http://user:{SECRET}@127.0.0.1:{port_of(server)}/rpc?token={SECRET}"
        client = CLIENTS[kind](url)
        with pytest.raises((HttpError, ProtocolError, ConnectionError)) as caught:
            call(kind, client)
        assert "authorization" in server.heads[0][1]
    assert SECRET not in told(caught.value)
    if isinstance(caught.value, HttpError):
        assert caught.value.headers["set-cookie"] == f"id={SECRET}"
        assert caught.value.body == SECRET.encode()
        assert pickle.loads(pickle.dumps(caught.value)).body == SECRET.encode()


@KINDS
def test_unreachable_server_does_not_show_its_password(kind: str) -> None:
    client = CLIENTS[kind](f"http://user:{SECRET}@127.0.0.1:1/rpc")
    with pytest.raises(OSError) as caught:
        call(kind, client)
    assert SECRET not in told(caught.value)


@pytest.mark.parametrize("kind", ["jsonrpc", "aio_jsonrpc", "aio_xmlrpc"])
@pytest.mark.parametrize("value", [f"Bearer {SECRET}\n", f"{SECRET}\u20ac", SECRET.encode()])
def test_header_that_is_refused_does_not_show_its_value(kind: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="header authorization") as caught:
        CLIENTS[kind]("http://example.com/", headers={"authorization": value})
    assert SECRET not in told(caught.value)


@pytest.mark.parametrize("value", [f"Bearer {SECRET}\n", f"{SECRET}\u20ac", [SECRET]])
def test_header_of_xml_that_is_refused_does_not_show_its_value(value: Any) -> None:
    """It is refused at once, as those of JSON-RPC are."""
    with pytest.raises((ValueError, TypeError), match="header authorization") as caught:
        xmlrpc("http://example.com/", headers=[("authorization", value)])
    assert SECRET not in told(caught.value)

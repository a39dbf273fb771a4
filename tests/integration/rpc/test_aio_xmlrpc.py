"""fastpool.rpc.aio_xmlrpc against real servers."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import math
import ssl
import xmlrpc.client
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError
from xmlrpc.client import Binary, Fault, MultiCallIterator, ProtocolError

import pytest

pytest.importorskip("httpx", reason="httpx is not installed")

from fastpool import PoolClosed, PoolTimeout
from fastpool.calls import budget
from fastpool.rpc import AioMultiCall, BadReply, aio_xmlrpc
from integration.rpc.servers import ScriptedServer, XmlServer, http, port_of, serving
from support.helpers import eventually


@pytest.fixture
def server() -> Any:
    with serving(XmlServer()) as made:
        yield made


def answer(value: Any) -> bytes:
    return http(xmlrpc.client.dumps((value,), methodresponse=True).encode())


def test_calls_and_nested_names(server: XmlServer, on_loop: Any) -> None:
    async def main() -> None:
        async with aio_xmlrpc(server.url) as proxy:
            assert await proxy.divmod(7, 2) == [3, 1]
            assert await proxy.a.nested.echo("ä€") == "ä€"
            assert "divmod" in await proxy.system.listMethods()
            assert repr(proxy.a.nested) == "<remote method 'a.nested'>"
            assert proxy("pool").stats().created == 1
        with pytest.raises(PoolClosed):
            await proxy.divmod(7, 2)

    on_loop(main())
    assert server.accepted == 1
    eventually(lambda: not server.open)


def test_many_tasks_share_a_few_connections(server: XmlServer, on_loop: Any) -> None:
    async def main() -> None:
        async with aio_xmlrpc(server.url, size=4) as proxy:
            calls = (proxy.echo(number) for number in range(200))
            assert await asyncio.gather(*calls) == list(range(200))

    on_loop(main())
    assert server.most <= 4


def test_fault_keeps_its_connection(server: XmlServer) -> None:
    async def main() -> None:
        async with aio_xmlrpc(server.url) as proxy:
            for _ in range(3):
                with pytest.raises(Fault, match="division"):
                    await proxy.divmod(1, 0)
            assert await proxy.echo(1) == 1

    asyncio.run(main())
    assert server.accepted == 1


def test_several_calls_in_one(server: XmlServer) -> None:
    async def main() -> None:
        async with aio_xmlrpc(server.url) as proxy:
            calls = AioMultiCall(proxy)
            calls.divmod(7, 2)
            calls.a.nested.echo("x")
            calls.divmod(1, 0)
            results = await calls()
            assert isinstance(results, MultiCallIterator)
            assert (results[0], results[1]) == ([3, 1], "x")
            with pytest.raises(Fault):
                results[2]
            calls.echo(2)  # those that were sent are not sent again
            assert list(await calls()) == [2]

    asyncio.run(main())


def test_options_of_the_standard_librarys_proxy(server: XmlServer) -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)

    async def main() -> None:
        async with aio_xmlrpc(server.url, allow_none=True, use_builtin_types=True) as proxy:
            assert await proxy.echo([None, b"bytes", moment]) == [None, b"bytes", moment]
        async with aio_xmlrpc(server.url, use_datetime=True) as proxy:
            assert await proxy.echo(moment) == moment
            assert isinstance(await proxy.echo(b"bytes"), Binary)
            with pytest.raises(TypeError, match="cannot marshal None"):
                await proxy.echo(None)
            assert proxy("pool").stats().created == 1
        async with aio_xmlrpc(server.url, encoding="iso-8859-1") as proxy:
            assert await proxy.echo("ä€") == "ä€"

    asyncio.run(main())


def test_what_is_sent() -> None:
    """As the standard library sends it: to the same path, with the same type."""
    with serving(ScriptedServer(lambda n, body, write: write(answer(n)) and None)) as server:

        async def main() -> None:
            async with aio_xmlrpc(server.url, headers=[("X-Trace", "7")]) as proxy:
                assert await proxy.echo() == 0
            url = server.url.replace("//", "//user:secret@") + "/path?query"
            async with aio_xmlrpc(url, headers={"X-Trace": "7"}) as proxy:
                assert await proxy.echo() == 1

        asyncio.run(main())
        (first, headers), (second, others) = server.heads
        assert first.split()[:2] == ["POST", "/RPC2"]
        assert second.split()[:2] == ["POST", "/path?query"]
        assert headers["content-type"] == others["content-type"] == "text/xml"
        assert headers["x-trace"] == others["x-trace"] == "7"
        assert "authorization" not in headers
        assert others["authorization"] == "Basic dXNlcjpzZWNyZXQ="


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (http(b"no", "500 No"), ProtocolError),
        (http(b"no", "302 Elsewhere", "Location: /"), ProtocolError),
        (http(b"<methodResponse>"), ExpatError),
        (http(b"{}"), ExpatError),
        (http(b"\x1f\x8bnot gzip", "200 OK", "Content-Encoding: gzip"), BadReply),
        (b"what?\r\n\r\n", BadReply),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n<", BadReply),
        (http(gzip.compress(bytes(70 << 20), 1), "200 OK", "Content-Encoding: gzip"), BadReply),
        (answer("x")[:-20], ConnectionResetError),
    ],
)
def test_connection_of_a_bad_reply_is_closed(reply: bytes, error: Any) -> None:
    replies = [answer("good"), reply, answer("good")]

    def say(number: int, body: bytes, write: Any) -> bool:
        write(replies[number])
        return replies[number] is reply

    async def main(url: str) -> None:
        async with aio_xmlrpc(url, size=1) as proxy:
            assert await proxy.echo() == "good"
            with pytest.raises(error):
                await proxy.echo()
            assert await proxy.echo() == "good"

    with serving(ScriptedServer(say)) as server:
        asyncio.run(main(server.url))
        assert (server.answered, server.accepted) == (3, 2)


def test_packed_replies_are_unpacked() -> None:
    text = xmlrpc.client.dumps(("x" * 1000,), methodresponse=True).encode()
    reply = http(gzip.compress(text), "200 OK", "Content-Encoding: gzip")

    async def main(url: str) -> None:
        async with aio_xmlrpc(url) as proxy:
            assert await proxy.echo() == "x" * 1000

    with serving(ScriptedServer(lambda n, body, write: write(reply) and None)) as server:
        asyncio.run(main(server.url))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_xml_rpc_does_not_have(server: XmlServer, number: float) -> None:
    server.register_function(lambda: [{"x": number}], "get")

    async def main() -> None:
        async with aio_xmlrpc(server.url) as proxy:
            assert repr(await proxy.echo([number])) == repr([number])
        async with aio_xmlrpc(server.url, refuse_nan=True) as proxy:
            with pytest.raises(ValueError, match="XML-RPC has no"):
                await proxy.echo([number])
            with pytest.raises(BadReply, match="XML-RPC has no"):
                await proxy.get()

    asyncio.run(main())


def test_idle_connections_that_were_dropped_are_replaced(server: XmlServer) -> None:
    async def main() -> None:
        async with aio_xmlrpc(server.url) as proxy:
            assert await proxy.echo(1) == 1
            server.drop()
            assert await proxy.echo(2) == 2

    asyncio.run(main())
    assert (server.accepted, server.answered) == (2, 2)


def test_deadline_holds_over_the_whole_call() -> None:
    def say(number: int, body: bytes, write: Any) -> None:
        write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<")

    async def main(url: str) -> None:
        async with aio_xmlrpc(url, size=1) as proxy:
            with pytest.raises(TimeoutError), budget(0.05):
                await proxy.echo()
        async with aio_xmlrpc(url, size=1, timeout=0.05) as proxy:
            held = await proxy("pool").aacquire()
            with pytest.raises(PoolTimeout):
                await proxy.echo()
            held.release()

    with serving(ScriptedServer(say)) as server:
        asyncio.run(main(server.url))


def test_over_tls(certificate: tuple[Path, Path]) -> None:
    class Server(XmlServer):
        def get_request(self) -> Any:
            request, address = super().get_request()
            request = context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            return request, address

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])

    async def main(url: str) -> None:
        trust = ssl.create_default_context(cafile=str(certificate[1]))
        async with aio_xmlrpc(url, context=trust) as proxy:
            assert [await proxy.echo(n) for n in range(3)] == [0, 1, 2]
        async with aio_xmlrpc(url) as stranger:
            with pytest.raises(ssl.SSLCertVerificationError):
                await stranger.echo(1)

    with serving(Server()) as server:
        asyncio.run(main(f"https://localhost:{port_of(server)}"))


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"url": "ftp://host"}, ValueError, r"aio_xmlrpc\(\) needs an http:// or https://"),
        ({"url": b"http://host"}, TypeError, "as text"),
        ({"timeout": "1"}, TypeError, "timeout must be a number"),
        ({"size": 0}, ValueError, "1 or more"),
        ({"headers": [("Content-Length", "5")]}, ValueError, "client's own to send"),
        ({"headers": {"host": "other"}}, ValueError, "is sent already"),
        ({"max_reply": 0}, ValueError, "max_reply must be at least 1"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    how: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        aio_xmlrpc(**{"url": "http://localhost:1", **how})


def test_attributes_that_are_no_remote_methods() -> None:
    proxy = aio_xmlrpc("http://localhost:1")
    with pytest.raises(AttributeError, match="not found"):
        proxy("colour")
    for thing in (proxy, proxy.name, AioMultiCall(proxy)):
        with pytest.raises(AttributeError):
            thing.__copy__()
    asyncio.run(proxy("close")())

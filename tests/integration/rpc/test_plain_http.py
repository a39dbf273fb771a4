"""XML-RPC without http.client where a reply is an ordinary one: same requests, same results.

Each odd reply is read by the standard library's ServerProxy as well, whose result is the one due.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xmlrpc.client import Fault, ServerProxy, dumps

import pytest

from fastpool.rpc import BadReply, xmlrpc
from fastpool.rpc._plain_http import ORDINARY
from integration.rpc.servers import ScriptedServer, serving

BODY = dumps(("well",), methodresponse=True).encode()
FAULT = dumps(Fault(7, "no")).encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

REPLIES: dict[str, tuple[bytes, ...]] = {
    "ordinary": (b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n" + BODY,),
    "lower case": (b"HTTP/1.1 200 OK\r\n" + LENGTH.lower() + b"\r\n" + BODY,),
    "no reason": (b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + BODY,),
    "more fields": (b"HTTP/1.1 200 OK\r\nServer: x\r\n" + LENGTH + b"Date: y\r\n\r\n" + BODY,),
    "in two pieces": (b"HTTP/1.1 200 OK\r\nServer", b": x\r\n" + LENGTH + b"\r\n" + BODY),
    "head, then body": (b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n", BODY[:50], BODY[50:]),
    "byte by byte": tuple(
        bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n" + BODY
    ),
    "in chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,),
    "chunks and a length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    ),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: %d\n\n" % len(BODY) + BODY,),
    "a field over two lines": (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,),
    "a length in a field over two lines": (
        b"HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 3\r\n" + LENGTH + b"\r\n" + BODY,
    ),
    "a word before": (
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n" + BODY,
    ),
    "keep-alive": (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\n" + BODY,),
    "goodbye": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + LENGTH + b"\r\n" + BODY,),
    "an old version": (b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY,),
    "a fault": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(FAULT) + FAULT,),
    "another status": (b"HTTP/1.1 500 No\r\n" + LENGTH + b"\r\n" + BODY,),
    "a longer status": (b"HTTP/1.1 2000 OK\r\n" + LENGTH + b"\r\n" + BODY,),
}


@contextmanager
def saying(*pieces: bytes) -> Iterator[ScriptedServer]:
    """A server whose every reply comes in these pieces."""

    def say(number: int, body: bytes, write: Any) -> None:
        for piece in pieces:
            write(piece)

    with serving(ScriptedServer(say)) as server:
        yield server


def outcome(proxy: Any) -> Any:
    try:
        return proxy.echo(1)
    except Exception as error:
        return type(error), getattr(error, "errcode", None), getattr(error, "faultCode", None)


@pytest.mark.parametrize("name", REPLIES)
def test_odd_replies_mean_what_the_standard_library_reads(name: str) -> None:
    with saying(*REPLIES[name]) as server, ServerProxy(server.url) as due:
        with xmlrpc(server.url, timeout=30) as proxy:
            for _ in range(3):
                assert outcome(proxy) == outcome(due)


def test_requests_are_those_of_the_standard_library() -> None:
    """Field by field, the first one and those that follow, long and short."""
    with saying(*REPLIES["ordinary"]) as server:
        url = server.url.replace("//", "//user:secret@") + "/path?query"
        headers = [("X-Trace", "7"), ("X-Trace", "8")]
        for make in (xmlrpc, ServerProxy):
            with make(url, headers=headers) as proxy:  # type: ignore[operator]
                for text in ("short", "x" * 100_000, "ä€"):
                    proxy.echo(text)
        ours, theirs = server.heads[:3], server.heads[3:]
        assert ours == theirs
        assert theirs[0][1]["authorization"].startswith("Basic")


def test_verbose_calls_go_the_long_way(capsys: pytest.CaptureFixture[str]) -> None:
    with saying(*REPLIES["ordinary"]) as server, xmlrpc(server.url, verbose=True) as proxy:
        assert [proxy.echo(1), proxy.echo(2)] == ["well", "well"]
    assert capsys.readouterr().out.count("POST /RPC2") == 2


def test_reply_that_is_longer_than_it_says_ends_its_connection() -> None:
    whole = REPLIES["ordinary"][0] + b"more"
    with saying(whole) as server, xmlrpc(server.url, size=1) as proxy:
        assert [proxy.echo(n) for n in range(3)] == ["well"] * 3
        assert server.accepted == 3


def test_length_is_looked_at_before_the_body_comes() -> None:
    over = threading.Event()

    def say(number: int, body: bytes, write: Any) -> None:
        write(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
        over.wait(30)

    with serving(ScriptedServer(say)) as server, xmlrpc(server.url, max_reply=1000) as proxy:
        with pytest.raises(BadReply, match="a reply of 1001 bytes; max_reply is 1000"):
            proxy.echo(1)
        over.set()


@pytest.mark.parametrize("name", REPLIES)
def test_ordinary_replies_are_known(name: str) -> None:
    """What changes how a body is to be read is none."""
    whole = b"".join(REPLIES[name])
    ordinary = {"ordinary", "lower case", "no reason", "more fields", "in two pieces", "a fault"}
    ordinary |= {"head, then body", "byte by byte"}
    assert (ORDINARY.match(whole) is not None) is (name in ordinary)

"""fastpool.rpc.jsonrpc and aio_jsonrpc against real servers.

What both promise is tested through both; `client` runs each call of the one for tasks in an event
loop of its own making.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import importlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastpool import PoolClosed, PoolTimeout
from fastpool.calls import budget
from fastpool.rpc import BadReply, HttpError, RemoteError
from fastpool.rpc._address import Address
from integration.rpc.servers import (
    JsonHandler,
    JsonServer,
    ScriptedServer,
    TcpServer,
    Upper,
    http,
    port_of,
    reply_to,
    serving,
    vanishing,
    warmed,
)
from support.helpers import ThreadRunner, eventually

pytest.importorskip("urllib3", reason="urllib3 is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

from fastpool.rpc import aio_jsonrpc, jsonrpc

THREADS = 32


class Tasks:
    """AioJsonRpc as if it were JsonRpc: a thread runs its event loop, and others ask in it."""

    def __init__(self, url: str, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        try:
            self.client = aio_jsonrpc(url, **options)
        except BaseException:
            self.end()
            raise
        self.pool = self.client.pool

    def run(self, coroutine: Any) -> Any:
        async def within() -> Any:  # the budget of the thread that asks
            with budget(left):
                return await coroutine

        from fastpool.calls import remaining

        left = remaining()
        return asyncio.run_coroutine_threadsafe(within(), self.loop).result(30)

    def call(self, *args: Any, **named: Any) -> Any:
        return self.run(self.client.call(*args, **named))

    def notify(self, *args: Any, **named: Any) -> Any:
        return self.run(self.client.notify(*args, **named))

    def batch(self) -> Any:
        return BatchOfTasks(self, self.client.batch())

    def at(self, url: str) -> Any:
        other: Any = object.__new__(Tasks)
        other.loop, other.client = self.loop, self.client.at(url)
        return other

    def close(self) -> bool:
        closed: bool = self.run(self.client.aclose())
        self.end()
        return closed

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class BatchOfTasks:
    def __init__(self, client: Tasks, batch: Any) -> None:
        self.client, self.batch = client, batch

    def __enter__(self) -> Any:
        return self.client.run(self.batch.__aenter__())

    def __exit__(self, *exc: Any) -> None:
        self.client.run(self.batch.__aexit__(*exc))


Make = Callable[..., Any]


@pytest.fixture(params=["threads", "tasks"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """`make(url, **options)`: a client of either kind, closed after the test."""
    made: list[Any] = []

    def make(url: str, **options: Any) -> Any:
        made.append((jsonrpc if request.param == "threads" else Tasks)(url, **options))
        return made[-1]

    yield make
    for client in made:
        if not client.pool.closed:
            assert client.close() is True


@pytest.fixture
def server() -> Iterator[JsonServer]:
    with serving(JsonServer()) as made:
        yield made


try:
    divmod(1, 0)
except ZeroDivisionError as error:
    DIVIDED = str(error)  # its words change from version to version


# ---- What a client can say ----------------------------------------------------------------------


def test_calls_notifications_and_batches(make: Make, server: JsonServer) -> None:
    client = make(server.url)
    assert client.call("divmod", 7, 2) == [3, 1]
    assert client.call("subtract", subtrahend=23, minuend=42) == 19
    assert client.notify("say", "hello") is None
    with client.batch() as batch:
        quotient = batch.call("divmod", 9, 2)
        batch.notify("say", "batched")
        difference = batch.call("subtract", minuend=3, subtrahend=1)
        failing = batch.call("divmod", 1, 0)
    assert (quotient.result(), difference.result()) == ([4, 1], 2)
    with pytest.raises(RemoteError) as raised:
        failing.result()
    assert raised.value.data == {"text": DIVIDED}
    assert server.said == ["hello", "batched"]
    assert server.accepted == 1


def test_a_batch_that_is_not_finished_is_not_sent(make: Make, server: JsonServer) -> None:
    client = make(server.url)
    with pytest.raises(KeyError):
        with client.batch() as batch:
            batch.call("divmod", 1, 1)
            raise KeyError
    with client.batch():
        pass
    assert server.accepted == 0
    with client.batch() as batch:
        batch.notify("say", 1)
    assert server.said == [1]


def test_a_batch_that_is_used_again_sends_what_is_new(make: Make, server: JsonServer) -> None:
    client = make(server.url)
    batch = client.batch()
    for number in range(3):
        with batch as calls:
            reply = calls.call("echo", number)
        assert reply.result() == number
    assert server.answered == 3


def test_a_refusal_says_what_the_server_has_said(make: Make) -> None:
    """Names of headers in lower case, however they were sent."""
    refusal = http(b"later", "503 Busy", "Retry-After: 3")
    with serving(ScriptedServer(lambda n, body, write: write(refusal))) as server:
        client = make(server.url)
        with pytest.raises(HttpError, match="HTTP 503 Busy") as raised:
            client.call("f")
        error = raised.value
        assert (error.status, error.reason, error.body) == (503, "Busy", b"later")
        assert error.headers["retry-after"] == "3" and "Retry-After" not in error.headers
        client.close()


def test_errors_are_answers(make: Make, server: JsonServer) -> None:
    client = make(server.url)
    failing = [("nix", (), -32601), ("divmod", (), -32602), ("divmod", (1, 0), -32000)]
    for method, params, code in failing:
        with pytest.raises(RemoteError) as raised:
            client.call(method, *params)
        assert raised.value.code == code
    assert client.call("divmod", 7, 2) == [3, 1]
    assert server.accepted == 1


def test_many_callers_share_a_few_connections(
    make: Make, server: JsonServer, runner: ThreadRunner
) -> None:
    client = make(server.url, size=4)

    def run(thread: int) -> None:
        for number in range(10):
            assert client.call("echo", [thread, number]) == [thread, number]

    runner.together(THREADS, run)
    runner.finish()
    assert server.answered == THREADS * 10
    created = client.pool.stats().created
    assert created <= 4
    eventually(lambda: server.accepted == server.most == created)  # it may be slow to accept


def test_headers_paths_and_names(make: Make, server: JsonServer) -> None:
    url = server.url.replace("//", "//user:secret@") + "/api?v=2"
    client = make(url, headers={"X-Trace": "7", "User-Agent": "own"})
    client.call("echo", 1)
    [(path, headers)] = server.heads
    assert path == "/api?v=2"
    assert headers["x-trace"] == "7" and headers["user-agent"] == "own"
    assert headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert headers["host"] == f"127.0.0.1:{port_of(server)}"
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert "secret" not in f"{client.pool.name} {getattr(client, 'client', client)!r}"


@pytest.mark.parametrize(
    ("url", "path", "host"),
    [
        ("http://h", "/", "h"),
        ("http://h:80/a b?c=ä", "/a%20b?c=%C3%A4", "h"),
        ("https://H:443/a%20b", "/a%20b", "h"),
        ("http://h:443/", "/", "h:443"),
        ("http://[::1]:81/", "/", "[::1]:81"),
        ("http://bücher.example/", "/", "xn--bcher-kva.example"),
    ],
)
def test_addresses(url: str, path: str, host: str) -> None:
    address = Address("f", url, None)
    assert (address.path, address.origin.header) == (path, host)


def test_names_in_an_address_may_be_quoted() -> None:
    address = Address("f", "http://a%3Ab:p%40ss%2Fw%C3%B6rd@h", None)
    assert (
        address.headers["authorization"] == f"Basic {b64encode('a:b:p@ss/wörd'.encode()).decode()}"
    )
    assert "authorization" not in Address("f", "http://h", None).headers


def test_ones_own_host_and_latin_1(make: Make, server: JsonServer) -> None:
    make(server.url, headers={"Host": "api.example", "X-Name": " J\u00fcrgen"}).call("echo", 1)
    [(_, headers)] = server.heads
    assert headers["host"] == "api.example"
    assert headers["x-name"] == "J\u00fcrgen"


def test_big_messages(make: Make, server: JsonServer) -> None:
    client = make(server.url)
    text = "0123456789" * 300_000
    assert client.call("echo", text) == text
    assert client.call("echo", "small") == "small"
    assert server.accepted == 1


def test_replies_that_are_compressed_or_in_chunks(make: Make) -> None:
    def say(number: int, body: bytes, write: Any) -> None:
        plain = reply_to(body, "x" * 1000)
        packed = gzip.compress(plain.partition(b"\r\n\r\n")[2])
        if number == 0:
            write(http(packed, "200 OK", "Content-Encoding: gzip"))
        else:
            halves = packed[:50], packed[50:]
            write(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            write(b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in (*halves, b"")))

    with serving(ScriptedServer(say)) as server:
        client = make(server.url)
        assert [client.call("f") for _ in range(3)] == ["x" * 1000] * 3
        assert server.accepted == 1
        client.close()


@pytest.mark.parametrize("packed", [False, True])
def test_a_reply_is_no_longer_than_it_may_be(make: Make, packed: bool) -> None:
    """However it comes, and counted as it is once it is decompressed."""

    def say(number: int, body: bytes, write: Any) -> None:
        whole = reply_to(body, "x" * (900 if number == 0 else 100_000))
        content = whole.partition(b"\r\n\r\n")[2]
        write(http(gzip.compress(content), "200 OK", "Content-Encoding: gzip") if packed else whole)

    with serving(ScriptedServer(say)) as server:
        client = make(server.url, max_reply=1000)
        assert client.call("f") == "x" * 900
        with pytest.raises(BadReply, match="max_reply is 1000"):
            client.call("f")
        client.close()


def test_a_small_reply_that_becomes_a_big_one(make: Make) -> None:
    """No more of it is made than may be, or than there is time for."""
    bomb = gzip.compress(bytes(200 << 20), 1)

    def say(number: int, body: bytes, write: Any) -> None:
        write(http(bomb, "200 OK", "Content-Encoding: gzip"))

    with serving(ScriptedServer(say)) as server:
        with pytest.raises(TimeoutError):
            make(server.url, timeout=0.05, max_reply=None).call("f")
        with pytest.raises(BadReply, match="max_reply is 67108864"):
            make(server.url, timeout=30).call("f")


def test_over_tls(make: Make, certificate: tuple[Path, Path]) -> None:
    class Server(JsonServer):
        def get_request(self) -> Any:
            request, address = super().get_request()
            request = context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            return request, address

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    with serving(Server()) as server:
        url = server.url.replace("http", "https").replace("127.0.0.1", "localhost")
        trust = ssl.create_default_context(cafile=str(certificate[1]))
        client = make(url, context=trust)
        for _ in range(3):
            assert client.call("divmod", 7, 2) == [3, 1]
        assert server.accepted == 1
        server.drop()
        assert client.call("divmod", 7, 2) == [3, 1]
        client.close()
        stranger = make(url)
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed") as told:
            stranger.call("divmod", 7, 2)
        assert told.value.verify_code
        stranger.close()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have(make: Make, number: str) -> None:
    """They are read unless that is refused, and never sent."""

    def say(n: int, body: bytes, write: Any) -> None:
        write(reply_to(body, {"x": [float(number)]}))

    with serving(ScriptedServer(say)) as server:
        assert repr(make(server.url).call("f")["x"][0]) == repr(float(number))
        client = make(server.url, refuse_nan=True)
        with pytest.raises(BadReply, match=f"JSON has no {number}"):
            client.call("f")
        with pytest.raises(ValueError, match="not JSON compliant"):
            client.call("f", float(number))
        assert server.answered == 2
    with pytest.raises(TypeError, match="have your loads refuse it"):
        make(server.url, refuse_nan=True, loads=lambda text: json.loads(text))


def test_ones_own_json(make: Make, server: JsonServer) -> None:
    client = make(
        server.url,
        dumps=lambda message: json.dumps(message, default=str),
        loads=lambda body: json.loads(body, parse_float=str),
    )
    assert client.call("echo", Path("/x")) == "/x"
    assert client.call("echo", 1.5) == "1.5"


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"url": "ftp://host"}, ValueError, "http:// or https://"),
        ({"url": "http://"}, ValueError, "name of a host"),
        ({"timeout": "1"}, TypeError, "timeout must be a number"),
        ({"timeout": 0}, ValueError, "timeout must be more than 0"),
        ({"size": "1"}, TypeError, "max"),
        ({"size": 0}, ValueError, "1 or more"),
        ({"headers": {"X": 1}}, TypeError, "must be text"),
        ({"headers": {"X": "a\r\nY: b"}}, ValueError, "cannot be sent"),
        ({"headers": {"X": "\u20ac"}}, ValueError, "cannot be sent"),
        ({"headers": {"X Y": "a"}}, ValueError, "no name of a header"),
        ({"headers": {"content-LENGTH": "5"}}, ValueError, "client's own to send"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, ValueError, "client's own to send"),
        ({"max_reply": 0}, ValueError, "max_reply must be at least 1"),
        ({"max_reply": "1"}, TypeError, "max_reply must be a number"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    make: Make, how: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        make(**{"url": "http://localhost:1", **how})


# ---- Which connections are kept -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (http(b"", "503 Busy"), HttpError),
        (http(b"<html>", "404 Not Found"), HttpError),
        (http(b"<html>"), BadReply),
        (http(b""), BadReply),
        (http(b'{"jsonrpc": "2.0", "result": 1, "id": 77}'), BadReply),
        (http(b"no gzip", "200 OK", "Content-Encoding: gzip"), BadReply),
        (b"what?\r\n\r\n", BadReply),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n{", BadReply),
        (b"HTTP/1.1 500 No\r\nContent-Length: 99999999999999\r\n\r\n{", BadReply),
        (http(b"[" * 100_000), BadReply),
        (http(b"{" * 100)[:-20], ConnectionError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", ConnectionError),
        (b"HTTP/1.1 200", (ConnectionError, BadReply)),
    ],
)
def test_after_a_bad_reply_the_connection_is_closed(make: Make, reply: bytes, error: Any) -> None:
    """And the call is not sent again: something had come."""

    def say(number: int, body: bytes, write: Any) -> bool:
        write(reply if number == 1 else reply_to(body, "good"))
        return number == 1

    with serving(ScriptedServer(say)) as server:
        client = make(server.url, size=1)
        assert client.call("f") == "good"
        with pytest.raises(error):
            client.call("f")
        eventually(lambda: client.pool.stats().open == 0)
        assert client.call("f") == "good"
        assert (server.answered, server.accepted) == (3, 2)
        client.close()


def test_an_error_object_with_an_error_status_is_an_answer(make: Make) -> None:
    def say(number: int, body: bytes, write: Any) -> None:
        error = {"code": -32601, "message": "Method not found"}
        reply = {"jsonrpc": "2.0", "error": error, "id": json.loads(body)["id"]}
        write(http(json.dumps(reply).encode(), "404 Not Found"))

    with serving(ScriptedServer(say)) as server:
        client = make(server.url)
        for _ in range(3):
            with pytest.raises(RemoteError, match="Method not found"):
                client.call("f")
        assert server.accepted == 1
        client.close()


def test_a_server_that_closes_after_each_reply(make: Make) -> None:
    def say(number: int, body: bytes, write: Any) -> bool:
        write(reply_to(body, number).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        return True

    with serving(ScriptedServer(say)) as server:
        client = make(server.url, size=1)
        for number in range(4):
            assert client.call("f") == number
            eventually(lambda: client.pool.stats().open == 0)  # not kept until the next call
        assert (server.accepted, server.most) == (4, 1)
        client.close()


# ---- Sent again, or not -------------------------------------------------------------------------


def test_a_server_that_drops_idle_connections(
    make: Make, server: JsonServer, runner: ThreadRunner
) -> None:
    client = make(server.url, size=4, retry=False)
    for turn in range(3):
        tasks = runner.together(8, lambda _: client.call("echo", turn))  # noqa: B023
        assert [task.result() for task in tasks] == [turn] * 8
        # One that is dropped while it is opened is a new one, and not tried again.
        eventually(lambda: client.pool.stats().creating == 0)
        server.drop()
    assert server.most <= 4


def test_connections_dropped_before_their_first_use_are_replaced(
    make: Make, server: JsonServer
) -> None:
    client = make(server.url, size=2, retry=False)
    warmed(client, server.url, 2)
    eventually(lambda: len(server.open) == 2)
    server.drop()
    assert client.call("echo", 1) == 1
    assert server.accepted == 3
    assert client.pool.stats().created == 3


def test_a_server_that_is_restarted(make: Make) -> None:
    with serving(JsonServer()) as first:
        port = port_of(first)
        client = make(first.url)
        assert client.call("echo", 1) == 1
    with pytest.raises(ConnectionError):
        client.call("echo", 1)
    with serving(JsonServer(port)):
        assert client.call("echo", 2) == 2
        client.close()


@pytest.mark.parametrize("kind", ["call", "batch", "notify"])
def test_sent_again_when_a_used_connection_ends_without_a_word(make: Make, kind: str) -> None:
    def say(number: int, body: bytes, write: Any) -> bool:
        if number == 1:
            return True
        said = json.loads(body)
        replies = [
            {"jsonrpc": "2.0", "result": number, "id": one.get("id")}
            for one in (said if isinstance(said, list) else [said])
        ]
        write(http(json.dumps(replies if isinstance(said, list) else replies[0]).encode()))
        return False

    with serving(ScriptedServer(say)) as server:
        client = make(server.url)
        assert client.call("f") == 0
        if kind == "call":
            assert client.call("f") == 2
        elif kind == "notify":
            client.notify("f")
        else:
            with client.batch() as batch:
                reply = batch.call("f")
            assert reply.result() == 2
        assert (server.answered, server.accepted) == (3, 2)
        client.close()


def test_not_sent_again_when_a_byte_of_the_reply_has_come(make: Make) -> None:
    with serving(ScriptedServer(vanishing(1, first=b"H"))) as server:
        client = make(server.url)
        assert client.call("f") == 0
        with pytest.raises((ConnectionError, BadReply)):
            client.call("f")
        assert server.answered == 2
        client.close()


def test_not_sent_again_on_a_new_connection(make: Make) -> None:
    with serving(ScriptedServer(vanishing(0))) as server:
        client = make(server.url)
        with pytest.raises(ConnectionResetError):
            client.call("f")
        assert server.answered == 1
        client.close()


def test_not_sent_again_if_that_is_not_wanted(make: Make) -> None:
    with serving(ScriptedServer(vanishing(1))) as server:
        client = make(server.url, retry=False)
        assert client.call("f") == 0
        with pytest.raises(ConnectionResetError):
            client.call("f")
        assert (server.answered, client.call("f")) == (2, 2)
        client.close()


# ---- Time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["timeout", "budget"])
def test_the_deadline_holds_however_slowly_the_reply_drips(make: Make, how: str) -> None:
    over = threading.Event()

    def say(number: int, body: bytes, write: Any) -> bool:
        write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not over.wait(0.02):
            write(b" ")
        return True

    with serving(ScriptedServer(say)) as server:
        client = make(server.url, timeout=0.2 if how == "timeout" else 30)
        warmed(client, server.url, 1)
        began = time.monotonic()
        with budget(30 if how == "timeout" else 0.2):
            with pytest.raises(TimeoutError, match=r"no answer within 0\.\d+ s"):
                client.call("f")
        assert time.monotonic() - began < 30
        eventually(lambda: client.pool.stats().open == 0)
        over.set()
        client.close()


def test_the_time_in_queue_counts(make: Make, runner: ThreadRunner) -> None:
    asked, go = threading.Event(), threading.Event()

    def say(number: int, body: bytes, write: Any) -> None:
        asked.set()
        go.wait(10)
        write(reply_to(body, number))

    with serving(ScriptedServer(say)) as server:
        client = make(server.url, size=1)
        first = runner.start(lambda: client.call("f"))
        assert asked.wait(10)
        with budget(0.05), pytest.raises(PoolTimeout, match="phase: wait"):
            client.call("f")
        go.set()
        assert first.result() == 0
        client.close()


def test_a_closed_client_says_so(server: JsonServer) -> None:
    client = jsonrpc(server.url)
    assert client.call("echo", 1) == 1
    with client:
        pass
    with pytest.raises(PoolClosed):
        client.call("echo", 1)
    eventually(lambda: not server.open)


# ---- Of one kind only ---------------------------------------------------------------------------


def test_several_addresses_under_one_limit(server: JsonServer, runner: ThreadRunner) -> None:
    with serving(JsonServer()) as other:
        with jsonrpc(server.url + "/a/", size=2, max_total=3) as client:
            elsewhere, relative = client.at(other.url), client.at("b")
            for number in range(3):
                assert client.call("echo", number) == number
                assert elsewhere.call("echo", number) == number
                assert relative.call("echo", number) == number
            assert [path for path, _ in server.heads] == ["/a/", "/a/b"] * 3
            assert (server.accepted, other.accepted) == (1, 1)

            def run(thread: int) -> None:
                for number in range(5):
                    assert (client, elsewhere)[thread % 2].call("echo", number) == number

            runner.together(8, run)
            runner.finish()
            assert client.pool.stats().open <= 3
            assert max(server.most, other.most) <= 2


def test_headers_are_not_sent_to_another_host(server: JsonServer) -> None:
    with serving(JsonServer()) as other:
        with jsonrpc(server.url, headers={"Authorization": "secret"}) as client:
            client.at("/more", headers={"X-Trace": "7"}).call("echo", 1)
            client.at(other.url, headers={"X-Trace": "7"}).call("echo", 1)
    [(_, here)], [(_, there)] = server.heads, other.heads
    assert (here.get("authorization"), here.get("x-trace")) == ("secret", "7")
    assert (there.get("authorization"), there.get("x-trace")) == (None, "7")


class Unhurried(JsonHandler):
    disable_nagle_algorithm = False  # it is TCP's


class OverUnix(JsonServer):
    address_family = getattr(socket, "AF_UNIX", socket.AF_INET)

    def __init__(self, path: Path) -> None:
        super().__init__(address=str(path), handler=Unhurried)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_over_a_unix_socket(make: Make, tmp_path: Path, runner: ThreadRunner) -> None:
    """The address says what is asked for there; its host is sent, and not connected to."""
    path = tmp_path / "rpc.socket"
    with serving(OverUnix(path)) as server:
        client = make("http://daemon/rpc", uds=path, size=4)
        runner.together(THREADS, lambda number: client.call("echo", number))
        assert sorted(runner.finish()) == list(range(THREADS))
        assert len(server.open) <= 4
        assert server.heads[0][0] == "/rpc"
        assert server.heads[0][1]["host"] == "daemon"
        server.drop()
        assert client.call("divmod", 7, 2) == [3, 1]
        assert client.at("/other").call("echo", 1) == 1
        assert server.heads[-1][0] == "/other"
        assert str(path) in client.pool.name
    nobody = make("http://daemon/rpc", uds=str(tmp_path / "nobody"))
    with pytest.raises(FileNotFoundError):
        nobody.call("f")


@pytest.mark.parametrize(
    ("url", "uds", "error", "said"),
    [
        ("https://daemon", "/run/rpc", ValueError, "a Unix socket needs no TLS"),
        ("http://daemon", 5, TypeError, "uds must be the path"),
        ("http://daemon", "", ValueError, "not an empty one"),
    ],
)
def test_paths_that_make_no_sense(make: Make, url: str, uds: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        make(url, uds=uds)


def test_several_addresses_of_a_client_of_tasks(server: JsonServer, on_loop: Any) -> None:
    """Of one host over the same connections; of another over its own, as many at most."""

    async def main(elsewhere: JsonServer) -> None:
        async with aio_jsonrpc(server.url, size=2, headers={"x-key": "1"}) as client:
            near, far = client.at("/v2", {"x-more": "2"}), client.at(elsewhere.url)
            assert near.pool is client.pool and far.pool is not client.pool
            assert client.at(elsewhere.url + "/v3").pool is far.pool
            calls = [one.call("echo", n) for n in range(20) for one in (client, near, far)]
            assert await asyncio.gather(*calls) == [n for n in range(20) for _ in range(3)]
            assert max(server.most, elsewhere.most) <= 2
            paths = dict(server.heads)
            assert paths["/"]["x-key"] == paths["/v2"]["x-key"] == "1"
            assert paths["/v2"]["x-more"] == "2"
            assert "x-key" not in elsewhere.heads[0][1]
            assert near.url == f"{server.url}/v2"
        for closed in (client, near, far):
            with pytest.raises(PoolClosed):
                await closed.call("echo", 1)
        with pytest.raises(PoolClosed):
            await client.at("http://127.0.0.1:1").call("echo", 1)

    with serving(JsonServer()) as elsewhere:
        on_loop(main(elsewhere))
        eventually(lambda: not server.open and not elsewhere.open)


VERSION_1: list[tuple[dict[str, Any], Any]] = [
    ({"result": 5, "error": None}, 5),
    ({"result": None, "error": None}, None),
    ({"result": [5]}, [5]),
    ({"version": "1.1", "result": 5}, 5),
    ({"jsonrpc": "2.0", "result": 5, "error": None}, 5),
    ({"jsonrpc": "1.0", "result": 5, "error": None}, 5),
    ({"result": None, "error": "no"}, (0, "no", "no")),
    ({"result": None, "error": {"code": -8, "message": "no"}}, (-8, "no", None)),
    ({"result": None, "error": {"name": "E"}}, (0, "{'name': 'E'}", {"name": "E"})),
]


@pytest.mark.parametrize(("reply", "meant"), VERSION_1)
def test_replies_of_version_1_are_taken_where_that_is_wanted(
    make: Make, reply: dict[str, Any], meant: Any
) -> None:
    def say(number: int, body: bytes, write: Any) -> None:
        asked = json.loads(body)
        if isinstance(asked, list):
            write(http(json.dumps([{**reply, "id": one["id"]} for one in asked]).encode()))
        else:
            write(http(json.dumps({**reply, "id": asked["id"]}).encode()))

    def outcome(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except RemoteError as error:
            return error.code, error.message, error.data

    with serving(ScriptedServer(say)) as server:
        with pytest.raises(BadReply):
            make(server.url).call("f")
        client = make(server.url, lenient=True)
        assert outcome(lambda: client.call("f")) == meant
        with client.batch() as batch:
            replies = [batch.call("f"), batch.call("g")]
        assert [outcome(one.result) for one in replies] == [meant, meant]


@pytest.mark.parametrize(
    "reply",
    [
        {"result": 5, "error": None, "id": 7},
        {"result": 5, "error": None},
        {"id": 1},
        {"error": None, "id": 1},
        5,
        None,
    ],
)
def test_lenient_client_does_not_take_everything(make: Make, reply: Any) -> None:
    say = http(json.dumps(reply).encode())
    with serving(ScriptedServer(lambda n, body, write: write(say) and None)) as server:
        with pytest.raises(BadReply):
            make(server.url, lenient=True).call("f")


@pytest.mark.parametrize("more", [reply_to(b'{"id": 2}', "nobody asked"), b"HTTP/1.1 2"])
def test_more_than_was_asked_for_ends_the_connection(make: Make, more: bytes) -> None:
    def say(number: int, body: bytes, write: Any) -> None:
        write((reply_to(body, number) if number else http(b"", "204 No Content")) + more)

    with serving(ScriptedServer(say)) as server:
        client = make(server.url)
        client.notify("f")
        assert [client.call("f") for _ in range(3)] == [1, 2, 3]
        assert server.accepted == 4
        client.close()


def test_an_interrupted_call_closes_its_connection() -> None:
    def loads(body: bytes) -> Any:
        if server.answered == 2:
            raise KeyboardInterrupt
        return json.loads(body)

    with serving(ScriptedServer(vanishing())) as server:
        with jsonrpc(server.url, loads=loads) as client:
            assert client.call("f") == 0
            with pytest.raises(KeyboardInterrupt):
                client.call("f")
            assert client.call("f") == 2
            assert server.accepted == 2


def test_a_cancelled_call_closes_its_connection(on_loop: Any) -> None:
    asked, go = threading.Event(), threading.Event()

    def say(number: int, body: bytes, write: Any) -> None:
        if number == 1:
            asked.set()
            go.wait(10)
        write(reply_to(body, number))

    async def main(url: str) -> None:
        async with aio_jsonrpc(url, size=1) as client:
            assert await client.call("f") == 0
            call = asyncio.create_task(client.call("f"))
            while not asked.is_set():
                await asyncio.sleep(0.001)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            go.set()
            assert await client.call("f") == 2
            assert client.pool.stats().closed == {"error": 1}

    with serving(ScriptedServer(say)) as server:
        on_loop(main(server.url))
        assert server.accepted == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # 3.12+: fork with threads
def test_a_child_that_ends_leaves_the_connections_of_tasks_alone(server: JsonServer) -> None:
    async def main() -> None:
        async with aio_jsonrpc(server.url, size=1) as client:
            assert await client.call("echo", 1) == 1
            async with client.pool.lease() as line:
                child = os.fork()
                if not child:
                    line.__del__()  # what happens to it there at last
                    os._exit(0)
                os.waitpid(child, 0)
            assert await client.call("echo", 2) == 2
            assert client.pool.stats().created == 1

    asyncio.run(main())
    assert server.accepted == 1


def test_a_handshake_that_hangs_leaves_no_connection_open(on_loop: Any) -> None:
    with serving(TcpServer(("127.0.0.1", 0), Upper)) as server:
        url = f"https://127.0.0.1:{port_of(server)}"

        async def main() -> None:
            async with aio_jsonrpc(url, connect_timeout=0.1) as client:
                with pytest.raises(TimeoutError):
                    await client.call("f")
                while client.pool.stats().open:
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
                eventually(lambda: not server.open)

        on_loop(main())


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # loops that have ended
def test_one_client_for_several_event_loops(server: JsonServer) -> None:
    client = aio_jsonrpc(server.url, size=2)

    async def main() -> list[int]:
        return await asyncio.gather(*(client.call("echo", number) for number in range(20)))

    for _ in range(3):
        assert asyncio.run(main()) == list(range(20))
        # What the loop before has left is closed by now, or as soon as its objects are collected.
        eventually(lambda: len(server.open) <= 2)
    asyncio.run(client.aclose())
    eventually(lambda: not server.open)
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # loops that have ended
@pytest.mark.parametrize("size", [2, 4])
def test_loops_that_come_and_go_never_have_more_connections(
    server: JsonServer, runner: ThreadRunner, size: int
) -> None:
    """At the server: those of loops that have ended, and those that were being closed as their loop
    ended, are gone before others are opened in their place."""
    client = aio_jsonrpc(server.url, size=size)

    async def main(calls: int) -> None:
        await asyncio.gather(*(client.call("echo", number) for number in range(calls)))

    def come_and_go(seed: int) -> None:
        for turn in range(30):
            asyncio.run(main((1, 2, 5)[(seed + turn) % 3]))

    runner.together(4, come_and_go)
    runner.finish()
    assert server.answered == 4 * 10 * (1 + 2 + 5)
    assert server.most <= size
    asyncio.run(client.aclose())
    eventually(lambda: not server.open)
    gc.collect()


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("urllib3", "jsonrpc", "jsonrpc needs urllib3 2"),
        ("httpx", "aio_jsonrpc", "aio_jsonrpc and aio_xmlrpc need httpx"),
        ("httpx", "aio_xmlrpc", "aio_jsonrpc and aio_xmlrpc need httpx"),
    ],
)
def test_what_is_missing_is_said_in_one_queue(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for loaded in [each for each in sys.modules if each.startswith("fastpool.rpc")]:
        monkeypatch.delitem(sys.modules, loaded)
    fresh = importlib.import_module("fastpool.rpc")
    with pytest.raises(ImportError) as raised:
        getattr(fresh, name)
    assert str(raised.value) == f"fastpool.rpc.{said}: pip install 'fastpool[rpc]'"
    assert callable(fresh.xmlrpc) and callable(fresh.sockets)

"""fastpool.rpc.xmlrpc against servers that keep connections, drop them, break off, or talk rubbish.

What it offers is ServerProxy's; what these tests ask is which connections are kept, which are
closed, and when a call is sent again.
"""

from __future__ import annotations

import datetime
import gc
import gzip
import math
import ssl
import threading
import time
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPConnection, HTTPException, IncompleteRead
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError
from xmlrpc.client import (
    Binary,
    Error,
    Fault,
    MultiCall,
    ProtocolError,
    ResponseError,
    ServerProxy,
    Transport,
    dumps,
)

import pytest

from fastpool import PoolClosed, PoolTimeout
from fastpool.calls import budget
from fastpool.rpc import BadReply, xmlrpc
from integration.rpc.servers import (
    ScriptedServer,
    XmlHandler,
    XmlServer,
    answer,
    http,
    pool_of,
    port_of,
    serving,
)
from support.helpers import LIMIT, ThreadRunner, eventually

THREADS = 32


@pytest.fixture
def server() -> Iterator[XmlServer]:
    with serving(XmlServer()) as made:
        yield made


# ---- One proxy for many threads -----------------------------------------------------------------


class Impatient(Transport):
    """Ends calls that wait for a reply which another thread has read."""

    def make_connection(self, host: Any) -> HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = 1
        return connection


def failures(proxy: Any, runner: ThreadRunner, calls: int) -> int:
    """How many of the calls of 32 threads fail or bring somebody else's answer."""

    def run(thread: int) -> int:
        failed = 0
        for number in range(calls):
            try:
                failed += proxy.echo([thread, number]) != [thread, number]
            except (HTTPException, OSError, ExpatError, Error, AttributeError):
                failed += 1
        return failed

    tasks = runner.together(THREADS, run)
    return sum(task.result(LIMIT / 2) for task in tasks)


def test_32_threads_on_one_proxy_see_no_error(server: XmlServer, runner: ThreadRunner) -> None:
    with xmlrpc(server.url, size=8) as proxy:
        assert failures(proxy, runner, calls=30) == 0
        assert server.answered == THREADS * 30
        created = pool_of(proxy).stats().created
        assert created <= 8
        eventually(lambda: server.accepted == server.most == created)  # it may be slow to accept


@pytest.mark.once
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it loses sockets, too
def test_32_threads_on_one_proxy_of_the_standard_library_see_mostly_errors(
    server: XmlServer, runner: ThreadRunner
) -> None:
    proxy = ServerProxy(server.url, Impatient())
    failed = failures(proxy, runner, calls=6)
    proxy("close")()
    del proxy
    gc.collect()
    assert failed > THREADS * 6 / 4  # most of them as a rule


# ---- A ServerProxy ------------------------------------------------------------------------------


def test_it_is_the_standard_librarys_proxy(server: XmlServer) -> None:
    with xmlrpc(server.url, allow_none=True) as proxy:
        assert type(proxy) is ServerProxy
        assert repr(proxy) == f"<ServerProxy for 127.0.0.1:{port_of(server)}/RPC2>"
        assert proxy.divmod(7, 2) == [3, 1]
        assert proxy.a.nested.echo("x") == "x"
        assert proxy.echo(None) is None
        assert "divmod" in proxy.system.listMethods()  # type: ignore[operator]
        assert getattr(proxy, "close")  # noqa: B009 - a remote method of that name
        with pytest.raises(AttributeError, match="'open' not found"):
            proxy("open")  # type: ignore[call-overload]


def test_several_calls_in_one(server: XmlServer) -> None:
    with xmlrpc(server.url) as proxy:
        calls = MultiCall(proxy)
        calls.divmod(7, 2)
        calls.a.nested.echo("x")
        calls.divmod(1, 0)
        results = iter(calls())
        assert next(results) == [3, 1] and next(results) == "x"
        with pytest.raises(Fault, match="by zero"):
            next(results)
        assert server.accepted == 1


def test_options_of_the_proxy_have_their_effect(server: XmlServer) -> None:
    moment = datetime.datetime(2020, 2, 3, 4, 5, 6)
    with xmlrpc(server.url, use_builtin_types=True) as proxy:
        assert proxy.echo(b"bytes") == b"bytes" and proxy.echo(moment) == moment
        with pytest.raises(TypeError, match="cannot marshal None"):
            proxy.echo(None)
    with xmlrpc(server.url, use_datetime=True) as proxy:
        assert proxy.echo(moment) == moment
        assert isinstance(proxy.echo(b"bytes"), Binary)
    with xmlrpc(server.url, encoding="iso-8859-1") as proxy:
        assert proxy.echo("ä") == "ä"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_xml_rpc_does_not_have(server: XmlServer, number: float) -> None:
    """They go and come as the standard library has it, unless they are refused."""
    with xmlrpc(server.url) as proxy:
        assert repr(proxy.echo({"x": [number]})["x"][0]) == repr(number)
    server.register_function(lambda: [{"x": number}], "get")
    with xmlrpc(server.url, refuse_nan=True) as proxy:
        answered = server.answered
        with pytest.raises(ValueError, match="XML-RPC has no"):
            proxy.echo({"x": [number]})
        assert server.answered == answered
        with pytest.raises(BadReply, match="XML-RPC has no"):
            proxy.get()
        assert proxy.echo([1.5, "<double>nan</double>"]) == [1.5, "<double>nan</double>"]


def test_headers_and_names_in_the_address_are_sent() -> None:
    with serving(ScriptedServer(lambda n, body, write: write(answer(n)) and None)) as server:
        url = server.url.replace("//", "//user:secret@") + "/path?query"
        with xmlrpc(url, headers=[("X-Trace", "7")]) as proxy:
            assert proxy.echo() == 0
            assert pool_of(proxy).name == f"xmlrpc 127.0.0.1:{port_of(server)}"  # no password
        [(head, headers)] = server.heads
        assert head.split()[:2] == ["POST", "/path?query"]
        assert headers["x-trace"] == "7"
        assert headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="


def test_verbose_prints_what_is_said(server: XmlServer, capsys: pytest.CaptureFixture[str]) -> None:
    with xmlrpc(server.url, verbose=True) as proxy:
        proxy.echo(1)
    assert "POST /RPC2" in capsys.readouterr().out


def test_over_tls(certificate: tuple[Path, Path], runner: ThreadRunner) -> None:
    class Server(XmlServer):
        def get_request(self) -> Any:
            request, address = super().get_request()
            return context.wrap_socket(
                request, server_side=True, do_handshake_on_connect=False
            ), address

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    with serving(Server()) as server:
        url = server.url.replace("http", "https").replace("127.0.0.1", "localhost")
        trust = ssl.create_default_context(cafile=str(certificate[1]))
        with xmlrpc(url, size=2, context=trust) as proxy:
            assert failures(proxy, runner, calls=2) == 0
            assert server.accepted <= 2
            server.drop()
            assert proxy.echo(1) == 1
        with xmlrpc(url) as proxy, pytest.raises(ssl.SSLCertVerificationError):
            proxy.echo(1)


def test_ones_own_transports(server: XmlServer, runner: ThreadRunner) -> None:
    made = []

    class Own(Transport):
        user_agent = "own/1"

        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    with xmlrpc(server.url, size=3, transport=Own) as proxy:
        assert failures(proxy, runner, calls=2) == 0
        assert len(made) == server.accepted <= 3


def test_a_transport_that_keeps_no_connection_is_refused(server: XmlServer) -> None:
    class Forgetful(Transport):
        def make_connection(self, host: Any) -> HTTPConnection:
            return HTTPConnection(host)

    with xmlrpc(server.url, transport=Forgetful) as proxy:
        with pytest.raises(TypeError, match="must keep the one"):
            proxy.echo(1)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"url": "ftp://host"}, ValueError, "http:// or https://"),
        ({"url": "host:80"}, ValueError, "http:// or https://"),
        ({"url": "http://"}, ValueError, "name of a host"),
        ({"url": "http://host:port"}, ValueError, "[Pp]ort"),
        ({"url": b"http://host"}, TypeError, "as text"),
        ({"transport": Transport()}, TypeError, "make a Transport"),
        ({"timeout": "1"}, TypeError, "timeout must be a number"),
        ({"transport": Transport, "headers": [("a", "b")]}, TypeError, "have yours made with"),
        ({"transport": Transport, "use_builtin_types": True}, TypeError, "have yours made with"),
        ({"transport": Transport, "refuse_nan": True}, TypeError, "have yours made with"),
        ({"size": "1"}, TypeError, "maxsize"),
        ({"size": 0}, ValueError, "1 or more"),
        ({"headers": [("Content-Length", "5")]}, ValueError, "client's own to send"),
        ({"headers": [("host", "other")]}, ValueError, "is sent already"),
        ({"max_reply": 0}, ValueError, "max_reply must be at least 1"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    how: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        xmlrpc(**{"url": "http://localhost:1", **how})


# ---- Which connections are kept -----------------------------------------------------------------


def test_a_fault_is_an_answer(server: XmlServer) -> None:
    with xmlrpc(server.url) as proxy:
        for _ in range(3):
            with pytest.raises(Fault, match="by zero"):
                proxy.divmod(1, 0)
            with pytest.raises(Fault, match="not supported"):
                proxy.nobody.knows.it()
        assert proxy.divmod(7, 2) == [3, 1]
        assert server.accepted == 1


def test_what_cannot_be_marshalled_takes_no_connection(server: XmlServer) -> None:
    with xmlrpc(server.url) as proxy:
        with pytest.raises(TypeError, match="cannot marshal"):
            proxy.echo(object())
        assert pool_of(proxy).stats().created == 0


def test_a_server_that_closes_after_each_reply(runner: ThreadRunner) -> None:
    """HTTP/1.0, the default of the standard library's server."""

    class Old(XmlHandler):
        protocol_version = "HTTP/1.0"

    with serving(XmlServer(handler=Old)) as server, xmlrpc(server.url, size=2) as proxy:
        assert failures(proxy, runner, calls=3) == 0
        assert server.accepted == server.answered == THREADS * 3
        assert pool_of(proxy).stats().open == 0


def test_a_goodbye_in_the_head_of_a_reply() -> None:
    def reply(number: int, body: bytes, write: Any) -> bool:
        text = dumps((number,), methodresponse=True).encode()
        write(http(text, "200 OK", "Connection: close"))
        return True

    with serving(ScriptedServer(reply)) as server, xmlrpc(server.url) as proxy:
        assert [proxy.echo() for _ in range(3)] == [0, 1, 2]
        assert server.accepted == 3


def test_big_replies_and_requests(server: XmlServer) -> None:
    text = "0123456789" * 300_000
    with xmlrpc(server.url) as proxy:
        assert proxy.echo(text) == text
        assert proxy.echo([text[:1000]] * 100) == [text[:1000]] * 100  # gzipped by the server
        assert server.accepted == 1


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (http(b"", "500 Broken"), ProtocolError),
        (http(b"not here", "404 Not Found"), ProtocolError),
        (http(b"<html>"), ExpatError),
        (http(b"<methodResponse/>"), ResponseError),
        (http(b"\x1f\x8bnot gzip", "200 OK", "Content-Encoding: gzip"), gzip.BadGzipFile),
        (b"what?\r\n\r\n", BadStatusLine),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n<", BadReply),
        (  # newer versions of http.client read what there is
            b"HTTP/1.1 500 No\r\nContent-Length: 99999999999999\r\n\r\n<",
            (BadReply, IncompleteRead),
        ),
        (
            http(gzip.compress(bytes(70 << 20), 1), "200 OK", "Content-Encoding: gzip"),
            (BadReply, ExpatError),
        ),
        (answer("x")[:-20], (IncompleteRead, ExpatError)),
        (answer("x")[:30], (HTTPException, Error, ExpatError)),
    ],
)
def test_after_a_bad_reply_the_connection_is_closed(reply: bytes, error: Any) -> None:
    """And the call is not sent again: something had come."""
    replies = [answer("good"), reply, answer("good")]

    def say(number: int, body: bytes, write: Any) -> bool:
        write(replies[number])
        return replies[number] is reply

    with serving(ScriptedServer(say)) as server, xmlrpc(server.url, size=1) as proxy:
        assert proxy.echo() == "good"
        with pytest.raises(error):
            proxy.echo()
        assert pool_of(proxy).stats().open == 0
        assert proxy.echo() == "good"
        assert (server.answered, server.accepted) == (3, 2)


@pytest.mark.parametrize("later", [False, True])
def test_more_than_was_asked_for_ends_the_connection(later: bool) -> None:
    """It would be taken for the answer to the next call."""
    go = threading.Event()

    def say(number: int, body: bytes, write: Any) -> None:
        write(answer(number) + (b"" if later else answer("nobody asked")))
        if later:
            go.wait(10)
            write(answer("nobody asked"))

    with serving(ScriptedServer(say)) as server, xmlrpc(server.url, size=1) as proxy:
        assert proxy.echo() == 0
        if later:
            with pool_of(proxy).lease() as line:
                go.set()
                eventually(lambda: not line.wire.alive())
        assert proxy.echo() == 1
        assert server.accepted == 2


def test_ctrl_c_in_mid_reply_closes_the_connection() -> None:
    def say(number: int, body: bytes, write: Any) -> None:
        write(answer(number))

    class Interrupted(Transport):
        def parse_response(self, response: Any) -> Any:
            if server.answered == 2:
                response.read(10)
                raise KeyboardInterrupt
            return super().parse_response(response)

    with serving(ScriptedServer(say)) as server:
        with xmlrpc(server.url, size=1, transport=Interrupted) as proxy:
            assert proxy.echo() == 0
            with pytest.raises(KeyboardInterrupt):
                proxy.echo()
            assert pool_of(proxy).stats().closed == {"error": 1}
            assert proxy.echo() == 2
            assert server.accepted == 2


# ---- Sent again, or not -------------------------------------------------------------------------


def test_a_server_that_drops_idle_connections(server: XmlServer, runner: ThreadRunner) -> None:
    with xmlrpc(server.url, size=4, retry=False) as proxy:
        for _ in range(3):
            assert failures(proxy, runner, calls=2) == 0
            server.drop()
        assert server.most <= 4


def test_a_server_that_is_restarted(runner: ThreadRunner) -> None:
    with serving(XmlServer()) as first:
        port = port_of(first)
        proxy = xmlrpc(first.url, size=4)
        assert failures(proxy, runner, calls=2) == 0
    with pytest.raises(ConnectionRefusedError):
        proxy.echo(1)
    with serving(XmlServer(port)) as second:
        assert failures(proxy, runner, calls=2) == 0
        assert second.most <= 4
        proxy("close")()


def test_a_server_that_closes_after_each_reply_without_a_word(runner: ThreadRunner) -> None:
    """Who waits in the queue is handed connections that were opened, used and closed meanwhile.
    That is found out before they are used, or, if they are being closed just then, by the call
    itself, and by the one that is sent in its place."""

    def say(number: int, body: bytes, write: Any) -> bool:
        write(answer(number))
        return True

    def run(_: int) -> int:
        answered = 0
        for _ in range(5):
            try:
                proxy.echo()
                answered += 1
            except ConnectionError as error:
                assert "before anything was asked" not in str(error)
        return answered

    with serving(ScriptedServer(say)) as server, xmlrpc(server.url, size=1) as proxy:
        runner.together(8, run)
        assert sum(runner.finish()) > 20
        assert server.most == 1


class Vanishing:
    """A script that closes the connection upon the request of this number, without a word."""

    def __init__(self, *numbers: int, first: bytes = b"") -> None:
        self.numbers, self.first = numbers, first

    def __call__(self, number: int, body: bytes, write: Any) -> bool:
        if number in self.numbers:
            write(self.first)
            return True
        write(answer(number))
        return False


def test_a_call_is_sent_again_when_a_used_connection_ends_without_a_word() -> None:
    with serving(ScriptedServer(Vanishing(1))) as server, xmlrpc(server.url) as proxy:
        assert [proxy.echo(), proxy.echo()] == [0, 2]
        assert server.accepted == 2


def test_it_is_not_sent_again_when_a_byte_of_the_reply_has_come() -> None:
    script = Vanishing(1, first=b"H")
    with serving(ScriptedServer(script)) as server, xmlrpc(server.url) as proxy:
        assert proxy.echo() == 0
        with pytest.raises(BadStatusLine):
            proxy.echo()
        assert server.answered == 2


def test_it_is_not_sent_again_on_a_new_connection() -> None:
    """The standard library's proxy sends it twice here, too."""
    with serving(ScriptedServer(Vanishing(0))) as server, xmlrpc(server.url) as proxy:
        with pytest.raises(ConnectionResetError):
            proxy.echo()
        assert server.answered == 1
        plain = ServerProxy(server.url)
        server.reply = Vanishing(1)
        assert plain.echo() == 2
        plain("close")()


def test_it_is_sent_again_only_once() -> None:
    with serving(ScriptedServer(Vanishing(2, 3, 4))) as server:
        with xmlrpc(server.url, size=2) as proxy:
            one, other = (pool_of(proxy).acquire() for _ in range(2))
            one.release()
            assert proxy.echo() == 0
            held = pool_of(proxy).acquire()
            other.release()
            assert proxy.echo() == 1
            held.release()
            with pytest.raises(ConnectionResetError):
                proxy.echo()
            assert server.answered == 4


def test_it_is_not_sent_again_if_that_is_not_wanted() -> None:
    with serving(ScriptedServer(Vanishing(1))) as server:
        with xmlrpc(server.url, retry=False) as proxy:
            assert proxy.echo() == 0
            with pytest.raises(ConnectionResetError):
                proxy.echo()
            assert (server.answered, proxy.echo()) == (2, 2)


def test_it_is_not_sent_again_when_its_time_is_over(runner: ThreadRunner) -> None:
    over = threading.Event()

    def say(number: int, body: bytes, write: Any) -> bool:
        if number == 1:
            over.wait(10)
            return True
        write(answer(number))
        return False

    with serving(ScriptedServer(say)) as server, xmlrpc(server.url) as proxy:
        assert proxy.echo() == 0
        with budget(0.2), pytest.raises(TimeoutError, match=r"no answer within 0\.\d+ s"):
            proxy.echo()
        over.set()
        assert server.answered == 2
        assert pool_of(proxy).stats().open == 0


# ---- Time, the cap, the end ---------------------------------------------------------------------


def test_the_deadline_holds_however_slowly_the_reply_drips() -> None:
    over = threading.Event()

    def say(number: int, body: bytes, write: Any) -> bool:
        write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not over.wait(0.02):
            write(b" ")
        return True

    with serving(ScriptedServer(say)) as server, xmlrpc(server.url) as proxy:
        pool_of(proxy).warm(1)
        began = time.monotonic()
        with budget(0.2), pytest.raises(TimeoutError, match="no answer"):
            proxy.echo()
        assert time.monotonic() - began < 30
        over.set()


def test_the_time_in_queue_counts(server: XmlServer) -> None:
    with xmlrpc(server.url, size=1) as proxy:
        held = pool_of(proxy).acquire()
        with budget(0.05), pytest.raises(PoolTimeout, match="phase: wait"):
            proxy.echo(1)
        held.release()
        assert proxy.echo(1) == 1


def test_the_cap_holds_on_the_servers_side(runner: ThreadRunner) -> None:
    """While connections break all the time."""

    def say(number: int, body: bytes, write: Any) -> bool:
        write(answer(number) if number % 5 else http(b"", "503 Busy"))
        return number % 7 == 0

    with serving(ScriptedServer(say)) as server, xmlrpc(server.url, size=3) as proxy:

        def run(_: int) -> None:
            for _ in range(10):
                try:
                    proxy.echo()
                except (ProtocolError, ConnectionError):
                    pass

        runner.together(16, run)
        runner.finish()
        assert server.accepted > 20
        assert server.most == 3
        assert pool_of(proxy).stats().open <= 3


def test_a_closed_proxy_says_so(server: XmlServer) -> None:
    proxy = xmlrpc(server.url)
    assert proxy.echo(1) == 1
    proxy("close")()
    eventually(lambda: not server.open)
    with pytest.raises(PoolClosed):
        proxy.echo(1)
    assert pool_of(proxy).closed


def test_options_of_the_pool_are_passed_on(server: XmlServer) -> None:
    with xmlrpc(server.url, max_uses=1, name="prices") as proxy:
        for number in range(3):
            assert proxy.echo(number) == number
        assert (server.accepted, pool_of(proxy).name) == (3, "prices")

"""Servers for the tests of fastpool.rpc, which count the connections that they have."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseServer, StreamRequestHandler, TCPServer, ThreadingMixIn
from typing import Any
from xmlrpc.client import ServerProxy, dumps
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from fastpool.rpc._address import Address
from support.helpers import eventually


class Counted(ThreadingMixIn):
    """A server with a thread for each connection; it knows which are open, and how many were."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, *args: Any, **named: Any) -> None:
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()
        self.accepted = self.most = self.answered = 0
        super().__init__(*args, **named)

    def process_request(self, request: Any, address: Any) -> None:
        with self.lock:
            self.accepted += 1
            self.open.add(request)
            self.most = max(self.most, min(self._in_use() for _ in range(3)))
        super().process_request(request, address)  # type: ignore[misc]

    def _in_use(self) -> int:
        """Connections that their clients have not closed."""
        return sum(not has_ended(request) for request in self.open)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self.open.discard(request)
        super().shutdown_request(request)  # type: ignore[misc]

    def handle_error(self, request: Any, address: Any) -> None:
        """Clients that go away are not news."""

    def drop(self) -> None:
        """The server closes every connection, and they are closed when this returns."""

        def dropped() -> bool:
            with self.lock:
                for request in self.open:  # some may have been accepted just now
                    try:
                        request.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
                return not self.open

        eventually(dropped)


ESTABLISHED = 1


def has_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed it, as the system has it: what it sent before may still lie
    unread."""
    try:
        if connection.family == socket.AF_INET and hasattr(socket, "TCP_INFO"):
            return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != ESTABLISHED
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


class TcpServer(Counted, TCPServer):
    pass


class TlsServer(TcpServer):
    def __init__(self, *args: Any, certificate: tuple[Path, Path], **named: Any) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key, chain = certificate
        self.context.load_cert_chain(chain, key)
        super().__init__(*args, **named)

    def get_request(self) -> Any:
        request, address = super().get_request()
        request = self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return request, address


class UnixServer(TcpServer):
    address_family = getattr(socket, "AF_UNIX", socket.AF_INET)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    """The server at work, in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        server.drop()


def port_of(server: BaseServer) -> int:
    return int(server.server_address[1])  # type: ignore[arg-type]


# ---- Lines of text ------------------------------------------------------------------------------


class Upper(StreamRequestHandler):
    """Answers each line with the same line in upper case."""

    def handle(self) -> None:
        for line in self.rfile:
            with self.server.lock:  # type: ignore[attr-defined]
                self.server.answered += 1  # type: ignore[attr-defined]
            self.wfile.write(line.upper())


def ask(connection: Any, question: str) -> str:
    """One question to Upper, and its answer."""
    connection.sendall(question.encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = connection.recv(4096)
        if not data:
            raise EOFError("the server has closed the connection")
        answer += data
    return str(answer.decode().rstrip())


# ---- XML-RPC ------------------------------------------------------------------------------------


class XmlHandler(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for a reply
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        pass


class XmlServer(Counted, SimpleXMLRPCServer):
    def __init__(self, port: int = 0, handler: Any = XmlHandler) -> None:
        super().__init__(("127.0.0.1", port), handler, logRequests=False, allow_none=True)
        self.register_introspection_functions()
        self.register_multicall_functions()
        self.register_function(divmod)
        self.register_function(lambda value: value, "echo")
        self.register_function(lambda value: value, "a.nested.echo")

    def _dispatch(self, method: str, params: Any) -> Any:
        with self.lock:
            self.answered += 1
        return super()._dispatch(method, params)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{port_of(self)}"


# ---- Any HTTP -----------------------------------------------------------------------------------


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A reply of HTTP/1.1."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


class Scripted(StreamRequestHandler):
    """Reads a request of HTTP, calls the server's `reply(number, body, write)`, and closes the
    connection when that returns True.  Requests are numbered over all connections."""

    def handle(self) -> None:
        while head := self.rfile.readline():
            length = 0
            headers = {}
            while (line := self.rfile.readline()).strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            length = int(headers.get("content-length", 0))
            body = self.rfile.read(length)
            server: Any = self.server
            with server.lock:
                number = server.answered
                server.answered += 1
            server.heads.append((head.decode(), headers))
            if server.reply(number, body, self.wfile.write):
                return


class ScriptedServer(TcpServer):
    """`reply` may be assigned anew at any time."""

    def __init__(self, reply: Callable[[int, bytes, Callable[[bytes], Any]], Any]) -> None:
        super().__init__(("127.0.0.1", 0), Scripted)
        self.reply = reply
        self.heads: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{port_of(self)}"


# ---- JSON-RPC -----------------------------------------------------------------------------------


class JsonHandler(BaseHTTPRequestHandler):
    """JSON-RPC 2.0 as the specification has it, with the methods of JsonServer."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.heads.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        reply = self.answer(body)
        if reply is None:
            self.send_response(204)
            self.end_headers()
            return
        text = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def answer(self, body: bytes) -> Any:
        try:
            asked = json.loads(body)
        except ValueError:
            return self.error(None, -32700, "Parse error")
        if isinstance(asked, list) and asked:
            replies = [reply for one in asked if (reply := self.one(one)) is not None]
            return replies[::-1] or None  # in any order
        return self.one(asked)

    def one(self, asked: Any) -> Any:
        if not (isinstance(asked, dict) and isinstance(asked.get("method"), str)):
            return self.error(None, -32600, "Invalid Request")
        server: Any = self.server
        with server.lock:
            server.answered += 1
        id = asked.get("id")
        method = server.methods.get(asked["method"])
        params = asked.get("params", [])
        try:
            if method is None:
                reply = self.error(id, -32601, "Method not found")
            elif isinstance(params, dict):
                reply = {"jsonrpc": "2.0", "result": method(**params), "id": id}
            else:
                reply = {"jsonrpc": "2.0", "result": method(*params), "id": id}
        except TypeError as error:
            reply = self.error(id, -32602, "Invalid params", str(error))
        except Exception as error:
            reply = self.error(id, -32000, type(error).__name__, {"text": str(error)})
        return reply if "id" in asked else None

    def error(self, id: Any, code: int, message: str, data: Any = None) -> Any:
        error = {"code": code, "message": message}
        if data is not None:
            error["data"] = data
        return {"jsonrpc": "2.0", "error": error, "id": id}

    def log_message(self, *args: Any) -> None:
        pass


class JsonServer(TcpServer):
    def __init__(self, port: int = 0, address: Any = None, handler: Any = JsonHandler) -> None:
        super().__init__(address or ("127.0.0.1", port), handler)
        self.heads: list[Any] = []
        self.said: list[Any] = []
        self.methods: dict[str, Callable[..., Any]] = {
            "divmod": divmod,
            "echo": lambda value: value,
            "subtract": lambda minuend, subtrahend: minuend - subtrahend,
            "say": self.said.append,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{port_of(self)}"


def warmed(client: Any, url: str, connections: int) -> None:
    """Has so many, of which none was used."""
    if hasattr(client, "run"):  # for tasks
        client.run(client.pool.awarm(connections))
        return
    leases = [client.pool.acquire(Address("f", url, None).origin) for _ in range(connections)]
    for lease in leases:
        lease.release()


def reply_to(body: bytes, result: Any) -> bytes:
    return http(
        json.dumps({"jsonrpc": "2.0", "result": result, "id": json.loads(body)["id"]}).encode()
    )


def vanishing(*numbers: int, first: bytes = b"") -> Callable[[int, bytes, Any], bool]:
    """A script that closes the connection upon the requests of these numbers."""

    def say(number: int, body: bytes, write: Any) -> bool:
        if number in numbers:
            write(first)
            return True
        write(reply_to(body, number))
        return False

    return say


def answer(value: Any) -> bytes:
    return http(dumps((value,), methodresponse=True).encode())


def pool_of(proxy: ServerProxy) -> Any:
    return proxy("transport").pool  # type: ignore[call-overload]

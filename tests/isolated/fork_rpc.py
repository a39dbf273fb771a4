"""A forked child calls through the proxies it inherited, over connections of its own."""

import os
import socketserver
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from fastpool.rpc import sockets, xmlrpc

try:
    from fastpool.rpc import jsonrpc
except ImportError:  # without urllib3
    jsonrpc = None

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

CALLS = 40


class KeepAlive(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        if self.path != "/json":
            super().do_POST()
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        id = body.rpartition(b":")[2].strip(b"}")  # the id is what it asks for
        answer = b'{"jsonrpc":"2.0","result":%b,"id":%b}' % (id, id)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


class Server(socketserver.ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True


KeepAlive.rpc_paths = ("/", "/RPC2", "/json")


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


# The servers live in a process of their own, or the child would have its copy of their threads.
ready, tell = os.pipe()
serving = os.fork()
if not serving:
    os.close(ready)
    server = Server(("127.0.0.1", 0), KeepAlive, logRequests=False)
    server.register_function(lambda value: value, "echo")
    lines = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
    lines.daemon_threads = True
    threading.Thread(target=lines.serve_forever, daemon=True).start()
    os.write(tell, f"{server.server_address[1]} {lines.server_address[1]}\n".encode())
    server.serve_forever()
os.close(tell)
http, tcp = map(int, os.read(ready, 100).split())

proxy = xmlrpc(f"http://127.0.0.1:{http}", size=3)
pool = sockets(("127.0.0.1", tcp), size=3)
client = jsonrpc(f"http://127.0.0.1:{http}/json", size=3) if jsonrpc else None


def ask(number: int) -> None:
    assert proxy.echo(number) == number
    with pool.lease() as connection:
        connection.sendall(b"%d\n" % number)
        assert int(connection.recv(100)) == number
    if client:
        assert client.call("echo") > 0


def ask_from_threads() -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(CALLS)))


def names() -> set[str]:
    """The parent's or the child's connections, as the system has them."""
    found = set()
    for each in (proxy("transport").pool, pool.pool):
        with each.lease() as resource:
            found.add(resource.wire.getsockname())
    return found


ask_from_threads()
before = names()
child = os.fork()
if not child:
    try:
        assert proxy("transport").pool.stats().open == pool.pool.stats().open == 0
        ask_from_threads()
        assert not names() & before
        proxy("close")()
        pool.close()
        if client:
            client.close()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        os._exit(1)
    os._exit(0)

for _ in range(5):  # both at once
    ask_from_threads()
_, status = os.waitpid(child, 0)
assert status == 0
ask_from_threads()
created = proxy("transport").pool.stats().created
assert created <= 3, created
assert proxy("transport").pool.stats().closed == {}
proxy("close")()
pool.close()
if client:
    client.close()
os.kill(serving, 9)
os.waitpid(serving, 0)

"""Threads and tasks share connections to many servers, under one limit.

    python examples/keyed_servers.py

Twelve servers, each on a port of its own, and at most six connections in all: what has been idle
longest is closed for a server that is wanted.  Each server counts its own connections, and so does
their host.
"""

import asyncio
import socket
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor

from fastpool import KeyedPool

MOST, MOST_PER_SERVER = 6, 2


class Host:
    """What the servers see of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open = self.most = 0

    def count(self, change: int) -> int:
        with self.lock:
            self.open += change
            self.most = max(self.most, self.open)
            return self.open


class Named(socketserver.StreamRequestHandler):
    """Answers each line with the server's port and the line."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.host.count(+1)
        server.own.count(+1)
        try:
            for line in self.rfile:
                self.wfile.write(b"%d %s" % (server.server_address[1], line))
        finally:
            server.own.count(-1)
            server.host.count(-1)  # and then it is closed, for which `part` waits


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, host: Host) -> None:
        super().__init__(("127.0.0.1", 0), Named)
        self.host, self.own = host, Host()
        threading.Thread(target=self.serve_forever, daemon=True).start()


def connect(address: tuple[str, int]) -> socket.socket:
    """``factory(key)``: the key is the address."""
    return socket.create_connection(address, timeout=5)


def part(connection: socket.socket) -> None:
    """``close``: says so and waits for the server, whose count is to be right."""
    with connection:
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def ask(connection: socket.socket, question: str) -> str:
    connection.sendall(question.encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = connection.recv(4096)
        if not data:
            raise EOFError("the server has closed the connection")
        answer += data
    return answer.decode().rstrip()


def main() -> None:
    host = Host()
    servers = [Server(host) for _ in range(12)]
    addresses = [server.server_address for server in servers]
    pool = KeyedPool(
        connect, close=part, max_total=MOST, max_per_key=MOST_PER_SERVER, name="servers"
    )

    def by_thread(n: int) -> bool:
        address = addresses[n * n % len(addresses)]
        with pool.lease(address, timeout=20) as connection:
            return ask(connection, f"thread {n}") == f"{address[1]} thread {n}"

    async def by_task(n: int) -> bool:
        address = addresses[n % len(addresses)]
        async with pool.lease(address, timeout=20) as connection:
            answer = await asyncio.to_thread(ask, connection, f"task {n}")
            return answer == f"{address[1]} task {n}"

    async def tasks() -> list[bool]:
        return await asyncio.gather(*(by_task(n) for n in range(60)))

    with pool, ThreadPoolExecutor(8) as threads:
        asked = threads.map(by_thread, range(200))
        right = asyncio.run(tasks()) + list(asked)
    stats = pool.stats()
    for server in servers:
        server.shutdown()
        server.server_close()

    print(f"{sum(right)} right answers of 12 servers, for 8 threads and 60 tasks")
    print(f"at most {MOST} connections: {host.most <= MOST}")
    print(f"at most {MOST_PER_SERVER} of one server: ", end="")
    print(all(server.own.most <= MOST_PER_SERVER for server in servers))
    print(f"used again: {stats.created < stats.uses}, left open: {stats.open}")


if __name__ == "__main__":
    main()

"""Threads share TCP connections for a protocol of their own, and the server restarts meanwhile.

python examples/rpc_sockets.py
"""

import socket
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor

from fastpool.rpc import SocketPool, sockets


class Upper(socketserver.StreamRequestHandler):
    """Answers each line with the same line in upper case."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    connections: list[socket.socket] = []  # noqa: RUF012

    def process_request(self, request: socket.socket, address: object) -> None:
        self.connections.append(request)
        super().process_request(request, address)

    def drop_connections(self) -> None:
        """What a server does with idle connections after a while, and when it is restarted."""
        while self.connections:
            self.connections.pop().shutdown(socket.SHUT_RDWR)


def ask(pool: SocketPool, question: str) -> str:
    # Five seconds for the wait in the queue, for connecting, and for every byte of the answer.
    with pool.lease(timeout=5) as connection, connection.makefile("rb") as lines:
        connection.sendall(question.encode() + b"\n")
        return lines.readline().decode().rstrip()


def main() -> None:
    with Server(("127.0.0.1", 0), Upper) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        with sockets(server.server_address, size=4) as pool:
            questions = [f"question {number}" for number in range(100)]
            for _ in range(3):
                with ThreadPoolExecutor(16) as threads:
                    answers = list(threads.map(lambda question: ask(pool, question), questions))
                assert answers == [question.upper() for question in questions]
                # The next borrower sees that its connection was closed, and gets another one.
                server.drop_connections()
            print("300 answers for 16 threads, over at most", pool.pool.maxsize, "connections")
        server.shutdown()


if __name__ == "__main__":
    main()

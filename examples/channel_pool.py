"""A pool like the buffered channels of Go: a few connections are kept, as many open as are wanted.

    python examples/channel_pool.py

A burst of callers is served at once, each over a connection of its own, and what is more than the
pool keeps is closed on return. The server here is the standard library's, and counts.
"""

import socket
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from fastpool import FastPool

KEPT, BURST = 4, 20


class Upper(socketserver.StreamRequestHandler):
    """Answers each line with the same line in upper case."""

    def handle(self) -> None:
        with self.server.lock:
            self.server.opened += 1
        for line in self.rfile:
            self.wfile.write(line.upper())
        with self.server.lock:
            self.server.closed += 1


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = False  # the end of its block waits for them
    request_queue_size = 2 * BURST

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Upper)
        self.lock = threading.Lock()
        self.opened = self.closed = 0


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
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def connect() -> socket.socket:
            return socket.create_connection(server.server_address, timeout=5)

        pool = FastPool(maxsize=0, factory=connect, max_idle=KEPT, name="upper")
        together = threading.Barrier(BURST)

        def burst(number: int) -> str:
            with pool.lease(timeout=10) as connection:
                together.wait(10)  # nobody gives one back before all have one
                return ask(connection, f"question {number}")

        with ThreadPoolExecutor(BURST) as threads:
            answers = list(threads.map(burst, range(BURST)))
        while server.closed < BURST - KEPT:  # the server takes a moment to see it
            time.sleep(0.001)
        stats = pool.stats()
        print(f"{len(answers)} at once over {server.opened} connections")
        print(f"kept: {stats.idle}, closed on return: {stats.closed['surplus']}")

        for number in range(200):  # no more are wanted than are kept
            with pool.lease() as connection:
                ask(connection, f"question {number}")
        print(f"opened for the next 200: {pool.stats().created - BURST}")
        pool.close()
        server.shutdown()


if __name__ == "__main__":
    main()

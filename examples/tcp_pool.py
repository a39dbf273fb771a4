"""Many threads share a few TCP connections.

    python examples/tcp_pool.py

The server here is a few lines of the standard library, so that the example runs by itself.
"""

import socket
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor

from fastpool import FastPool


class Upper(socketserver.StreamRequestHandler):
    """Answers each line with the same line in upper case."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def ask(pool: FastPool, question: str) -> str:
    """One question and its answer, over whichever connection is free."""
    # If the block raises OSError or EOFError, the connection is closed and not used again.
    with pool.lease(timeout=5) as connection:
        connection.sendall(question.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            data = connection.recv(4096)
            if not data:
                raise EOFError("the server has closed the connection")
            answer += data
    return answer.decode().rstrip()


def main() -> None:
    with Server(("127.0.0.1", 0), Upper) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def connect() -> socket.socket:
            return socket.create_connection(server.server_address, timeout=5)

        with FastPool(4, factory=connect, name="upper") as pool:
            with ThreadPoolExecutor(16) as threads:
                questions = [f"question {number}" for number in range(200)]
                answers = list(threads.map(lambda question: ask(pool, question), questions))
            stats = pool.stats()
        server.shutdown()

    assert answers == [question.upper() for question in questions]
    print(f"{len(answers)} answers for 16 threads over {stats.created} connections")


if __name__ == "__main__":
    main()

"""A few connections carry the calls of many threads at once: each answer names its question.

    python examples/shared_wire.py

Such a connection is too good for one caller at a time. A SharedPool counts how many are on each,
sends the next one to the connection that carries least, and opens another when all are full.
"""

import itertools
import random
import socket
import socketserver
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from fastpool import SharedPool

THREADS, CALLS = 32, 10
SLOTS = 8  # calls at once on one connection: half of what the server takes


class Server(socketserver.StreamRequestHandler):
    """Answers "7 hello" with "7 HELLO", many at a time and in no order."""

    def handle(self) -> None:
        sending = threading.Lock()

        def answer(line: bytes) -> None:
            time.sleep(0.002 * random.random())
            with sending:
                self.wfile.write(line.upper())

        with ThreadPoolExecutor(2 * SLOTS) as workers:
            for line in self.rfile:
                workers.submit(answer, line)


class Wire:
    """One connection: questions go out under a number, a thread of its own brings the answers."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.asked: dict[int, Future[str]] = {}
        self.numbers = itertools.count()
        self.sending = threading.Lock()
        self.at_once = 0  # the most questions that were open at a time
        threading.Thread(target=self._read, daemon=True).start()

    def call(self, text: str) -> str:
        answer: Future[str] = Future()
        with self.sending:
            number = next(self.numbers)
            self.asked[number] = answer
            self.at_once = max(self.at_once, len(self.asked))
            self.socket.sendall(f"{number} {text}\n".encode())
        return answer.result(timeout=10)

    def _read(self) -> None:
        with self.socket.makefile() as lines:
            for line in lines:
                number, _, text = line.rstrip("\n").partition(" ")
                self.asked.pop(int(number)).set_result(text)

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def main() -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    wires: list[Wire] = []

    def connect() -> Wire:
        wires.append(Wire(server.server_address))
        return wires[-1]

    answers: list[str] = []

    def work(number: int) -> None:
        for turn in range(CALLS):
            with pool.lease(timeout=10) as wire:
                answers.append(wire.call(f"caller {number} turn {turn}"))

    with SharedPool(connect, items=(1, 4), slots=SLOTS, name="wire") as pool:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    server.shutdown()
    server.server_close()

    expected = {f"CALLER {n} TURN {turn}" for n in range(THREADS) for turn in range(CALLS)}
    print(f"{len(answers)} answers, all of them right: {set(answers) == expected}")
    print(f"{len(wires)} connections for {THREADS} threads")
    print(f"never more than {SLOTS} calls on one: {max(w.at_once for w in wires) <= SLOTS}")


if __name__ == "__main__":
    main()

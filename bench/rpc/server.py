"""One server for all contestants, in a process of its own: run as a script it is one.

It answers a call of `echo` with one integer, in XML-RPC or JSON-RPC as it was asked, in so little
time that the clients are what is measured. It keeps connections open and counts them. A line on its
standard input is a question: it prints what it has counted, as JSON, and begins to count anew.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from typing import Any, NamedTuple, Self

from bench import child

XML = b"""<?xml version='1.0'?>
<methodResponse><params><param><value><int>%d</int></value></param></params></methodResponse>
"""
INTEGER = re.compile(rb"<int>(\d+)</int>")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Counts(NamedTuple):
    """What the server counted since it was last asked."""

    opened: int
    """Connections accepted, and those that were open when it was asked before."""
    most: int
    """Connections open at once."""
    answered: int


class Server:
    """`with Server() as server:` - `server.url`, `server.counts()`."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.rpc.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=child.environment(),
            cwd=child.ROOT,
        )
        self.url = f"http://127.0.0.1:{int(self._ask())}/"
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def counts(self) -> Counts:
        return Counts(**json.loads(self._ask("\n")))

    def _ask(self, question: str = "") -> str:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(question)
        self._process.stdin.flush()
        return self._process.stdout.readline()


# ---- In its process -----------------------------------------------------------------------------

_open = _opened = _most = _answered = 0


class Connection(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        global _open, _opened, _most
        self.transport = transport
        self.buffer = b""
        _open += 1
        _opened += 1
        _most = max(_most, _open)

    def connection_lost(self, error: Exception | None) -> None:
        global _open
        _open -= 1

    def data_received(self, data: bytes) -> None:
        global _answered
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or not length or len(rest) < int(length[1]):
            return
        self.buffer = b""
        if rest.startswith(b"<"):
            number = INTEGER.search(rest)
            kind, body = b"text/xml", XML % int(number[1] if number else 0)
        else:
            asked = json.loads(rest)
            reply = {"jsonrpc": "2.0", "result": asked["params"][0], "id": asked["id"]}
            kind, body = b"application/json", json.dumps(reply).encode()
        _answered += 1
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (kind, len(body), body)
        )


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    over = asyncio.Event()

    def say() -> None:
        global _opened, _most, _answered
        print(json.dumps(Counts(_opened, _most, _answered)._asdict()), flush=True)
        _opened = _most = _open
        _answered = 0

    def listen() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(say)
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=listen, daemon=True).start()
    await over.wait()


if __name__ == "__main__":
    asyncio.run(serve())

"""A debug socket, and clients of it that are closed at the end of their test."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from fastpool.debug import Server
from fastpool.debug._address import parse
from support.helpers import PATIENCE


class Visitor:
    """A client: one line out, one line in."""

    def __init__(self, server: Server) -> None:
        self.socket = parse(server.address).connected(PATIENCE)
        self.lines = self.socket.makefile("rb")

    def say(self, line: bytes) -> None:
        self.socket.sendall(line)

    def hear(self) -> Any:
        """The next answer; None: the server has closed the connection."""
        try:
            line = self.lines.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def ask(self, **request: Any) -> Any:
        self.say(json.dumps(request).encode() + b"\n")
        return self.hear()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def visit() -> Iterator[Callable[[Server], Visitor]]:
    with ExitStack() as stack:

        def visit(server: Server) -> Visitor:
            visitor = Visitor(server)
            stack.callback(visitor.close)
            return visitor

        yield visit


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("this system has no Unix sockets")
    return f"unix:{tmp_path_factory.mktemp('d')}/s"

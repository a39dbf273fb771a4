"""Shutting down the socket of a connection that somebody else uses: which socket, and no other."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from fastpool.fleet._sockets import end_socket
from support.helpers import ThreadRunner


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    yield near, far
    near.close()
    far.close()


def is_over(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        return end.recv(1) == b""
    except BlockingIOError:
        return False


Pair = tuple[socket.socket, socket.socket]


def test_reader_goes_on_and_the_other_end_sees_it(pair: Pair, runner: ThreadRunner) -> None:
    near, far = pair
    reader = runner.start(near.recv, 1)
    reader.parked()
    end_socket(near)
    assert reader.result() == b"" and is_over(far)
    assert near.fileno() >= 0  # to be closed by whoever has it


def test_what_is_closed_already_is_left_alone(pair: Pair) -> None:
    near, _ = pair
    near.close()
    end_socket(near)
    end_socket(near)


class Driver:
    """Its number is that of a file of somebody else, by the time that it is asked again."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)

    def fileno(self) -> int:
        return self.numbers.pop(0)


def test_socket_of_somebody_else_is_never_shut_down(pair: Pair) -> None:
    """The driver has closed its own meanwhile, and the number was given out again."""
    near, far = pair
    end_socket(Driver(near.fileno(), -1))
    assert not is_over(far)


def test_number_that_is_no_file_any_more_is_left_alone(pair: Pair) -> None:
    number = pair[0].fileno()
    pair[0].close()
    end_socket(Driver(number, number))


def test_driver_that_raises_is_closed() -> None:
    class Closed:
        def fileno(self) -> int:
            raise ValueError("the connection is closed")

    end_socket(Closed())


def test_http_connection_is_known(pair: Pair) -> None:
    connection = HTTPConnection("nowhere")
    end_socket(connection)  # it has none yet
    connection.sock = pair[0]
    end_socket(connection)
    assert is_over(pair[1])


def test_subclass_is_known_by_its_base(pair: Pair) -> None:
    class Own(HTTPConnection):
        pass

    connection = Own("nowhere")
    connection.sock = pair[0]
    end_socket(connection)
    assert is_over(pair[1])


def test_stream_of_asyncio_is_known(pair: Pair) -> None:
    async def main() -> bytes:
        reader, writer = await asyncio.open_connection(sock=pair[0])
        asyncio.get_running_loop().call_soon(end_socket, writer)
        read = await reader.read(1)
        writer.close()
        return bytes(read)

    assert asyncio.run(main()) == b"" and is_over(pair[1])


def test_connection_under_tls_is_known(pair: Pair) -> None:
    """The socket below; no handshake is needed for that."""
    context = ssl.create_default_context()
    near = context.wrap_socket(pair[0], server_hostname="x", do_handshake_on_connect=False)
    end_socket(near)
    assert is_over(pair[1])
    near.close()


@pytest.mark.parametrize("what", [object(), 5, "text"])
def test_what_has_no_socket_is_refused_with_the_cure(what: Any) -> None:
    with pytest.raises(TypeError, match=r"no socket is known of a builtins\..*terminate="):
        end_socket(what)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no numbers of sockets there")
def test_file_that_is_no_socket_is_refused() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as file:
        with pytest.raises(TypeError, match=r"no socket is known of a _io\.BufferedReader"):
            end_socket(file)
    os.close(write)

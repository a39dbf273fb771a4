"""Clients of a debug socket that mean it ill: what test_hostile.py has run beside a pool.

    python hostile.py KIND ADDRESS    a byte on the standard input: go on, or rest, in turn

It says "begun" after the first blow of a stretch, and at its end how many it has struck.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

KINDS = ("connections", "endless line", "wrong token", "slow reader", "no reader", "questions")
ASK = b'{"get": "pools", "holders": true}\n'
PATIENCE = 0.05  # seconds for each of its calls: it has others to trouble


def connected(address: str) -> socket.socket:
    kind, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    client = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    client.settimeout(PATIENCE)
    try:
        client.connect(rest if kind == "unix" else (host, int(port)))
    except OSError:
        client.close()
        raise
    return client


def blows(kind: str, address: str) -> Iterator[None]:
    """One for each step."""
    clients: list[socket.socket] = []
    while True:
        with suppress(OSError):  # it is thrown out, which is how it should be
            if kind == "connections":
                connected(address).close()
            elif kind == "endless line":
                with connected(address) as client:
                    while True:
                        client.sendall(4096 * b"x")
                        yield
            elif kind == "wrong token":
                with connected(address) as client:
                    client.sendall(b'{"token": "' + os.urandom(8).hex().encode() + b'"}\n')
                    client.recv(100)
            else:
                strike_readers(kind, clients, address)
        yield


def strike_readers(kind: str, clients: list[socket.socket], address: str) -> None:
    """Ask by all the connections that there may be, and read the answers as they are, byte by byte,
    or never."""
    if len(clients) < 8:
        clients.append(connected(address))
    for client in clients.copy():
        try:
            client.sendall(ASK)
            if kind != "no reader":
                said = client.recv(1 if kind == "slow reader" else 1 << 20)
                if not said:
                    raise ConnectionResetError
        except OSError as error:
            if not isinstance(error, TimeoutError):
                clients.remove(client)
                client.close()


def main() -> None:
    kind, address = sys.argv[1:]
    with suppress(AttributeError, OSError):
        os.nice(19)  # what it takes of the machine is not what is measured
    strike = blows(kind, address)
    print("ready", flush=True)
    while os.read(0, 1):
        next(strike)
        count = 1
        print("begun", flush=True)
        while not select.select([0], [], [], 0)[0]:
            next(strike)
            count += 1
        if not os.read(0, 1):
            return
        print(count, flush=True)


if __name__ == "__main__":
    main()

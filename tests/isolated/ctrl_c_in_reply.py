"""Ctrl-C in the middle of a reply ends the call and its connection; the next call is answered."""

import os
import signal
import socket
import threading

from fastpool.rpc import sockets, xmlrpc

signal.signal(signal.SIGINT, signal.default_int_handler)
REPLY = (
    b"<?xml version='1.0'?><methodResponse><params><param><value><int>%d</int></value></param>"
    b"</params></methodResponse>"
)

listener = socket.create_server(("127.0.0.1", 0))
accepted = []


def serve(connection):
    """Half of the first reply, then Ctrl-C; whole replies later."""
    with connection:
        while connection.recv(65536):
            body = REPLY % len(accepted)
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            if len(accepted) % 2:
                connection.sendall(head + body[:20])
                os.kill(os.getpid(), signal.SIGINT)
                try:
                    assert connection.recv(1) == b""  # the client hangs up
                except ConnectionResetError:
                    pass
                return
            connection.sendall(head + body)


def accept():
    while True:
        connection, _ = listener.accept()
        accepted.append(connection)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
host, port = listener.getsockname()


def talk(connection):
    connection.sendall(b"?")
    with connection.makefile("rb") as lines:
        while lines.readline().strip():  # the head
            pass
        return lines.read(len(REPLY) - 1)


with xmlrpc(f"http://{host}:{port}", size=1, timeout=20) as proxy:
    try:
        proxy.echo()
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("not interrupted")
    assert proxy.echo() == 2
    assert proxy("transport").pool.stats().closed == {"error": 1}

with sockets((host, port), size=1, timeout=20) as pool:
    try:
        with pool.lease() as connection:
            talk(connection)
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("not interrupted")
    with pool.lease() as connection:
        assert b"<int>4</int>" in talk(connection)
assert len(accepted) == 4

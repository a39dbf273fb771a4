"""Shuts down the socket of a connection that somebody else is using.

Who reads from it, or writes to it, gets the end of the stream or an error, and its other end sees
it closed; nothing of the driver is called that could not be called beside its user.  The driver
closes the socket itself, later.  Drivers are recognised by the names of their classes, and nothing
is imported; an object of any other class has its socket under ``fileno()``.
"""

from __future__ import annotations

import os
import socket
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["end_socket"]

#: Where a connection keeps its socket, or the transport or stream that has it: attributes, one
#: after the other.  The class may be a base of that which is at hand.
SOCKETS = {
    "redis.connection.AbstractConnection": "_sock",
    "valkey.connection.AbstractConnection": "_sock",
    "redis.asyncio.connection.AbstractConnection": "_writer",
    "valkey.asyncio.connection.AbstractConnection": "_writer",
    "asyncpg.connection.Connection": "_transport",
    "pymysql.connections.Connection": "_sock",
    "aiomysql.connection.Connection": "_writer",
    "http.client.HTTPConnection": "sock",
    "paramiko.client.SSHClient": "_transport.sock",
    "paramiko.transport.Transport": "sock",
}


def end_socket(resource: Any) -> None:
    """Shut down the socket of ``resource``; nothing if it is closed already.  TypeError: it is not
    known to have one.  In any thread, whatever is done with it meanwhile."""
    owner = _owner(resource)
    number = _number(owner)
    if number < 0:
        return
    try:
        own = os.dup(number)
    except OSError:  # closed just now
        return
    try:
        # another file may have its number by now, and then it is closed by the driver's account too
        if _number(owner) == number:
            _shut_down(own, resource)
    finally:
        os.close(own)


def _shut_down(number: int, resource: object) -> None:
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        raise _unknown(resource)
    end = socket.socket(fileno=number)
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other end was faster
        pass
    finally:
        end.detach()


def _owner(resource: Any) -> Any:
    """What has the number of its socket; None: there is no socket any more."""
    owner = resource
    for base in type(resource).__mro__:
        path = SOCKETS.get(f"{base.__module__}.{base.__qualname__}")
        if path is not None:
            for step in path.split("."):
                owner = getattr(owner, step, None)
            break
    if owner is not None and hasattr(owner, "get_extra_info"):  # a transport, or a stream
        owner = owner.get_extra_info("socket")
    if owner is not None and not hasattr(owner, "fileno"):
        raise _unknown(resource)
    return owner


def _number(owner: Any) -> int:
    """-1: it is closed, by the driver's account."""
    try:
        return -1 if owner is None else int(owner.fileno())
    except Exception:  # drivers raise what they like for a connection that is closed
        return -1


def _unknown(resource: object) -> TypeError:
    kind = type(resource)
    return TypeError(
        f"no socket is known of a {kind.__module__}.{kind.__qualname__}: say how it is ended, by "
        "RedisBudget(..., terminate=), a function that is called with it while it is in use"
    )

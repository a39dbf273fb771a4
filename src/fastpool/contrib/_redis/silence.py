"""The look at a connection before it is lent: is it connected, with nothing to read?

The hosts ask their connections to ``connect()`` and whether they ``can_read()``.  With their own
parsers the latter sets the socket's timeout, reads and sets it back: three calls of the system, in
each of which the thread lets go of the GIL, and with more threads than connections waits for it
anew.  One look without waiting says the same of a connection that is fit, as nearly all are.
"""

from __future__ import annotations

from importlib import import_module
from socket import socket
from typing import Any

from fastpool._core import socket_is_silent

__all__ = ["Silence"]


class Silence:
    """Calls say whether ``connect()`` and ``can_read()`` of a connection would do and find nothing.

    Known are connections of exactly the host's classes for TCP and Unix sockets, with one of its
    own parsers in Python.  Of others, as those with TLS, that of a cache or of a subclass, the
    answer is False: who asks does then what the host does.  Safe for threads.
    """

    def __init__(self, host: str) -> None:
        """``host``: the name of the package."""
        self._kinds = _found(f"{host}.connection", "Connection", "UnixDomainSocketConnection")
        self._parsers = _found(f"{host}._parsers", "_RESP2Parser", "_RESP3Parser")

    def __call__(self, connection: Any) -> bool:
        if type(connection) not in self._kinds:
            return False
        try:
            sock, parser = connection._sock, connection._parser
            if type(sock) is not socket or type(parser) not in self._parsers:
                return False
            return not parser._buffer.unread_bytes() and socket_is_silent(sock.fileno())
        except AttributeError:  # of a version that has them elsewhere, or disconnected meanwhile
            return False


def _found(module: str, *names: str) -> frozenset[Any]:
    """The classes of these names; none in a version that has them elsewhere."""
    try:
        where = import_module(module)
    except ImportError:
        return frozenset()
    return frozenset(getattr(where, name) for name in names if hasattr(where, name))

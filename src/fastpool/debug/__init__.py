"""Looking into a running process: who holds what, since when and from where, and who waits.

Off until it is asked for, and read-only unless ``control=True`` is said.  Nothing here runs on the
way of a borrower, calls a user's ``repr``, or holds a lock while it writes.
"""

from __future__ import annotations

from .._runtime.registry import follow
from ._client import Connection, connect, sockets
from ._dump import dump
from ._server import Server, serve, serve_by_environment
from ._signals import on_signal

__all__ = [
    "Connection",
    "Server",
    "connect",
    "dump",
    "follow",
    "on_signal",
    "serve",
    "serve_by_environment",
    "sockets",
]

for _each in (Connection, Server, connect, dump, follow, on_signal, serve, sockets):
    _each.__module__ = __name__

"""Pooled clients for RPC that is not multiplexed: one call at a time on each connection.

`xmlrpc(url)` is the standard library's ServerProxy for any number of threads; `sockets(address)`
pools TCP, TLS and Unix sockets for protocols of one's own.
"""

from ._sockets import SocketPool, sockets
from ._wire import Wire
from ._xmlrpc import PooledTransport, xmlrpc

__all__ = ["PooledTransport", "SocketPool", "Wire", "sockets", "xmlrpc"]

for _public in (PooledTransport, SocketPool, Wire, sockets, xmlrpc):
    _public.__module__ = __name__
del _public

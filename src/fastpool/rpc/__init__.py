"""Pooled clients for RPC that is not multiplexed: one call at a time on each connection.

`xmlrpc(url)` is the standard library's ServerProxy for any number of threads, and `aio_xmlrpc(url)`
the like for tasks. `jsonrpc(url)` is a JSON-RPC 2.0 client for threads and needs urllib3;
`aio_jsonrpc(url)` is one for tasks. Those for tasks need httpx. `sockets(address)` pools TCP, TLS
and Unix sockets for protocols of one's own.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._aio_jsonrpc import AioBatch, AioJsonRpc, aio_jsonrpc
    from ._aio_xmlrpc import AioMultiCall, AioServerProxy, aio_xmlrpc
    from ._errors import BadReply, HttpError, RemoteError, RpcError
    from ._jsonrpc import Batch, JsonRpc, jsonrpc
    from ._jsonrpc_codec import Reply
    from ._socket_connection import Wire
    from ._socket_pool import SocketPool, sockets
    from ._xmlrpc import PooledTransport, xmlrpc
else:

    def __getattr__(name):  # each brings in what it needs, and no client needs what others do
        if name in ("BadReply", "HttpError", "RemoteError", "RpcError"):
            from . import _errors as module
        elif name == "Wire":
            from . import _socket_connection as module
        elif name in ("SocketPool", "sockets"):
            from . import _socket_pool as module
        elif name in ("PooledTransport", "xmlrpc"):
            from . import _xmlrpc as module
        elif name == "Reply":
            from . import _jsonrpc_codec as module
        elif name in ("Batch", "JsonRpc", "jsonrpc"):
            from . import _jsonrpc as module
        elif name in ("AioBatch", "AioJsonRpc", "aio_jsonrpc"):
            from . import _aio_jsonrpc as module
        elif name in ("AioMultiCall", "AioServerProxy", "aio_xmlrpc"):
            from . import _aio_xmlrpc as module
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(module, name)
        found.__module__ = __name__
        return found

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "AioBatch",
    "AioJsonRpc",
    "AioMultiCall",
    "AioServerProxy",
    "BadReply",
    "Batch",
    "HttpError",
    "JsonRpc",
    "PooledTransport",
    "RemoteError",
    "Reply",
    "RpcError",
    "SocketPool",
    "Wire",
    "aio_jsonrpc",
    "aio_xmlrpc",
    "jsonrpc",
    "sockets",
    "xmlrpc",
]

"""urllib3's managers and connection pools on FastPool: fair, and seen from outside.

    http = fastpool.contrib.urllib3.PoolManager(maxsize=8, block=True)

The classes are subclasses of urllib3's, with its arguments, exceptions and log lines.  Keywords of
their own: ``pool_timeout`` (seconds that a request waits for a connection of a pool that blocks,
where it says nothing itself; None: for ever), ``fairness`` ("fair", or "throughput": newcomers may
barge for 1 ms), ``max_waiting`` (more that wait are refused at once, with EmptyPoolError),
``idle_timeout`` and ``max_lifetime`` (seconds after which a connection is closed; None: never),
``leak_after`` (seconds after which a connection in use is logged with the stack that took it) and
``name``, which the address follows.  Each connection pool has its FastPool as the attribute
``fastpool``: ``stats()``, ``leases()``.  A ``QueueCls`` of a subclass means nothing here.

Safe for threads and after a fork.  Through a SOCKS proxy: ``fastpool.contrib.urllib3.socks``.
"""

from __future__ import annotations

from typing import Any

try:
    import urllib3
    from urllib3.connectionpool import port_by_scheme
    from urllib3.util import parse_url
except ImportError as error:
    raise ImportError(
        "fastpool.contrib.urllib3 needs urllib3 2.0 or newer: pip install 'fastpool[urllib3]'"
    ) from error

from ._connections import OPTIONS, Connections, checked

__all__ = [
    "OPTIONS",
    "HTTPConnectionPool",
    "HTTPSConnectionPool",
    "PoolManager",
    "ProxyManager",
    "connection_from_url",
    "proxy_from_url",
]


class HTTPConnectionPool(Connections, urllib3.HTTPConnectionPool):
    """``block=True``: at most ``maxsize`` connections at once, whoever has waited longest is first.
    Else: any number, of which ``maxsize`` are kept."""


class HTTPSConnectionPool(Connections, urllib3.HTTPSConnectionPool):
    """The same over TLS."""


class ManagerOptions:
    """Before a manager: keeps the keywords of the pools that it will make.  A wrong one raises
    ValueError or TypeError here, not at the first request."""

    pool_classes: dict[str, type[Any]] = {  # noqa: RUF012
        "http": HTTPConnectionPool,
        "https": HTTPSConnectionPool,
    }
    connection_pool_kw: dict[str, Any]

    def __init__(self, *given: Any, **options: Any) -> None:
        self._options = checked(options)
        super().__init__(*given, **options)
        self.pool_classes_by_scheme = self.pool_classes

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> Any:
        context = self.connection_pool_kw if request_context is None else request_context
        return super()._new_pool(scheme, host, port, context | self._options)  # type: ignore[misc]


class PoolManager(ManagerOptions, urllib3.PoolManager):
    """As urllib3's; its keywords and ours are those of each connection pool it makes."""


class ProxyManager(ManagerOptions, urllib3.ProxyManager):
    """The same for all requests through one HTTP or HTTPS proxy."""


def connection_from_url(url: str, **options: Any) -> HTTPConnectionPool | HTTPSConnectionPool:
    """The connection pool for the host of a URL, with these keywords."""
    scheme, _, host, port, *_ = parse_url(url)
    scheme = scheme or "http"
    kind = HTTPSConnectionPool if scheme == "https" else HTTPConnectionPool
    return kind(host, port_by_scheme.get(scheme, 80) if port is None else port, **options)


def proxy_from_url(url: str, **options: Any) -> ProxyManager:
    """A manager of requests through this proxy, with these keywords."""
    return ProxyManager(proxy_url=url, **options)

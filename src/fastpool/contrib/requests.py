"""requests' transport adapter on FastPool: fair where it waits, and seen from outside.

    session.mount("https://", fastpool.contrib.requests.Adapter(pool_maxsize=8, pool_block=True))

A subclass of ``requests.adapters.HTTPAdapter`` with its arguments, exceptions and hooks, for direct
connections and through proxies.  Keywords of its own: those of ``fastpool.contrib.urllib3``, for
each host; ``pool_timeout`` is what requests has no word for.
"""

from __future__ import annotations

from typing import Any

try:
    import requests
    from requests.adapters import HTTPAdapter
    from requests.utils import get_auth_from_url
except ImportError as error:
    raise ImportError(
        "fastpool.contrib.requests needs requests 2.32 or newer: pip install 'fastpool[requests]'"
    ) from error
from urllib3.exceptions import EmptyPoolError

from .urllib3 import OPTIONS, PoolManager, proxy_from_url

__all__ = ["Adapter"]


class Adapter(HTTPAdapter):
    """``pool_maxsize`` connections of each host are kept (10), and with ``pool_block`` no more are
    open at once: a request waits ``pool_timeout`` seconds, or for ever, then raises
    requests.ConnectionError.  Safe for threads and after a fork; can be pickled."""

    __attrs__ = [*HTTPAdapter.__attrs__, "_fastpool_options"]  # noqa: RUF012

    def __init__(self, *given: Any, **options: Any) -> None:
        self._fastpool_options = {
            name: options.pop(name) for name in OPTIONS if name in options
        }  # before the host's, which calls init_poolmanager
        super().__init__(*given, **options)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._fastpool_options = state["_fastpool_options"]
        super().__setstate__(state)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: Any
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, **options)
        sizes = {"num_pools": connections, "maxsize": maxsize, "block": block}
        self.poolmanager = PoolManager(**sizes, **(options | self._fastpool_options))

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        if proxy in self.proxy_manager:
            return self.proxy_manager[proxy]
        options |= {
            "num_pools": self._pool_connections,
            "maxsize": self._pool_maxsize,
            "block": self._pool_block,
        } | self._fastpool_options
        if proxy.lower().startswith("socks"):
            from .urllib3.socks import SOCKSProxyManager

            username, password = get_auth_from_url(proxy)
            manager: Any = SOCKSProxyManager(proxy, username=username, password=password, **options)
        else:
            manager = proxy_from_url(proxy, proxy_headers=self.proxy_headers(proxy), **options)
        self.proxy_manager[proxy] = manager
        return manager

    def send(self, request: Any, *given: Any, **options: Any) -> requests.Response:
        try:
            return super().send(request, *given, **options)
        except EmptyPoolError as error:  # which requests never meets, since it waits for ever
            raise requests.exceptions.ConnectionError(error, request=request) from error

"""urllib3's pools through a SOCKS proxy, on FastPool; needs PySocks, as urllib3's own do.

http = fastpool.contrib.urllib3.socks.SOCKSProxyManager("socks5h://localhost:1080", maxsize=8)
"""

from __future__ import annotations

import urllib3.contrib.socks as host

from . import ManagerOptions
from ._connections import Connections

__all__ = ["SOCKSHTTPConnectionPool", "SOCKSHTTPSConnectionPool", "SOCKSProxyManager"]


class SOCKSHTTPConnectionPool(Connections, host.SOCKSHTTPConnectionPool):
    """Keywords as in ``fastpool.contrib.urllib3``."""


class SOCKSHTTPSConnectionPool(Connections, host.SOCKSHTTPSConnectionPool):
    """The same over TLS."""


class SOCKSProxyManager(ManagerOptions, host.SOCKSProxyManager):
    """All requests through one SOCKS proxy."""

    pool_classes = {  # noqa: RUF012
        "http": SOCKSHTTPConnectionPool,
        "https": SOCKSHTTPSConnectionPool,
    }

"""`fastpool.contrib.requests` on real servers: direct, and through proxies of each kind."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.contrib import web
from support.helpers import PATIENCE, ThreadRunner, all_warnings, eventually

requests = pytest.importorskip("requests")

from fastpool import PoolError  # noqa: E402
from fastpool.contrib import urllib3 as pools  # noqa: E402
from fastpool.contrib.requests import Adapter  # noqa: E402


@pytest.fixture(params=["http", "https"])
def site(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[web.Site]:
    with web.serving(tls=certificate if request.param == "https" else None) as site:
        yield site


def session(certificate: tuple[Path, Path], **options: Any) -> Any:
    """With one of our adapters for all there is."""
    session = requests.Session()
    session.trust_env = False
    session.verify = str(certificate[1])
    adapter = Adapter(**options)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def stats_of(manager: Any) -> Any:
    """Of the only connection pool of a manager."""
    (key,) = manager.pools.keys()
    return manager.pools[key].fastpool.stats()


def test_a_session_with_our_adapter(site: web.Site, certificate: tuple[Path, Path]) -> None:
    """Responses, redirects and streams as ever; a connection is lent until its body is over."""
    with session(certificate, pool_maxsize=1, pool_block=True, pool_timeout=PATIENCE) as mine:
        manager = mine.get_adapter(site.url).poolmanager
        assert isinstance(manager, pools.PoolManager)
        assert mine.get(site.url + "/move").content == b"hello"
        with mine.get(site.url + "/stream", stream=True) as response:
            assert stats_of(manager).leased == 1
            assert sum(map(len, response.iter_content(1000))) == 16 * 65536
            assert stats_of(manager).leased == 0
        mine.get(site.url + "/stream", stream=True).close()
        assert stats_of(manager).leased == 0
        for path in ("/break", "/cut"):
            with pytest.raises(requests.RequestException):
                mine.get(site.url + path)
        assert mine.get(site.url + "/hello").content == b"hello"
        assert stats_of(manager).leased == 0


def test_a_full_pool_is_an_error_of_theirs(
    site: web.Site, certificate: tuple[Path, Path], runner: ThreadRunner
) -> None:
    """requests waits for ever; with `pool_timeout` it is a ConnectionError, as all else is."""
    with session(certificate, pool_maxsize=1, pool_block=True, pool_timeout=0.02) as mine:
        holder = runner.start(mine.get, site.url + "/wait")
        eventually(lambda: site.waiting == 1)
        with pytest.raises(requests.ConnectionError) as refused:
            mine.get(site.url + "/hello")
        assert isinstance(refused.value.__cause__.__cause__, PoolError)
        assert refused.value.request.url == site.url + "/hello"
        site.gate.set()
        assert holder.result(PATIENCE).content == b"waited"


def test_a_dropped_session_leaves_nothing(site: web.Site, certificate: tuple[Path, Path]) -> None:
    """Neither a warning nor a connection, though it was never closed."""
    with all_warnings() as warned:
        for path in ("/hello", "/break", "/hello"):
            mine = session(certificate, pool_maxsize=2)
            try:
                mine.get(site.url + path)
            except requests.RequestException:
                mine.get(site.url + "/hello")
            del mine
        gc.collect()
        eventually(lambda: not site.open)
    assert not [str(each.message) for each in warned]


def test_proxies(site: web.Site, certificate: tuple[Path, Path]) -> None:
    """Their managers are ours too, with the same keywords."""
    with web.serving(web.ProxyHandler) as proxy:
        with session(certificate, pool_maxsize=1, pool_block=True, name="crawler") as mine:
            mine.proxies = {"http": proxy.url, "https": proxy.url}
            for _ in range(2):
                assert mine.get(site.url + "/hello").content == b"hello"
            (manager,) = mine.get_adapter(site.url).proxy_manager.values()
            assert isinstance(manager, pools.ProxyManager)
            assert stats_of(manager).uses == 2
            assert stats_of(manager).name.startswith("crawler http")
        assert sum(proxy.seen.values()) == (2 if site.scheme == "http" else 1)


def test_socks_proxies(site: web.Site, certificate: tuple[Path, Path]) -> None:
    pytest.importorskip("socks")
    from fastpool.contrib.urllib3.socks import SOCKSProxyManager

    with web.serving(web.SocksHandler) as proxy:
        with session(certificate, pool_maxsize=1, pool_block=True) as mine:
            address = f"socks5h://localhost:{proxy.port}"
            mine.proxies = {"http": address, "https": address}
            for _ in range(2):
                assert mine.get(site.url + "/hello").content == b"hello"
            (manager,) = mine.get_adapter(site.url).proxy_manager.values()
            assert isinstance(manager, SOCKSProxyManager)
            assert stats_of(manager).uses == 2
        assert proxy.seen["SOCKS"] == 1


def test_an_adapter_can_be_pickled(site: web.Site, certificate: tuple[Path, Path]) -> None:
    """With our keywords, as sessions are handed to other processes."""
    mine = session(certificate, pool_maxsize=3, name="copied")
    with pickle.loads(pickle.dumps(mine)) as copy:
        assert copy.get(site.url + "/hello").content == b"hello"
        stats = stats_of(copy.get_adapter(site.url).poolmanager)
        assert stats.name == f"copied {site.url}"
    mine.close()


def test_a_wrong_option_is_told_where_it_is_given() -> None:
    for wrong in ({"fairness": "lucky"}, {"pool_timeout": -1}, {"speed": 3}):
        with pytest.raises((ValueError, TypeError)):
            Adapter(**wrong)

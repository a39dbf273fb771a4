"""Pools that ask Sentinel where the server is: a real sentinel, which watches a real server."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from bench.measure import NotRun
from integration.drivers import killed_servers
from support.helpers import eventually

pytestmark = [pytest.mark.servers, pytest.mark.once]  # an adapter: the pool is tried on each


class Sentinel(killed_servers.Server):
    """Watches nothing yet."""

    def prepare(self) -> list[str]:
        config = self.folder / "sentinel.conf"  # which it rewrites
        config.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n")
        program = killed_servers.program("redis-server", "redis-server")
        return [program, str(config), "--sentinel"]


@pytest.fixture(scope="module")
def sentinel(killed_redis: killed_servers.Server) -> Iterator[int]:
    """The port of one that watches `killed_redis` as "here"."""
    redis = pytest.importorskip("redis")
    try:
        with killed_servers.running(Sentinel) as server:
            watcher = redis.Redis(port=server.port)
            watcher.sentinel_monitor("here", "127.0.0.1", killed_redis.port, 1)
            eventually(lambda: watcher.sentinel_masters()["here"]["flags"] == "master")
            watcher.close()
            yield server.port
    except NotRun as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("host", ["redis", "valkey"])
@pytest.mark.parametrize("kind", ["SentinelConnectionPool", "SentinelBlockingConnectionPool"])
def test_threads_find_the_server(host: str, kind: str, sentinel: int, killed_redis: Any) -> None:
    """The class is all that has to be said; the address is that of the sentinel's answer."""
    pytest.importorskip(host)
    ours = getattr(importlib.import_module(f"fastpool.contrib.{host}"), kind)
    theirs = importlib.import_module(f"{host}.sentinel").Sentinel([("127.0.0.1", sentinel)])
    client = theirs.master_for("here", connection_pool_class=ours, max_connections=2)
    for _ in range(3):
        assert client.ping()
    pool = client.connection_pool
    assert pool.master_address == ("127.0.0.1", killed_redis.port)
    assert pool.fastpool.stats().created == pool.fastpool.stats().open == 1
    pool.proxy.master_address = ("127.0.0.1", 1)  # as if it were another server by now
    assert client.ping()
    assert pool.fastpool.stats().open == 0  # the connection to this one was not kept
    assert client.ping()
    assert pool.fastpool.stats().leased == 0
    pool.reset()
    assert pool.master_address is None
    client.close()
    pool.disconnect()
    for each in theirs.sentinels:
        each.close()


@pytest.mark.parametrize("host", ["redis", "valkey"])
@pytest.mark.parametrize("kind", ["SentinelConnectionPool", "SentinelBlockingConnectionPool"])
def test_tasks_find_the_server(host: str, kind: str, sentinel: int, killed_redis: Any) -> None:
    """The same for asyncio."""
    pytest.importorskip(host)
    ours = getattr(importlib.import_module(f"fastpool.contrib.{host}.asyncio"), kind)
    package = importlib.import_module(f"{host}.asyncio.sentinel")

    async def main() -> None:
        theirs = package.Sentinel([("127.0.0.1", sentinel)])
        client = theirs.master_for("here", connection_pool_class=ours, max_connections=2)
        for _ in range(3):
            assert await client.ping()
        pool = client.connection_pool
        assert pool.master_address == ("127.0.0.1", killed_redis.port)
        assert pool.fastpool.stats().created == 1
        pool.reset()
        assert pool.master_address is None
        assert await client.ping()
        await pool.aclose()
        await client.aclose()
        for each in theirs.sentinels:
            await each.aclose()

    asyncio.run(main())

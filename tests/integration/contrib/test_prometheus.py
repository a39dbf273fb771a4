"""`contrib.prometheus`: what a scrape over HTTP finds."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from fastpool import FastPool, KeyedPool, PoolTimeout, SharedPool, WeightedSemaphore
from fastpool.contrib.prometheus import Collector
from support.budgets import ScriptedBudget

pytestmark = pytest.mark.once  # an exporter: its figures come from `stats()`

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def scrape(registry: CollectorRegistry) -> Iterator[Any]:
    """Samples by name and labels, as Prometheus would see them."""
    server, thread = start_http_server(0, "127.0.0.1", registry)

    def scrape() -> dict[Any, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as page:
            text = page.read().decode()
        found: dict[Any, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, *sorted(sample.labels.values()))
                assert key not in found, f"{key} twice"
                found[key] = sample.value
        return found

    yield scrape
    server.shutdown()
    server.server_close()
    thread.join()


def test_permits_of_a_budget_are_there(registry: CollectorRegistry, scrape: Any) -> None:
    """Those of the pools of one name are added up; of a pool without a budget there are none."""
    budget = ScriptedBudget()
    pools = [FastPool(9, factory=object, name="db", budget=budget) for _ in range(2)]
    Collector(registry, pools=lambda: [*pools, FastPool(1, factory=object, name="other")])
    for member in budget.joined:
        member.allow(3)
    found = scrape()
    assert found["fastpool_budget_allowance", "db"] == 6
    assert found["fastpool_budget_wanted", "db"] == 14
    assert found["fastpool_budget_limit", "db"] == found["fastpool_budget_in_force", "db"] == 60
    assert ("fastpool_budget_allowance", "other") not in found


def test_what_a_pool_counts_is_there(registry: CollectorRegistry, scrape: Any) -> None:
    pool = FastPool(2, factory=object, name="db")
    Collector(registry, pools=lambda: [pool])
    with pool.lease(), pool.lease():
        with pytest.raises(PoolTimeout):
            pool.acquire(0)
        found = scrape()
        assert found["fastpool_connections", "db", "leased"] == 2
    pool.flush()
    for _ in range(5):
        pool.acquire().release()
    found = scrape()
    assert found["fastpool_connections", "db", "idle"] == 1
    assert found["fastpool_connections_max", "db"] == 2
    assert found["fastpool_pending_requests", "db"] == 0
    assert found["fastpool_timeouts_total", "db"] == 1
    assert found["fastpool_created_total", "db"] == 3
    assert found["fastpool_closed_total", "db", "flushed"] == 2
    assert found["fastpool_create_seconds_count", "db"] == 3
    pool.close()


def test_whoever_got_one_at_once_counts_as_quick(registry: CollectorRegistry, scrape: Any) -> None:
    with FastPool(1, factory=object, name="db") as pool:
        Collector(registry, pools=lambda: [pool])
        for _ in range(100):
            pool.acquire().release()
        found = scrape()
        assert found["fastpool_acquire_seconds_count", "db"] == pool.stats().uses == 100
        assert found["fastpool_acquire_seconds_bucket", "0.000128", "db"] >= 99
        assert found["fastpool_acquire_seconds_sum", "db"] == pool.stats().wait_time.total


def test_buckets_are_cumulative_and_say_where_times_fall(
    registry: CollectorRegistry, scrape: Any
) -> None:
    with FastPool(1, factory=object, name="db") as pool:
        Collector(registry, pools=lambda: [pool])
        pool.acquire().release()
        (exponent,) = (i for i, n in enumerate(pool.stats().create_time.counts) if n)
        found = scrape()
    buckets = {
        float(key[1]): value
        for key, value in found.items()
        if key[0] == "fastpool_create_seconds_bucket"
    }
    assert list(buckets.values()) == sorted(buckets.values())
    for bound, count in buckets.items():
        assert count == (2.0**exponent * 1e-6 <= bound), (bound, exponent)


def test_pools_of_one_name_are_added_up(registry: CollectorRegistry, scrape: Any) -> None:
    pools = [FastPool(2, factory=object, name="same") for _ in range(3)]
    Collector(registry, prefix="mine", pools=lambda: pools)
    for pool in pools:
        pool.acquire().release()
    found = scrape()
    assert found["mine_connections", "idle", "same"] == 3
    assert found["mine_connections_max", "same"] == 6
    for pool in pools:
        pool.close()


def keyed_thing(key: str) -> object:
    return object()


def test_every_kind_that_is_alive_is_there(registry: CollectorRegistry, scrape: Any) -> None:
    collector = Collector(registry)
    queue: FastPool[int] = FastPool(3, name="a queue")
    with (
        KeyedPool(keyed_thing, max_total=5, name="keys") as keyed,
        SharedPool(object, name="shares") as shared,
        keyed.lease("a"),
        shared.lease(),
        WeightedSemaphore(4, name="units").hold(3),
    ):
        found = scrape()
        assert found["fastpool_connections", "keys", "leased"] == 1
        assert found["fastpool_connections", "leased", "shares"] == 1
        assert ("fastpool_connections_max", queue.name) not in found
        assert found["fastpool_semaphore_in_use", "units"] == 3
        assert found["fastpool_semaphore_size", "units"] == 4
    collector.close()
    assert not any("fastpool" in key[0] for key in scrape())


def test_a_pool_without_a_cap_has_no_maximum(registry: CollectorRegistry, scrape: Any) -> None:
    with FastPool(0, factory=object, name="free") as pool:
        Collector(registry, pools=lambda: [pool])
        assert scrape()["fastpool_connections_max", "free"] == float("inf")


def test_the_board_asks_for_metrics_that_there_are(
    registry: CollectorRegistry, scrape: Any
) -> None:
    board = json.loads((ROOT / "docs/grafana.json").read_text())
    asked = set(re.findall(r"fastpool_[a-z_]+", json.dumps(board["panels"])))
    with FastPool(1, factory=object, name="db") as pool:
        Collector(registry, pools=lambda: [pool])
        pool.acquire().release()
        pool.flush()
        found = {key[0] for key in scrape()}
    assert len(asked) > 8 and asked <= found, asked - found


def test_pools_is_a_callable(registry: CollectorRegistry) -> None:
    with pytest.raises(TypeError, match="a callable"):
        Collector(registry, pools=[])  # type: ignore[arg-type]

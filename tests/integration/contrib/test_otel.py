"""`contrib.otel`: what the real SDK collects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from fastpool import FastPool, KeyedPool, PoolTimeout, SharedPool, WeightedSemaphore
from fastpool.contrib import otel
from support.budgets import ScriptedBudget
from support.helpers import ThreadRunner, eventually

pytestmark = pytest.mark.once  # an exporter: its figures come from `stats()`

PREFIX = "db.client.connection"


class Sdk:
    """The SDK, and what it has collected."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])

    def collect(self) -> dict[str, Any]:
        """Points by the instrument's name, its unit beside them."""
        data: Any = self.reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def values(self, name: str) -> dict[tuple[Any, ...], Any]:
        """The values of an instrument, or the counts of a histogram, by attributes."""
        metric = self.collect().get(f"{PREFIX}.{name}")
        return {
            tuple(value for _, value in sorted(point.attributes.items())): (
                point.count if hasattr(point, "bucket_counts") else point.value
            )
            for point in (metric.data.data_points if metric else ())
        }


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    sdk = Sdk()
    yield sdk
    sdk.provider.shutdown()


def test_names_and_units_are_those_of_the_conventions(sdk: Sdk) -> None:
    with FastPool(2, factory=object, name="db") as pool:
        otel.instrument(sdk.provider, pools=lambda: [pool])
        pool.acquire().release()
        # the pool's own thread says how long it took
        eventually(lambda: f"{PREFIX}.create_time" in sdk.collect())
        found = {name: metric.unit for name, metric in sdk.collect().items()}
    assert found == {
        f"{PREFIX}.count": "{connection}",
        f"{PREFIX}.max": "{connection}",
        f"{PREFIX}.idle.max": "{connection}",
        f"{PREFIX}.idle.min": "{connection}",
        f"{PREFIX}.pending_requests": "{request}",
        f"{PREFIX}.timeouts": "{timeout}",
        f"{PREFIX}.create_time": "s",
        f"{PREFIX}.wait_time": "s",
    }


def test_permits_of_a_budget_are_there(sdk: Sdk) -> None:
    with FastPool(9, factory=object, name="db", budget=ScriptedBudget()) as pool:
        otel.instrument(sdk.provider, pools=lambda: [pool])
        assert sdk.values("budget.allowance") == {("db",): 0}
        assert sdk.values("budget.wanted") == {("db",): 7}


def test_sizes_are_those_of_the_moment(sdk: Sdk, runner: ThreadRunner) -> None:
    with FastPool(1, factory=object, name="db", min_idle=1) as pool:
        otel.instrument(sdk.provider, pools=lambda: [pool])
        eventually(lambda: pool.stats().idle == 1)
        assert sdk.values("count") == {("db", "idle"): 1, ("db", "used"): 0}
        lease = pool.acquire()
        waiter = runner.start(lambda: pool.acquire().release())
        eventually(lambda: pool.stats().waiting == 1)
        assert sdk.values("count") == {("db", "idle"): 0, ("db", "used"): 1}
        assert sdk.values("pending_requests") == {("db",): 1}
        assert sdk.values("max") == sdk.values("idle.max") == sdk.values("idle.min") == {("db",): 1}
        with pytest.raises(PoolTimeout):
            pool.acquire(0)
        assert sdk.values("timeouts") == {("db",): 1}
        lease.release()
        waiter.result()
        assert sdk.values("wait_time")["db",] >= 1


def test_all_times_of_pools_made_later_are_recorded(sdk: Sdk) -> None:
    """Those before the first collection, too."""
    handle = otel.instrument(sdk.provider)
    pools: list[Any] = [
        FastPool(2, factory=object, name="later"),
        KeyedPool(lambda key: object(), name="later keys"),
        SharedPool(object, items=(0, 8), name="later shares"),
    ]
    for pool in pools:
        key = ["a"] if isinstance(pool, KeyedPool) else []
        pool.acquire(*key).release()
    for name in ("create_time", "wait_time"):
        eventually(lambda name=name: len({k for k in sdk.values(name) if "later" in k[0]}) == 3)
    handle.uninstrument()
    for pool in pools:
        pool.close()


def test_pools_are_let_go(sdk: Sdk) -> None:
    handle = otel.instrument(sdk.provider)
    pool = FastPool(2, factory=object, name="dropped", warn_unclosed=False)
    pool.acquire().release()
    assert ("dropped", "idle") in sdk.values("count")
    del pool
    gc.collect()
    eventually(lambda: ("dropped", "idle") not in sdk.values("count"))
    handle.uninstrument()


def test_what_is_no_pool_of_resources_is_left_out(sdk: Sdk) -> None:
    queue: FastPool[int] = FastPool(3, name="a queue")
    semaphore = WeightedSemaphore(3, name="units")
    otel.instrument(sdk.provider, prefix="fastpool", pools=lambda: [queue, semaphore])
    assert not any(metric.data.data_points for metric in sdk.collect().values())


def test_uninstrument_ends_it(sdk: Sdk) -> None:
    with FastPool(2, factory=object, name="db") as pool:
        handle = otel.instrument(sdk.provider, pools=lambda: [pool])
        pool.acquire().release()
        eventually(lambda: sdk.values("create_time") == {("db",): 1})
        handle.uninstrument()
        handle.uninstrument()
        pool.flush()
        pool.acquire().release()
        assert sdk.values("create_time") == {("db",): 1}
        assert sdk.values("count") == {}


def test_pools_is_a_callable() -> None:
    with pytest.raises(TypeError, match="a callable"):
        otel.instrument(pools=[])  # type: ignore[arg-type]

"""All pools of the process as Prometheus metrics: `Collector()`, once in a program.

It counts nothing itself: a scrape reads what the pools count anyway, so borrowers pay nothing.
Pools of one name are added up.  Of `fastpool_use_seconds` one use in 128 is measured, all of them
with ``leak_after``.

In a server of several processes each has pools of its own: let each be scraped, or push.  The
multiprocess mode of prometheus_client does not merge collectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeVar

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector as BaseCollector
except ImportError as error:
    raise ImportError(
        "fastpool.contrib.prometheus needs prometheus_client: pip install 'fastpool[prometheus]'"
    ) from error

import fastpool
from fastpool.stats import Histogram, PoolStats

__all__ = ["Collector"]

STATES = ("idle", "leased", "creating", "checking", "closing")
TIMES = {
    "acquire": ("wait_time", "Time to acquire a resource; those who got one at once included."),
    "create": ("create_time", "Time of a creation that went well."),
    "use": ("use_time", "Time that a resource was leased, of one use in 128."),
}
COUNTERS = {
    "timeouts": "Callers and hooks whose time ran out.",
    "overloads": "Callers refused since too many waited.",
    "created": "Resources created.",
    "create_failures": "Calls of the factory that raised.",
}
OF_POOL = {
    "allowance": "Permits of its budget that a pool has.",
    "wanted": "Permits of its budget that a pool has a use for.",
}
PERMITS = OF_POOL | {
    "limit": "Permits of the budget in all.",
    "in_force": "Permits of the budget that its members have.",
}
#: Of the pools' own bounds, powers of two in microseconds, those from 0.1 ms to 17 s.
POWERS = (7, 9, 11, 13, 15, 17, 19, 20, 22, 24)
BOUNDS = [str(2.0**power * 1e-6) for power in POWERS]


N = TypeVar("N", int, float)


@dataclass
class Sums:
    """The pools of one name together."""

    states: list[int] = field(default_factory=lambda: [0] * len(STATES))
    most: float = 0
    waiting: int = 0
    overdue: int = 0
    permits: dict[str, int] = field(default_factory=dict)
    counters: list[int] = field(default_factory=lambda: [0] * len(COUNTERS))
    closed: dict[str, int] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)  # buckets, then the sum

    def add(self, stats: PoolStats) -> None:
        self.states = _added(self.states, [getattr(stats, state) for state in STATES])
        self.most += stats.maxsize or float("inf")
        self.waiting += stats.waiting
        self.overdue += stats.overdue
        if stats.budget is not None:
            for name in PERMITS:
                n = getattr(stats.budget, name)
                self.permits[name] = n + (self.permits.get(name, 0) if name in OF_POOL else 0)
        self.counters = _added(self.counters, [getattr(stats, name) for name in COUNTERS])
        for why, n in stats.closed.items():
            self.closed[why] = self.closed.get(why, 0) + n
        for name, (attribute, _) in TIMES.items():
            times: Histogram = getattr(stats, attribute)
            at_once = max(0, stats.uses - times.count) if name == "acquire" else 0
            new = _cumulative(times, at_once)
            self.times[name] = _added(self.times[name], new) if name in self.times else new


def _added(some: list[N], others: list[N]) -> list[N]:
    return [a + b for a, b in zip(some, others, strict=True)]


def _cumulative(times: Histogram, at_once: int) -> list[float]:
    """How many took at most each of the bounds, how many there are, and the sum of all."""
    below = list(accumulate(times.counts, initial=at_once))  # below[i]: less than 2**(i-1) us
    return [*(below[power + 1] for power in POWERS), below[-1], times.total]


class Collector(BaseCollector):
    """Collector(registry=None, prefix="fastpool", pools=None)

    Registers itself.  ``registry``: with; None: the default one of prometheus_client.  ``prefix``:
    of the metrics' names.  ``pools``: a callable that returns those to be shown; None: all that are
    alive at the scrape.  Thread-safe; a scrape takes some 0.5 ms a name, two thirds of it
    prometheus_client's text.  ``close()`` takes it out of the registry.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        prefix: str = "fastpool",
        pools: Callable[[], Iterable[Any]] | None = None,
    ) -> None:
        if pools is not None and not callable(pools):
            raise TypeError(f"pools must be a callable that returns pools, not {pools!r:.60}")
        self._registry = REGISTRY if registry is None else registry
        self._prefix = prefix
        self._pools = fastpool.pools if pools is None else pools
        self._registry.register(self)

    def close(self) -> None:
        """Take it out of the registry."""
        self._registry.unregister(self)

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering it looks at no pool."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What the pools are at: called by a scrape."""
        pools: dict[str, Sums] = {}
        semaphores: dict[str, list[int]] = {}
        for pool in self._pools():
            stats = _stats(pool)
            if isinstance(stats, PoolStats):
                pools.setdefault(stats.name, Sums()).add(stats)
            elif stats is None and hasattr(pool, "in_use"):
                sums = semaphores.setdefault(pool.name, [0, 0, 0])
                for i, n in enumerate((pool.in_use, pool.size, pool.waiting)):
                    sums[i] += n
        yield from self._of_pools(pools)
        yield from self._of_semaphores(semaphores)

    def _of_pools(self, pools: dict[str, Sums]) -> Iterator[Metric]:
        name = self._prefix
        sizes = GaugeMetricFamily(
            f"{name}_connections", "Open resources, by state.", labels=("pool", "state")
        )
        most = GaugeMetricFamily(
            f"{name}_connections_max", "Most resources open at once.", labels=("pool",)
        )
        waiting = GaugeMetricFamily(
            f"{name}_pending_requests", "Callers who wait.", labels=("pool",)
        )
        overdue = GaugeMetricFamily(
            f"{name}_overdue_hooks", "Hooks past their deadline.", labels=("pool",)
        )
        closed = CounterMetricFamily(
            f"{name}_closed", "Resources closed, by reason.", labels=("pool", "reason")
        )
        counters = [
            CounterMetricFamily(f"{name}_{counter}", text, labels=("pool",))
            for counter, text in COUNTERS.items()
        ]
        for pool, sums in pools.items():
            for state, n in zip(STATES, sums.states, strict=True):
                sizes.add_metric((pool, state), n)
            most.add_metric((pool,), sums.most)
            waiting.add_metric((pool,), sums.waiting)
            overdue.add_metric((pool,), sums.overdue)
            for why, n in sums.closed.items():
                closed.add_metric((pool, why), n)
            for family, n in zip(counters, sums.counters, strict=True):
                family.add_metric((pool,), n)
        yield from (sizes, most, waiting, overdue, closed, *counters)
        for permits, text in PERMITS.items():
            gauge = GaugeMetricFamily(f"{name}_budget_{permits}", text, labels=("pool",))
            for pool, sums in pools.items():
                if sums.permits:
                    gauge.add_metric((pool,), sums.permits[permits])
            yield gauge
        for time, (_, text) in TIMES.items():
            histogram = HistogramMetricFamily(f"{name}_{time}_seconds", text, labels=("pool",))
            for pool, sums in pools.items():
                *counts, count, total = sums.times[time]
                buckets = [*zip(BOUNDS, counts, strict=True), ("+Inf", count)]
                histogram.add_metric((pool,), buckets, total)
            yield histogram

    def _of_semaphores(self, semaphores: dict[str, list[int]]) -> Iterator[Metric]:
        texts = {
            "in_use": "Units of a semaphore that are held.",
            "size": "Units of a semaphore.",
            "waiting": "Callers who wait for units.",
        }
        for i, (what, text) in enumerate(texts.items()):
            family = GaugeMetricFamily(
                f"{self._prefix}_semaphore_{what}", text, labels=("semaphore",)
            )
            for semaphore, sums in semaphores.items():
                family.add_metric((semaphore,), sums[i])
            yield family


def _stats(pool: Any) -> Any:
    """The stats of a pool; None where it has none, as one in queue use."""
    try:
        return pool.stats()
    except (AttributeError, TypeError):
        return None

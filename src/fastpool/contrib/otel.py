"""All pools of the process as OpenTelemetry metrics: `instrument()`, once in a program.

The instruments are those of the semantic conventions for database clients, `db.client.connection.*`
(in development there, as of 1.40), with `db.client.connection.pool.name`.  Counts are read when
the SDK collects.  Times are recorded where a borrower has waited anyway, or a resource was made;
who got one at once pays nothing and is not in `wait_time`, other than the convention has it.
Spans are not ours.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

try:
    from opentelemetry.metrics import (
        CallbackOptions,
        Meter,
        MeterProvider,
        Observation,
        get_meter_provider,
    )
except ImportError as error:
    raise ImportError(
        "fastpool.contrib.otel needs opentelemetry-api 1.30 or newer: pip install 'fastpool[otel]'"
    ) from error

import fastpool
from fastpool.stats import PoolStats

__all__ = ["Instrumentation", "instrument"]

NAME = "db.client.connection.pool.name"
STATE = "db.client.connection.state"
#: Seconds; those of redis-py, so that one panel shows both.
BOUNDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


def instrument(
    meter_provider: MeterProvider | None = None,
    prefix: str = "db.client.connection",
    pools: Callable[[], Iterable[Any]] | None = None,
) -> Instrumentation:
    """Record what all pools do, those made later included; a handle with ``uninstrument()``.

    ``meter_provider``: None: the global one.  ``prefix``: of the instruments' names; say "fastpool"
    for what is no database.  ``pools``: a callable that returns the pools to be shown; None: all
    that are alive.  Of a pool made later times are recorded from the next collection on.
    """
    if pools is not None and not callable(pools):
        raise TypeError(f"pools must be a callable that returns pools, not {pools!r:.60}")
    provider = get_meter_provider() if meter_provider is None else meter_provider
    meter = provider.get_meter("fastpool", fastpool.__version__)
    return Instrumentation(meter, prefix, fastpool.pools if pools is None else pools)


class Instrumentation:
    """What ``instrument`` has begun.  Thread-safe."""

    def __init__(self, meter: Meter, prefix: str, pools: Callable[[], Iterable[Any]]) -> None:
        self._pools = pools
        self._lock = threading.Lock()
        self._listened: weakref.WeakSet[Any] = weakref.WeakSet()
        self._over = False
        self._times = Times(meter, prefix)
        for name, unit, text, observe in GAUGES:
            meter.create_observable_up_down_counter(
                f"{prefix}.{name}", [self._callback(observe)], unit=unit, description=text
            )
        meter.create_observable_counter(
            f"{prefix}.timeouts",
            [self._callback(_timeouts)],
            unit="{timeout}",
            description="Callers whose time ran out.",
        )
        self._listen()

    def uninstrument(self) -> None:
        """Record nothing any more.  Idempotent; the instruments of the SDK stay, empty."""
        with self._lock:
            self._over = True
            listened = list(self._listened)
            self._listened.clear()
        for pool in listened:
            pool.remove_listener(self._times)

    def _callback(self, observe: Observe) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda options: self._observe(observe)

    def _observe(self, observe: Observe) -> list[Observation]:
        if self._over:
            return []
        sums: dict[tuple[str, str], float] = {}
        for pool in self._listen():
            stats = pool.stats()
            for state, value in observe(pool, stats):
                sums[stats.name, state] = sums.get((stats.name, state), 0) + value
        return [
            Observation(value, {NAME: name, STATE: state} if state else {NAME: name})
            for (name, state), value in sums.items()
        ]

    def _listen(self) -> list[Any]:
        """The pools that have stats; to new ones a listener is added."""
        found = [pool for pool in self._pools() if _has_stats(pool)]
        with self._lock:
            new = [] if self._over else [pool for pool in found if pool not in self._listened]
            self._listened.update(new)
        for pool in new:
            pool.add_listener(self._times)
        return found


class Times:
    """The listener: records one time after the other."""

    def __init__(self, meter: Meter, prefix: str) -> None:
        self._create, self._wait, self._use = (
            meter.create_histogram(
                f"{prefix}.{name}",
                unit="s",
                description=text,
                explicit_bucket_boundaries_advisory=BOUNDS,
            )
            for name, text in (
                ("create_time", "Time of a creation."),
                ("wait_time", "Time of those who waited for a resource."),
                ("use_time", "Time that a resource was leased; a sample."),
            )
        )

    def created(self, pool: Any, seconds: float) -> None:
        self._create.record(seconds, {NAME: pool.name})

    def acquired_after_wait(self, pool: Any, seconds: float) -> None:
        self._wait.record(seconds, {NAME: pool.name})

    def used(self, pool: Any, seconds: float) -> None:
        self._use.record(seconds, {NAME: pool.name})


Observe = Callable[[Any, PoolStats], Iterator[tuple[str, float]]]


def _count(pool: Any, stats: PoolStats) -> Iterator[tuple[str, float]]:
    yield "idle", stats.idle
    yield "used", stats.leased + stats.checking


def _most(pool: Any, stats: PoolStats) -> Iterator[tuple[str, float]]:
    if stats.maxsize:
        yield "", stats.maxsize


def _most_idle(pool: Any, stats: PoolStats) -> Iterator[tuple[str, float]]:
    most = pool.options.get("max_idle") or stats.maxsize
    if most:
        yield "", most


def _least_idle(pool: Any, stats: PoolStats) -> Iterator[tuple[str, float]]:
    yield "", pool.options.get("min_idle", 0)


def _pending(pool: Any, stats: PoolStats) -> Iterator[tuple[str, float]]:
    yield "", stats.waiting


def _timeouts(pool: Any, stats: PoolStats) -> Iterator[tuple[str, float]]:
    yield "", stats.timeouts


GAUGES: tuple[tuple[str, str, str, Observe], ...] = (
    ("count", "{connection}", "Open resources, by state.", _count),
    ("max", "{connection}", "Most resources open at once.", _most),
    ("idle.max", "{connection}", "Most resources kept idle.", _most_idle),
    ("idle.min", "{connection}", "Fewest resources kept idle.", _least_idle),
    ("pending_requests", "{request}", "Callers who wait.", _pending),
)


def _has_stats(pool: Any) -> bool:
    """Whether it is a pool of resources; one in queue use has none."""
    try:
        return isinstance(pool.stats(), PoolStats)
    except (AttributeError, TypeError):
        return False

"""All pools of the process as OpenTelemetry metrics: `instrument()`, once in a program.

The instruments are those of the semantic conventions for database clients, `db.client.connection.*`
(in development there, as of 1.40), with `db.client.connection.pool.name`.  Counts are read when
the SDK collects.  Times are recorded where a borrower has waited anyway, or a resource was made;
who got one at once pays nothing and is not in `wait_time`, other than the convention has it.
Spans are not ours.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
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
from fastpool import debug
from fastpool.stats import PoolStats

__all__ = ["Instrumentation", "instrument"]

NAME = "db.client.connection.pool.name"
STATE = "db.client.connection.state"
#: Seconds; those of redis-py, so that one panel shows both.
BOUNDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


def instrument(
    meter_provider: MeterProvider | None = None,
    prefix: str = "db.client.connection",
    pools: Callable[[], Iterable[Any]] | None | None = None,
) -> Instrumentation:
    """Record what all pools do, those made later included; a handle with ``uninstrument()``.

    ``meter_provider``: None: the global one.  ``prefix``: of the instruments' names; say "fastpool"
    for what is no database.  ``pools``: a callable that returns the pools to be shown; None: all
    that are alive.  With ``pools`` times are recorded from the next collection on of what it has
    not returned before.
    """
    if pools is not None and not callable(pools):
        raise TypeError(f"pools must be a callable that returns pools, not {pools!r:.60}")
    provider = get_meter_provider() if meter_provider is None else meter_provider
    meter = provider.get_meter("fastpool", fastpool.__version__)
    return Instrumentation(meter, prefix, pools)


class Instrumentation:
    """What ``instrument`` has begun.  Thread-safe."""

    def __init__(
        self, meter: Meter, prefix: str, pools: Callable[[], Iterable[Any]] | None
    ) -> None:
        self._pools = fastpool.pools if pools is None else pools
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
        self._end = debug.follow(self._look) if pools is None else None
        for pool in self._pools():  # after that: none is missed
            self._look(pool)

    def uninstrument(self) -> None:
        """Record nothing any more.  Idempotent; the instruments of the SDK stay, empty."""
        self._over = True
        if self._end is not None:
            self._end()
        for pool in list(self._listened):
            self._leave(pool)

    def _callback(self, observe: Observe) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda options: self._observe(observe)

    def _observe(self, observe: Observe) -> list[Observation]:
        if self._over:
            return []
        sums: dict[tuple[str, str], float] = {}
        for pool in self._pools():
            stats = self._look(pool)
            if stats is None:
                continue
            for state, value in observe(pool, stats):
                sums[stats.name, state] = sums.get((stats.name, state), 0) + value
        return [
            Observation(value, {NAME: name, STATE: state} if state else {NAME: name})
            for (name, state), value in sums.items()
        ]

    def _look(self, pool: Any) -> PoolStats | None:
        """The stats of a pool, to which a listener is added; None: it is no pool of resources.

        Takes no lock: it runs wherever a pool is made, in a finaliser or a signal handler too.
        """
        stats = _stats(pool)
        if stats is not None and not self._over and pool not in self._listened:
            self._listened.add(pool)
            pool.add_listener(self._times)  # a second time changes nothing
            if self._over:  # by another thread, meanwhile
                self._leave(pool)
        return stats

    def _leave(self, pool: Any) -> None:
        self._listened.discard(pool)
        with suppress(ValueError):  # another thread was quicker
            pool.remove_listener(self._times)


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


def _allowance(pool: Any, stats: PoolStats) -> Iterator[tuple[str, float]]:
    if stats.budget is not None:
        yield "", stats.budget.allowance


def _permits_wanted(pool: Any, stats: PoolStats) -> Iterator[tuple[str, float]]:
    if stats.budget is not None:
        yield "", stats.budget.wanted


GAUGES: tuple[tuple[str, str, str, Observe], ...] = (
    ("count", "{connection}", "Open resources, by state.", _count),
    ("max", "{connection}", "Most resources open at once.", _most),
    ("idle.max", "{connection}", "Most resources kept idle.", _most_idle),
    ("idle.min", "{connection}", "Fewest resources kept idle.", _least_idle),
    ("pending_requests", "{request}", "Callers who wait.", _pending),
    ("budget.allowance", "{permit}", "Permits of its budget that a pool has.", _allowance),
    ("budget.wanted", "{permit}", "Permits that a pool has a use for.", _permits_wanted),
)


def _stats(pool: Any) -> PoolStats | None:
    """None: it is no pool of resources, but a queue or a semaphore, say."""
    try:
        stats = pool.stats()
    except (AttributeError, TypeError):
        return None
    return stats if isinstance(stats, PoolStats) else None

"""V1, V2: what it costs to be looked at: metrics, a listener, the debug socket.

The pool of V1 is the same object in all blocks, which take turns: one without any of them, one with
all of them.  V2 is CPU of one scrape of pools that all have names of their own: the whole, our
share of it, and the text that prometheus_client makes of metrics that are ready.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.adapter import pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Case, NotRun, Series, pair_times, quartiles

LEASE = "with pool.lease() as resource: pass"
ASYNC_LEASE = "async with pool.lease() as resource: pass"
BLOCK = 3  # rounds of one block
POOLS = 100
EVENTS = ("created", "closed", "acquired_after_wait", "timed_out", "create_failed", "used")


class Listener:
    """Takes part in everything and does nothing."""

    def ignore(self, *args: Any) -> None:
        pass


for _event in EVENTS:
    setattr(Listener, _event, Listener.ignore)


def collector() -> tuple[Any, Any]:
    """A registry of prometheus_client with our collector, and the function that scrapes it."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError:
        raise NotRun("prometheus_client is not installed") from None
    from fastpool.contrib.prometheus import Collector

    registry = CollectorRegistry()
    Collector(registry=registry)
    return registry, generate_latest


@contextmanager
def observed(pool: Any) -> Iterator[None]:
    """The pool has a listener, is scraped once, and the debug socket is open and was asked."""
    from fastpool import debug

    registry, scrape = collector()
    with ExitStack() as stack:
        server = stack.enter_context(debug.serve())
        with debug.connect(server.address) as viewer:
            viewer.ask(get="pools", holders=True)
        listener = Listener()
        pool.add_listener(listener)
        stack.callback(pool.remove_listener, listener)
        scrape(registry)
        yield


def v1(effort: Effort) -> Iterator[Figure]:
    for key, statement, runner in (
        ("V1a", LEASE, None),
        ("V1b", ASYNC_LEASE, asyncio.Runner()),
    ):
        pool = pool_use()
        cases = {"lease": Case(statement, {"pool": pool})}
        off: list[float] = []
        on: list[float] = []

        def block() -> tuple[float, ...]:
            return pair_times(cases, rounds=BLOCK, runner=runner)["lease"].samples  # noqa: B023

        try:
            for turn in range(effort.rounds):
                for watched in (turn % 2 == 0, turn % 2 == 1):
                    if watched:
                        with observed(pool):
                            on.extend(block())
                    else:
                        off.extend(block())
        finally:
            pool.close()
            if runner is not None:
                runner.close()
        yield of_ratio(key, Series(tuple(on)), Series(tuple(off)))


class Ready:
    """A registry that holds the metrics of one scrape ready: what is left is the library's text."""

    def __init__(self, registry: Any) -> None:
        self.metrics = list(registry.collect())

    def collect(self) -> Any:
        return self.metrics


def v2(effort: Effort) -> Iterator[Figure]:
    registry, scrape = collector()
    pools = [pool_use() for _ in range(POOLS)]
    try:
        ready = Ready(registry)
        calls: dict[str, Callable[[], Any]] = {
            "V2a": lambda: scrape(registry),
            "V2b": lambda: list(registry.collect()),
            "V2c": lambda: scrape(ready),
        }
        took: dict[str, list[float]] = {key: [] for key in calls}
        for _ in range(effort.rounds):
            for key, call in calls.items():
                start = time.thread_time_ns()
                call()
                took[key].append((time.thread_time_ns() - start) / 1e6)
        for key, samples in took.items():
            low, high = quartiles(samples)
            yield Figure(key, statistics.median(samples), low, high)
    finally:
        for pool in pools:
            pool.close()

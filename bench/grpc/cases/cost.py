"""G2: what a call costs more than on a bare channel, and what that leaves of the rate.

Bare grpcio takes part twice, under two names, and all three take turns call by call, each round
beginning with another. A figure is the median over the rounds of the difference to bare in the same
round. CPU time does not count what other programs take, and what disturbs the machine for longer
than a call cancels: samples of a hundred calls were twenty times less certain here. The second bare
contestant's difference should be nothing; what it is instead stands in the bare column, and is what
the instrument cannot see. The rates are of turns of a few hundred calls, made by many at once.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any, NamedTuple

import grpc
import grpc.aio

from bench.grpc.adapter import aio_shared, shared
from bench.grpc.cases import Effort, Figure, Reading, missing
from bench.grpc.clients import PATIENCE, Method, unary
from bench.grpc.server import GrpcServer

MESSAGE = b"x" * 64
TASKS, THREADS = 100, 8  # that call at once, for the rates
CALLS = 50  # of each of those threads in one turn
SWEEP = 200  # rounds of single calls between two collections
NAMES = ("bare", "again", "ours")


class Sample(NamedTuple):
    """Seconds a call."""

    thread: float
    process: float
    wall: float


class Clock:
    """Times a block that makes `calls` calls."""

    def __init__(self, calls: int = 1) -> None:
        self.calls = calls

    def __enter__(self) -> Clock:
        self._begun = (time.thread_time(), time.process_time(), time.perf_counter())
        return self

    def __exit__(self, *exc_info: object) -> None:
        ended = (time.thread_time(), time.process_time(), time.perf_counter())
        self.sample = Sample(*((b - a) / self.calls for a, b in zip(self._begun, ended)))


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """It runs when the block ends."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect(0)


Samples = dict[str, list[Sample]]


def order(names: list[str], round_: int) -> list[str]:
    """Everybody comes first, second and third equally often, after everybody else."""
    turned = names[round_ % len(names) :] + names[: round_ % len(names)]
    return turned if (round_ // len(names)) % 2 else turned[::-1]


def rounds_of(names: list[str], rounds: int, warm: int) -> Iterator[tuple[str, bool]]:
    """Whose turn it is, and whether it counts."""
    for swept in range(-warm, rounds, SWEEP):
        with collector_at_rest():
            for round_ in range(swept, min(swept + SWEEP, rounds)):
                for name in order(names, round_):
                    yield name, round_ >= 0


def single_calls(methods: Mapping[str, Method], rounds: int) -> Samples:
    """One thread, one call at a time."""
    taken: Samples = {name: [] for name in methods}
    for name, counts in rounds_of(list(methods), rounds, SWEEP):
        method = methods[name]
        with Clock() as clock:
            method(MESSAGE, timeout=PATIENCE)
        if counts:
            taken[name].append(clock.sample)
    return taken


async def single_awaits(methods: Mapping[str, Method], rounds: int) -> Samples:
    """One task, one call at a time."""
    taken: Samples = {name: [] for name in methods}
    for name, counts in rounds_of(list(methods), rounds, SWEEP):
        method = methods[name]
        with Clock() as clock:
            await method(MESSAGE, timeout=PATIENCE)
        if counts:
            taken[name].append(clock.sample)
    return taken


def crowds(methods: Mapping[str, Method], rounds: int) -> Samples:
    """Eight threads at once; only the wall time of these means something."""
    taken: Samples = {name: [] for name in methods}

    def work(method: Method) -> None:
        for _ in range(CALLS):
            method(MESSAGE, timeout=PATIENCE)

    with ThreadPoolExecutor(THREADS) as runner:
        for name, counts in rounds_of(list(methods), rounds, 3):
            with Clock(THREADS * CALLS) as clock:
                wait([runner.submit(work, methods[name]) for _ in range(THREADS)])
            if counts:
                taken[name].append(clock.sample)
    return taken


async def task_crowds(methods: Mapping[str, Method], rounds: int) -> Samples:
    """A hundred tasks at once, four calls each."""
    taken: Samples = {name: [] for name in methods}
    each = 4

    async def work(method: Method) -> None:
        for _ in range(each):
            await method(MESSAGE, timeout=PATIENCE)

    for name, counts in rounds_of(list(methods), rounds, 3):
        with Clock(TASKS * each) as clock:
            await asyncio.gather(*(work(methods[name]) for _ in range(TASKS)))
        if counts:
            taken[name].append(clock.sample)
    return taken


# -- readings ----------------------------------------------------------------------------------


def confidence(values: list[float]) -> Reading:
    """The median, and the range in which it would lie in 95 of 100 repetitions."""
    middle = statistics.median(values)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    half = 1.57 * (high - low) / len(values) ** 0.5
    return Reading(middle, middle - half, middle + half)


def added(samples: Samples, name: str, clock: str) -> Reading:
    """Microseconds a call over bare."""
    pairs = zip(samples[name], samples["bare"])
    return confidence([1e6 * (getattr(a, clock) - getattr(b, clock)) for a, b in pairs])


def rate(samples: Samples, name: str) -> Reading:
    return confidence([b.wall / a.wall for a, b in zip(samples[name], samples["bare"])])


def figure(
    key: str,
    samples: Samples,
    reading: Callable[[str], Reading],
    error: Exception | None,
    budget: float,
) -> Figure:
    """`budget`: a difference that this row is to be able to see."""
    noise = reading("again")
    detail: dict[str, Any] = {
        "bare, us a call": {
            clock: 1e6 * statistics.median(getattr(each, clock) for each in samples["bare"])
            for clock in Sample._fields
        }
    }
    if noise.low is not None and noise.high is not None and noise.high - noise.low > budget:
        spread = f"{noise.low:.2g} to {noise.high:.2g}"
        detail["notes"] = [f"is uncertain: bare beside itself differed by {spread}"]
    return Figure(key, noise, missing(error) if error else reading("ours"), detail)


def g2(effort: Effort) -> Iterator[Figure]:
    with GrpcServer() as server, ExitStack() as stack:
        bare = [stack.enter_context(grpc.insecure_channel(server.target)) for _ in range(2)]
        methods = {"bare": unary(bare[0]), "again": unary(bare[1])}
        error: Exception | None = None
        try:
            methods["ours"] = unary(stack.enter_context(shared(server.target)))
            methods["ours"](MESSAGE, timeout=PATIENCE)
        except Exception as lack:
            methods.pop("ours", None)
            error = lack
        alone = single_calls(methods, effort.calls)
        crowded = crowds(methods, effort.calls // 40)
    yield figure("G2a", alone, lambda name: added(alone, name, "thread"), error, 1)
    yield figure("G2b", alone, lambda name: added(alone, name, "process"), error, 1)
    with GrpcServer() as server:
        awaited, tasks, aio_error = asyncio.run(g2_aio(server.target, effort.calls))
    yield figure("G2c", awaited, lambda name: added(awaited, name, "thread"), aio_error, 2)
    yield figure("G2d", awaited, lambda name: added(awaited, name, "process"), aio_error, 2)
    yield figure("G2e", crowded, lambda name: rate(crowded, name), error, 0.02)
    yield figure("G2f", tasks, lambda name: rate(tasks, name), aio_error, 0.04)


async def g2_aio(target: str, calls: int) -> tuple[Samples, Samples, Exception | None]:
    error: Exception | None = None
    async with AsyncExitStack() as stack:
        bare = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target)) for _ in range(2)
        ]
        methods = {"bare": unary(bare[0]), "again": unary(bare[1])}
        try:
            methods["ours"] = unary(await stack.enter_async_context(aio_shared(target)))
            await methods["ours"](MESSAGE, timeout=PATIENCE)
        except Exception as lack:
            methods.pop("ours", None)
            error = lack
        alone = await single_awaits(methods, calls)
        return alone, await task_crowds(methods, calls // 40), error

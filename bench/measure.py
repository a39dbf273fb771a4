"""How time is measured: interleaved rounds of generated loops, and windows of parallel threads.

Two instruments and nothing else, so that each figure of the suite can be traced to one of them:

* `pair_times` - CPU time of one statement in one thread, or in one task. Every case gets a
  generated loop with everything it touches in locals; the cases take turns inside a round, the
  empty loop is a case like any other, and its median is subtracted from the rest.
* `parallel_rates` - statements per second of several threads that really run at once. Short
  windows, each thread pinned to a CPU of its own; a window in which the scheduler took any of the
  threads off its CPU is thrown away, whatever it says.

What a ratio is made of comes from one call, hence from one process and the same minutes.
"""

from __future__ import annotations

import gc
import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from textwrap import indent
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


class NotRun(Exception):
    """A measurement that cannot be made here; the text says why."""


@dataclass(frozen=True)
class Case:
    """One statement (lines of Python) to measure, and the names it uses.

    `setup` lines run once per thread before the clock starts: the place to bind methods.
    `missed` is the exception that means "nothing there just now"; only `parallel_rates` counts it.
    """

    statement: str
    names: Mapping[str, Any] = field(default_factory=dict)
    setup: Sequence[str] = ()
    missed: type[BaseException] | None = None


@dataclass(frozen=True)
class Series:
    """Samples of one case, in the order in which they were taken; `why` there are so few."""

    samples: tuple[float, ...]
    why: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; of a single value, that value twice."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def paired_ratio(above: Series, below: Series) -> tuple[float, float, float]:
    """Median and quartiles of the ratios of samples that were taken side by side.

    Not the ratio of the medians: on a busy machine whole rounds are slow, which cancels inside a
    round and does not between two medians.
    """
    each = [a / b for a, b in zip(above.samples, below.samples, strict=True) if a > 0 and b > 0]
    if len(each) < len(above.samples) / 2:
        raise NotRun("noise drowned the measurement; run again on a calmer machine")
    return statistics.median(each), *quartiles(each)


def unpaired_ratio(above: Series, below: Series) -> tuple[float, float, float]:
    """Ratio of the medians, and what it becomes between the quartiles of both."""
    for series in (above, below):
        if len(series.samples) < FEWEST:
            raise NotRun(series.why or "too few samples")
    (low_above, high_above), (low_below, high_below) = map(
        quartiles, (above.samples, below.samples)
    )
    return above.median / below.median, low_above / high_below, high_above / low_below


# --- one thread --------------------------------------------------------------------------------

UNROLLED = 8


def timed_loop(case: Case, runner: asyncio.Runner | None = None) -> Callable[[int], int]:
    """A function of n that runs the statement UNROLLED * n times and returns the nanoseconds.

    Its clock is the thread's own CPU time: waiting for a CPU does not count. With a runner the
    loop is a coroutine, whose statement may await, and each call is one task on its event loop.
    """
    arguments = ", ".join(["n", *(f"{name}={name}" for name in case.names)])
    lines = [f"{'async ' if runner else ''}def loop({arguments}):"]
    lines += [f"    {line}" for line in case.setup]
    lines += ["    clock = thread_time_ns", "    turns = repeat(None, n)", "    start = clock()"]
    lines += ["    for _ in turns:"]
    lines += [indent(case.statement, 8 * " ")] * UNROLLED
    lines += ["    return clock() - start"]
    scope: dict[str, Any] = dict(case.names)
    scope.update(thread_time_ns=time.thread_time_ns, repeat=repeat)
    exec("\n".join(lines), scope)
    loop = scope["loop"]
    return loop if runner is None else lambda n: runner.run(loop(n))


def calibrated(loop: Callable[[int], int], sample_ns: int) -> int:
    """The n with which one call of the loop takes about `sample_ns`."""
    n = 4
    while (took := loop(n)) < sample_ns / 8:
        n *= 4
    return max(1, round(n * sample_ns / took))


def settle_interpreter() -> None:
    """Start one thread and join it.

    A pool lives in programs with threads, and the free-threaded build takes its final shape only
    when the first one starts (until then it counts references to methods more cheaply).
    """
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def pair_times(
    cases: Mapping[str, Case],
    *,
    rounds: int = 41,
    sample_ns: int = 1_000_000,
    runner: asyncio.Runner | None = None,
) -> dict[str, Series]:
    """Nanoseconds of CPU per statement of each case, the cost of the loop itself subtracted.

    Two extra rounds at the start warm caches and the adaptive interpreter, and are dropped.
    The collector is off inside a sample and on between samples. `runner`: the statements await.
    """
    settle_interpreter()
    loops = {name: timed_loop(case, runner) for name, case in cases.items()}
    loops[""] = timed_loop(Case("pass"), runner)
    turns = {name: calibrated(loop, sample_ns) for name, loop in loops.items()}
    taken: dict[str, list[float]] = {name: [] for name in loops}
    order = list(loops)
    collecting = gc.isenabled()
    try:
        for round_ in range(rounds + 2):
            for name in order:
                gc.disable()
                took = loops[name](turns[name])
                if collecting:
                    gc.enable()
                if round_ >= 2:
                    taken[name].append(took / (turns[name] * UNROLLED))
            order.append(order.pop(0))  # so that no case always follows the same other one
    finally:
        if collecting:
            gc.enable()
    empty = statistics.median(taken.pop(""))
    return {name: Series(tuple(t - empty for t in each)) for name, each in taken.items()}


# --- threads at once ---------------------------------------------------------------------------

WINDOW_NS = 4_000_000
FEWEST = 3  # undisturbed windows


def window_loop(case: Case, batch: int) -> Callable[..., tuple[int, int]]:
    """A function of the end of the window that returns (statements done, times missed).

    Shared by the threads, as a worker function is; `setup` binds per thread.
    """
    lines = [f"def loop({', '.join(['until', 'clock', *case.names])}):"]
    lines += [f"    {line}" for line in case.setup]
    lines += ["    tried = missed = 0", "    while clock() < until:"]
    lines += [f"        for _ in range({batch}):"]
    if case.missed is None:
        lines += [indent(case.statement, 12 * " ")]
    else:
        lines += ["            try:", indent(case.statement, 16 * " ")]
        lines += ["            except Missed:", "                missed += 1"]
    lines += [f"        tried += {batch}", "    return tried - missed, missed"]
    scope: dict[str, Any] = {"Missed": case.missed}
    exec("\n".join(lines), scope)
    return scope["loop"]


@dataclass(frozen=True)
class Window:
    done: int
    missed: int
    wall_ns: float
    disturbed: bool


def one_window(loop: Callable[..., tuple[int, int]], case: Case, cpus: Sequence[int]) -> Window:
    """Run the loop once in one pinned thread per CPU given, all starting at the same instant."""
    clock = time.perf_counter_ns
    arrived = threading.Barrier(len(cpus) + 1)
    start = [0]
    results: list[tuple[int, int, int, bool]] = []
    names = tuple(case.names.values())

    def thread(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})  # 0 is this thread
        arrived.wait()
        while not start[0]:
            pass
        begin = start[0]
        late = clock() > begin
        while clock() < begin:
            pass
        preempted = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
        done, missed = loop(begin + WINDOW_NS, clock, *names)
        end = clock()
        disturbed = late or resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw != preempted
        results.append((done, missed, end - begin, disturbed))

    threads = [threading.Thread(target=thread, args=(cpu,)) for cpu in cpus]
    for each in threads:
        each.start()
    arrived.wait()
    start[0] = clock() + 300_000
    for each in threads:
        each.join()
    return Window(
        done=sum(r[0] for r in results),
        missed=sum(r[1] for r in results),
        wall_ns=statistics.mean(r[2] for r in results),
        disturbed=any(r[3] for r in results),
    )


def cpus_for(threads: int) -> list[int]:
    """CPUs to pin that many threads to, or NotRun with the reason."""
    if resource is None or not hasattr(resource, "RUSAGE_THREAD"):
        raise NotRun("needs Linux: per-thread context switch counts and pinning")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < threads:
        raise NotRun(f"needs {threads} CPUs, {len(allowed)} allowed")
    return allowed[:threads]


def parallel_rates(
    cases: Mapping[str, tuple[int, Callable[[], Case], int]],
    *,
    windows: int = 15,
    patience: float = 20.0,
) -> dict[str, Series]:
    """Statements per second, all threads together, of each case.

    A case is (threads, a function that makes a fresh Case, statements per look at the clock).
    The cases take turns until each has `windows` undisturbed windows or `patience` seconds are
    over. A case with fewer than FEWEST of them has a series that no ratio can be made of.
    """
    cpus = cpus_for(max(threads for threads, _, _ in cases.values()))
    kept: dict[str, list[float]] = {name: [] for name in cases}
    give_up = time.monotonic() + patience
    tried = 0
    while any(len(each) < windows for each in kept.values()) and time.monotonic() < give_up:
        tried += 1
        for name, (threads, fresh, batch) in cases.items():
            if len(kept[name]) >= windows:
                continue
            case = fresh()
            window = one_window(window_loop(case, batch), case, cpus[:threads])
            if not window.disturbed and window.done:
                kept[name].append(window.done / window.wall_ns * 1e9)
    return {
        name: Series(tuple(each), f"machine too busy: {len(each)} undisturbed windows in {tried}")
        for name, each in kept.items()
    }

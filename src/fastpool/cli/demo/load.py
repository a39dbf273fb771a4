"""Many threads that make the same call over and over, and what their calls took."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

clock = time.perf_counter


class Figures(NamedTuple):
    """What happened in a stretch of time. The rate is in calls per second, times in seconds."""

    calls: int
    rate: float
    p50: float
    p99: float
    errors: Counter[str]
    evenness: float
    """The calls of the thread that made the fewest, over those of the one that made the most."""


class _Log:
    """One thread's notes: only that thread writes, anyone may read what is there so far."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.times: list[float] = []
        self.errors: list[tuple[float, float, str]] = []


class Load:
    """Calls `call` from `threads` threads from entering to leaving the `with` block.

    A call that raises counts as an error; its thread pauses for `pause` seconds, as a client that
    means to try again would, and goes on. Any stretch of the time can be looked at with `between`.
    """

    def __init__(self, call: Callable[[], object], threads: int, *, pause: float = 0.0) -> None:
        self._call = call
        self._pause = pause
        self._stop = False
        self._logs = [_Log() for _ in range(threads)]
        self._go = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(log,), daemon=True) for log in self._logs
        ]

    def __enter__(self) -> Load:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.__exit__()
            raise
        self._go.set()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Every call under way is finished, so that nothing is in use when the block has ended."""
        self._stop = True
        self._go.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self, log: _Log) -> None:
        self._go.wait()
        call, ends, times = self._call, log.ends, log.times
        while not self._stop:
            begun = clock()
            try:
                call()
            except Exception as error:
                log.errors.append((begun, clock(), type(error).__name__))
                time.sleep(self._pause)
            else:
                ended = clock()
                times.append(ended - begun)
                ends.append(ended)

    def between(self, begin: float, end: float) -> Figures:
        """The figures of the calls that ended between two readings of `clock`."""
        errors: Counter[str] = Counter()
        by_thread: list[list[float]] = []
        for log in self._logs:
            # A call's time is noted before its end, so each end has its time while we read.
            by_thread.append(
                [took for at, took in zip(log.ends, log.times, strict=False) if begin <= at <= end]
            )
            errors.update(name for _, at, name in tuple(log.errors) if begin <= at <= end)
        numbers = [len(times) for times in by_thread]
        ordered = sorted(took for times in by_thread for took in times)
        return Figures(
            calls=len(ordered),
            rate=len(ordered) / (end - begin),
            p50=percentile(ordered, 0.50),
            p99=percentile(ordered, 0.99),
            errors=errors,
            evenness=min(numbers) / max(numbers) if ordered else float("nan"),
        )

    def calls(self) -> int:
        """Calls that have succeeded so far. Cheap; for showing progress."""
        return sum(len(log.ends) for log in self._logs)

    def errors(self, begun_after: float = float("-inf")) -> Counter[str]:
        """The errors so far of calls that began after a moment, by the exception's name."""
        return Counter(
            name
            for log in self._logs
            for begun, _, name in tuple(log.errors)
            if begun >= begun_after
        )

    def first_success(self, begun_after: float) -> float | None:
        """When the first call ended well of those that began after a moment; None if none has."""
        ends = (
            at
            for log in self._logs
            for at, took in zip(log.ends, log.times, strict=False)
            if at - took >= begun_after
        )
        return min(ends, default=None)


def percentile(ordered: list[float], fraction: float) -> float:
    """The smallest value that at least this fraction does not exceed; NaN of nothing."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]

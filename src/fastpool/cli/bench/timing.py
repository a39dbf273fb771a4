"""The two instruments of `fastpool bench`: rounds of generated loops, and crowds of threads."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

_UNROLLED = 8
_SAMPLE = 1_000_000  # nanoseconds
_FEWEST = 5  # rounds, however short the time
_ROUNDS = 7  # of crowds, likewise: a busy second is one round of each, and the median leaves it out
_WINDOW = 0.5  # seconds that a crowd runs at most, so that Ctrl-C is heard
_SHORTEST = 0.02  # and at least, so that every thread gets a turn of the interpreter

# The thread's own CPU time, where its clock is fine enough: waiting for a CPU does not count.
_fine = time.get_clock_info("thread_time").resolution <= 1e-6
_clock_ns = time.thread_time_ns if _fine else time.perf_counter_ns
CLOCK = "CPU time" if _fine else "time"

Update = Callable[[str], None]
Run = Callable[[Coroutine[Any, Any, int]], int]


# -- one thread ------------------------------------------------------------------------------------


class Statement(NamedTuple):
    """One statement to time, and the object that it calls `pool`."""

    text: str
    pool: Any = None


class Times(NamedTuple):
    """Nanoseconds of one statement, a sample a round, the cost of the loop taken off."""

    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def over(self, other: Times) -> float:
        """The median of the ratios inside the rounds: a slow round is slow for both sides. NaN when
        noise has drowned it."""
        pairs = zip(self.samples, other.samples, strict=True)
        ratios = [a / b for a, b in pairs if a > 0 and b > 0]
        return statistics.median(ratios) if len(ratios) > len(self.samples) / 2 else float("nan")


def time_statements(
    statements: Mapping[str, Statement], seconds: float, update: Update, run: Run | None = None
) -> dict[str, Times]:
    """Time all of them in turns, in rounds, for about so long; with ``run``, which runs a coroutine
    to its end, they are statements of a task.

    A round has one sample of about a millisecond of each, in rotating order, and one of an empty
    loop. The first two rounds warm up and are dropped; the collector rests inside a sample.
    """
    begun = time.perf_counter()
    thread = threading.Thread(target=int)  # pools live in programs with threads, and the free-
    thread.start()  # threaded interpreter counts references in another way once there was one
    thread.join()
    loops = {name: _loop(statement, run) for name, statement in statements.items()}
    loops[""] = _loop(Statement("pass"), run)
    round_trips = {name: _calibrated(loop) for name, loop in loops.items()}
    samples: dict[str, list[float]] = {name: [] for name in loops}
    order = list(loops)
    done = -2
    while done < _FEWEST or time.perf_counter() - begun < seconds:
        for name in order:
            collecting = gc.isenabled()
            gc.disable()
            try:
                took = loops[name](round_trips[name])
            finally:
                if collecting:
                    gc.enable()
            if done >= 0:
                samples[name].append(took / (round_trips[name] * _UNROLLED))
        order.append(order.pop(0))
        done += 1
        who = "task" if run else "thread"
        update(f"one {who}: round {max(done, 0)}, {time.perf_counter() - begun:.1f} s")
    empty = statistics.median(samples.pop(""))
    return {name: Times([one - empty for one in each]) for name, each in samples.items()}


def _loop(statement: Statement, run: Run | None) -> Callable[[int], int]:
    """A function of n that runs the statement n times _UNROLLED, all names local; nanoseconds."""
    kind = "async def" if run else "def"
    comparisons = [f"{kind} loop(n, pool=pool, clock=clock, repeat=repeat):"]
    comparisons += ["    turns = repeat(None, n)", "    start = clock()", "    for _ in turns:"]
    comparisons += [f"        {statement.text}"] * _UNROLLED
    comparisons += ["    return clock() - start"]
    scope: dict[str, Any] = {"pool": statement.pool, "clock": _clock_ns, "repeat": repeat}
    exec("\n".join(comparisons), scope)
    loop: Callable[[int], Any] = scope["loop"]
    return (lambda n: run(loop(n))) if run else loop


def _calibrated(loop: Callable[[int], int]) -> int:
    """The n with which a sample has about the right length."""
    n = 4
    while (took := loop(n)) < _SAMPLE / 8:
        n *= 4
    return max(1, round(n * _SAMPLE / took))


# -- many threads ----------------------------------------------------------------------------------


class Borrower(NamedTuple):
    """The two halves of a turn."""

    take: Callable[[], Any]
    give: Callable[[Any], Any]


class Crowd(NamedTuple):
    """What came of one run: turns of each thread, the longest wait of any, the run's length."""

    round_trips: Sequence[int]
    worst: float
    seconds: float

    @property
    def rate(self) -> float:
        return sum(self.round_trips) / self.seconds

    @property
    def evenness(self) -> float:
        return (
            min(self.round_trips) / max(self.round_trips) if any(self.round_trips) else float("nan")
        )


def paired(
    above: Sequence[Crowd], below: Sequence[Crowd], value: Callable[[Crowd], float]
) -> float:
    """The median of the ratios inside the rounds: a busy second weighs on both sides alike.  NaN if
    most rounds have none."""
    pairs = [(value(a), value(b)) for a, b in zip(above, below, strict=True)]
    ratios = [a / b for a, b in pairs if a > 0 and b > 0]
    return statistics.median(ratios) if len(ratios) > len(pairs) / 2 else float("nan")


def run_crowds(
    borrowers: Mapping[str, Borrower], threads: int, hold: float, seconds: float, update: Update
) -> dict[str, list[Crowd]]:
    """All contestants in turns, in seven rounds or more, for about so long; a round begins with
    another one each time.  The runs of each are in the order of the rounds."""
    rounds = max(_ROUNDS, round(seconds / _WINDOW / len(borrowers)))
    window = max(min(seconds / rounds / len(borrowers), _WINDOW), _SHORTEST)
    found: dict[str, list[Crowd]] = {name: [] for name in borrowers}
    order = list(borrowers)
    for done in range(rounds):
        update(f"{threads} threads, held for {hold * 1000:g} ms: round {done + 1} of {rounds}")
        for name in order:
            found[name].append(run_crowd(borrowers[name], threads, hold, window))
        order.append(order.pop(0))
    return found


def run_crowd(borrower: Borrower, threads: int, hold: float, seconds: float) -> Crowd:
    """Threads that take, hold and give back for so long, each timing its own waits."""
    take, give = borrower
    round_trips, worst = [0] * threads, [0.0] * threads
    errors: list[BaseException] = []
    clock, sleep = time.perf_counter, time.sleep
    span = [0.0, 0.0]  # from when to when; it begins when the last thread is there

    def begin() -> None:
        span[0] = clock()
        span[1] = span[0] + seconds

    together = threading.Barrier(threads + 1, begin)

    def work(i: int) -> None:
        count, longest = 0, 0.0
        try:
            together.wait()
            while (asked := clock()) < span[1]:
                item = take()
                longest = max(longest, clock() - asked)
                if hold:
                    sleep(hold)
                give(item)
                count += 1
        except BaseException as error:
            errors.append(error)
        round_trips[i], worst[i] = count, longest

    workers = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(threads)]
    for worker in workers:
        worker.start()
    try:
        together.wait()
        for worker in workers:
            worker.join()
    except BaseException:
        span[1] = 0.0
        together.abort()
        for worker in workers:
            worker.join(1.0)
        raise
    if errors:
        raise errors[0]
    return Crowd(round_trips, max(worst), clock() - span[0])

"""How many turns a second more and more threads get done on one pool: `python -m bench.scaling`.

Every thread does nothing but take and give back, on one object that all of them share, which holds
more items than there are threads.  Each size has a turn in each round, each contestant within it;
figures are medians of rounds.

On free-threaded builds each thread has a CPU of its own, and a window in which the scheduler took
one of them off it counts only where too few others were had; such a figure is marked.  With a GIL
threads take turns anyway: there the curve says what their number costs.
"""

from __future__ import annotations

import os
import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.adapter import Thing, filled, pool_use, queue_use
from bench.measure import FEWEST, Case, NotRun, window_loop
from bench.peers import PEERS, Peer
from bench.targets import free_threaded

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

THREADS = (1, 2, 4, 8, 16)
ITEMS = 64  # more than threads: nobody ever waits for an item, or finds none
BOUND = ("get = q.get_nowait", "put = q.put")


@dataclass(frozen=True)
class Contestant:
    name: str
    case: Callable[[], Case]  # for one window
    batch: int  # statements between two looks at the clock


@dataclass
class Rates:
    """Statements a second of one contestant with so many threads, window by window."""

    calm: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)

    @property
    def doubtful(self) -> bool:
        """Whether the scheduler disturbed too many windows to do without those."""
        return len(self.calm) < FEWEST and bool(self.disturbed)

    @property
    def median(self) -> float:
        return statistics.median(self.calm + self.disturbed if self.doubtful else self.calm)


def own_deques() -> Case:
    """The floor: the same two calls with nothing shared."""
    made = [Thing() for _ in range(ITEMS)]  # by another thread, as a pool's resources are
    setup = ("mine = deque([made.pop()])", "get = mine.pop", "put = mine.append")
    return Case("put(get())", {"deque": deque, "made": made}, setup, IndexError)


def bare_deque() -> Case:
    items = deque(Thing() for _ in range(ITEMS))
    return Case("put(get())", {"q": items}, ("get = q.pop", "put = q.append"), IndexError)


def locked_deque() -> Case:
    items = deque(Thing() for _ in range(ITEMS))
    statement = "with lock:\n    item = get()\nwith lock:\n    put(item)"
    names = {"items": items, "lock": threading.Lock()}
    return Case(statement, names, ("get = items.pop", "put = items.append"), IndexError)


def contestants(stack: ExitStack, missing: dict[str, str]) -> Iterator[Contestant]:
    """All that can be had here; the stack closes them. `missing`: why the others cannot."""

    def over(it: Any, statement: str = "put(get())", setup: Sequence[str] = BOUND) -> Any:
        return partial(Case, statement, {"q": it}, setup, queue.Empty)

    pool = stack.enter_context(pool_use(ITEMS))
    yield Contestant("fastpool, get and put", over(pool), 100)
    lease = ("lease = q.lease",)
    yield Contestant("fastpool, lease", over(pool, "with lease() as r: pass", lease), 50)
    yield Contestant("fastpool, no factory", over(queue_use(ITEMS)), 100)
    yield Contestant("queue.SimpleQueue", over(filled(queue.SimpleQueue(), ITEMS)), 100)
    yield Contestant("collections.deque", bare_deque, 100)
    yield Contestant("deque and a Lock", locked_deque, 50)
    yield Contestant("queue.LifoQueue", over(filled(queue.LifoQueue(), ITEMS)), 10)
    yield Contestant("a deque for each thread", own_deques, 100)
    for peer in PEERS:
        try:
            yield Contestant(peer.name, partial(Case, peer.pair, {"pool": warm(peer, stack)}), 5)
        except NotRun as reason:
            missing[peer.name] = str(reason)


def warm(peer: Peer, stack: ExitStack) -> Any:
    """The pool of another project over connections that do nothing, as in row P4."""
    pool = peer.warm(ITEMS)
    stack.callback(peer.close, pool)
    return pool


def window(contestant: Contestant, threads: int, seconds: float) -> tuple[float, bool]:
    """Statements a second of all threads together, and whether the scheduler disturbed them."""
    parallel = free_threaded()
    pinned = sorted(os.sched_getaffinity(0)) if parallel and resource else []
    clock, begin = time.perf_counter_ns, [0]
    case = contestant.case()
    loop, names = window_loop(case, contestant.batch), case.names.values()
    results: list[tuple[int, int, bool]] = []
    failures: list[BaseException] = []

    def start() -> None:
        begin[0] = clock() + 1_000_000

    def switches() -> int:
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw if pinned else 0

    def thread(i: int) -> None:
        try:
            if pinned:
                os.sched_setaffinity(0, {pinned[i % len(pinned)]})  # 0 is this thread
            together.wait()
            late = clock() > begin[0]
            while parallel and clock() < begin[0]:
                pass
            before = switches()
            done, _ = loop(begin[0] + round(seconds * 1e9), clock, *names)
            disturbed = bool(pinned) and (late or switches() != before)
            results.append((done, clock(), disturbed))
        except BaseException as error:
            failures.append(error)
            together.abort()

    together = threading.Barrier(threads, start)
    started = [threading.Thread(target=thread, args=(i,)) for i in range(threads)]
    for each in started:
        each.start()
    for each in started:
        each.join()
    if failures:
        raise failures[0]
    took = max(end for _, end, _ in results) - begin[0]
    return sum(done for done, _, _ in results) * 1e9 / took, any(d for _, _, d in results)


def window_of_work(contestant: Contestant, threads: int, seconds: float) -> tuple[float, bool]:
    """A window, once more where the machine let nobody run in it; NotRun if that goes on."""
    for _ in range(50):
        rate, disturbed = window(contestant, threads, seconds)
        if rate:
            return rate, disturbed
    raise NotRun(f"machine too busy: no turn of {contestant.name} in 50 windows")


Found = dict[str, dict[int, Rates]]


def measure(
    sizes: Sequence[int], rounds: int, seconds: float, patience: float, say: Callable[[str], None]
) -> tuple[Found, Mapping[str, str]]:
    """Rates by contestant and number of threads, and why others were not run.

    `seconds` of a window; no round begins after `patience` seconds, but the first does.
    """
    missing: dict[str, str] = {}
    found: Found = {}
    begun = time.monotonic()
    with ExitStack() as stack:
        field_ = list(contestants(stack, missing))
        for round_ in range(rounds):
            if round_ and (time.monotonic() - begun) * (1 + 1 / round_) > patience:
                say(f"{round_} rounds of {rounds}: the time is over")
                break
            for threads in sizes:
                for each in field_:
                    rate, disturbed = window_of_work(each, threads, seconds)
                    rates = found.setdefault(each.name, {}).setdefault(threads, Rates())
                    (rates.disturbed if disturbed else rates.calm).append(rate)
            field_.append(field_.pop(0))  # so that no one always follows the same other one
            say(f"round {round_ + 1} of {rounds}, {time.monotonic() - begun:.0f} s")
    return found, missing

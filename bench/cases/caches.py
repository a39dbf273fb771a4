"""O1 to O3: an object taken from a cache and put back, beside making it anew and beside free lists.

Every contestant holds one object for each thread, so that a get always finds one: what is timed is
the pair. A plain list and the queues bound nothing and drop nothing; a list in `threading.local` is
what people write when threads get in each other's way, and what one thread puts there no other
finds. O2 is two threads that really run at once; O3 is four threads that share what there is, a GIL
included, and counts turns over wall time.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from bench.adapter import Thing, fastpool, in_threads
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Case, NotRun, Series, pair_times, parallel_rates
from bench.targets import free_threaded

BUFFER = 64 * 1024
SPAN = 0.05  # seconds of one run of O3


def cache(count: int = 1) -> Any:
    """An ObjectCache that holds so many things."""
    things = fastpool().ObjectCache(Thing)
    for _ in range(count):
        things.put(Thing())
    return things


def filled(container: Any, count: int) -> Any:
    for _ in range(count):
        container.put(Thing())
    return container


def o1(effort: Effort) -> Iterator[Figure]:
    local = threading.local()
    local.free = [Thing()]
    times = pair_times(
        {
            "bytearray": Case("bytearray(size)", {"size": BUFFER}),
            "encoder": Case("JSONEncoder()", {"JSONEncoder": json.JSONEncoder}),
            "cache": Case("c.put(c.get())", {"c": cache()}),
            "list": Case("free.append(free.pop())", {"free": [Thing()]}),
            "local": Case("free = local.free\nfree.append(free.pop())", {"local": local}),
            "SimpleQueue": Case("q.put(q.get())", {"q": filled(queue.SimpleQueue(), 1)}),
            "LifoQueue": Case("q.put(q.get())", {"q": filled(queue.LifoQueue(), 1)}),
            "three": Case(
                "x, y, z = c.get(), c.get(), c.get()\nc.put(x)\nc.put(y)\nc.put(z)",
                {"c": cache(3)},
            ),
        },
        rounds=effort.rounds,
    )
    for key, above in (
        ("O1a", "bytearray"),
        ("O1b", "encoder"),
        ("O1c", "list"),
        ("O1d", "local"),
        ("O1e", "SimpleQueue"),
        ("O1f", "LifoQueue"),
    ):
        yield of_ratio(key, times[above], times["cache"])
    yield of_ratio("O1g", times["three"], times["cache"])


def o2(effort: Effort) -> Iterator[Figure]:
    if not free_threaded():
        raise NotRun("needs a free-threaded interpreter: with the GIL threads take turns")
    shared = cache(2)

    def cached() -> Case:
        return Case("put(get())", {"c": shared}, ("get = c.get", "put = c.put"))

    def listed() -> Case:
        free = [Thing(), Thing()]
        setup = ("get = free.pop", "put = free.append")
        return Case("put(get())", {"free": free}, setup, IndexError)

    def queued(make: Callable[[], Any]) -> Callable[[], Case]:
        setup = ("get = q.get_nowait", "put = q.put")
        return lambda: Case("put(get())", {"q": filled(make(), 2)}, setup, queue.Empty)

    rates = parallel_rates(
        {
            "cache 1": (1, cached, 200),
            "cache 2": (2, cached, 200),
            "list 2": (2, listed, 200),
            "SimpleQueue 2": (2, queued(queue.SimpleQueue), 200),
            "LifoQueue 2": (2, queued(queue.LifoQueue), 10),
        },
        windows=effort.windows,
        patience=effort.patience,
    )
    for key, below in (
        ("O2a", "cache 1"),
        ("O2b", "list 2"),
        ("O2c", "SimpleQueue 2"),
        ("O2d", "LifoQueue 2"),
    ):
        yield of_ratio(key, rates["cache 2"], rates[below], paired=False)


Pair = tuple[Callable[[], Any], Callable[[Any], Any]]


def turns(bind: Callable[[], Pair]) -> float:
    """Pairs a second of four threads; each binds the methods for itself and holds one object."""
    done = [0] * 4
    clock = time.perf_counter
    until = clock() + SPAN

    def borrow(index: int) -> None:
        get, put = bind()
        count = 0
        while clock() < until:
            for _ in range(50):
                put(get())
            count += 50
        done[index] = count

    in_threads(4, borrow)
    return sum(done) / SPAN


def o3(effort: Effort) -> Iterator[Figure]:
    shared, free = cache(4), [Thing() for _ in range(4)]
    simple, lifo = filled(queue.SimpleQueue(), 4), filled(queue.LifoQueue(), 4)
    cases: dict[str, Callable[[], Pair]] = {
        "cache": lambda: (shared.get, shared.put),
        "list": lambda: (free.pop, free.append),
        "SimpleQueue": lambda: (simple.get, simple.put),
        "LifoQueue": lambda: (lifo.get, lifo.put),
        "bytearray": lambda: (partial(bytearray, BUFFER), bool),
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(max(3, effort.rounds // 4)):
        for name, bind in cases.items():
            taken[name].append(turns(bind))
    rates = {name: Series(tuple(each)) for name, each in taken.items()}
    for key, below in (
        ("O3a", "bytearray"),
        ("O3b", "list"),
        ("O3c", "SimpleQueue"),
        ("O3d", "LifoQueue"),
    ):
        yield of_ratio(key, rates["cache"], rates[below])

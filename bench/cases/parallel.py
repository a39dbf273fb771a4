"""P6: two threads that really run at once, hence on free-threaded builds only.

Eight items for two threads. The documented form of a hot loop binds the methods once per thread;
"shared object" is the obvious form, which looks the method up on the pool each time and so makes
both threads count references on the same object.

The floor is what the same two calls cost when nothing at all is shared: a deque for each thread. No
pool can be faster than that, so it says how much of a must the interpreter leaves to be had.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from bench.adapter import Thing, filled, pool_use, queue_use
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Case, NotRun, Series, parallel_rates
from bench.targets import free_threaded

ITEMS = 8
BOUND = ("get = q.get_nowait", "put = q.put")


class LockedDeque:
    """What people write when a queue is too slow: a deque, and a lock around it."""

    def __init__(self) -> None:
        self.items = deque(Thing() for _ in range(ITEMS))
        self.lock = threading.Lock()


def queue_case(make: Callable[[], Any]) -> Callable[[], Case]:
    return lambda: Case("put(get())", {"q": make()}, BOUND, queue.Empty)


def deque_case() -> Case:
    items = deque(Thing() for _ in range(ITEMS))
    return Case("put(get())", {"q": items}, ("get = q.pop", "put = q.append"), IndexError)


def floor_case() -> Case:
    made = [Thing() for _ in range(ITEMS)]  # by another thread, as a pool's resources are
    setup = ("mine = deque([made.pop()])", "get = mine.pop", "put = mine.append")
    return Case("put(get())", {"deque": deque, "made": made}, setup, IndexError)


def locked_deque_case() -> Case:
    setup = ("lock = q.lock", "get = q.items.pop", "put = q.items.append")
    statement = "with lock:\n    item = get()\nwith lock:\n    put(item)"
    return Case(statement, {"q": LockedDeque()}, setup, IndexError)


def rates(pool: Any, effort: Effort) -> dict[str, Series]:
    def over_pool(statement: str, *setup: str) -> Callable[[], Case]:
        return lambda: Case(statement, {"q": pool}, setup, queue.Empty)

    bound = over_pool("put(get())", *BOUND)
    lease = over_pool("with lease() as r: pass", "lease = q.lease")
    shared_lease = over_pool("with q.lease() as r: pass")
    shared_pair = over_pool("q.put(q.get())")
    return parallel_rates(
        {
            "pool 1": (1, bound, 200),
            "pool 2": (2, bound, 200),
            "SimpleQueue 2": (2, queue_case(lambda: filled(queue.SimpleQueue(), ITEMS)), 200),
            "deque 2": (2, deque_case, 200),
            "floor 2": (2, floor_case, 200),
            "deque + Lock 2": (2, locked_deque_case, 100),
            "Queue 2": (2, queue_case(lambda: filled(queue.Queue(), ITEMS)), 10),
            "lease 1": (1, lease, 100),
            "lease 2": (2, lease, 100),
            "shared lease 1": (1, shared_lease, 100),
            "shared lease 2": (2, shared_lease, 100),
            "shared pair 1": (1, shared_pair, 100),
            "shared pair 2": (2, shared_pair, 100),
            "queue use 2": (2, queue_case(lambda: queue_use(ITEMS)), 200),
        },
        windows=effort.windows,
        patience=effort.patience,
    )


def p6(effort: Effort) -> Iterator[Figure]:
    if not free_threaded():
        raise NotRun("needs a free-threaded interpreter: with the GIL threads take turns")
    pool = pool_use(ITEMS)
    try:
        measured = rates(pool, effort)
    finally:
        pool.close()
    for key, above, below in (
        ("P6a", "pool 2", "pool 1"),
        ("P6b", "pool 2", "SimpleQueue 2"),
        ("P6c", "pool 2", "deque 2"),
        ("P6d", "pool 2", "deque + Lock 2"),
        ("P6e", "pool 2", "Queue 2"),
        ("P6f", "lease 2", "lease 1"),
        ("P6g", "shared lease 2", "shared lease 1"),
        ("P6h", "shared pair 2", "shared pair 1"),
        ("P6i", "queue use 2", "SimpleQueue 2"),
        ("P6j", "floor 2", "SimpleQueue 2"),
        ("P6k", "floor 2", "deque 2"),
    ):
        yield of_ratio(key, measured[above], measured[below], paired=False)

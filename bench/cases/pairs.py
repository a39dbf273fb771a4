"""P1 to P3: a get and the put that follows it, in one thread that nobody disturbs.

The methods are looked up on the object each time, as people write it, and the object is a local.
Both sides run the very same statement. The floor is the pair of a bare `deque`, which
waits for nobody, knows no size and is part of the interpreter.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator

from bench.adapter import SIZE, Thing, filled, pool_use, queue_use
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Case, Series, pair_times

NOWAIT = "q.put_nowait(q.get_nowait())"
BLOCKING = "q.put(q.get())"


def queues_against(rival: object, effort: Effort) -> dict[str, Series]:
    ours = queue_use()
    return pair_times(
        {
            "rival nowait": Case(NOWAIT, {"q": rival}),
            "ours nowait": Case(NOWAIT, {"q": ours}),
            "rival": Case(BLOCKING, {"q": rival}),
            "ours": Case(BLOCKING, {"q": ours}),
        },
        rounds=effort.rounds,
    )


def p1(effort: Effort) -> Iterator[Figure]:
    times = queues_against(filled(queue.LifoQueue(SIZE)), effort)
    yield of_ratio("P1a", times["rival nowait"], times["ours nowait"])
    yield of_ratio("P1b", times["rival"], times["ours"])


def p2(effort: Effort) -> Iterator[Figure]:
    times = queues_against(filled(queue.SimpleQueue()), effort)
    yield of_ratio("P2a", times["rival nowait"], times["ours nowait"])
    yield of_ratio("P2b", times["rival"], times["ours"])
    simple, bare = filled(queue.SimpleQueue()), deque(Thing() for _ in range(SIZE))
    times = pair_times(
        {
            "SimpleQueue": Case(NOWAIT, {"q": simple}),
            "floor": Case("q.append(q.pop())", {"q": bare}),
        },
        rounds=effort.rounds,
    )
    yield of_ratio("P2c", times["SimpleQueue"], times["floor"])


def p3(effort: Effort) -> Iterator[Figure]:
    pool = pool_use()
    try:
        times = pair_times(
            {
                "pool use": Case(BLOCKING, {"q": pool}),
                "queue use": Case(BLOCKING, {"q": queue_use()}),
                "LifoQueue": Case(BLOCKING, {"q": filled(queue.LifoQueue(SIZE))}),
            },
            rounds=effort.rounds,
        )
    finally:
        pool.close()
    yield of_ratio("P3a", times["pool use"], times["queue use"])
    yield of_ratio("P3b", times["LifoQueue"], times["pool use"])

"""What the tests of worker pools share: where tasks stay, and pools that are accounted for."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastpool import WorkerPool
from support.helpers import PATIENCE, eventually


class Hall:
    """Where tasks stay until they are let go."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.inside = 0

    def task(self, number: int = 0) -> int:
        self.inside += 1
        assert self.gate.acquire(timeout=PATIENCE)
        return number

    def let_go(self, n: int) -> None:
        for _ in range(n):
            self.gate.release()


def fill(pool: WorkerPool, hall: Hall, n: int) -> list[concurrent.futures.Future[int]]:
    futures = [pool.submit(hall.task, number) for number in range(n)]
    eventually(lambda: hall.inside == min(n, pool._max_workers))
    return futures


@contextmanager
def accounted() -> Iterator[Callable[..., WorkerPool]]:
    """Makes pools; at the end every permit is free and no thread is left."""
    pools: list[WorkerPool] = []

    def pool(*args: Any, **options: Any) -> WorkerPool:
        pools.append(WorkerPool(*args, **options))
        return pools[-1]

    yield pool
    for made in pools:
        made.shutdown()
        assert (made.stats().running, made.stats().queued, made.stats().waiting) == (0, 0, 0), made
        assert made._group.permits.in_use == 0
        assert not [thread for thread in made._threads if thread.is_alive()]

"""A signal handler raises at any instruction of any call of what limits work, and of a cache: see
``test_every_instruction.py``."""

from __future__ import annotations

from contextvars import Context
from typing import Any

import pytest

from fastpool import ObjectCache, PoolTimeout, WeightedSemaphore, WorkerPool
from fastpool.calls import CallPolicy, CircuitBreaker, Limit, Retry
from support.helpers import PATIENCE
from support.interrupted_pools import AT_LENGTH, Scene, World, endure, unlocked

pytestmark = AT_LENGTH


class Semaphore(World):
    def __init__(self, taken: int = 0) -> None:
        super().__init__()
        self.semaphore = WeightedSemaphore(2)
        self.held = 0
        for _ in range(taken):
            self.take()

    def take(self) -> None:
        self.semaphore.acquire()
        self.held += 1

    def settle(self) -> None:
        while self.semaphore.in_use:
            self.semaphore.release()

    def look(self) -> None:
        with self.semaphore.hold(2, timeout=PATIENCE):
            assert self.semaphore.in_use == 2


def hold(world: Semaphore) -> None:
    with world.semaphore.hold():
        pass


def in_vain(world: Semaphore) -> None:
    with pytest.raises(PoolTimeout):
        world.semaphore.acquire(2, timeout=0.001)


class Work(World):
    """A WorkerPool; ``futures``: of what was submitted."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.workers = WorkerPool(1, 1, **options)
        self.futures: list[Any] = []

    def look(self) -> None:
        workers = self.workers
        for future in self.futures:
            assert future.result(PATIENCE) == 0
        if not workers._group.over:
            futures = [workers.submit_within(PATIENCE, int) for _ in range(4)]
            assert [future.result(PATIENCE) for future in futures] == [0] * 4
            stats = workers.stats()
            assert stats.queued == 0, stats
        workers.shutdown()
        assert not workers._threads or not any(t.is_alive() for t in workers._threads)


def submit(world: Work) -> None:
    world.futures.append(world.workers.submit(int))


class Cached(World):
    def __init__(self) -> None:
        super().__init__()
        self.cache: Any = ObjectCache(self.maker, reset=lambda thing: None)

    def look(self) -> None:
        self.cache.put(self.cache.get())


class Calls(World):
    """What a CallPolicy has to do with: a breaker, a limit, tries."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = CircuitBreaker()
        self.limit = Limit(1)
        self.policy = CallPolicy(
            timeout=PATIENCE,
            retry=Retry(2, backoff=0.001, on=OSError),
            breaker=self.breaker,
            limit=self.limit,
        )
        self.failures = 0

    def fail_once(self) -> int:
        self.failures += 1
        if self.failures == 1:
            raise OSError
        return 0

    def look(self) -> None:
        assert [self.policy(int)() for _ in range(3)] == [0] * 3
        assert self.breaker.state == "closed"


SCENES: dict[str, Scene] = {
    "semaphore-acquire": (Semaphore, lambda w: w.take()),
    "semaphore-release": (lambda: Semaphore(1), lambda w: w.semaphore.release()),
    "semaphore-hold": (Semaphore, hold),
    "semaphore-timed-out": (lambda: Semaphore(1), in_vain),
    "semaphore-repr": (Semaphore, lambda w: repr(w.semaphore)),
    "worker-submit": (Work, submit),
    "worker-try_submit": (Work, lambda w: w.futures.append(w.workers.try_submit(int))),
    "worker-within": (Work, lambda w: w.futures.append(w.workers.submit_within(1, int))),
    "worker-map": (Work, lambda w: list(w.workers.map(int, ["0"] * 5))),
    "worker-shutdown": (Work, lambda w: w.workers.shutdown()),
    "worker-cancel": (Work, lambda w: w.workers.shutdown(cancel_futures=True)),
    "worker-stats": (Work, lambda w: w.workers.stats()),
    "cache-get": (Cached, lambda w: w.cache.get()),
    "cache-put": (Cached, lambda w: w.cache.put(object())),
    "call": (Calls, lambda w: Context().run(w.policy(int))),
    "call-again": (Calls, lambda w: Context().run(w.policy(w.fail_once, idempotent=True))),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalisers
@pytest.mark.parametrize("name", SCENES)
def test_interrupted_call_loses_nothing(name: str) -> None:
    endure(name, *SCENES[name])


#: A policy waits for no other thread: what its lock guards is re-entrant.
POLICIES = {"call", "call-again"}


@pytest.mark.parametrize("name", sorted(SCENES.keys() - POLICIES))
def test_no_handler_runs_under_a_lock(name: str) -> None:
    unlocked(*SCENES[name])

"""A signal handler that uses the pool itself, at any instruction of any call of it: it gets what is
free at once, whatever the call it has interrupted was about to do.

No lock of ours is held where a handler can run, see ``test_no_handler_runs_under_a_lock`` of
``test_every_instruction*.py``: what the handler waits for is done by other threads, which may want
that lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, SharedPool, WeightedSemaphore, WorkerPool
from support.helpers import PATIENCE
from support.interrupted_pools import AT_LENGTH, World, attend

pytestmark = AT_LENGTH


class Fast(World):
    """Of four, of which two are idle and one is lent."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.pool = FastPool(4, factory=self.maker, **options)
        idle = [self.pool.acquire() for _ in range(2)]
        self.leases.append(self.pool.acquire())
        for lease in idle:
            lease.release()

    def borrow(self) -> None:
        with self.pool.lease(PATIENCE):
            self.pool.stats()


class Keyed(World):
    """Two of "a" and one of "b" are idle, one of "a" is lent: all there may be of four."""

    def __init__(self, max_total: int = 4, **options: Any) -> None:
        super().__init__()
        self.pool = KeyedPool(self.maker, max_total=max_total, max_per_key=3, **options)
        idle = [self.pool.acquire(key) for key in "aab"]
        self.leases.append(self.pool.acquire("a"))
        for lease in idle:
            lease.release()

    def borrow(self) -> None:
        """In place of one that is idle."""
        with self.pool.lease("d", timeout=PATIENCE):
            self.pool.stats()


class Shared(World):
    """Of two resources for two at a time, of which one is open and in use."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.pool = SharedPool(self.maker, items=(0, 2), slots=2, **options)
        self.leases.append(self.pool.acquire())

    def borrow(self) -> None:
        with self.pool.lease(timeout=PATIENCE), self.pool.lease(timeout=PATIENCE):
            self.pool.stats()


class Units(World):
    def __init__(self) -> None:
        super().__init__()
        self.semaphore = WeightedSemaphore(2)

    def borrow(self) -> None:
        with self.semaphore.hold(timeout=PATIENCE):
            pass

    def look(self) -> None:
        assert self.semaphore.in_use == 0


class Work(World):
    def __init__(self) -> None:
        super().__init__()
        self.workers = WorkerPool(1, 4)

    def borrow(self) -> None:
        assert self.workers.submit_within(PATIENCE, int).result(PATIENCE) == 0

    def look(self) -> None:
        self.workers.shutdown()
        assert self.workers.stats().queued == 0


def acquire(*args: Any) -> Callable[[World], None]:
    return lambda world: world.leases.append(world.pool.acquire(*args))


def discard_on_error(world: World) -> None:
    world.leases[0].__exit__(OSError, OSError(), None)


def release(world: World) -> None:
    world.leases.pop().release()


def hold(world: Units) -> None:
    with world.semaphore.hold():
        pass


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "check": {"check": lambda resource: None, "check_after": 0},
    "reset": {"reset": lambda resource: None},
    "tracking": {"leak_after": 100},
}
SCENES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {}
for name, options in OPTIONS.items():
    make = {
        Fast: lambda options=options: Fast(**options),
        Keyed: lambda options=options: Keyed(**options),
    }
    SCENES |= {
        f"acquire-{name}": (make[Fast], acquire()),
        f"release-{name}": (make[Fast], release),
        f"broken-{name}": (make[Fast], discard_on_error),
        f"keyed-acquire-{name}": (make[Keyed], acquire("b")),
        f"keyed-evicting-{name}": (make[Keyed], acquire("c")),
        f"keyed-release-{name}": (make[Keyed], release),
    }
SCENES |= {
    "max_idle": (lambda: Fast(max_idle=2), release),
    "max_uses": (lambda: Fast(max_uses=1), release),
    "warm": (Fast, lambda w: w.pool.warm(3)),
    "flush": (Fast, lambda w: w.pool.flush()),
    "resize": (Fast, lambda w: w.pool.resize(3)),
    "stats": (Fast, lambda w: w.pool.stats()),
    "leases": (Fast, lambda w: w.pool.leases()),
    "keyed-max_idle": (lambda: Keyed(max_idle_total=3, max_idle_per_key=2), release),
    "keyed-flush": (lambda: Keyed(5), lambda w: w.pool.flush()),
    "keyed-stats": (Keyed, lambda w: w.pool.stats()),
    "shared-acquire": (Shared, acquire()),
    "shared-release": (Shared, release),
    "shared-broken": (Shared, discard_on_error),
    "shared-tracking": (lambda: Shared(leak_after=100), acquire()),
    "shared-replace": (Shared, lambda w: w.pool.replace()),
    "shared-resize": (Shared, lambda w: w.pool.resize((1, 2))),
    "shared-stats": (Shared, lambda w: w.pool.stats()),
    "semaphore": (Units, hold),
    "worker-submit": (Work, lambda w: w.workers.submit(int)),
    "worker-map": (Work, lambda w: list(w.workers.map(int, "00"))),
    "worker-stats": (Work, lambda w: w.workers.stats()),
}


@pytest.mark.parametrize("name", SCENES)
def test_handler_gets_what_is_free(name: str) -> None:
    attend(name, *SCENES[name], lambda world: world.borrow())

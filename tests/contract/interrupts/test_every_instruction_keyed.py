"""A signal handler raises at any instruction of a call of a KeyedPool: see
``test_every_instruction.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastpool import KeyedPool, PoolTimeout
from support.helpers import PATIENCE, Task, eventually, wait_for_scheduler
from support.interrupted_pools import AT_LENGTH, Scene, World, endure, unlocked

TOTAL, PER_KEY = 3, 2

pytestmark = AT_LENGTH


class Keyed(World):
    """Of the keys "a" and "b"; ``idle`` and ``lent`` name the keys of what there is."""

    def __init__(self, idle: str = "", lent: str = "", **options: Any) -> None:
        super().__init__()
        self.pool = KeyedPool(self.maker, max_total=TOTAL, max_per_key=PER_KEY, **options)
        for lease in [self.pool.acquire(key) for key in idle]:
            lease.release()
        self.leases = [self.pool.acquire(key) for key in lent]

    def reopen(self) -> None:
        self.pool.resume()

    def acquire_all(self) -> list[Any]:
        for lease in [self.pool.acquire(key, timeout=PATIENCE) for key in "ccd"]:
            lease.release()
        wait_for_scheduler()
        return [self.pool.acquire(key, timeout=PATIENCE) for key in "abc"]


class Crowd(Keyed):
    """All is lent, and two threads wait: for a key of its own, and for another one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(lent="aab", **options)
        self.waiters = [Task(self.wait, (key,)) for key in "ac"]
        eventually(lambda: self.pool.stats().waiting == 2)

    def wait(self, key: str) -> None:
        with self.pool.lease(key, timeout=3 * PATIENCE):
            pass

    def look(self) -> None:
        for waiter in self.waiters:
            waiter.result(2 * PATIENCE)
        super().look()


def of(idle: str = "", lent: str = "", **options: Any) -> Callable[[], Keyed]:
    return lambda: Keyed(idle, lent, **options)


def acquire(key: str) -> Callable[[Keyed], None]:
    return lambda world: world.leases.append(world.pool.acquire(key))


def enter(world: Keyed) -> None:
    lease = world.pool.lease("c")
    world.leases.append(lease)
    lease.__enter__()


def release_all(world: Keyed) -> None:
    for lease in world.leases:
        lease.release()


def in_vain(world: Keyed) -> None:
    with pytest.raises(PoolTimeout):
        world.pool.acquire("c", timeout=0.001)


def construct(world: World) -> None:
    world.pool = KeyedPool(world.maker)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "check": {"check": lambda resource: None, "check_after": 0},
    "reset": {"reset": lambda resource: None},
    "few-idle": {"max_idle_total": 1, "max_idle_per_key": 1},
    "tracking": {"leak_after": 100},
}

SCENES: dict[str, Scene] = {}
for name, options in OPTIONS.items():
    SCENES |= {
        f"acquire-new-{name}": (of(**options), acquire("a")),
        f"acquire-idle-{name}": (of("a", **options), acquire("a")),
        f"acquire-evicting-{name}": (of("aab", **options), acquire("c")),
        f"enter-{name}": (of("b", **options), enter),
        f"release-{name}": (of("b", "a", **options), lambda w: w.leases[0].release()),
        f"discard-{name}": (of("b", "a", **options), lambda w: w.leases[0].discard()),
        f"release-waited-for-{name}": (lambda o=options: Crowd(**o), release_all),
    }
SCENES |= {
    "flush": (of("aab"), lambda w: w.pool.flush()),
    "flush-key": (of("aab"), lambda w: w.pool.flush("a")),
    "suspend": (of("aab"), lambda w: w.pool.suspend()),
    "resume": (of("aab"), lambda w: w.pool.resume()),
    "close": (of("aab"), lambda w: w.pool.close()),
    "close-lent": (of("a", "b"), lambda w: w.pool.close(timeout=0.05)),
    "stats": (of("aa", "b"), lambda w: w.pool.stats()),
    "leases": (of("aa", "b", leak_after=100), lambda w: w.pool.leases()),
    "repr": (of("aab"), lambda w: repr(w.pool)),
    "timed-out": (of("", "aab"), in_vain),
    "drop-lease": (of("", "a", leak_after=100), lambda w: w.leases.clear()),
    "constructor": (World, construct),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalisers
@pytest.mark.parametrize("name", SCENES)
def test_interrupted_call_loses_nothing(name: str) -> None:
    endure(name, *SCENES[name])


@pytest.mark.parametrize("name", SCENES)
def test_no_handler_runs_under_a_lock(name: str) -> None:
    unlocked(*SCENES[name])

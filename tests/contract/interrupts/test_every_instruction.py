"""A signal handler raises at any instruction of any call of a FastPool: nothing is lost, nobody
hangs.

Code of the standard library that a call runs is struck as well: see ``signal_injection.strike``,
and ``support/interrupted_pools.py`` for what is asked afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastpool import FastPool, PoolTimeout
from support.helpers import PATIENCE, Task, eventually
from support.interrupted_pools import AT_LENGTH, Act, Scene, World, endure, unlocked

pytestmark = AT_LENGTH


class Two(World):
    """A pool of two."""

    def reopen(self) -> None:
        self.pool.resize(2)
        self.pool.resume()

    def acquire_all(self) -> list[Any]:
        return [self.pool.acquire(timeout=PATIENCE) for _ in range(2)]


def made(**options: Any) -> Callable[[], World]:
    def make() -> World:
        world = Two()
        world.pool = FastPool(2, factory=world.maker, **options)
        return world

    return make


def idle(n: int = 1, **options: Any) -> Callable[[], World]:
    """So many are idle."""

    def make() -> World:
        world = made(**options)()
        for lease in [world.pool.acquire() for _ in range(n)]:
            lease.release()
        return world

    return make


def lent(n: int = 1, **options: Any) -> Callable[[], World]:
    """So many are lent."""

    def make() -> World:
        world = made(**options)()
        world.leases = [world.pool.acquire() for _ in range(n)]
        return world

    return make


def got(**options: Any) -> Callable[[], World]:
    """One is lent, by ``get``."""

    def make() -> World:
        world = made(**options)()
        world.things.append(world.pool.get())
        return world

    return make


class Crowd(Two):
    """All is lent, and two threads wait."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.pool = FastPool(2, factory=self.maker, **options)
        self.leases = [self.pool.acquire() for _ in range(2)]
        self.waiters = [Task(self.wait, ()) for _ in range(2)]
        eventually(lambda: self.pool.stats().waiting == 2)

    def wait(self) -> None:
        with self.pool.lease(timeout=3 * PATIENCE):
            pass

    def look(self) -> None:
        for waiter in self.waiters:
            waiter.result(2 * PATIENCE)
        super().look()


def acquire(world: Any) -> None:
    world.leases.append(world.pool.acquire())


def get(world: Any) -> None:
    world.things.append(world.pool.get())


def enter(world: Any) -> None:
    lease = world.pool.lease()
    world.leases.append(lease)
    lease.__enter__()


def leave(world: Any, error: BaseException | None = None) -> None:
    world.leases[0].__exit__(type(error), error, None)


def release_all(world: Any) -> None:
    for lease in world.leases:
        lease.release()


def in_vain(act: Act) -> Act:
    """The call ends with a timeout."""

    def acted(world: Any) -> None:
        with pytest.raises(PoolTimeout):
            act(world)

    return acted


def construct(world: World) -> None:
    world.pool = FastPool(2, factory=world.maker, min_idle=2)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "check": {"check": lambda resource: None, "check_after": 0},
    "reset": {"reset": lambda resource: None},
    "max_uses": {"max_uses": 1},
    "max_idle": {"max_idle": 0},
    "tracking": {"leak_after": 100},
    "caller": {"create_in": "caller"},
}

SCENES: dict[str, Scene] = {}
for name, options in OPTIONS.items():
    SCENES |= {
        f"acquire-{name}": (made(**options), acquire),
        f"acquire-idle-{name}": (idle(**options), acquire),
        f"get-idle-{name}": (idle(**options), get),
        f"enter-idle-{name}": (idle(**options), enter),
        f"put-{name}": (got(**options), lambda w: w.pool.put(w.things[0])),
        f"leave-{name}": (lent(**options), leave),
        f"leave-broken-{name}": (lent(**options), lambda w: leave(w, OSError())),
        f"release-waited-for-{name}": (lambda o=options: Crowd(**o), release_all),
        f"discard-{name}": (lent(**options), lambda w: w.leases[0].discard()),
    }
SCENES |= {
    "warm": (made(), lambda w: w.pool.warm(2)),
    "flush": (idle(2), lambda w: w.pool.flush()),
    "resize": (idle(2), lambda w: w.pool.resize(1)),
    "suspend": (idle(2), lambda w: w.pool.suspend()),
    "resume": (idle(2), lambda w: w.pool.resume()),
    "close": (idle(2), lambda w: w.pool.close()),
    "close-lent": (lent(2), lambda w: w.pool.close(timeout=0.05)),
    "stats": (idle(2), lambda w: w.pool.stats()),
    "leases": (lent(2, leak_after=100), lambda w: w.pool.leases()),
    "repr": (lent(2), lambda w: repr(w.pool)),
    "get_nowait-refused": (lent(2), in_vain(lambda w: w.pool.get_nowait())),
    "timed-out": (lent(2), in_vain(lambda w: w.pool.acquire(0.001))),
    "drop-lease": (lent(leak_after=100), lambda w: w.leases.clear()),
    "constructor": (Two, construct),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalisers
@pytest.mark.parametrize("name", SCENES)
def test_interrupted_call_loses_nothing(name: str) -> None:
    endure(name, *SCENES[name])


@pytest.mark.parametrize("name", SCENES)
def test_no_handler_runs_under_a_lock(name: str) -> None:
    unlocked(*SCENES[name])

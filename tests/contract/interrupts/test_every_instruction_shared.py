"""A signal handler raises at any instruction of a call of a SharedPool: see
``test_every_instruction.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastpool import PoolTimeout, SharedPool
from support.budgets import ScriptedBudget
from support.helpers import PATIENCE, Task, eventually
from support.interrupted_pools import AT_LENGTH, Scene, Thing, World, endure, unlocked

SLOTS = 2

pytestmark = AT_LENGTH


class Shared(World):
    """Of two resources; ``lent``: how many slots are.  ``permits``: each lease takes one of so
    many."""

    def __init__(
        self, lent: int = 0, least: int = 0, permits: int | None = None, **options: Any
    ) -> None:
        super().__init__()
        self.avoided: Any = None
        self.made: Thing | None = None  # by the caller
        self.budget = None if permits is None else ScriptedBudget()
        if self.budget is not None:
            options |= {"budget": self.budget, "units": "slots"}
        self.pool = SharedPool(self.maker, items=(least, 2), slots=SLOTS, **options)
        self.permit(permits or 0)
        self.leases = [self.pool.acquire() for _ in range(lent)]

    def permit(self, n: int) -> None:
        if self.budget is not None:
            self.budget.member.allow(n)

    def reopen(self) -> None:
        if self.avoided is not None:
            self.pool.avoid(self.avoided, False)
        self.pool.resize((0, 2))
        self.pool.resume()
        self.permit(2 * SLOTS)
        if self.made is not None and not self.made.maker.closed and self.pool.stats().open:
            self.maker.made.append(self.made)  # it is the pool's
        eventually(lambda: not self.pool.stats().draining and not self.pool.stats().closing)
        eventually(lambda: self.pool.stats().leases == 0 and not self.pool.leases())
        eventually(lambda: self.budget is None or self.budget.member.has_open(0))

    def acquire_all(self) -> list[Any]:
        return [self.pool.acquire(timeout=PATIENCE) for _ in range(2 * SLOTS)]


class Crowd(Shared):
    """All is lent, and two threads wait."""

    def __init__(self, **options: Any) -> None:
        super().__init__(2 * SLOTS, **options)
        self.waiters = [Task(self.wait, ()) for _ in range(2)]
        eventually(lambda: self.pool.stats().waiting == 2)

    def wait(self) -> None:
        with self.pool.lease(timeout=3 * PATIENCE):
            pass

    def look(self) -> None:
        for waiter in self.waiters:
            waiter.result(2 * PATIENCE)
        super().look()


def recalled() -> Shared:
    """One slot may be lent from here on: what comes back before that serves nobody."""
    world = Crowd(permits=2 * SLOTS)
    world.permit(1)
    return world


def of(lent: int = 0, **options: Any) -> Callable[[], Shared]:
    return lambda: Shared(lent, **options)


def idle(**options: Any) -> Callable[[], Shared]:
    """One resource is there."""

    def make() -> Shared:
        world = Shared(1, **options)
        world.settle()
        return world

    return make


def got(**options: Any) -> Callable[[], Shared]:
    """A slot is taken by ``get``."""

    def make() -> Shared:
        world = Shared(**options)
        world.things.append(world.pool.get())
        return world

    return make


def acquire(world: Shared) -> None:
    world.leases.append(world.pool.acquire())


def get(world: Shared) -> None:
    world.things.append(world.pool.get())


def leave(world: Shared, error: BaseException | None = None) -> None:
    world.leases[0].__exit__(type(error), error, None)


def release_all(world: Shared) -> None:
    for lease in world.leases:
        lease.release()


def avoid(world: Shared) -> None:
    world.avoided = world.leases[0].resource
    world.pool.avoid(world.avoided)


def in_vain(world: Shared) -> None:
    with pytest.raises(PoolTimeout):
        world.pool.acquire(0.001)


def add(world: Shared) -> None:
    world.made = Thing(world.maker)
    world.pool.add(world.made)


def construct(world: World) -> None:
    world.pool = SharedPool(world.maker, items=(2, 2))


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "check": {"check": lambda resource: None, "check_after": 0},
    "max_uses": {"max_uses": 1},
    "tracking": {"leak_after": 100},
    "permits": {"permits": 2 * SLOTS},
    "permits-check": {"permits": 2 * SLOTS, "check": lambda resource: None, "check_after": 0},
}

SCENES: dict[str, Scene] = {}
for name, options in OPTIONS.items():
    SCENES |= {
        f"acquire-{name}": (of(**options), acquire),
        f"acquire-idle-{name}": (idle(**options), acquire),
        f"get-idle-{name}": (idle(**options), get),
        f"put-{name}": (got(**options), lambda w: w.pool.put(w.things[0])),
        f"release-{name}": (of(1, **options), lambda w: w.leases[0].release()),
        f"leave-broken-{name}": (of(1, **options), lambda w: leave(w, OSError())),
        f"discard-{name}": (of(3, **options), lambda w: w.leases[0].discard()),
        f"release-waited-for-{name}": (lambda o=options: Crowd(**o), release_all),
    }
SCENES |= {
    "penalize": (of(1), lambda w: w.leases[0].penalize()),
    "drain": (of(3), lambda w: w.pool.drain(w.leases[0].resource)),
    "replace": (of(3), lambda w: w.pool.replace()),
    "avoid": (of(1), avoid),
    "add": (of(), add),
    "warm": (of(), lambda w: w.pool.warm(2)),
    "flush": (of(3), lambda w: w.pool.flush()),
    "flush-idle": (idle(), lambda w: w.pool.flush()),
    "resize": (of(3), lambda w: w.pool.resize((0, 1))),
    "suspend": (of(1), lambda w: w.pool.suspend()),
    "resume": (of(1), lambda w: w.pool.resume()),
    "close": (idle(), lambda w: w.pool.close()),
    "close-lent": (of(3), lambda w: w.pool.close(timeout=0)),
    "stats": (of(3), lambda w: w.pool.stats()),
    "leases": (of(3, leak_after=100), lambda w: w.pool.leases()),
    "timed-out": (of(2 * SLOTS), in_vain),
    "timed-out-permits": (of(1, permits=1), in_vain),
    "release-permit-waited-for": (recalled, release_all),
    "close-permits": (of(3, permits=3), lambda w: w.pool.close(timeout=0)),
    "drop-lease": (of(1, leak_after=100), lambda w: w.leases.clear()),
    "constructor": (World, construct),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalisers
@pytest.mark.parametrize("name", SCENES)
def test_interrupted_call_loses_nothing(name: str) -> None:
    endure(name, *SCENES[name])


@pytest.mark.parametrize("name", SCENES)
def test_no_handler_runs_under_a_lock(name: str) -> None:
    unlocked(*SCENES[name])

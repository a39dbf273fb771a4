"""A signal handler raises at any instruction of a call that finds an event loop closed, whose
resources a pool with an async factory has yet to give up: see ``test_every_instruction.py``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastpool import FastPool
from support.helpers import PATIENCE, eventually
from support.interrupted_pools import AT_LENGTH, Scene, Thing, World, endure

pytestmark = [pytest.mark.costly, *AT_LENGTH]


class Closed(World):
    """A pool of three: on a loop that is closed one is idle, and two are lent."""

    def __init__(self) -> None:
        super().__init__()

        async def create() -> Thing:
            return self.maker()

        self.pool = FastPool(3, factory=create, close=Thing.close)
        self.run(self.begin())

    async def begin(self) -> None:
        leases = [await self.pool.aacquire() for _ in range(3)]
        self.leases = leases[1:]
        await leases[0].__aexit__(None, None, None)

    def run(self, coroutine: Any) -> None:
        """On a loop of its own, which is closed at once, with what it has."""
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(coroutine)
        finally:
            loop.close()

    def settle(self) -> None:
        self.leases.clear()

    async def use_all(self) -> None:
        leases = [await self.pool.aacquire(PATIENCE) for _ in range(3)]
        for lease in leases:
            await lease.__aexit__(None, None, None)

    def look(self) -> None:
        if not self.pool.closed:
            asyncio.run(self.use_all())
        self.pool.close(timeout=0)
        eventually(lambda: self.pool.stats().open == 0)
        eventually(lambda: len(self.maker.made) == len(self.maker.closed))
        assert len(set(self.maker.closed)) == len(self.maker.closed), "closed twice"
        stats = self.pool.stats()
        assert sum(stats.closed.values()) == stats.created == len(self.maker.made), stats


def use_elsewhere(world: Closed) -> None:
    """The first call on another loop."""
    world.run(world.use_all())


def release(world: Closed) -> None:
    """Of leases whose loop is closed."""
    while world.leases:
        world.leases.pop().release()


SCENES: dict[str, Scene] = {
    name: (Closed, act)
    for name, act in {
        "stats": lambda world: world.pool.stats(),
        "close": lambda world: world.pool.close(timeout=0),
        "release": release,
        "drop": lambda world: world.leases.clear(),
        "use-elsewhere": use_elsewhere,
    }.items()
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalisers
@pytest.mark.parametrize("name", SCENES)
def test_interrupted_call_loses_nothing(name: str) -> None:
    endure(name, *SCENES[name])

"""What a world is made of: a plan drawn by dice, and a factory with hooks that tell the history."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastpool import PoolOverloaded, PoolTimeout
from support.helpers import Maker, Resource

if TYPE_CHECKING:
    from simulation.world import World


class Failure(Exception):
    """Of the factory."""


class Spoilt(Exception):
    """Of a borrower; it means that the resource is broken."""


#: What a call may end with.
ENDS = (PoolTimeout, PoolOverloaded, Failure, Spoilt)


@dataclass
class Plan:
    """What a world is made of.  Chances are those of one call."""

    cap: int = 2
    fair: bool = True
    loops: int = 1
    tasks: int = 4  # on each loop
    threads: int = 0  # they never wait
    operations: int = 3  # of each of them
    asynchronous: bool = False  # factory and hooks are coroutine functions
    checked: bool = False
    resets: bool = False
    slow: float = 0.3  # hooks that take some virtual time
    failing: float = 0.1  # factories, checks and resets that raise
    cancels: float = 0.25
    short: float = 0.3  # calls with a short timeout
    discards: float = 0.15
    spoils: float = 0.1
    flushes: float = 0.03
    closes: bool = False  # the pool is closed in the middle
    max_waiting: int | None = None
    create_timeout: float = 30.0
    forms: tuple[str, ...] = ("get", "lease", "acquire")

    @classmethod
    def by_chance(cls, seed: object, **fixed: Any) -> Plan:
        dice = random.Random(f"plan {seed}")
        plan = cls(
            cap=dice.choice([1, 2, 2, 3]),
            tasks=dice.choice([2, 3, 4, 5]),
            checked=dice.random() < 0.4,
            resets=dice.random() < 0.4,
            slow=dice.choice([0, 0.3, 0.8]),
            failing=dice.choice([0, 0, 0.1, 0.5]),
            cancels=dice.choice([0, 0.2, 0.6]),
            short=dice.choice([0, 0.3, 0.7]),
            discards=dice.choice([0, 0.1, 0.5]),
            closes=dice.random() < 0.2,
            max_waiting=dice.choice([None, None, None, 1, 3]),
            create_timeout=dice.choice([30.0, 30.0, 0.004]),
        )
        for name, value in fixed.items():
            setattr(plan, name, value)
        return plan


class Factory(Maker):
    """Tells the history; slow and failing by dice."""

    def __init__(self, world: World) -> None:
        super().__init__(world.plan.cap)
        self.world, self.dice = world, random.Random(f"factory {world.seed}")

    def __call__(self) -> Any:
        self.world.history.note("dial")
        try:
            self.linger()
            if self.world.chance(self.dice, self.world.plan.failing):
                raise Failure
            resource = super().__call__()
        except BaseException:
            self.world.history.note("fail")
            raise
        self.world.history.note("make", "", resource.number)
        return resource

    def note_closed(self, resource: Resource) -> None:
        self.world.history.note("close", "", resource.number)
        self.linger(0.3)
        super().note_closed(resource)
        self.world.history.note("closed", "", resource.number)

    def ail(self, resource: Resource) -> None:
        """The check, and the reset."""
        assert not resource.closed and resource.holder is None
        self.linger()
        if self.world.chance(self.dice, self.world.plan.failing):
            raise OSError

    def linger(self, share: float = 1.0) -> None:
        if self.world.chance(self.dice, self.world.plan.slow * share):
            self.world.schedule.sleep(self.dice.random() * 0.01)


class AsyncFactory(Factory):
    """The same with coroutine functions."""

    async def create(self) -> Any:
        self.world.history.note("dial")
        try:
            await self.alinger()
            if self.world.chance(self.dice, self.world.plan.failing):
                raise Failure
            resource = Maker.__call__(self)
        except BaseException:
            self.world.history.note("fail")
            raise
        self.world.history.note("make", "", resource.number)
        return resource

    async def close(self, resource: Resource) -> None:
        self.world.history.note("close", "", resource.number)
        await self.alinger()
        Maker.note_closed(self, resource)
        self.world.history.note("closed", "", resource.number)

    async def aail(self, resource: Resource) -> None:
        assert not resource.closed and resource.holder is None
        await self.alinger()
        if self.world.chance(self.dice, self.world.plan.failing):
            raise OSError

    async def alinger(self) -> None:
        if self.world.chance(self.dice, self.world.plan.slow):
            await asyncio.sleep(self.dice.random() * 0.01)

"""A signal handler raises at any instruction of a task's call of a SharedPool, a semaphore or a
TaskPool: see ``test_every_instruction_tasks.py``."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from contract.interrupts.test_every_instruction_tasks import OnLoop, acquire, block, leave, task
from fastpool import PoolTimeout, SharedPool, TaskPool, WeightedSemaphore
from support.helpers import PATIENCE
from support.interrupted_pools import AT_LENGTH, Scene, at_a_push, endure, unlocked

pytestmark = [pytest.mark.costly, *AT_LENGTH]


class Shared(OnLoop):
    """Of two resources with two slots each; so many leases are under way."""

    def __init__(self, lent: int = 0, **options: Any) -> None:
        super().__init__()
        self.pool = SharedPool(self.maker, items=(1, 2), slots=2, **options)
        self.leases = [self.pool.acquire() for _ in range(lent)]

    def acquire_all(self) -> list[Any]:
        return [self.pool.acquire(timeout=PATIENCE) for _ in range(4)]


class Units(OnLoop):
    """A semaphore of two units, of which so many are taken."""

    def __init__(self, taken: int = 0) -> None:
        super().__init__()
        self.semaphore = WeightedSemaphore(2)
        for _ in range(taken):
            self.semaphore.acquire()

    def settle(self) -> None:
        super().settle()
        while self.semaphore.in_use:
            self.semaphore.release()

    def look(self) -> None:
        with self.semaphore.hold(2, timeout=PATIENCE):
            assert self.semaphore.in_use == 2


class Tasks(OnLoop):
    """A TaskPool for one task at a time, and one that is queued."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = TaskPool(1, max_queue=1)

    def settle(self) -> None:
        async def settled() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)
            gc.collect()  # a hold that the struck task had not been given yet
            for _ in range(2):  # as many as there are slots
                await (await self.tasks.submit(asyncio.sleep, 0))
            assert self.tasks.running == self.tasks.queued == 0

        self.run(settled())
        super().settle()

    def look(self) -> None:
        pass


async def hold(world: Units) -> None:
    async with world.semaphore.hold():
        pass


async def take(world: Units) -> None:
    await world.semaphore.aacquire()


async def take_in_vain(world: Units) -> None:
    with pytest.raises(PoolTimeout):
        await world.semaphore.aacquire(2, timeout=0.001)


async def submit(world: Tasks) -> None:
    await (await world.tasks.submit(asyncio.sleep, 0))


async def try_submit(world: Tasks) -> None:
    await world.tasks.try_submit(asyncio.sleep, 0)


SCENES: dict[str, Scene] = {
    "shared-acquire": (Shared, task(acquire)),
    "shared-block": (Shared, task(block)),
    "shared-leave": (lambda: Shared(1), task(leave)),
    "shared-leave-broken": (lambda: Shared(1), task(leave, OSError())),
    "shared-block-check": (
        lambda: Shared(check=lambda thing: None, check_after=0),
        task(block),
    ),
    "semaphore-acquire": (Units, task(take)),
    "semaphore-hold": (Units, task(hold)),
    "semaphore-timed-out": (lambda: Units(1), task(take_in_vain)),
    "tasks-submit": (Tasks, task(submit)),
    "tasks-try_submit": (Tasks, task(try_submit)),
}
AT_A_PUSH = {"semaphore-hold"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalisers
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("name", at_a_push(SCENES, AT_A_PUSH))
def test_interrupted_call_loses_nothing(name: str) -> None:
    endure(name, *SCENES[name])


@pytest.mark.parametrize("name", SCENES)
def test_no_handler_runs_under_a_lock(name: str) -> None:
    unlocked(*SCENES[name])

"""A signal handler raises at any instruction of a task's call of a pool with an async factory, and
of the pool's own tasks on that loop: see ``test_every_instruction_tasks.py``.

Afterwards the loop has to get all there is, and then another loop in another thread.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import Any

import pytest

from contract.interrupts.test_every_instruction_tasks import OnLoop, block, leave, task
from fastpool import FastPool, PoolClosed, PoolTimeout
from support.helpers import PATIENCE, eventually
from support.interrupted_pools import AT_LENGTH, Scene, Thing, at_a_push, endure, unlocked

pytestmark = [pytest.mark.costly, *AT_LENGTH]


class Async(OnLoop):
    """Of two; so many are idle, so many lent."""

    def __init__(self, idle: int = 0, lent: int = 0, **options: Any) -> None:
        super().__init__()
        self.wrong: list[BaseException | str] = []

        async def create(*key: Any) -> Thing:
            await asyncio.sleep(0)
            return self.maker()

        async def close(thing: Thing) -> None:
            await asyncio.sleep(0)
            thing.close()

        self.pool = self.new_pool(create, close, **options)
        self.run(self.begin(idle, lent))

    def new_pool(self, create: Any, close: Any, **options: Any) -> Any:
        return FastPool(2, factory=create, close=close, **options)

    async def begin(self, idle: int, lent: int) -> None:
        leases = [await self.acquire() for _ in range(idle + lent)]
        self.leases = leases[idle:]
        for lease in leases[:idle]:
            await lease.__aexit__(None, None, None)

    async def acquire(self, timeout: float = PATIENCE) -> Any:
        return await self.pool.aacquire(timeout)

    def settle(self) -> None:
        gc.collect()  # the task that was struck may have a lease still
        try:
            self.run(self.settled())
        except Exception as error:
            self.wrong.append(error)
        super().settle()

    async def settled(self) -> None:
        for lease in self.leases:
            if "held" in repr(lease):
                await lease.__aexit__(None, None, None)
        self.leases.clear()
        with suppress(PoolClosed):  # a close that was struck goes on in its own thread
            self.pool.resize(2)
            self.pool.resume()
            for lease in [await self.pool.aacquire(PATIENCE) for _ in range(2)]:
                await lease.__aexit__(None, None, None)
            self.pool.flush()
        assert self.pool.closed is False or await self.pool.aclose(PATIENCE)
        await self.gone()

    async def gone(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.pool.stats().open:
                await asyncio.sleep(0.001)

    def look(self) -> None:
        assert not self.wrong, self.wrong
        asyncio.run(self.elsewhere())
        eventually(lambda: len(self.maker.made) == len(self.maker.closed))
        assert len(set(self.maker.closed)) == len(self.maker.closed), "closed twice"

    async def elsewhere(self) -> None:
        """On the loop of another thread."""
        if not self.pool.closed:
            for lease in [await self.pool.aacquire(PATIENCE) for _ in range(2)]:
                await lease.__aexit__(None, None, None)
            assert await self.pool.aclose(PATIENCE) is True
        await self.gone()


async def acquire(world: Async) -> None:
    try:
        world.leases.append(await world.pool.aacquire(PATIENCE))
    except PoolTimeout as error:
        world.wrong.append(error)


async def in_vain(world: Async) -> None:
    with pytest.raises(PoolTimeout):
        await world.pool.aacquire(0.001)


class Crowd(Async):
    """All is lent, and two tasks wait."""

    async def begin(self, idle: int, lent: int) -> None:
        await super().begin(0, 2)
        self.waiters = [asyncio.ensure_future(acquire_and_leave(self)) for _ in range(2)]
        while self.pool.stats().waiting < 2:
            await asyncio.sleep(0)

    async def settled(self) -> None:
        for lease in self.leases:
            if "held" in repr(lease):
                await lease.__aexit__(None, None, None)
        await asyncio.wait(self.waiters)
        await super().settled()


async def give_all_back(world: Crowd) -> None:
    for lease in world.leases:
        await lease.__aexit__(None, None, None)
    await asyncio.wait(world.waiters)


async def acquire_and_leave(world: Async) -> None:
    lease = world.pool.lease(timeout=PATIENCE)
    try:
        async with lease:
            pass
    except PoolTimeout as error:
        world.wrong.append(error)
    finally:
        if "held" in repr(lease):  # a strike on the way into the block
            await lease.__aexit__(None, None, None)


async def called(world: Async, name: str, *args: Any) -> None:
    result = getattr(world.pool, name)(*args)
    if hasattr(result, "__await__"):
        await result
    for _ in range(5):
        await asyncio.sleep(0)


async def passes(thing: Thing) -> None:
    await asyncio.sleep(0)


async def fails(thing: Thing) -> None:
    await asyncio.sleep(0)
    raise OSError


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "check": {"check": passes, "check_after": 0},
    "reset": {"reset": passes},
    "unfit": {"reset": fails},
    "tracking": {"leak_after": 100},
}
SCENES: dict[str, Scene] = {}
for name, o in OPTIONS.items():
    SCENES |= {
        f"acquire-{name}": (lambda o=o: Async(**o), task(acquire)),
        f"acquire-idle-{name}": (lambda o=o: Async(1, **o), task(acquire)),
        f"block-{name}": (lambda o=o: Async(1, **o), task(block)),
        f"leave-{name}": (lambda o=o: Async(0, 1, **o), task(leave)),
        f"leave-broken-{name}": (lambda o=o: Async(0, 1, **o), task(leave, OSError())),
        f"timed-out-{name}": (lambda o=o: Async(0, 2, **o), task(in_vain)),
        f"crowd-{name}": (lambda o=o: Crowd(**o), task(give_all_back)),
    }
SCENES |= {
    "ailing": (lambda: Async(1, check=fails, check_after=0), task(acquire)),
    "check_idle": (lambda: Async(2, check=passes), task(called, "acheck_idle")),
    "check_idle-ailing": (lambda: Async(2, check=fails), task(called, "acheck_idle")),
    "warm": (Async, task(called, "awarm", 2)),
    "flush": (lambda: Async(2), task(called, "flush")),
    "resize": (lambda: Async(2), task(called, "resize", 1)),
    "suspend": (lambda: Async(2), task(called, "suspend")),
    "resume": (lambda: Async(2), task(called, "resume")),
    "close": (lambda: Async(2), task(called, "close", 0)),
    "aclose": (lambda: Async(2), task(called, "aclose")),
    "stats": (lambda: Async(1, 1), task(called, "stats")),
    "repr": (lambda: Async(1, 1), task(called, "__repr__")),
}

#: A loop for each moment takes twenty seconds of CPU a scene.
AT_A_PUSH = {"acquire-plain", "leave-reset"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalisers
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("name", at_a_push(SCENES, AT_A_PUSH))
def test_interrupted_call_loses_nothing(name: str) -> None:
    endure(name, *SCENES[name])


@pytest.mark.parametrize("name", SCENES)
def test_no_handler_runs_under_a_lock(name: str) -> None:
    unlocked(*SCENES[name])

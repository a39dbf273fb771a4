"""A signal handler raises at any instruction of a task's call of a pool with an async factory that
another event loop uses too: see ``test_every_instruction_async.py``.

What such a call changes for all loops, or for none, it has changed afterwards for all or for none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from contract.interrupts.test_every_instruction_async import Async, called, passes
from contract.interrupts.test_every_instruction_tasks import leave, task
from fastpool import KeyedPool, PoolOverloaded, PoolTimeout, SharedPool
from fastpool._runtime import scheduler
from support.async_factories import LoopThread
from support.helpers import PATIENCE
from support.interrupted_pools import AT_LENGTH, Act, at_a_push, endure, unlocked

pytestmark = [pytest.mark.costly, *AT_LENGTH]

SHORT = 0.005  # seconds in which a caller gets what nobody else has


class Both(Async):
    """Of two; so many are idle on the other loop, and so many lent by it and by this one."""

    key: tuple[Any, ...] = ()
    limit = "maxsize"

    def __init__(self, other: LoopThread, there: str = "", here: str = "", **options: Any) -> None:
        self.other, self.there = other, there
        self.elsewhere_leases: list[Any] = []
        super().__init__(here.count("i"), here.count("l"), **options)

    async def begin(self, idle: int, lent: int) -> None:
        self.other.run(self.begin_there())
        await super().begin(idle, lent)

    async def begin_there(self) -> None:
        leases = [await self.acquire() for _ in self.there]
        for state, lease in zip(self.there, leases, strict=True):
            if state == "l":
                self.elsewhere_leases.append(lease)
            else:
                await lease.__aexit__(None, None, None)

    async def acquire(self, timeout: float = PATIENCE) -> Any:
        return await self.pool.aacquire(*self.key, timeout)

    async def settled(self) -> None:
        """All that is lent comes back; then each loop gets what the limit says, and no more."""
        scheduler.run(int)  # behind the change whose caller was struck while it waited
        for lease in self.leases:
            if "held" in repr(lease):
                await lease.__aexit__(None, None, None)
        self.leases.clear()
        self.other.run(self.settled_there())
        if self.pool.closed:
            assert await self.pool.aclose(PATIENCE)
        else:
            self.pool.resume()
            await self.use_all()
            await asyncio.wrap_future(self.other.start(self.use_all()))
            await self.use_all()
            self.pool.flush()
        await self.gone()

    async def settled_there(self) -> None:
        for lease in self.elsewhere_leases:
            await lease.__aexit__(None, None, None)
        self.elsewhere_leases.clear()

    def most(self) -> int:
        return int(self.pool.options[self.limit])

    async def use_all(self) -> None:
        most, options = self.most(), self.pool.options
        leases = [await self.acquire() for _ in range(most)]
        with pytest.raises(PoolOverloaded if options["max_waiting"] == 0 else PoolTimeout):
            leases.append(await self.acquire(SHORT))
        assert self.pool.stats().open <= most
        for lease in leases:
            await lease.__aexit__(None, None, None)

    def look(self) -> None:
        assert not self.wrong, self.wrong
        assert self.pool.close(PATIENCE) is True or self.pool.stats().open == 0
        assert len(self.maker.made) == len(self.maker.closed)
        assert len(set(self.maker.closed)) == len(self.maker.closed), "closed twice"


class Keyed(Both):
    key = ("a",)
    limit = "max_total"

    def new_pool(self, create: Any, close: Any, **options: Any) -> Any:
        return KeyedPool(create, max_total=2, close=close, **options)


class Shared(Both):
    def new_pool(self, create: Any, close: Any, **options: Any) -> Any:
        return SharedPool(create, items=(0, 2), slots=1, close=close, **options)

    def most(self) -> int:
        return int(self.pool.options["items"][1])


async def acquire(world: Both) -> None:
    try:
        world.leases.append(await world.acquire())
    except PoolTimeout as error:
        world.wrong.append(error)


async def overloaded(world: Both) -> None:
    with pytest.raises(PoolOverloaded):
        await world.acquire()


async def leave_to_the_other(world: Both) -> None:
    """Where a task of the other loop waits, which has nothing."""
    waiting = world.other.start(world.acquire())
    while not world.pool.stats().waiting:
        await asyncio.sleep(0)
    try:
        await leave(world)
    finally:
        for lease in world.leases:
            if "held" in repr(lease):
                await lease.__aexit__(None, None, None)
        world.elsewhere_leases.append(await asyncio.wrap_future(waiting))


SCENES: dict[str, tuple[type[Both], str, str, dict[str, Any], Act]] = {}
for kind, make in {"fast": Both, "keyed": Keyed, "shared": Shared}.items():
    fewer: Any = (0, 1) if kind == "shared" else 1
    # a shared pool counts what is idle on another loop for nobody
    fewest = 3 if kind == "shared" else 0
    idle_limit = {"fast": "max_idle", "keyed": "max_idle_per_key"}.get(kind)
    SCENES |= {
        f"{kind}-first-use": (make, "i", "", {}, task(acquire)),
        f"{kind}-evicting": (make, "ii", "", {}, task(acquire)),
        f"{kind}-leave-to-the-other": (make, "", "ll", {}, task(leave_to_the_other)),
        f"{kind}-resize": (make, "i", "i", {}, task(called, "resize", fewer)),
        f"{kind}-configure": (
            make,
            "i",
            "i",
            {},
            lambda world, n=fewest: world.run(configure(world, max_waiting=n)),
        ),
        f"{kind}-flush": (make, "i", "i", {}, task(called, "flush")),
        f"{kind}-suspend": (make, "i", "i", {}, task(called, "suspend")),
        f"{kind}-close": (make, "i", "i", {}, task(called, "close", 0)),
        f"{kind}-stats": (make, "i", "l", {}, task(called, "stats")),
        f"{kind}-check": (make, "i", "i", {"check": passes, "check_after": 0}, task(acquire)),
    }
    if idle_limit is not None:
        SCENES |= {
            f"{kind}-leave-idle-limit": (make, "i", "l", {idle_limit: 1}, task(leave)),
            f"{kind}-overloaded": (make, "ll", "", {"max_waiting": 0}, task(overloaded)),
        }


async def configure(world: Both, **options: Any) -> None:
    world.pool.configure(**options)


@pytest.fixture(scope="module")
def other() -> Iterator[LoopThread]:
    """The other loop, in a thread of its own."""
    loop = LoopThread("asyncio")
    yield loop
    loop.end()


#: A loop for each moment takes twenty seconds of CPU a scene.
AT_A_PUSH = {"fast-resize", "keyed-configure", "shared-first-use"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalisers
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("name", at_a_push(SCENES, AT_A_PUSH))
def test_interrupted_call_loses_nothing(name: str, other: LoopThread) -> None:
    make, there, here, options, act = SCENES[name]
    endure(name, lambda: make(other, there, here, **options), act)


@pytest.mark.parametrize("name", SCENES)
def test_no_handler_runs_under_a_lock(name: str, other: LoopThread) -> None:
    make, there, here, options, act = SCENES[name]
    unlocked(lambda: make(other, there, here, **options), act)

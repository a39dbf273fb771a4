"""A signal handler raises at any instruction of a task's call: see ``test_every_instruction.py``.

What runs the event loop itself is left out: a loop whose own code was struck is nobody's any more.
Its task gets the exception, gives back what it holds still, and the loop is closed.  ``aget`` is
left out, too: what it returns has no lease, so a handler that raises at its last line takes the
resource along, as one does that raises in the caller's next line.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, PoolTimeout
from support.helpers import PATIENCE
from support.interrupted_pools import AT_LENGTH, Scene, World, at_a_push, endure, unlocked

pytestmark = [pytest.mark.costly, *AT_LENGTH]


class OnLoop(World):
    """What is called by a task, on a loop of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)  # of tasks that were struck

    def run(self, call: Any) -> Any:
        return self.loop.run_until_complete(call)

    def settle(self) -> None:
        async def settled() -> None:
            for lease in self.leases:
                if "held" in repr(lease):
                    await lease.__aexit__(None, None, None)
            for thing in self.things:
                try:
                    self.pool.put(thing)
                except ValueError:  # it has come back
                    pass

        if not self.loop.is_closed():
            self.run(settled())
            self.run(asyncio.sleep(0))
            self.loop.close()
        gc.collect()  # the task, its exception and the frame of the loop refer to each other
        self.leases.clear()
        self.things.clear()


class Plain(OnLoop):
    """Of two; so many are idle, so many lent."""

    def __init__(self, idle: int = 0, lent: int = 0, **options: Any) -> None:
        super().__init__()
        self.pool = FastPool(2, factory=self.maker, **options)
        leases = [self.pool.acquire() for _ in range(idle + lent)]
        self.leases = leases[idle:]
        for lease in leases[:idle]:
            lease.release()

    def reopen(self) -> None:
        self.pool.resume()

    def acquire_all(self) -> list[Any]:
        return [self.pool.acquire(timeout=PATIENCE) for _ in range(2)]


class Keyed(OnLoop):
    def __init__(self, idle: str = "", lent: str = "", **options: Any) -> None:
        super().__init__()
        self.pool = KeyedPool(self.maker, max_total=2, max_per_key=2, **options)
        leases = [self.pool.acquire(key) for key in idle + lent]
        self.leases = leases[len(idle) :]
        for lease in leases[: len(idle)]:
            lease.release()

    def acquire_all(self) -> list[Any]:
        return [self.pool.acquire(key, timeout=PATIENCE) for key in "cd"]


async def acquire(world: OnLoop, *args: Any) -> None:
    world.leases.append(await world.pool.aacquire(*args))


async def block(world: OnLoop, *args: Any) -> None:
    lease = world.pool.lease(*args)
    world.leases.append(lease)
    async with lease:
        pass


async def leave(world: OnLoop, error: BaseException | None = None) -> None:
    await world.leases[0].__aexit__(type(error), error, None)


async def in_vain(world: OnLoop) -> None:
    with pytest.raises(PoolTimeout):
        await world.pool.aacquire(0.001)


def task(call: Callable[..., Any], *args: Any) -> Callable[[Any], None]:
    return lambda world: world.run(call(world, *args))


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "check": {"check": lambda resource: None, "check_after": 0},
    "reset": {"reset": lambda resource: None},
    "tracking": {"leak_after": 100},
}
SCENES: dict[str, Scene] = {}
for name, o in OPTIONS.items():
    SCENES |= {
        f"acquire-{name}": (lambda o=o: Plain(**o), task(acquire)),
        f"acquire-idle-{name}": (lambda o=o: Plain(1, **o), task(acquire)),
        f"block-{name}": (lambda o=o: Plain(1, **o), task(block)),
        f"leave-{name}": (lambda o=o: Plain(0, 1, **o), task(leave)),
        f"leave-broken-{name}": (lambda o=o: Plain(0, 1, **o), task(leave, OSError())),
        f"timed-out-{name}": (lambda o=o: Plain(0, 2, **o), task(in_vain)),
        f"keyed-acquire-{name}": (lambda o=o: Keyed("aa", **o), task(acquire, "b")),
        f"keyed-block-{name}": (lambda o=o: Keyed("a", **o), task(block, "a")),
        f"keyed-leave-{name}": (lambda o=o: Keyed("", "a", **o), task(leave)),
    }


#: A loop for each moment takes twenty seconds of CPU a scene.
AT_A_PUSH = {"acquire-idle-check", "keyed-acquire-plain"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalisers
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("name", at_a_push(SCENES, AT_A_PUSH))
def test_interrupted_call_loses_nothing(name: str) -> None:
    endure(name, *SCENES[name])


@pytest.mark.parametrize("name", SCENES)
def test_no_handler_runs_under_a_lock(name: str) -> None:
    unlocked(*SCENES[name])

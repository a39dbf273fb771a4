"""A signal handler raises in the middle of a call of a shared pool: no slot is lost.

See ``support/signal_injection.py`` for the moments.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastpool import SharedPool, _core
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, wait_for_scheduler
from support.signal_injection import interrupt

SLOTS = 2


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """What was left before is not collected, and interrupted, in the middle of something else."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "check": {"check": lambda resource: None, "check_after": 0},
    "max_uses": {"max_uses": 1},
    "tracking": {"leak_after": 100},
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
methods = pytest.mark.parametrize("method", ["get", "acquire", "lease"])


def sound(pool: Any, maker: Maker) -> None:
    """Nothing is held, nobody is said to hold it, all slots of both resources can be had at once,
    and everything is closed in the end."""
    wait_for_scheduler()
    eventually(lambda: pool.stats().leases == 0 and not pool.leases())
    leases: list[Any] = []
    try:
        for _ in range(2 * SLOTS):
            leases.append(pool.acquire(timeout=PATIENCE))
    finally:
        for lease in leases:
            lease.release()
        closed = pool.close(timeout=PATIENCE)
    assert closed is True and not maker.faults
    eventually(lambda: maker.made == maker.closed)


def take_by(pool: Any, method: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """How to take by this face, and how to give back what that returned."""
    if method == "get":
        return pool.get, pool.put
    if method == "acquire":
        return pool.acquire, lambda lease: lease.release()
    lease = pool.lease()
    return lease.__enter__, lambda _: lease.__exit__(None, None, None)


def make(options: dict[str, Any]) -> tuple[Any, Maker]:
    maker = Maker(cap=4)
    return SharedPool(maker, items=(0, 2), slots=SLOTS, **options), maker


@options
@methods
@pytest.mark.parametrize("warm", [False, True], ids=["made", "idle"])
def test_an_interrupted_take_takes_nothing(
    options: dict[str, Any], method: str, warm: bool
) -> None:
    """Making, checking, tracking: whatever was under way, nobody is left holding a slot."""
    point, more = 0, True
    while more:
        point += 1
        pool, maker = make(options)
        if warm:
            pool.put(pool.get())
        take, give = take_by(pool, method)
        taken: list[Any] = []
        more = interrupt(point, lambda take=take, taken=taken: taken.append(take()))
        if not more:
            give(taken.pop())
        sound(pool, maker)


@options
@methods
@pytest.mark.parametrize("error", [None, OSError()], ids=["well", "broken"])
def test_an_interrupted_return_can_be_repeated(
    options: dict[str, Any], method: str, error: BaseException | None
) -> None:
    """Either the slot is back, or its borrower has it still and may give it back again; whatever an
    exception says of the resource."""
    if error is not None and method != "lease":
        pytest.skip("no block that an exception could leave")
    point, more = 0, True
    while more:
        point += 1
        pool, maker = make(options)
        take, give = take_by(pool, method)
        if error is not None:
            lease = pool.lease()
            take, give = (
                lease.__enter__,
                lambda _, exit_=lease.__exit__: exit_(OSError, error, None),
            )
        taken = take()
        more = interrupt(point, lambda give=give, taken=taken: give(taken))
        if more and pool.stats().leases:
            give(taken)
        sound(pool, maker)


ENDINGS: dict[str, Callable[[Any, Any], Any]] = {
    "drain": lambda pool, one: pool.drain(one),
    "replace": lambda pool, one: pool.replace(),
    "flush": lambda pool, one: pool.flush(),
    "resize": lambda pool, one: pool.resize((0, 1)),
    "close": lambda pool, one: pool.close(timeout=0),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())
@pytest.mark.parametrize("used", [False, True], ids=["idle", "in use"])
def test_an_interrupted_end_is_no_half_measure(end: Callable[[Any, Any], Any], used: bool) -> None:
    """A resource is in service still, or closed in the end; its slot is free when it is."""
    point, more = 0, True
    while more:
        point += 1
        pool, maker = make({})
        leases = [pool.acquire() for _ in range(SLOTS + 1)]
        one = leases[0].resource
        for lease in leases[0 if not used else 1 :]:
            lease.release()
        more = interrupt(point, lambda pool=pool, one=one: end(pool, one))
        if used:
            leases[0].release()
        if pool.closed:
            assert pool.close(timeout=PATIENCE) is True
            eventually(lambda maker=maker: maker.closed == maker.made)
            continue
        eventually(lambda pool=pool: not pool.stats().closing and not pool.stats().draining)
        pool.resize((0, 2))
        sound(pool, maker)


def test_a_close_hook_that_is_interrupted() -> None:
    """The resource counts as closed, and its slot is free."""
    maker = Maker(cap=2)
    hurt = [KeyboardInterrupt]

    def close(resource: Any) -> None:
        resource.close()
        if hurt:
            raise hurt.pop()

    pool = SharedPool(maker, items=(0, 1), slots=SLOTS, close=close)
    lease = pool.acquire()
    with pytest.raises(KeyboardInterrupt):
        lease.discard()
    eventually(lambda: pool.stats().open == 0)
    with pool.lease(timeout=PATIENCE):
        pass
    assert pool.close(timeout=PATIENCE) and maker.made == maker.closed == 2


def test_a_close_under_way_is_not_ended_twice(runner: ThreadRunner) -> None:
    """Its caller was interrupted after a worker had begun, and asks for the rest; and somebody who
    does not know yet complains of the resource.  The slot is free when the hook has returned."""
    maker = Maker(cap=2)
    pool = SharedPool(maker, items=(0, 1), slots=SLOTS)
    manager = _core.manager(pool, "this test")
    lease = pool.acquire()
    resource = lease.resource
    maker.close_gate.clear()
    runner.start(lease.discard)
    eventually(lambda: pool.stats().closing == 1)
    pool.penalize(resource)
    for _ in range(3):
        manager.rescue(0, "interrupted")
    assert manager.closers.wait_idle(PATIENCE)
    assert pool.stats().closing == pool.stats().open == 1
    maker.close_gate.set()
    runner.finish()
    eventually(lambda: pool.stats().open == 0)
    assert maker.closed == 1 and not maker.faults
    pool.close()


@pytest.mark.parametrize("method", ["aget", "aacquire", "lease"])
def test_an_interrupted_wait_of_a_task_leaves_the_queue(method: str) -> None:
    """On its way to the first suspension, wherever that is; the slot goes to the next."""

    async def main(point: int) -> bool:
        pool = SharedPool(object, items=1, slots=1, leak_after=100)
        held = await pool.aacquire()
        wait = {
            "aget": pool.aget, "aacquire": pool.aacquire,
            "lease": lambda timeout: pool.lease(timeout).__aenter__(),
        }[method](PATIENCE)  # fmt: skip
        suspended: list[Any] = []
        kept: list[BaseException] = []
        more = interrupt(point, lambda: suspended.append(wait.send(None)), kept)
        if suspended:
            wait.close()
        assert pool.stats().waiting == 0
        held.release()
        pool.acquire(timeout=0).release()
        wait_for_scheduler()
        assert pool.leases() == []
        pool.close()
        return more

    point = 1
    while asyncio.run(main(point)):
        point += 1
    assert point > 3

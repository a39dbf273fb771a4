"""A signal handler may raise at any moment of a call. Wherever it does, no slot is lost.

See ``support/signal_injection.py`` for the moments.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from fastpool import FastPool, _core
from support.async_factories import AsyncMaker, threads
from support.async_factories import accounted as async_accounted
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, works
from support.loops import queued_up
from support.signal_injection import interrupt


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """What was left before is not collected, and interrupted, in the middle of something else."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def sound(pool: Any, maker: Maker) -> None:
    """Both slots of the pool can be had at once, and everything is closed in the end."""
    leases: list[Any] = []
    try:
        for _ in range(2):
            leases.append(pool.acquire(timeout=PATIENCE))
    finally:
        for lease in leases:
            lease.release()
        closed = pool.close(timeout=PATIENCE)
    assert closed is True and not maker.faults
    eventually(lambda: maker.made == maker.closed)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "check": {"check": lambda resource: None, "check_after": 0},
    "reset": {"reset": lambda resource: None},
    "max_uses": {"max_uses": 1},
    "max_idle": {"max_idle": 0},
    "tracking": {"leak_after": 100},
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
methods = pytest.mark.parametrize("method", ["get", "acquire", "lease"])


def _take(pool: Any, method: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """How to take by this face, and how to give back what that returned."""
    if method == "get":
        return pool.get, pool.put
    if method == "acquire":
        return pool.acquire, lambda lease: lease.release()
    lease = pool.lease()
    return lease.__enter__, lambda _: lease.__exit__(None, None, None)


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
        maker = Maker(cap=2)
        pool: Any = FastPool(2, factory=maker, **options)
        if warm:
            pool.put(pool.get())
        take, give = _take(pool, method)
        taken: list[Any] = []
        more = interrupt(point, lambda take=take, taken=taken: taken.append(take()))
        if not more:
            give(taken.pop())
        sound(pool, maker)


@options
@methods
def test_an_interrupted_return_can_be_repeated(options: dict[str, Any], method: str) -> None:
    """Either the resource is back, or its borrower has it still and may give it back again."""
    point, more = 0, True
    while more:
        point += 1
        maker = Maker(cap=2)
        pool: Any = FastPool(2, factory=maker, **options)
        take, give = _take(pool, method)
        taken = take()
        more = interrupt(point, lambda give=give, taken=taken: give(taken))
        if more and pool.stats().leased:
            give(taken)
        sound(pool, maker)


def test_an_interrupted_discard_can_be_repeated() -> None:
    """Either the resource is closed, or its borrower has it still and may discard it again."""
    point, more = 0, True
    while more:
        point += 1
        maker = Maker(cap=2)
        pool: Any = FastPool(2, factory=maker)
        resource = pool.get()
        more = interrupt(point, lambda pool=pool, resource=resource: pool.discard(resource))
        if more and pool.stats().leased:
            pool.discard(resource)
        sound(pool, maker)
        assert resource.closed


@pytest.mark.parametrize("use", ["aget", "aacquire", "lease", "queue get", "queue put"])
def test_an_interrupted_wait_of_a_task_leaves_the_queue(use: str) -> None:
    """On its way to the first suspension, wherever that is; though the error, and with it every
    frame of the call, is kept."""

    def begin(pool: Any) -> Any:
        if use == "aget":
            return pool.aget(PATIENCE)
        if use == "aacquire":
            return pool.aacquire(PATIENCE)
        if use == "lease":
            return pool.lease(PATIENCE).__aenter__()
        return pool.aget(PATIENCE) if use == "queue get" else pool.aput(2, PATIENCE)

    async def main(point: int) -> bool:
        pool: Any = FastPool(1) if "queue" in use else FastPool(1, factory=object)
        if use == "queue put":
            pool.put(1)
        held = None if "queue" in use else await pool.aget()
        wait, suspended = begin(pool), []
        kept: list[BaseException] = []
        more = interrupt(point, lambda: suspended.append(wait.send(None)), kept)
        if suspended:
            wait.close()
        assert queued_up(pool) == 0
        if held is not None:
            pool.put(held)
            assert pool.get_nowait() is held
            pool.put(held)
        pool.close()
        return more

    point = 1
    while asyncio.run(main(point)):
        point += 1
    assert point > 3


ENDINGS: dict[str, Callable[[Any], Any]] = {
    "flush": lambda pool: pool.flush(),
    "resize": lambda pool: pool.resize(1),
    "close": lambda pool: pool.close(),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())
def test_an_interrupted_end_of_what_is_idle_can_be_repeated(end: Callable[[Any], Any]) -> None:
    """A resource is idle still, or closed in the end; its slot is free when it is."""
    point, more = 0, True
    while more:
        point += 1
        maker = Maker(cap=2)
        pool: Any = FastPool(2, factory=maker)
        both = [pool.get(), pool.get()]
        for resource in both:
            pool.put(resource)
        more = interrupt(point, lambda pool=pool: end(pool))
        end(pool)
        if pool.closed:
            assert pool.close(timeout=PATIENCE) is True
            eventually(lambda maker=maker: maker.closed == 2)
        else:
            eventually(lambda pool=pool: not pool.stats().closing)
            pool.resize(2)
            sound(pool, maker)


@pytest.mark.parametrize("name", ["flush", "resize"])
def test_an_interrupted_end_of_what_a_loop_has_idle(name: str) -> None:
    """The same of resources that are closed by tasks of their loop."""
    end = ENDINGS[name]
    point, more = 0, True
    with threads("asyncio", 1) as (loop,):
        while more:
            point += 1
            maker = AsyncMaker()
            hooks = {"factory": maker.create, "close": maker.close}
            with async_accounted(2, maker, **hooks) as (pool, _):
                loop.run(pool.awarm(2))
                more = interrupt(point, lambda pool=pool: end(pool))
                eventually(lambda pool=pool: not pool.stats().closing)
                end(pool)
                eventually(lambda pool=pool: not pool.stats().closing)
                pool.resize(2)
                assert loop.run(pool.awarm(2)) == 2


def test_an_interrupted_close_on_a_loop_is_done_all_the_same() -> None:
    """Asked for by who took the resource out of what is idle, and sees to no more than the call."""
    point, more = 1, True  # 1: the call
    with threads("asyncio", 1) as (loop,):
        while more:
            point += 1
            with async_accounted(1) as (pool, maker):
                loop.run(pool.awarm(1))
                (shard,) = _core.manager(pool, "this test").everyone()
                ((index, *_),) = shard.core.slots()
                assert shard.core.claim(index)
                close = partial(shard.closing.later, index, "idle")
                more = interrupt(point, close)
                eventually(lambda pool=pool: pool.stats().open == 0)
                assert len(maker.closings) == 1
    assert point > 3


@pytest.mark.parametrize("hook", ["its own", "a function"])
def test_a_close_under_way_is_not_ended_twice(
    accounted: Any, runner: ThreadRunner, hook: str
) -> None:
    """Its caller was interrupted after a worker had begun, and asks for the rest: the slot is free
    when the hook has returned, not before."""
    options: dict[str, Any] = {} if hook == "its own" else {"close": lambda thing: thing.close()}
    pool, maker = accounted(1, **options)
    manager = _core.manager(pool, "this test")
    resource = pool.get()
    maker.close_gate.clear()
    runner.start(pool.discard, resource).parked()  # in the hook: else a worker may be there first
    assert pool.stats().closing == 1
    for _ in range(3):
        manager.rescue(0, "interrupted")
    assert manager.closers.wait_idle(PATIENCE)
    assert pool.stats().closing == pool.stats().open == 1
    maker.close_gate.set()
    runner.finish()
    assert pool.stats().open == 0 and maker.closed == 1
    works(pool, 1)

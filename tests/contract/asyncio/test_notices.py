"""A notice that comes to nothing: "throughput" tells the head of the queue to look for itself, and
newcomers may be faster.  Whatever becomes of the head then, nobody waits beside a free slot.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fastpool import PoolTimeout, _core
from fastpool._runtime import scheduler
from simulation.scheduler import NEVER
from support.async_factories import AsyncMaker, threads
from support.async_factories import accounted as async_accounted
from support.helpers import (
    GIL,
    PATIENCE,
    Maker,
    ThreadRunner,
    eventually,
    settled,
    wait_for_scheduler,
)
from support.loops import KINDS, Run
from support.loops import eventually as aeventually

SPAN = 0.02  # the timeout that is made to pass


@pytest.fixture(autouse=True)
def no_hand_off() -> Iterator[None]:
    """However long the head of a line has waited: after a millisecond it would not be told of what
    is there, but given it."""
    before = _core.set_patience(NEVER)
    yield
    _core.set_patience(before)


@dataclass
class Outrun:
    """Tasks in the queue, the first of which was told of what is taken by others now.  One slot is
    free, and nobody was told of that."""

    pool: Any
    maker: Maker
    line: list[asyncio.Task[Any]]
    taken: list[Any]  # by the newcomers


async def outrun(accounted: Any, *spans: float) -> Outrun:
    """``spans``: the timeouts of those in the queue.  The loop has not run since the notice."""
    n = len(spans)
    for _ in range(50):
        pool, maker = accounted(n + 1, fairness="throughput")
        held = [await pool.aget() for _ in range(n + 1)]
        settled(pool)
        line = [asyncio.create_task(pool.aget(span)) for span in spans]
        await asyncio.sleep(0)
        for resource in held[1:]:
            pool.put(resource)
        if pool.stats().idle == n == pool.stats().waiting:
            pool.discard(held[0])
            eventually(lambda pool=pool: pool.stats().open == n)
            settled(pool)  # the slot was seen, and that enough is idle for those in the queue
            taken = [pool.get_nowait() for _ in range(n)]
            assert pool.stats().waiting == n and not any(task.done() for task in line)
            return Outrun(pool, maker, line, taken)
        for task in line:
            task.cancel()
        await asyncio.wait(line)
    raise AssertionError("never told of anything within its patience")


class TestOutrun:
    def test_it_opens_one_more_and_keeps_its_position(self, run: Run, accounted: Any) -> None:
        """Who was told, and has one opened since it finds nothing, comes before those behind."""

        async def main() -> None:
            scene = await outrun(accounted, PATIENCE, PATIENCE)
            pool, maker = scene.pool, scene.maker
            maker.gate.clear()
            await aeventually(lambda: maker.running == 1 and pool.stats().waiting == 2)
            maker.gate.set()
            done, _ = await asyncio.wait(scene.line, return_when=asyncio.FIRST_COMPLETED)
            assert done == {scene.line[0]}, "who stood behind it was served first"
            pool.put(await scene.line[0])
            pool.put(await scene.line[1])

        run(main())

    def test_out_of_time_it_passes_the_notice_on(self, run: Run, accounted: Any) -> None:
        """Its time is over before it has looked: who stands behind it has the slot filled."""

        async def main() -> None:
            scene = await outrun(accounted, SPAN, PATIENCE)
            time.sleep(3 * SPAN)
            with pytest.raises(PoolTimeout):
                await scene.line[0]
            scene.pool.put(await scene.line[1])

        run(main())

    def test_the_notice_of_who_was_passed_over_is_passed_on(self, run: Run, accounted: Any) -> None:
        """Its time is over and its loop stands still.  What a thread gives back goes to the next,
        and the one behind that has the slot filled."""

        async def main() -> None:
            _core.set_patience(int(5 * SPAN * 1e9))  # where it is over before, it is tried again
            scene = await outrun(accounted, SPAN, PATIENCE, PATIENCE)
            time.sleep(6 * SPAN)
            scene.pool.put(scene.taken[0])
            with pytest.raises(PoolTimeout):
                await scene.line[0]
            for resource in [await task for task in scene.line[1:]]:
                scene.pool.put(resource)

        run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_told_task_leaves_goes_to_another_loop(kind: str) -> None:
    """Told of two resources, it takes one; the other's slot is wanted on another loop, whose task
    could not have it while somebody stood in the queue here."""

    async def main(pool: Any, elsewhere: Coroutine[Any, Any, Any], other: Any) -> None:
        held = [await pool.aget() for _ in range(2)]
        waits = other.start(elsewhere)
        eventually(lambda: pool.stats().waiting == 1)
        wait_for_scheduler()  # from here on it is known that a slot is wanted
        mine = asyncio.create_task(pool.aget())
        await asyncio.sleep(0)
        for thing in held:
            pool.put(thing)
        assert pool.stats().idle == 2
        wait_for_scheduler()  # and that somebody here has a right to both
        assert not waits.done()
        thing = await mine
        pool.put(await asyncio.wait_for(asyncio.wrap_future(waits), PATIENCE))
        pool.put(thing)

    maker = AsyncMaker()
    hooks = {"factory": maker.create, "close": maker.close}  # nothing to do at a return
    with (
        async_accounted(3, maker, fairness="throughput", **hooks) as (pool, _),
        threads(kind, 2) as (one, other),
    ):
        first = other.run(pool.aget())  # a loop that had nothing would get it another way
        one.run(main(pool, pool.aget(), other))
        pool.put(first)


@pytest.mark.skipif(not GIL, reason="without a GIL the head runs as soon as it is told to look")
def test_a_thread_keeps_its_position_too(accounted: Any, runner: ThreadRunner) -> None:
    """The same in threads: the first is told, and this thread, which keeps the GIL, is faster."""
    pool, _ = accounted(2, fairness="throughput")
    manager = _core.manager(pool, "this test")
    asked, go_on, order = threading.Event(), threading.Event(), []
    announce_waiter = manager.announce_waiter
    manager.announce_waiter = lambda *args: (announce_waiter(*args), asked.set())
    held = [pool.get(), pool.get()]
    settled(pool)
    asked.clear()

    def turn(number: int) -> None:
        with pool.lease():
            order.append(number)

    turns = []
    for number in range(2):
        turns.append(runner.start(turn, number))
        eventually(lambda n=number: pool.stats().waiting == n + 1)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(30)
    try:
        pool.put(held[0])
        assert pool.stats().idle == 1 and pool.get_nowait() is held[0]
    finally:
        sys.setswitchinterval(interval)
    scheduler.call_soon(go_on.wait, PATIENCE)  # else it might see the slot before
    pool.discard(held[1])
    assert asked.wait(PATIENCE)
    turns[0].parked()
    go_on.set()
    runner.finish()
    assert order == [0, 1]

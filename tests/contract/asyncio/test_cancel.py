"""A task that is struck at any of its suspensions leaves nothing behind.

The task under test is cancelled at its k-th suspension, for k = 0, 1, 2, ... until it gets through:
before what it waits for has come, or just after and before it runs.  Its loop is stopped for longer
than its timeout there, or closed for good.  After each: nothing is lent, nobody waits, and the
pool serves the next one.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from contract.asyncio.scenes import SCENES, Scene, Waiting
from fastpool import PoolClosed, PoolTimeout
from support.cancel_injection import Blow, Strike, after, before, every_suspension
from support.helpers import PATIENCE
from support.loops import KINDS, new_loop, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)
scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SPAN = 0.01  # the timeout that is made to pass


async def _play(stage: Scene, strike: Strike, timeout: float) -> BaseException | None:
    """The task under test and its helper; what the task raised."""
    task = asyncio.create_task(strike.over(stage.act(timeout)))
    await asyncio.sleep(0)
    await aeventually(lambda: task.done() or stage.waits())
    stage.help()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.done(), "it hangs"
    return None if task.cancelled() else task.exception()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """What a loop that ended for ever leaves behind warns when it is collected, which without the
    GIL may be late: no later test is to hear of it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@kinds
@scenes
@pytest.mark.parametrize("when", [before, after], ids=["before", "after"])
def test_cancelled_at_every_suspension(kind: str, scene: type[Scene], when: Blow) -> None:
    """Cancelled before or after what it waits for: nothing is lost, nothing is kept."""

    def play(k: int) -> bool:
        stage = scene()
        strike = Strike(k, when)
        error = run_in(kind, _play(stage, strike, 5.0), 2 * PATIENCE)
        stage.help()  # if it was struck before anybody helped
        assert error is None or isinstance(error, stage.fails), repr(error)
        stage.check(kind)
        return strike.hit

    assert every_suspension(play) >= 1


@kinds
@scenes
@pytest.mark.parametrize("helped", ["before", "after"])
def test_out_of_time_at_every_suspension(kind: str, scene: type[Scene], helped: str) -> None:
    """Its time passes while the loop stands still, and what it waits for comes before or after."""

    def play(k: int) -> bool:
        stage = scene()

        def act(task: Any, awaited: Any) -> None:
            if helped == "before" and k:
                stage.help()
            time.sleep(1.5 * SPAN)  # the loop stands still for longer than the timeout, surely

        strike = Strike(k, act)
        error = run_in(kind, _play(stage, strike, SPAN), 2 * PATIENCE)
        stage.help()
        over = (PoolTimeout, queue.Empty, queue.Full)
        assert error is None or isinstance(error, (*over, *stage.fails)), repr(error)
        stage.check(kind)
        return strike.hit

    every_suspension(play)


@kinds
@scenes
@pytest.mark.parametrize("keep", [False, True], ids=["collected", "kept"])
def test_its_loop_is_closed_at_every_suspension(kind: str, scene: type[Scene], keep: bool) -> None:
    """The loop ends for ever there; the task is collected at once, or after others were served."""

    def play(k: int) -> bool:
        stage = scene()
        loop = new_loop(kind)
        loop.set_exception_handler(lambda loop, context: None)  # "destroyed but pending"
        strike = Strike(k, lambda task, awaited: task.get_loop().stop())
        task = loop.create_task(strike.over(stage.act(PATIENCE)))

        def end(task: Any, loop: Any = loop) -> None:
            task.cancelled() or task.exception()
            loop.stop()

        task.add_done_callback(end)
        _help_when_it_waits(stage, strike, task, loop)
        loop.run_forever()
        loop.close()
        if keep:
            stage.help()
            if isinstance(stage, Waiting) and stage.keeps and not task.done() and not stage.held:
                # The task waits for ever, in the queue or with a grant: others are served all the
                # same.
                stage.pool.put(stage.pool.get(timeout=PATIENCE))
        hit = strike.hit
        del task, loop, strike, end
        gc.collect()
        stage.help()
        stage.check(kind)
        return hit

    every_suspension(play)


def _help_when_it_waits(stage: Scene, strike: Strike, task: Any, loop: Any) -> None:
    def look() -> None:
        if stage.waits():
            stage.help()
        elif not task.done() and not strike.hit:
            loop.call_later(0.0005, look)

    loop.call_soon(look)


@kinds
def test_a_wait_that_ends_at_its_deadline(kind: str, accounted: Any) -> None:
    """A timeout at about the moment of the hand-off: the resource is with one, or back."""
    pool, maker = accounted(1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        served = 0
        for round in range(150):
            lease = await pool.aacquire()
            span = 0.002 + 0.00001 * (round % 10)
            loop.call_later(span, lease.release)
            try:
                pool.put(await pool.aget(span))
                served += 1
            except PoolTimeout as error:
                assert error.phase == "wait" and error.waited >= span
            await aeventually(lambda: pool.stats().leased == 0)
        assert pool.stats().waiting == 0

    run_in(kind, main(), 3 * PATIENCE)
    assert maker.made == 1


@kinds
def test_cancelled_and_closed_at_once(kind: str, accounted: Any) -> None:
    """The pool is closed in the step in which its waiter is cancelled."""
    pool, maker = accounted(1)
    first = pool.acquire()

    async def main() -> None:
        for strike in (lambda task: task.cancel(), lambda task: None):
            task = asyncio.ensure_future(pool.aget())
            await aeventually(lambda: pool.stats().waiting == 1 or pool.closed)
            pool.shutdown()
            strike(task)
            with pytest.raises((asyncio.CancelledError, PoolClosed)):
                await task

    run_in(kind, main())
    assert pool.stats().waiting == 0
    first.release()
    assert maker.made == maker.closed == 1


def test_the_driver_strikes_where_it_says() -> None:
    """The driver itself: it sees every suspension, and its cancel arrives at the right one."""
    seen: list[int] = []

    async def act() -> None:
        for step in range(3):
            seen.append(step)
            await asyncio.sleep(0)

    async def main(k: int) -> bool:
        task = asyncio.create_task(Strike(k, before).over(act()))
        await asyncio.wait([task])
        return task.cancelled()

    for k, (steps, cancelled) in enumerate([(1, True), (2, True), (3, True), (3, False)]):
        seen.clear()
        assert asyncio.run(main(k)) is cancelled and len(seen) == steps

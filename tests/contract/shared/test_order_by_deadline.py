"""A queue by deadline: who is next, for threads and tasks, and that nothing is lost by it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from fastpool import PoolTimeout, SharedPool
from fastpool._core import order_by_deadline
from support.helpers import ThreadRunner, eventually

#: None stands as if it were 10.
TIMEOUTS = (None, 60.0, 20.0, 5.0, 30.0, 5.0)
NEXT = [3, 5, 0, 2, 4, 1]


def ordered_pool(slots: int = 1, **options: Any) -> Any:
    pool: Any = SharedPool(object, items=(1, 1), slots=slots, timeout=None, **options)
    order_by_deadline(pool)
    return pool


def test_the_thread_whose_timeout_is_over_first_goes_first(runner: ThreadRunner) -> None:
    """Of two alike the one that came first; one without a timeout is not kept away for ever."""
    served: list[int] = []
    with ordered_pool() as pool:
        held = pool.acquire()

        def take(number: int) -> None:
            with pool.acquire(TIMEOUTS[number]):
                served.append(number)

        for number in range(len(TIMEOUTS)):
            runner.start(take, number)
            eventually(lambda number=number: pool.stats().waiting == number + 1)
        held.release()
        runner.finish()
    assert served == NEXT


def test_the_task_whose_timeout_is_over_first_goes_first() -> None:
    served: list[int] = []

    async def take(pool: Any, number: int) -> None:
        async with await pool.aacquire(TIMEOUTS[number]):
            served.append(number)

    async def main(pool: Any, held: Any) -> None:
        tasks = [asyncio.ensure_future(take(pool, each)) for each in range(len(TIMEOUTS))]
        while pool.stats().waiting < len(TIMEOUTS):
            await asyncio.sleep(0)
        held.release()
        await asyncio.gather(*tasks)

    with ordered_pool() as pool:
        asyncio.run(main(pool, pool.acquire()))
    assert served == NEXT


def test_without_it_they_go_as_they_came(runner: ThreadRunner) -> None:
    served: list[int] = []
    with SharedPool(object, items=(1, 1), slots=1) as pool:
        held = pool.acquire()

        def take(number: int) -> None:
            with pool.acquire(TIMEOUTS[number]):
                served.append(number)

        for number in range(3):
            runner.start(take, number)
            eventually(lambda number=number: pool.stats().waiting == number + 1)
        held.release()
        runner.finish()
    assert served == [0, 1, 2]


@pytest.mark.parametrize("slots", [1, 3])
def test_nothing_is_lost_to_those_that_leave_or_are_overtaken(
    runner: ThreadRunner, slots: int
) -> None:
    """Threads and tasks with timeouts of any length, some of which are over in the queue."""
    pool = ordered_pool(slots)

    def by_thread(number: int) -> int:
        draw, got = random.Random(number), 0
        for _ in range(100):
            try:
                with pool.acquire(draw.choice((0.0002, 0.002, 0.05, 30.0, None))):
                    got += 1
            except PoolTimeout:
                pass
        return got

    async def task(number: int) -> int:
        draw, got = random.Random(number), 0
        for _ in range(50):
            try:
                async with await pool.aacquire(draw.choice((0.0002, 0.002, 0.05, 30.0, None))):
                    got += 1
                    await asyncio.sleep(0)
            except PoolTimeout:
                pass
        return got

    async def tasks(number: int) -> int:
        return sum(await asyncio.gather(*(task(100 * number + each) for each in range(4))))

    def work(number: int) -> int:
        return asyncio.run(tasks(number)) if number % 2 else by_thread(number)

    got = sum(task.result() for task in runner.together(6, work))
    counts = pool.stats()
    assert (counts.leases, counts.waiting, counts.uses) == (0, 0, got)
    assert pool.close() is True

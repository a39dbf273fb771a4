"""TaskPool: a bound and a queue for the coroutines of one event loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastpool import PoolOverloaded, PoolTimeout, TaskPool
from support.loops import KINDS, eventually, run_in


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return lambda main: run_in(request.param, main)


class Hall:
    """Where coroutines stay until they are let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(0)
        self.inside = self.peak = self.begun = 0

    async def task(self, number: int = 0) -> int:
        self.begun += 1
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            await self.gate.acquire()
        finally:
            self.inside -= 1
        return number

    def let_go(self, n: int) -> None:
        for _ in range(n):
            self.gate.release()


@asynccontextmanager
async def pool_of(*args: Any, **options: Any) -> AsyncIterator[TaskPool]:
    """A pool that is accounted for."""
    async with TaskPool(*args, **options) as pool:
        yield pool
    assert (pool.running, pool.queued, pool.waiting) == (0, 0, 0) and not pool._tasks
    assert pool._permits.in_use == 0


async def fill(pool: TaskPool, hall: Hall, n: int) -> list[asyncio.Task[int]]:
    tasks = [await pool.submit(hall.task, number) for number in range(n)]
    await eventually(lambda: hall.inside == min(n, pool._workers))
    return tasks


def test_the_bound(run: Any) -> None:
    """So many at once, so many in the queue; then submit waits."""

    async def main() -> None:
        hall = Hall()
        async with pool_of(2, 3) as pool:
            tasks = await fill(pool, hall, 5)
            assert (pool.running, pool.queued, pool.waiting) == (2, 3, 0)
            late = asyncio.create_task(pool.submit(hall.task, 5))
            await eventually(lambda: pool.waiting == 1)
            hall.let_go(6)
            tasks.append(await late)
            assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4, 5]
        assert hall.peak == 2

    run(main())


def test_in_order(run: Any) -> None:
    async def main() -> None:
        order: list[int] = []

        async def task(number: int) -> None:
            order.append(number)
            await asyncio.sleep(0)

        async with pool_of(1, 2) as pool:
            for number in range(30):
                await pool.submit(task, number)
        assert order == list(range(30))

    run(main())


def test_refused_timed_out_and_chosen_for_one_call(run: Any) -> None:
    async def main() -> None:
        for options, error in (
            ({"when_full": "refuse"}, PoolOverloaded),
            ({"submit_timeout": 0.01}, PoolTimeout),
        ):
            hall = Hall()
            async with pool_of(1, 1, **options) as pool:
                await fill(pool, hall, 2)
                with pytest.raises(error):
                    await pool.submit(hall.task)
                with pytest.raises(PoolOverloaded, match="full: 2 tasks are under way"):
                    pool.try_submit(hall.task)
                hall.let_go(2)

    run(main())


def test_a_result_frees_the_permit_before_it_is_there(run: Any) -> None:
    async def main() -> None:
        async def echo(**words: Any) -> Any:
            return words

        async with pool_of(1, when_full="refuse") as pool:
            words = {"fn": 1, "self": 2, "timeout": 3, "group": 4}
            for _ in range(50):
                assert await (await pool.submit(echo, **words)) == words
                assert await pool.try_submit(echo, **words) == words

    run(main())


def test_what_a_coroutine_raises_is_its_tasks(run: Any) -> None:
    async def main() -> None:
        async def fail() -> None:
            raise ValueError("text")

        async with pool_of(1) as pool:
            for _ in range(3):
                with pytest.raises(ValueError, match="text"):
                    await (await pool.submit(fail))

    run(main())


@pytest.mark.parametrize("begun", [False, True], ids=["queued", "running"])
def test_a_cancelled_task_gives_its_permit_back(run: Any, begun: bool) -> None:
    """Queued, running, and before its first step: no permit is lost."""

    async def main() -> None:
        hall = Hall()
        async with pool_of(1, 2) as pool:
            tasks = await fill(pool, hall, 3)
            tasks[0 if begun else 1].cancel()
            await asyncio.wait({tasks[0 if begun else 1]})
            fresh = await pool.submit(hall.task)
            fresh.cancel()
            await asyncio.wait({fresh})
            hall.let_go(2)
            assert await tasks[2] == 2

    run(main())


def test_a_cancelled_submit_has_submitted_nothing(run: Any) -> None:
    async def main() -> None:
        hall = Hall()
        async with pool_of(1) as pool:
            await fill(pool, hall, 1)
            late = asyncio.create_task(pool.submit(hall.task))
            await eventually(lambda: pool.waiting == 1)
            late.cancel()
            await asyncio.wait({late})
            hall.let_go(1)
        assert hall.begun == 1

    run(main())


def test_leaving_the_block_waits_or_cancels(run: Any) -> None:
    async def main() -> None:
        hall = Hall()
        hall.let_go(2)
        async with pool_of(1, 3) as pool:
            tasks = await fill(pool, hall, 0) + [await pool.submit(hall.task, 1) for _ in range(2)]
        assert all(task.done() for task in tasks)
        with pytest.raises(ZeroDivisionError):
            async with pool_of(1, 3) as pool:
                tasks = await fill(pool, hall, 3)
                raise ZeroDivisionError
        assert all(task.cancelled() for task in tasks)

    run(main())


def test_cancelled_while_the_block_waits_for_its_tasks(run: Any) -> None:
    """They are cancelled too, and the end of the block comes after theirs."""

    async def main() -> None:
        hall = Hall()
        tasks: list[Any] = []

        async def block() -> None:
            async with pool_of(1, 1) as pool:
                tasks.extend(await fill(pool, hall, 2))

        outer = asyncio.create_task(block())
        await eventually(lambda: len(tasks) == 2)
        await asyncio.sleep(0)
        outer.cancel()
        await asyncio.wait({outer})
        assert outer.cancelled() and all(task.cancelled() for task in tasks)

    run(main())


def test_shutdown_wakes_who_waits(run: Any) -> None:
    async def main() -> None:
        hall = Hall()
        async with pool_of(1) as pool:
            await fill(pool, hall, 1)
            late = asyncio.create_task(pool.submit(hall.task))
            await eventually(lambda: pool.waiting == 1)
            end = asyncio.create_task(pool.shutdown())
            with pytest.raises(RuntimeError, match="after shutdown"):
                await late
            with pytest.raises(RuntimeError, match="after shutdown"):
                pool.try_submit(hall.task)
            assert not end.done() and "shut down" in repr(pool)
            hall.let_go(1)
            await end

    run(main())


@pytest.mark.parametrize("cancel", [False, True], ids=["waits", "cancels"])
def test_shutdown_by_one_of_its_own_tasks_waits_for_the_others_only(run: Any, cancel: bool) -> None:
    """Nor does it cancel the task that asks for it."""

    async def main() -> None:
        hall = Hall()
        async with pool_of(2, 1) as pool:
            others = [await pool.submit(hall.task) for _ in range(1)]
            await eventually(lambda: hall.inside == 1)
            seen: list[bool] = []

            async def end() -> str:
                await pool.shutdown(cancel=cancel)
                seen.append(all(task.done() for task in others))
                return "ended"

            ending = await pool.submit(end)
            if not cancel:
                await eventually(lambda: "shut down" in repr(pool))
                await asyncio.sleep(0)
                assert not ending.done()
                hall.let_go(1)
            assert await ending == "ended" and seen == [True]
            assert others[0].cancelled() == cancel

    run(main())


def test_a_second_shutdown_waits_as_the_first_one_does(run: Any) -> None:
    async def main() -> None:
        hall = Hall()
        async with pool_of(1) as pool:
            (task,) = await fill(pool, hall, 1)
            ends = [asyncio.create_task(pool.shutdown()) for _ in range(2)]
            for _ in range(5):
                await asyncio.sleep(0)
            assert not any(end.done() for end in ends)
            hall.let_go(1)
            await asyncio.gather(*ends)
            assert task.done()
            await pool.shutdown()

    run(main())


def test_with_a_task_group(run: Any) -> None:
    """Its tasks are the group's: an error cancels the others and comes out of the group."""

    async def main() -> None:
        hall = Hall()

        async def fail() -> None:
            raise ValueError("text")

        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                pool = TaskPool(2, 5, group=group)
                tasks = [await pool.submit(hall.task) for _ in range(2)]
                await pool.submit(fail)
                await eventually(lambda: hall.inside == 2)
                hall.let_go(1)
        assert (
            caught.group_contains(ValueError, match="text")
            if hasattr(caught, "group_contains")
            else isinstance(caught.value.exceptions[0], ValueError)
        )
        assert [task.cancelled() for task in tasks].count(True) == 1
        assert pool._permits.in_use == 0
        with pytest.raises(RuntimeError):
            await pool.submit(hall.task)
        assert pool._permits.in_use == 0

    run(main())


def test_map(run: Any) -> None:
    """Endless iterables too: only as much is taken as there are permits for."""

    async def main() -> None:
        taken = 0

        def endless() -> Any:
            nonlocal taken
            while True:
                taken += 1
                yield taken

        async def double(number: int) -> int:
            await asyncio.sleep(0)
            return 2 * number

        async with pool_of(2, 1, when_full="refuse") as pool:
            assert [x async for x in pool.map(double, range(20))] == list(range(0, 40, 2))
            results = pool.map(double, endless())
            assert [await anext(results) for _ in range(10)] == list(range(2, 22, 2))
            assert taken <= 10 + 3
            await results.aclose()
            with pytest.raises(ValueError, match="buffersize"):
                await anext(pool.map(double, [1], buffersize=0))

    run(main())


def test_map_of_an_iterable_that_fails(run: Any) -> None:
    async def main() -> None:
        hall = Hall()

        def two() -> Any:
            yield 1
            yield 2
            raise ValueError("no more")

        async with pool_of(1, 5) as pool:
            with pytest.raises(ValueError, match="no more") as caught:
                await anext(pool.map(hall.task, two()))
            await eventually(lambda: pool._permits.in_use == 0)
            assert caught.tb is not None

    run(main())


@pytest.mark.parametrize("buffersize", [1, 2, None])
def test_map_begins_no_more_than_its_buffersize(run: Any, buffersize: int | None) -> None:
    """By default as many as there are permits."""

    async def main() -> None:
        hall, most = Hall(), buffersize or 5
        async with pool_of(5) as pool:
            results = pool.map(hall.task, range(9), buffersize=buffersize)
            first = asyncio.ensure_future(anext(results))
            await eventually(lambda: hall.inside == most)
            await asyncio.sleep(0)
            assert hall.begun == most
            hall.let_go(1)
            assert await first == 0 and hall.begun == most
            await results.aclose()

    run(main())


def test_map_waits_for_a_permit_where_others_are_refused(run: Any) -> None:
    async def main() -> None:
        hall = Hall()
        async with pool_of(1, when_full="refuse") as pool:
            await fill(pool, hall, 1)
            results = pool.map(hall.task, [7])
            first = asyncio.ensure_future(anext(results))
            await eventually(lambda: first.done() or pool.waiting == 1)
            assert not first.done()
            hall.let_go(2)
            assert await first == 7

    run(main())


def test_map_keeps_no_permit_that_it_has_no_item_for(run: Any) -> None:
    """Others get it, though the results have not all been taken."""

    async def main() -> None:
        hall = Hall()
        async with pool_of(2) as pool:
            results = pool.map(hall.task, [7])
            first = asyncio.ensure_future(anext(results))
            await eventually(lambda: hall.inside == 1)
            other = pool.try_submit(hall.task, 8)
            hall.let_go(2)
            assert (await first, await other) == (7, 8)
            assert [result async for result in results] == []

    run(main())


def test_map_that_is_left_cancels_what_is_under_way(run: Any) -> None:
    async def main() -> None:
        hall = Hall()
        async with pool_of(3) as pool:
            hall.let_go(1)
            async for result in (results := pool.map(hall.task, range(3))):
                assert result == 0
                break
            assert hall.begun == 3
            await results.aclose()
            await eventually(lambda: hall.inside == 0)
            assert pool._permits.in_use == 0

    run(main())


def test_map_beside_others(run: Any) -> None:
    async def main() -> None:
        hall = Hall()

        async def double(number: int) -> int:
            return 2 * number

        async with pool_of(2) as pool:
            await fill(pool, hall, 1)
            assert [x async for x in pool.map(double, range(9))] == list(range(0, 18, 2))
            hall.let_go(1)

    run(main())


def test_for_one_loop() -> None:
    async def nothing() -> None:
        pass

    async def use(pool: TaskPool) -> None:
        await (await pool.submit(nothing))

    pool = TaskPool(1)
    asyncio.run(use(pool))
    with pytest.raises(RuntimeError, match="belongs to the event loop that used it first"):
        asyncio.run(use(pool))
    with pytest.raises(RuntimeError, match="no running event loop"):
        pool.try_submit(nothing)
    gc.collect()
    assert pool._permits.in_use == 0


@pytest.mark.parametrize(
    ("args", "options", "error", "says"),
    [
        ((0,), {}, ValueError, "workers must be at least 1"),
        ((1, 0.5), {}, TypeError, "max_queue must be a whole number"),
        ((1,), {"when_full": None}, ValueError, "when_full"),
        ((1,), {"when_full": "refuse", "submit_timeout": 1}, ValueError, "does not wait"),
    ],
)
def test_bad_options(args: Any, options: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        TaskPool(*args, **options)


def test_repr(run: Any) -> None:
    async def main() -> None:
        hall = Hall()
        async with pool_of(1, 2, name="jobs") as pool:
            await fill(pool, hall, 2)
            assert repr(pool) == "<TaskPool 'jobs': 1 of 1 running, 1 of 2 queued, 0 waiting>"
            hall.let_go(2)

    run(main())

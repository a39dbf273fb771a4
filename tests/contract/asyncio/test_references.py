"""What tasks and loops leave behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, PoolTimeout, SharedPool, WeightedSemaphore, _core
from support.helpers import eventually as soon
from support.loops import Run, eventually, queued, run_in


class Thing:
    pass


# A pool of one, what takes that of it with an hour of patience, and a weak reference to what lives
# as long as the pool does.


def of_functions() -> Any:
    def create(key: object = None) -> Thing:
        return Thing()

    pool = FastPool(1, factory=create)
    return pool, lambda: pool.aacquire(3600), weakref.ref(create)


def of_coroutines() -> Any:
    async def create() -> Thing:
        return Thing()

    pool = FastPool(1, factory=create)
    return pool, lambda: pool.aacquire(3600), weakref.ref(create)


def of_keys() -> Any:
    async def create(key: str) -> Thing:
        return Thing()

    pool = KeyedPool(create, max_per_key=1)
    return pool, lambda: pool.aacquire("a", 3600), weakref.ref(create)


def of_slots() -> Any:
    def create() -> Thing:
        return Thing()

    pool = SharedPool(create, items=1, slots=1)
    return pool, lambda: pool.aacquire(3600), weakref.ref(create)


def of_units() -> Any:
    semaphore = WeightedSemaphore(1)

    async def acquire() -> Any:
        return await semaphore.hold(1, timeout=3600).__aenter__()

    return semaphore, acquire, weakref.ref(semaphore)


KINDS: dict[str, Callable[[], Any]] = {
    "functions": of_functions,
    "coroutines": of_coroutines,
    "keys": of_keys,
    "slots": of_slots,
    "units": of_units,
}


class TestReferences:
    def test_a_pool_with_a_cancelled_task_is_collected(self, run: Run, accounted: Any) -> None:
        """Nothing that a wait leaves behind keeps the pool, its items or its tasks alive."""
        pool: Any = FastPool(1, factory=object)

        async def main(pool: Any) -> Any:
            held = await pool.aget()
            task = await queued(pool, 1, pool.aget())
            task.cancel()
            await asyncio.wait([task])
            with pytest.raises(PoolTimeout):
                await pool.aget(0.001)
            pool.put(held)
            return weakref.ref(task)

        task = run(main(pool))
        pool.close()
        gone = weakref.ref(pool)
        del pool
        soon(lambda: [gc.collect(), gone() is None][1])
        soon(lambda: [gc.collect(), task() is None][1])

    def test_loops_leave_no_descriptor_behind(self, loop_kind: str, accounted: Any) -> None:
        """A hundred loops, one after the other: their bells are closed."""

        if not os.path.isdir("/proc/self/fd"):
            pytest.skip("needs /proc/self/fd")
        pool, _ = accounted(1)

        async def main() -> None:
            first = await pool.aacquire()
            task = await queued(pool, 1, pool.aacquire())
            first.release()
            (await task).release()

        run_in(loop_kind, main())
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(30):
            run_in(loop_kind, main())
        gc.collect()
        soon(lambda: len(os.listdir("/proc/self/fd")) <= before + 3)

    def test_items_are_released(self, run: Run) -> None:
        """An item that passed through a wait is nobody's afterwards."""
        q: Any = FastPool()

        class Item:
            pass

        async def main() -> list[Any]:
            gone = []
            for _ in range(3):
                task = asyncio.create_task(q.aget())
                await asyncio.sleep(0)
                item = Item()
                gone.append(weakref.ref(item))
                q.put(item)
                del item
                if len(gone) == 2:
                    task.cancel()
                await asyncio.wait([task])
                del task
                if len(gone) == 2:
                    await q.aget()
            await asyncio.sleep(0)
            return gone

        gone = run(main())
        soon(lambda: [gc.collect(), [ref() for ref in gone] == [None] * 3][1])

    def test_items_are_released_before_their_time_outs(self, run: Run) -> None:
        """A wait that is over may be known to its timer for an hour, but not with what it got."""
        q: Any = FastPool()

        class Item:
            pass

        async def main() -> None:
            task = asyncio.create_task(q.aget(timeout=3600))
            await asyncio.sleep(0)
            q.put(Item())
            gone = weakref.ref(await task)
            del task
            await eventually(lambda: [gc.collect(), gone() is None][1])

        run(main())

    def test_waits_that_are_over_are_forgotten(self, run: Run) -> None:
        """A thousand, one after the other, behind one that lasts: not all are kept for an hour."""
        lasting: Any = FastPool()
        q: Any = FastPool()

        async def main() -> None:
            first = asyncio.create_task(lasting.aget(timeout=3600))
            await asyncio.sleep(0)
            for item in range(1000):
                task = asyncio.create_task(q.aget(timeout=3600))
                await asyncio.sleep(0)
                q.put(item)
                assert await task == item
            waits = sum(type(thing) is _core.Wait for thing in gc.get_objects())
            assert waits < 200, waits
            first.cancel()

        gc.collect()
        run(main())

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    @pytest.mark.parametrize("ends", ["served", "cancelled"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_wait_that_is_over_keeps_no_pool_alive(self, run: Run, kind: str, ends: str) -> None:
        """Its timer may know it for an hour, but the pool goes when it is dropped."""

        async def use() -> Any:
            pool, acquire, alive = KINDS[kind]()
            first = await acquire()
            task = asyncio.ensure_future(acquire())
            await eventually(
                lambda: (pool.waiting if kind == "units" else pool.stats().waiting) == 1
            )
            if ends == "cancelled":
                task.cancel()
                await asyncio.wait([task])
            first.release()
            if ends == "served":
                (await task).release()
            return alive

        async def main() -> None:
            alive = await use()
            await eventually(lambda: [gc.collect(), alive() is None][1])

        run(main())

    def test_a_lease_collected_in_a_task_warns(self, run: Run, accounted: Any) -> None:
        """As in a thread: the resource is closed, ResourceWarning."""
        pool, maker = accounted(1)

        async def main() -> None:
            with pytest.warns(ResourceWarning, match="unreleased"):
                await pool.aacquire()
                gc.collect()
            await eventually(lambda: maker.closed == 1)
            async with pool.lease():
                pass

        run(main())

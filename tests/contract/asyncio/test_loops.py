"""Threads and the tasks of any number of loops stand in one line."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from fastpool import FastPool, PoolTimeout, _core
from fastpool._aio import loop as aio_loop
from fastpool._aio.timeouts import Timeouts
from fastpool._runtime import scheduler
from fastpool.queue import ShutDown
from support.helpers import PATIENCE, ThreadRunner, wait_for_scheduler
from support.helpers import eventually as soon
from support.loops import Run, eventually, new_loop, queued, queued_up, run_in

both = pytest.mark.parametrize("fairness", ["fair", "throughput"])


class TestWaitQueue:
    @both
    def test_tasks_are_served_in_the_order_of_their_arrival(
        self, run: Run, accounted: Any, fairness: str
    ) -> None:
        """Many tasks of one loop in the queue for one resource: first come, first served."""
        pool, _ = accounted(1, fairness=fairness)
        order: list[int] = []

        async def work(number: int) -> None:
            async with pool.lease(timeout=PATIENCE):
                order.append(number)
                await asyncio.sleep(0)

        async def main() -> None:
            first = await pool.aacquire()
            tasks = [await queued(pool, n + 1, work(n)) for n in range(10)]
            first.release()
            await asyncio.gather(*tasks)

        run(main())
        assert order == list(range(10))

    @both
    def test_threads_and_tasks_stand_in_one_queue(
        self, run: Run, accounted: Any, runner: ThreadRunner, fairness: str
    ) -> None:
        """Alternately a thread and a task: served in the order of their arrival."""
        pool, _ = accounted(1, fairness=fairness)
        order: list[int] = []

        async def task(number: int) -> None:
            async with pool.lease(timeout=PATIENCE):
                order.append(number)

        def thread(number: int) -> None:
            with pool.lease(timeout=PATIENCE):
                order.append(number)

        async def main() -> None:
            first = await pool.aacquire()
            tasks = []
            for n in range(0, 10, 2):
                tasks.append(await queued(pool, n + 1, task(n)))
                runner.start(thread, n + 1)
                await eventually(lambda n=n: pool.stats().waiting == n + 2)
            first.release()
            await asyncio.gather(*tasks)

        run(main())
        runner.finish()
        assert order == list(range(10))

    def test_a_newcomer_does_not_overtake_in_fair_mode(self, run: Run, accounted: Any) -> None:
        """What was given back is the waiting task's, though it has not run yet."""
        pool, _ = accounted(1)

        async def main() -> None:
            for _ in range(20):
                first = await pool.aacquire()
                waiter = await queued(pool, 1, pool.aacquire())
                first.release()
                with pytest.raises(PoolTimeout):
                    await pool.aget(timeout=0)
                with pytest.raises(PoolTimeout):
                    pool.get(timeout=0)
                (await waiter).release()

        run(main())

    def test_a_throughput_head_is_handed_over_when_it_has_waited(
        self, run: Run, accounted: Any
    ) -> None:
        """A loop that takes and gives back all the time does not starve a task in the queue."""
        pool, _ = accounted(1, fairness="throughput")

        async def main() -> None:
            first = await pool.aacquire()

            async def work() -> None:
                async with pool.lease(timeout=PATIENCE):
                    pass

            waiter = await queued(pool, 1, work())
            first.release()
            while not waiter.done():
                async with pool.lease(timeout=PATIENCE):
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
            await waiter

        run(main())


class TestLoops:
    def test_several_loops_share_a_pool(
        self, loop_kind: str, accounted: Any, runner: ThreadRunner
    ) -> None:
        """Three loops in three threads: each is served, one holder at a time."""
        pool, _ = accounted(2)
        turns = [0, 0, 0]

        async def work(index: int) -> None:
            for _ in range(30):
                async with pool.lease(timeout=PATIENCE) as resource:
                    assert resource.holder is None
                    resource.holder = index
                    await asyncio.sleep(0)
                    resource.holder = None
                turns[index] += 1

        async def main(index: int) -> None:
            await asyncio.gather(*(work(index) for _ in range(4)))

        runner.together(3, lambda index: run_in(loop_kind, main(index)))
        runner.finish()
        assert turns == [120, 120, 120]

    def test_several_loops_wait_in_one_queue(
        self, loop_kind: str, accounted: Any, runner: ThreadRunner
    ) -> None:
        """Tasks of different loops are served in the order of their arrival."""
        pool, _ = accounted(1)
        order: list[int] = []
        first = pool.acquire()

        async def main(number: int) -> None:
            async with pool.lease(timeout=PATIENCE):
                order.append(number)

        for number in range(5):
            runner.start(run_in, loop_kind, main(number))
            soon(lambda number=number: pool.stats().waiting == number + 1)
        first.release()
        runner.finish()
        assert order == list(range(5))

    def test_one_run_after_the_other(self, run: Run, accounted: Any) -> None:
        """The pool belongs to no loop: a second asyncio.run waits and is served as the first."""
        pool, maker = accounted(1)

        async def main() -> None:
            first = await pool.aacquire()
            waiter = await queued(pool, 1, pool.aacquire())
            first.release()
            (await waiter).release()

        for _ in range(5):
            run(main())
        assert maker.made == 1

    def test_a_loop_that_moves_to_another_thread(
        self, loop_kind: str, accounted: Any, runner: ThreadRunner
    ) -> None:
        """The thread that first ran the loop gives back: the loop, asleep elsewhere, wakes up."""
        pool, _ = accounted(1)
        first = pool.acquire()
        loop = new_loop(loop_kind)

        async def work() -> None:
            async with pool.lease(timeout=PATIENCE):
                pass

        task = loop.create_task(work())
        loop.run_until_complete(eventually(lambda: pool.stats().waiting == 1))
        elsewhere = runner.start(loop.run_until_complete, asyncio.wait([task])).parked()
        first.release()
        elsewhere.result()
        loop.close()
        assert task.done() and task.exception() is None

    def test_two_loops_of_one_thread_are_served_by_one_call(self, loop_kind: str) -> None:
        """One put lets in a putter of one loop, and an item reaches a getter of the other."""
        q: Any = FastPool(1)
        one, other = new_loop(loop_kind), new_loop(loop_kind)
        tasks = [one.create_task(q.aget()), other.create_task(q.aget())]
        one.run_until_complete(asyncio.sleep(0.001))
        other.run_until_complete(asyncio.sleep(0.001))
        assert queued_up(q) == 2
        q.put(1)
        q.put(2)
        got = [
            loop.run_until_complete(asyncio.wait_for(task, PATIENCE))
            for loop, task in ((other, tasks[1]), (one, tasks[0]))
        ]
        one.close()
        other.close()
        assert sorted(got) == [1, 2]


@pytest.mark.parametrize("wakeup", ["eventfd", "socketpair"])
def test_either_wakeup_is_heard(
    loop_kind: str, wakeup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads wake tasks by an eventfd where there is one, else by a pair of sockets."""
    if wakeup == "socketpair":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")

    async def main() -> None:
        pool: Any = FastPool()
        for item in range(50):
            task = asyncio.create_task(pool.aget())
            await eventually(lambda: queued_up(pool) == 1)
            await asyncio.to_thread(pool.put, item)
            assert await task == item

    run_in(loop_kind, main())


def test_who_is_out_of_time_is_passed_over(run: Run, accounted: Any, runner: ThreadRunner) -> None:
    """The task's loop stands still beyond its timeout.  What comes back meanwhile goes to the
    thread behind it in the queue, and does not wait for the loop to find out."""
    pool, _ = accounted(1)
    held = pool.get()
    served = threading.Event()

    def behind() -> None:
        resource = pool.get(timeout=PATIENCE)
        served.set()
        pool.put(resource)

    async def main() -> None:
        late = await queued(pool, 1, pool.aget(timeout=0.05))
        thread = runner.start(behind).parked()
        await asyncio.sleep(0)
        time.sleep(0.1)
        pool.put(held)
        assert served.wait(PATIENCE), "the loop stands still, and the resource is stuck in it"
        with pytest.raises(PoolTimeout):
            await late
        await asyncio.to_thread(thread.result)

    run(main())


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="asyncio refuses nested event loops from 3.14 on"
)
class TestNested:
    """One loop runs inside another's callback: asyncio forbids it, and tools do it all the same."""

    @staticmethod
    def nested(inner: Any) -> Any:
        outside = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            return run_in("asyncio", inner)
        finally:
            asyncio._set_running_loop(outside)

    @pytest.mark.parametrize("when", ["soon", "at once", "never"])
    def test_its_tasks_wait_on_their_own_loop(self, run: Run, when: str) -> None:
        """And those outside go on as before."""
        q: Any = FastPool()

        async def inner() -> Any:
            task = asyncio.create_task(q.aget(timeout=0.01 if when == "never" else PATIENCE))
            if when == "soon":
                asyncio.get_running_loop().call_later(0.001, q.put, "inside")
            elif when == "at once":
                asyncio.get_running_loop().call_soon(q.put, "inside")
            with suppress(queue.Empty):
                return await task
            assert when == "never" and queued_up(q) == 0
            return "inside"

        async def outer() -> None:
            other: Any = FastPool()
            waits = asyncio.create_task(other.aget())
            await asyncio.sleep(0)
            assert self.nested(inner()) == "inside"
            assert self.nested(inner()) == "inside"
            other.put("outside")
            assert await waits == "outside"
            assert queued_up(q) == queued_up(other) == 0

        run(outer())

    def test_leases_hooks_and_cancelling(self, run: Run, accounted: Any) -> None:
        """Waits of pool use, and what is done on workers."""
        pool, _ = accounted(1, check=lambda resource: None, check_after=0)

        async def use() -> None:
            async with pool.lease(timeout=PATIENCE):
                await asyncio.sleep(0)

        async def inner() -> None:
            await asyncio.gather(*(use() for _ in range(5)))
            held = await pool.aacquire()
            task = await queued(pool, 1, pool.aget(timeout=PATIENCE))
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() and pool.stats().waiting == 0
            held.release()

        async def outer() -> None:
            await asyncio.gather(use(), use())  # its loop waits first in this thread
            self.nested(inner())
            await asyncio.gather(use(), use())

        run(outer())


class TestWatching:
    """The scheduler comes by for as long as anybody waits on a loop that might be closed."""

    def test_a_wait_is_watched_whenever_the_last_look_was(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It comes by, and finds nobody, when a task has joined the queue and does not wait yet."""
        dates: list[Any] = []
        add = Timeouts.add

        def come_by() -> None:
            due = dates.copy()
            dates.clear()
            for look in due:
                look()

        def joined(its: Any, wait: Any, span: float) -> None:
            add(its, wait, span)
            come_by()

        async def main() -> None:
            pool: Any = FastPool()
            task = asyncio.create_task(pool.aget(timeout=PATIENCE))
            await asyncio.sleep(0)
            assert dates, "nobody will find out if this loop is closed"
            come_by()
            assert dates, "it comes again while somebody waits"
            task.cancel()
            await asyncio.wait([task])
            come_by()
            assert not dates, "nobody waits any more"

        gc.collect()
        monkeypatch.setattr(Timeouts, "add", joined)
        monkeypatch.setattr(aio_loop, "_loops", {})  # those of other tests are not seen
        monkeypatch.setattr(scheduler, "call_at", lambda at, call: dates.append(call))
        _core.set_watching(False)
        try:
            asyncio.run(main())
        finally:
            monkeypatch.undo()
            aio_loop.look_later()

    def test_a_get_whose_loop_was_closed_says_so(self) -> None:
        """Queue use: a coroutine that is resumed all the same has no item to return."""
        q: Any = FastPool()
        loop = new_loop("asyncio")
        wait = q.aget()

        async def main() -> None:
            wait.send(None)

        loop.run_until_complete(main())
        loop.close()
        soon(lambda: queued_up(q) == 0)
        with pytest.raises(ShutDown):
            wait.send(None)


def test_the_scheduler_survives_whatever_is_raised_on_it(caplog: Any) -> None:
    """Every pool of the process lives by it, and a signal handler or an exit may end anything."""
    for error in (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit):

        def fail(error: type[BaseException] = error) -> None:
            raise error

        scheduler.call_soon(fail)
        wait_for_scheduler()
    assert caplog.text.count("maintenance failed") == 4

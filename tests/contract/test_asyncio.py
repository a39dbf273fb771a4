"""The asyncio face: tasks of any number of loops, and threads, share one pool and one line."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fastpool import (
    FastPool,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolOverloaded,
    PoolTimeout,
)
from loops import KINDS, eventually, lined_up, new_loop, queued, run_in
from support import PATIENCE, Crew, Maker, Resource, states, works
from support import eventually as soon

Run = Callable[[Coroutine[Any, Any, Any]], Any]
both = pytest.mark.parametrize("fairness", ["fair", "throughput"])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    new_loop(request.param).close()  # skips when it is not installed
    return str(request.param)


@pytest.fixture
def run(kind: str) -> Run:
    """``asyncio.run`` with a deadline, on each make of loop."""
    return lambda main: run_in(kind, main)


class Gate:
    """A hook that stays inside until it is let through, and knows the threads that ran it."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.threads: list[int] = []

    def __call__(self, resource: Any) -> None:
        self.threads.append(threading.get_ident())
        self.entered.set()
        assert self.open.wait(PATIENCE), "the loop stood still, or nobody opened the gate"

    async def pass_through(self) -> None:
        """Lets it through once it is inside; the loop must run for that."""
        await eventually(self.entered.is_set)
        assert threading.get_ident() not in self.threads, "a hook ran on the loop"
        self.open.set()


class TestHits:
    def test_a_block_holds_one_resource(self, run: Run, accounted: Any) -> None:
        """Entering takes a resource, the end gives it back, and that one comes next."""
        pool, maker = accounted(2)

        async def main() -> None:
            for _ in range(3):
                async with pool.lease() as resource:
                    assert resource is maker.all[0]
                    assert states(pool) == {"leased": 1}
                assert states(pool) == {"idle": 1}

        run(main())

    def test_a_hit_does_not_suspend(self, accounted: Any) -> None:
        """What is idle is taken and given back without the event loop: there is none here."""
        pool, _ = accounted(1)
        works(pool, 1)

        async def main() -> Any:
            async with pool.lease() as first:
                pass
            second = await pool.aget()
            pool.put(second)
            lease = await pool.aacquire()
            third = lease.resource
            lease.release()
            return first, second, third

        coroutine = main()
        with pytest.raises(StopIteration) as end:
            coroutine.send(None)
        assert len(set(map(id, end.value.value))) == 1

    def test_get_and_put(self, run: Run, accounted: Any) -> None:
        """A resource that aget returned goes back with put, from the task or any thread."""
        pool, _ = accounted(1)

        async def main() -> None:
            pool.put(await pool.aget())
            resource = await pool.aget(timeout=1)
            await asyncio.to_thread(pool.put, resource)
            pool.discard(await pool.aget())

        run(main())
        assert states(pool) == {}

    def test_acquire_and_release(self, run: Run, accounted: Any) -> None:
        """aacquire returns the held lease; it is released once."""
        pool, maker = accounted(1)

        async def main() -> None:
            lease = await pool.aacquire()
            assert lease.resource is maker.all[0]
            lease.release()
            with pytest.raises(PoolError, match="release"):
                lease.release()
            async with await pool.aacquire() as resource:
                assert resource is maker.all[0]

        run(main())
        assert states(pool) == {"idle": 1}

    def test_a_lease_is_entered_once(self, run: Run, accounted: Any) -> None:
        """Also when two tasks enter it at the same time: one of them gets the error."""
        pool, _ = accounted(2)

        async def use(lease: Any) -> None:
            async with lease:
                await asyncio.sleep(0)

        async def main() -> None:
            lease = pool.lease()
            outcomes = await asyncio.gather(use(lease), use(lease), return_exceptions=True)
            assert sorted(type(outcome) for outcome in outcomes if outcome) == [PoolError]
            with pytest.raises(PoolError, match="entered before"):
                await use(lease)

        run(main())
        soon(lambda: pool.stats().leased == 0)
        works(pool, 2)

    def test_discard_inside_the_block(self, run: Run, accounted: Any) -> None:
        """By the lease or by the pool: the resource is closed, the end does nothing more."""
        pool, maker = accounted(1)

        async def main() -> None:
            lease = pool.lease()
            async with lease:
                lease.discard()
            async with pool.lease() as resource:
                pool.discard(resource)

        run(main())
        assert maker.made == maker.closed == 2

    @pytest.mark.parametrize(
        ("error", "closes"), [(OSError, 1), (EOFError, 1), (ValueError, 0), (PoolTimeout, 0)]
    )
    def test_a_block_left_with_an_exception(
        self, run: Run, accounted: Any, error: Any, closes: int
    ) -> None:
        """discard_on decides what becomes of the resource; the exception goes on."""
        pool, maker = accounted(1)

        async def main() -> None:
            with pytest.raises(error):
                async with pool.lease():
                    raise error("x", "wait", 0.0, {}) if error is PoolTimeout else error

        run(main())
        assert maker.closed == closes

    def test_a_cancelled_block_closes(self, run: Run, accounted: Any) -> None:
        """CancelledError is no Exception: nobody knows how far the conversation had come."""
        pool, maker = accounted(1)

        async def main() -> None:
            inside = asyncio.Event()

            async def work() -> None:
                async with pool.lease():
                    inside.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(work())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(main())
        soon(lambda: maker.closed == 1)
        works(pool, 1)

    def test_bad_timeouts(self, run: Run, accounted: Any) -> None:
        """An error whether or not anything is idle, and nothing is lost by it."""
        pool, _ = accounted(1)

        async def main() -> None:
            for warm in (False, True):
                for bad, error in ((-1, ValueError), ("1", TypeError), (float("nan"), ValueError)):
                    with pytest.raises(error):
                        await pool.aget(timeout=bad)
                    with pytest.raises(error):
                        await pool.aacquire(timeout=bad)
                if not warm:
                    pool.put(await pool.aget())

        run(main())
        soon(lambda: pool.stats().leased == 0)
        works(pool, 1)

    def test_aput_is_for_queues(self, run: Run, accounted: Any) -> None:
        """A resource goes back with put, which does not wait."""
        pool, _ = accounted(1)

        async def main() -> None:
            resource = await pool.aget()
            with pytest.raises(TypeError, match="put"):
                await pool.aput(resource)
            pool.put(resource)

        run(main())


class TestLine:
    @both
    def test_tasks_are_served_in_the_order_of_their_arrival(
        self, run: Run, accounted: Any, fairness: str
    ) -> None:
        """Many tasks of one loop in line for one resource: first come, first served."""
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
    def test_threads_and_tasks_stand_in_one_line(
        self, run: Run, accounted: Any, crew: Crew, fairness: str
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
                crew.start(thread, n + 1)
                await eventually(lambda n=n: pool.stats().waiting == n + 2)
            first.release()
            await asyncio.gather(*tasks)

        run(main())
        crew.finish()
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
        """A loop that takes and gives back all the time does not starve a task in line."""
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

    def test_several_loops_share_a_pool(self, kind: str, accounted: Any, crew: Crew) -> None:
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

        crew.together(3, lambda index: run_in(kind, main(index)))
        crew.finish()
        assert turns == [120, 120, 120]

    def test_several_loops_wait_in_one_line(self, kind: str, accounted: Any, crew: Crew) -> None:
        """Tasks of different loops are served in the order of their arrival."""
        pool, _ = accounted(1)
        order: list[int] = []
        first = pool.acquire()

        async def main(number: int) -> None:
            async with pool.lease(timeout=PATIENCE):
                order.append(number)

        for number in range(5):
            crew.start(run_in, kind, main(number))
            soon(lambda number=number: pool.stats().waiting == number + 1)
        first.release()
        crew.finish()
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
        self, kind: str, accounted: Any, crew: Crew
    ) -> None:
        """The thread that first ran the loop gives back: the loop, asleep elsewhere, wakes up."""
        pool, _ = accounted(1)
        first = pool.acquire()
        loop = new_loop(kind)

        async def work() -> None:
            async with pool.lease(timeout=PATIENCE):
                pass

        task = loop.create_task(work())
        loop.run_until_complete(eventually(lambda: pool.stats().waiting == 1))
        elsewhere = crew.start(loop.run_until_complete, asyncio.wait([task], timeout=3)).parked()
        start = time.monotonic()
        first.release()
        elsewhere.result()
        loop.close()
        assert time.monotonic() - start < 1.0
        assert task.done() and task.exception() is None

    def test_two_loops_of_one_thread_are_served_by_one_call(self, kind: str) -> None:
        """One put lets in a putter of one loop, and an item reaches a getter of the other."""
        q: Any = FastPool(1)
        one, other = new_loop(kind), new_loop(kind)
        tasks = [one.create_task(q.aget()), other.create_task(q.aget())]
        one.run_until_complete(asyncio.sleep(0.001))
        other.run_until_complete(asyncio.sleep(0.001))
        assert lined_up(q) == 2
        q.put(1)
        q.put(2)
        got = [
            loop.run_until_complete(asyncio.wait_for(task, PATIENCE))
            for loop, task in ((other, tasks[1]), (one, tasks[0]))
        ]
        one.close()
        other.close()
        assert sorted(got) == [1, 2]

    def test_overload(self, run: Run, accounted: Any) -> None:
        """More than max_waiting callers, threads and tasks together: PoolOverloaded at once."""
        pool, _ = accounted(1, max_waiting=2)

        async def main() -> None:
            first = await pool.aacquire()
            waiters = [await queued(pool, n, pool.aacquire()) for n in (1, 2)]
            with pytest.raises(PoolOverloaded):
                await pool.aget()
            with pytest.raises(PoolOverloaded):
                pool.get()
            first.release()
            for waiter in waiters:
                (await waiter).release()

        run(main())
        works(pool, 1)

    def test_suspend_and_resume(self, run: Run, accounted: Any) -> None:
        """Tasks wait while a pool is suspended, and all are served after."""
        pool, _ = accounted(2)
        works(pool, 2)

        async def main() -> None:
            pool.suspend()
            waiters = [await queued(pool, n, pool.aacquire()) for n in (1, 2)]
            pool.resume()
            for waiter in waiters:
                (await waiter).release()

        run(main())

    def test_resize_lets_tasks_in(self, run: Run, accounted: Any) -> None:
        """A higher cap opens resources for the tasks in line."""
        pool, maker = accounted(1)

        async def main() -> None:
            first = await pool.aacquire()
            waiters = [await queued(pool, n, pool.aacquire()) for n in (1, 2)]
            maker.cap = 3
            pool.resize(3)
            for waiter in waiters:
                (await waiter).release()
            first.release()

        run(main())

    def test_a_discard_makes_room_for_a_task(self, run: Run, accounted: Any) -> None:
        """A place that became free in any thread is filled for the task in line."""
        pool, maker = accounted(1)

        async def main() -> None:
            for discard in (lambda lease: lease.discard(), None):
                first = await pool.aacquire()
                waiter = await queued(pool, 1, pool.aacquire())
                if discard:
                    discard(first)
                else:
                    await asyncio.to_thread(first.discard)
                (await waiter).release()

        run(main())
        assert maker.made == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bell", ["eventfd", "socketpair"])
def test_either_bell_is_heard(kind: str, bell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads wake tasks by an eventfd where there is one, else by a pair of sockets."""
    if bell == "socketpair":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")

    async def main() -> None:
        pool: Any = FastPool()
        for item in range(50):
            task = asyncio.create_task(pool.aget())
            await eventually(lambda: lined_up(pool) == 1)
            await asyncio.to_thread(pool.put, item)
            assert await task == item

    run_in(kind, main())


class TestTimeouts:
    def test_the_wait_in_line(self, run: Run, accounted: Any) -> None:
        """PoolTimeout after the time, with phase and sizes; nobody is left in line."""
        pool, _ = accounted(1)

        async def main() -> None:
            first = await pool.aacquire()
            for take in (
                lambda: pool.aget(0.05),
                lambda: pool.aacquire(timeout=0.05),
                lambda: pool.lease(timeout=0.05).__aenter__(),
            ):
                start = time.monotonic()
                with pytest.raises(PoolTimeout) as caught:
                    await take()
                took = time.monotonic() - start
                assert 0.05 <= took < 1.0
                assert caught.value.phase == "wait" and caught.value.waited >= 0.05
                assert pool.stats().waiting == 0
            first.release()

        run(main())
        assert pool.stats().timeouts == 3
        works(pool, 1)

    def test_the_pools_own_timeout(self, run: Run, accounted: Any) -> None:
        """The option holds for tasks as for threads."""
        pool, _ = accounted(1, timeout=0.02)

        async def main() -> None:
            async with pool.lease():
                with pytest.raises(PoolTimeout):
                    await asyncio.create_task(pool.aget())

        run(main())

    def test_zero_never_waits(self, run: Run, accounted: Any) -> None:
        """timeout=0: what is idle or an error, without one turn of the loop; a creation starts."""
        pool, maker = accounted(1)

        async def main() -> None:
            turns = 0

            def turn() -> None:
                nonlocal turns
                turns += 1

            with pytest.raises(PoolTimeout):
                await pool.aget(timeout=0)
            await eventually(lambda: pool.stats().idle == 1)
            resource = await pool.aget(timeout=0)
            asyncio.get_running_loop().call_soon(turn)
            with pytest.raises(PoolTimeout):
                await pool.aget(timeout=0)
            assert turns == 0
            pool.put(resource)

        run(main())
        assert maker.made == 1

    def test_a_creation_that_takes_too_long(self, run: Run, accounted: Any) -> None:
        """The task goes with phase "create"; the resource is made all the same, and kept."""
        pool, maker = accounted(1)
        maker.gate.clear()

        async def main() -> None:
            with pytest.raises(PoolTimeout) as caught:
                await pool.aget(timeout=0.03)
            assert caught.value.phase == "create"
            maker.gate.set()
            await eventually(lambda: pool.stats().idle == 1)
            async with pool.lease(timeout=0):
                pass

        run(main())
        assert maker.made == 1

    def test_asyncio_timeout_around_it(self, run: Run, accounted: Any) -> None:
        """asyncio's own time-outs work by cancelling: the place in line is left."""
        pool, _ = accounted(1)

        async def main() -> None:
            first = await pool.aacquire()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await pool.aget()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.aget(), 0.01)
            assert pool.stats().waiting == 0
            first.release()

        run(main())
        works(pool, 1)


class TestClosing:
    def test_close_wakes_tasks(self, run: Run, accounted: Any, crew: Crew) -> None:
        """From a thread, while tasks stand in line: PoolClosed for each."""
        pool, _ = accounted(1)

        async def main() -> None:
            first = await pool.aacquire()
            waiters = [await queued(pool, n, pool.aget()) for n in (1, 2, 3)]
            crew.start(pool.close, 0)
            for waiter in waiters:
                with pytest.raises(PoolClosed):
                    await waiter
            for take in (pool.aget, pool.aacquire, pool.lease().__aenter__):
                with pytest.raises(PoolClosed):
                    await take()
            first.release()

        run(main())

    def test_aclose_waits_for_other_tasks(self, run: Run, accounted: Any) -> None:
        """Not longer than they hold; the loop runs meanwhile, or they could not end."""
        pool, maker = accounted(2)

        async def main() -> None:
            inside, leave = asyncio.Event(), asyncio.Event()

            async def work() -> None:
                async with pool.lease():
                    inside.set()
                    await leave.wait()

            task = asyncio.create_task(work())
            await inside.wait()
            closing = asyncio.create_task(pool.aclose(timeout=PATIENCE))
            await eventually(lambda: pool.closed)
            assert not closing.done()
            leave.set()
            assert await closing is True
            await task

        run(main())
        assert maker.made == maker.closed == 1

    def test_aclose_gives_up_in_time(self, run: Run, accounted: Any) -> None:
        """Says False when a borrower is left; what it holds is closed when it comes back."""
        pool, maker = accounted(1)

        async def main() -> None:
            lease = await asyncio.create_task(pool.aacquire())
            start = time.monotonic()
            assert await pool.aclose(timeout=0.05) is False
            assert 0.05 <= time.monotonic() - start < 1.0
            assert maker.closed == 0
            lease.release()
            await eventually(lambda: maker.closed == 1)

        run(main())

    @pytest.mark.parametrize("how", ["lease", "aacquire", "aget", "waited"])
    def test_aclose_does_not_wait_for_the_calling_task(
        self, run: Run, accounted: Any, how: str
    ) -> None:
        """However it took what it holds; that is closed when it comes back."""
        pool, maker = accounted(1)

        async def main() -> None:
            if how == "lease":
                async with pool.lease():
                    assert await self._in_no_time(pool) is False
            elif how == "aacquire":
                lease = await pool.aacquire()
                assert await self._in_no_time(pool) is False
                lease.release()
            else:
                if how == "waited":
                    first = await pool.aacquire()
                    asyncio.get_running_loop().call_later(0.01, first.release)
                resource = await pool.aget()
                assert await self._in_no_time(pool) is False
                pool.put(resource)
            await eventually(lambda: maker.closed == 1)

        run(main())

    @staticmethod
    async def _in_no_time(pool: Any) -> Any:
        async with asyncio.timeout(2):
            return await pool.aclose(timeout=5)

    def test_leaving_the_pools_block_closes_it(self, run: Run, accounted: Any) -> None:
        """async with pool: all is closed at the end, without a wait when an exception passes."""
        pool, maker = accounted(1)
        other, its = accounted(1)

        async def main() -> None:
            async with pool as same:
                assert same is pool
                async with pool.lease():
                    pass
            assert pool.closed and maker.closed == 1
            lease = await asyncio.create_task(other.aacquire())
            start = time.monotonic()
            with pytest.raises(ZeroDivisionError):
                async with other:
                    raise ZeroDivisionError
            assert time.monotonic() - start < 1.0 and other.closed
            lease.release()

        run(main())
        soon(lambda: its.closed == 1)

    def test_aclose_again(self, run: Run, accounted: Any) -> None:
        """Idempotent, and beside close from a thread."""
        pool, _ = accounted(1)

        async def main() -> None:
            async with pool.lease():
                pass
            assert await pool.aclose() is True
            assert await pool.aclose() is True
            assert await asyncio.to_thread(pool.close) is True
            with pytest.raises(ValueError):
                await pool.aclose(timeout=-1)

        run(main())

    def test_close_hooks_run_off_the_loop(self, run: Run) -> None:
        """Those of aclose, of a block left by an exception, of a lease ended on a closed pool."""
        for how in ("aclose", "error", "closed"):
            gate = Gate()
            pool: Any = FastPool(1, factory=lambda: Resource(Maker(), 0), close=gate)

            async def main(how: str = how, gate: Gate = gate, pool: Any = pool) -> None:
                async def act() -> None:
                    if how == "error":
                        async with pool.lease():
                            raise OSError
                    if how == "closed":
                        async with pool.lease():
                            pool.shutdown()
                    async with pool.lease():
                        pass
                    await pool.aclose()

                task = asyncio.create_task(act())
                await gate.pass_through()
                await asyncio.wait([task], timeout=PATIENCE)
                error = task.exception()
                expected = {"error": OSError, "closed": PoolClosed}.get(how, type(None))
                assert type(error) is expected, error

            run(main())
            pool.close(timeout=0)


class TestDeadlock:
    def test_a_task_in_nested_blocks(self, run: Run, accounted: Any) -> None:
        """Inside blocks over all resources a further wait would never end: PoolDeadlock."""
        pool, _ = accounted(2, timeout=None)

        async def main() -> None:
            async with pool.lease(), pool.lease():
                for take in (pool.aget, pool.aacquire, pool.lease().__aenter__):
                    with pytest.raises(PoolDeadlock):
                        await take()
                with pytest.raises(PoolTimeout):
                    await pool.aget(timeout=0)

        run(main())
        works(pool, 2)

    def test_another_task_of_the_same_thread_waits(self, run: Run, accounted: Any) -> None:
        """It is no deadlock: the holder runs on the same loop, and gives back."""
        pool, _ = accounted(1, timeout=PATIENCE)

        async def main() -> None:
            async with pool.lease():
                waiter = await queued(pool, 1, pool.aacquire())
            (await waiter).release()

        run(main())

    def test_what_aget_and_aacquire_took_does_not_count(self, run: Run, accounted: Any) -> None:
        """Another task may give it back."""
        pool, _ = accounted(1)

        async def main() -> None:
            resource = await pool.aget()
            with pytest.raises(PoolTimeout):
                await pool.aget(timeout=0.02)
            pool.put(resource)
            lease = await pool.aacquire()
            with pytest.raises(PoolTimeout):
                await pool.aget(timeout=0.02)
            lease.release()

        run(main())

    def test_what_was_handed_on_does_not_count(self, run: Run, accounted: Any) -> None:
        """The block was left: its resource is the next task's, even before that one runs."""
        pool, _ = accounted(1)

        async def main() -> None:
            async with pool.lease():
                waiter = await queued(pool, 1, pool.aacquire())
            with pytest.raises(PoolTimeout):
                await pool.aget(timeout=0.02)
            (await waiter).release()

        run(main())


class TestHooks:
    def test_creation_is_off_the_loop(self, run: Run, accounted: Any) -> None:
        """The factory blocks; the loop runs, and lets it go on."""
        pool, maker = accounted(1)
        maker.gate.clear()

        async def main() -> None:
            task = await queued(pool, 1, pool.aacquire())
            await eventually(lambda: maker.running == 1)
            maker.gate.set()
            (await task).release()

        run(main())

    def test_a_failing_factory_raises_in_the_task_it_was_tried_for(
        self, run: Run, accounted: Any
    ) -> None:
        """One exception for one waiter; the next tries are for the others."""
        pool, maker = accounted(1)
        failure = LookupError("no server")
        maker.script.append(failure)

        async def main() -> None:
            tasks = [asyncio.create_task(pool.aacquire()) for _ in range(3)]
            for task in tasks:
                try:
                    (await task).release()
                except LookupError as error:
                    assert error is failure
            raised = [task for task in tasks if task.exception()]
            assert len(raised) == 1 and pool.name in raised[0].exception().__notes__[0]

        run(main())
        works(pool, 1)

    def test_a_check_is_off_the_loop(self, run: Run, accounted: Any) -> None:
        """The check blocks; the loop runs, and lets it go on."""
        gate = Gate()
        pool, maker = accounted(1, check=gate, check_after=0)
        pool.put(pool.get())  # a new one is not checked

        async def main() -> None:
            task = asyncio.create_task(pool.aacquire())
            await gate.pass_through()
            (await task).release()

        run(main())
        assert maker.made == 1

    @pytest.mark.parametrize("take", ["aget", "aacquire", "lease"])
    def test_a_failed_check_closes_and_the_next_is_tried(
        self, run: Run, accounted: Any, take: str
    ) -> None:
        """The task gets a healthy one, made for it."""

        def check(resource: Resource) -> None:
            assert resource.healthy

        pool, maker = accounted(1, check=check, check_after=0)
        pool.put(pool.get())  # a new one is not checked
        maker.all[0].healthy = False

        async def main() -> None:
            if take == "aget":
                resource = await pool.aget()
                pool.put(resource)
            elif take == "aacquire":
                lease = await pool.aacquire()
                resource = lease.resource
                lease.release()
            else:
                async with pool.lease() as resource:
                    pass
            assert resource.number == 1

        run(main())
        assert maker.all[0].closed

    def test_a_check_that_hangs_is_left_alone(self, run: Run, accounted: Any) -> None:
        """PoolTimeout with phase "check" in the borrower's time; the resource is kept after."""
        gate = Gate()
        pool, maker = accounted(1, check=gate, check_after=0)
        pool.put(pool.get())  # a new one is not checked

        async def main() -> None:
            start = time.monotonic()
            with pytest.raises(PoolTimeout) as caught:
                await pool.aget(timeout=0.05)
            assert time.monotonic() - start < 1.0
            assert caught.value.phase == "check"
            gate.open.set()
            await eventually(lambda: states(pool) == {"idle": 1})

        run(main())
        works(pool, 1)
        assert maker.made == 1

    def test_a_reset_is_off_the_loop(self, run: Run, accounted: Any) -> None:
        """The end of the block waits for it, and the loop runs."""
        gate = Gate()
        pool, _ = accounted(1, reset=gate)

        async def main() -> None:
            async def work() -> None:
                async with pool.lease():
                    pass
                assert states(pool) == {"idle": 1}

            task = asyncio.create_task(work())
            await gate.pass_through()
            await task

        run(main())

    def test_many_slow_resets_at_once(self, run: Run, accounted: Any) -> None:
        """Each ends; those who wait are served by what comes out of them."""
        pool, _ = accounted(3, reset=lambda resource: time.sleep(0.001))

        async def work() -> None:
            for _ in range(5):
                async with pool.lease(timeout=PATIENCE):
                    await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(*(work() for _ in range(12)))

        run(main())
        works(pool, 3)

    def test_awarm(self, run: Run, accounted: Any) -> None:
        """Opens off the loop; says how many are open; raises what the factory raises."""
        pool, maker = accounted(3)

        async def main() -> None:
            maker.gate.clear()
            task = asyncio.create_task(pool.awarm(2))
            await eventually(lambda: maker.running == 2)
            maker.gate.set()
            assert await task == 2
            maker.script.append(LookupError("no server"))
            with pytest.raises(LookupError):
                await pool.awarm(3)
            with pytest.raises(PoolTimeout):
                maker.gate.clear()
                await pool.awarm(3, timeout=0.02)

        run(main())

    @pytest.mark.parametrize("hook", ["close", "check", "reset"])
    def test_async_hooks_are_refused_at_construction(self, hook: str) -> None:
        """Better a clear error than a coroutine that nobody awaits."""

        async def wrong(*args: Any) -> None: ...

        with pytest.raises(TypeError, match=r"async|coroutine"):
            FastPool(1, **({"factory": object} | {hook: wrong}))


class TestAcrossFaces:
    def test_what_a_thread_took_a_task_gives_back(self, run: Run, accounted: Any) -> None:
        """And the other way round, by every form."""
        pool, _ = accounted(1)

        async def main() -> None:
            pool.put(await asyncio.to_thread(pool.get))
            (await asyncio.to_thread(pool.acquire)).release()
            await asyncio.to_thread(pool.put, await pool.aget())
            await asyncio.to_thread((await pool.aacquire()).release)
            async with await asyncio.to_thread(pool.acquire):
                pass
            with await pool.aacquire():
                pass

        run(main())
        assert states(pool) == {"idle": 1}

    def test_a_thread_waits_for_a_task_and_a_task_for_a_thread(
        self, run: Run, accounted: Any, crew: Crew
    ) -> None:
        """A hand-off in both directions."""
        pool, _ = accounted(1)

        async def main() -> None:
            for _ in range(20):
                lease = await pool.aacquire()
                thread = crew.start(pool.acquire)
                await eventually(lambda: pool.stats().waiting == 1)
                lease.release()
                other = await asyncio.to_thread(thread.result)
                task = await queued(pool, 1, pool.aacquire(timeout=PATIENCE))
                crew.start(other.release)
                (await task).release()

        run(main())


class TestQueues:
    @both
    @pytest.mark.parametrize("order", ["lifo", "fifo"])
    def test_items_reach_waiting_tasks(self, run: Run, fairness: str, order: str) -> None:
        """Each item wakes one task, whoever puts it."""
        q: Any = FastPool(order=order, fairness=fairness)

        async def main() -> None:
            tasks = []
            for n in range(4):
                tasks.append(asyncio.create_task(q.aget()))
                await eventually(lambda n=n: lined_up(q) == n + 1)
            q.put(0)
            await q.aput(1)
            await asyncio.to_thread(q.put, 2)
            await q.aput(None)
            got = [await task for task in tasks]
            assert sorted(got, key=str) == [0, 1, 2, None]
            if fairness == "fair":
                assert got == [0, 1, 2, None]
            await q.aput(5)
            assert await q.aget() == 5

        run(main())
        assert q.empty()

    def test_putters_wait_in_a_line(self, run: Run) -> None:
        """Items of waiting tasks and threads enter in the order of their arrival."""
        q: Any = FastPool(1, order="fifo")

        async def main() -> None:
            await q.aput(0)
            tasks = []
            for n in (1, 2, 3):
                tasks.append(asyncio.create_task(q.aput(n)))
                await asyncio.sleep(0)
            taken = [await q.aget() for _ in range(4)]
            await asyncio.gather(*tasks)
            assert taken == [0, 1, 2, 3]

        run(main())

    def test_timeouts(self, run: Run) -> None:
        """queue.Empty and queue.Full, after the time or at once."""
        q: Any = FastPool(1)

        async def main() -> None:
            for span in (0, 0.03):
                start = time.monotonic()
                with pytest.raises(queue.Empty):
                    await q.aget(timeout=span)
                assert span <= time.monotonic() - start < 1.0
            await q.aput(1)
            for span in (0, 0.03):
                start = time.monotonic()
                with pytest.raises(queue.Full):
                    await q.aput(2, timeout=span)
                assert span <= time.monotonic() - start < 1.0
            assert await q.aget() == 1
            assert q.empty() and lined_up(q) == 0

        run(main())

    @pytest.mark.parametrize("immediate", [False, True])
    def test_shutdown_wakes_tasks(self, run: Run, immediate: bool) -> None:
        """ShutDown for getters of an empty queue and for putters of a full one."""
        empty: Any = FastPool()
        full: Any = FastPool(1)

        async def main() -> None:
            full.put(1)
            tasks = [asyncio.create_task(empty.aget()), asyncio.create_task(full.aput(2))]
            await eventually(lambda: lined_up(empty) == 1)
            await asyncio.to_thread(empty.shutdown, immediate)
            full.shutdown(immediate)
            for task in tasks:
                with pytest.raises(Exception) as caught:
                    await task
                assert caught.typename in ("ShutDown", "PoolClosed")
            if immediate:
                assert full.empty()
            else:
                assert await full.aget() == 1
            with pytest.raises(Exception) as caught:
                await full.aget()
            assert caught.typename == "ShutDown"

        run(main())

    @pytest.mark.parametrize("order", ["lifo", "fifo"])
    def test_an_item_of_a_cancelled_getter_stays(self, run: Run, order: str) -> None:
        """Granted and then cancelled, before or after a shutdown that lets the rest be taken."""

        async def main() -> None:
            for shut in (False, True):
                q: Any = FastPool(order=order)
                task = asyncio.create_task(q.aget())
                await eventually(lambda q=q: lined_up(q) == 1)
                q.put("item")
                if shut:
                    q.shutdown()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert list(q.queue) == ["item"]
                assert await q.aget() == "item"

        run(main())

    def test_close_and_aclose(self, run: Run) -> None:
        """Of a queue: shutdown(immediate=True)."""
        q: Any = FastPool()

        async def main() -> None:
            async with q:
                await q.aput(1)
            assert q.is_shutdown and q.empty()
            assert await q.aclose() is True

        run(main())


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

    def test_loops_leave_no_descriptor_behind(self, kind: str, accounted: Any) -> None:
        """A hundred loops, one after the other: their bells are closed."""
        import os

        if not os.path.isdir("/proc/self/fd"):
            pytest.skip("needs /proc/self/fd")
        pool, _ = accounted(1)

        async def main() -> None:
            first = await pool.aacquire()
            task = await queued(pool, 1, pool.aacquire())
            first.release()
            (await task).release()

        run_in(kind, main())
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(30):
            run_in(kind, main())
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

"""What tasks alone can do: hit without a suspension, be cancelled, be in two places at once."""

from __future__ import annotations

import asyncio
import queue
import time
from typing import Any

import pytest

from fastpool import FastPool, PoolDeadlock, PoolError, PoolTimeout
from support.helpers import PATIENCE, ThreadRunner, states, works
from support.helpers import eventually as soon
from support.loops import Run, eventually, queued, queued_up, run_in


class TestHits:
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

    def test_aput_is_for_queues(self, run: Run, accounted: Any) -> None:
        """A resource goes back with put, which does not wait."""
        pool, _ = accounted(1)

        async def main() -> None:
            resource = await pool.aget()
            with pytest.raises(TypeError, match="put"):
                await pool.aput(resource)
            pool.put(resource)

        run(main())


class TestTimeouts:
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

    def test_asyncio_timeout_around_it(self, run: Run, accounted: Any) -> None:
        """asyncio's own timeouts work by cancelling: the position in the queue is left."""
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

    def test_one_timer_serves_all_time_outs(self, accounted: Any) -> None:
        """Of pools and queues, of any length; what is earlier is served earlier."""
        pool, _ = accounted(1)
        q: Any = FastPool()
        order: list[str] = []

        async def wait(name: str, take: Any) -> None:
            with pytest.raises((PoolTimeout, queue.Empty)):
                await take
            order.append(name)

        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            held = await pool.aget()
            others = [asyncio.create_task(pool.aget(timeout=PATIENCE)) for _ in range(50)]
            spans = {"last": 0.03, "first": 0.01, "second": 0.02}
            waits = [
                asyncio.create_task(wait(name, take(timeout=span)))
                for take in (pool.aget, q.aget)
                for name, span in spans.items()
            ]
            await asyncio.sleep(0)
            timers = [timer for timer in loop._scheduled if not timer.cancelled()]
            assert len(timers) == 2, timers  # one is that of the whole run
            await asyncio.gather(*waits)
            for task in others:
                task.cancel()
            await asyncio.wait(others)
            pool.put(held)

        run_in("asyncio", main())
        assert order == sorted(order, key=["first", "second", "last"].index)


class TestIdentity:
    @pytest.mark.parametrize("how", ["lease", "entered"])
    def test_aclose_does_not_wait_for_blocks_of_the_calling_task(
        self, run: Run, accounted: Any, how: str
    ) -> None:
        """What they hold is closed when it comes back."""
        pool, maker = accounted(1)

        async def main() -> None:
            if how == "lease":
                async with pool.lease():
                    assert await self._in_no_time(pool) is False
            else:
                async with await pool.aacquire():
                    assert await self._in_no_time(pool) is False
            await eventually(lambda: maker.closed == 1)

        run(main())

    @staticmethod
    async def _in_no_time(pool: Any) -> Any:
        async with asyncio.timeout(2):
            return await pool.aclose(timeout=5)

    def test_an_acquired_lease_used_as_a_block_is_the_tasks(self, run: Run, accounted: Any) -> None:
        """So a further wait inside it would never end."""
        pool, _ = accounted(1)

        async def main() -> None:
            async with await pool.aacquire():
                with pytest.raises(PoolDeadlock):
                    await pool.aget(timeout=PATIENCE)

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


def test_nobody_waits_beside_capacity_that_a_newcomer_has_left(run: Run, accounted: Any) -> None:
    """Two wait, two are idle for them and one may be opened, so nothing is; a newcomer then takes
    one of the two.  Whoever comes too late has the third one opened."""
    pool, _ = accounted(3, fairness="throughput")

    async def round_() -> bool:
        held = [await pool.aget() for _ in range(3)]
        waiters = [asyncio.create_task(pool.aget(timeout=2)) for _ in range(2)]
        await asyncio.sleep(0)
        pool.put(held[0])
        pool.put(held[1])
        pool.discard(held[2])
        time.sleep(0.0002)  # the scheduler looks
        try:
            taken = pool.get_nowait()
        except PoolTimeout:  # the head has waited for more than its 1 ms
            taken = None
        for waiter in waiters:
            pool.put(await waiter)
        if taken is not None:
            pool.put(taken)
        return taken is not None

    async def main() -> None:
        barged = [await round_() for _ in range(200)]
        assert any(barged)

    run(main())


class TestAcrossCallers:
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
        self, run: Run, accounted: Any, runner: ThreadRunner
    ) -> None:
        """A hand-off in both directions."""
        pool, _ = accounted(1)

        async def main() -> None:
            for _ in range(20):
                lease = await pool.aacquire()
                thread = runner.start(pool.acquire)
                await eventually(lambda: pool.stats().waiting == 1)
                lease.release()
                other = await asyncio.to_thread(thread.result)
                task = await queued(pool, 1, pool.aacquire(timeout=PATIENCE))
                runner.start(other.release)
                (await task).release()

        run(main())


@pytest.mark.parametrize("order", ["lifo", "fifo"])
def test_an_item_of_a_cancelled_getter_stays(run: Run, order: str) -> None:
    """Granted and then cancelled, before or after a shutdown that lets the rest be taken."""

    async def main() -> None:
        for shut in (False, True):
            q: Any = FastPool(order=order)
            task = asyncio.create_task(q.aget())
            await eventually(lambda q=q: queued_up(q) == 1)
            q.put("item")
            if shut:
                q.shutdown()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert list(q.queue) == ["item"]
            assert await q.aget() == "item"

    run(main())

"""WorkerPool: what it does beyond ThreadPoolExecutor.  CPython's own tests of executors run in
test_stdlib_executor_suite.py."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from contract.limits.worker_pools import Hall, fill
from fastpool import PoolOverloaded, PoolTimeout, WorkerPool
from fastpool.limits import WorkerStats
from support.helpers import PATIENCE, ThreadRunner, eventually


class TestTheBound:
    def test_submit_waits_for_a_permit(
        self, worker_pool: Any, hall: Hall, runner: ThreadRunner
    ) -> None:
        """As many tasks as workers, and as many again as the queue holds; then it waits."""
        pool = worker_pool(2, 3)
        futures = fill(pool, hall, 5)
        assert pool.stats() == WorkerStats(threads=2, running=2, queued=3, waiting=0)
        late = runner.start(pool.submit, hall.task, 5)
        eventually(lambda: pool.stats().waiting == 1)
        hall.let_go(1)
        futures.append(late.result())
        assert pool.stats().waiting == 0
        hall.let_go(5)
        assert [future.result(PATIENCE) for future in futures] == [0, 1, 2, 3, 4, 5]

    def test_submitters_are_served_first_come_first_served(
        self, worker_pool: Any, hall: Hall, runner: ThreadRunner
    ) -> None:
        pool = worker_pool(1, 0)
        order: list[int] = []

        def task(number: int) -> None:
            order.append(number)

        fill(pool, hall, 1)
        for number in range(5):
            runner.start(pool.submit, task, number)
            eventually(lambda wanted=number + 1: pool.stats().waiting == wanted)
        hall.let_go(1)
        runner.finish()
        pool.shutdown()
        assert order == [0, 1, 2, 3, 4]

    def test_no_queue_at_all(self, worker_pool: Any, hall: Hall) -> None:
        """``max_queue=0``: a task is taken if a worker is free, which it is once the last one's
        result is there."""
        pool = worker_pool(1, 0, when_full="refuse")
        for number in range(300):
            assert pool.submit(abs, -number).result(PATIENCE) == number
        fill(pool, hall, 1)
        with pytest.raises(PoolOverloaded, match="full: 1 tasks are under way, for 1 workers"):
            pool.submit(int)
        hall.let_go(1)

    def test_it_never_holds_more_than_it_may(self, worker_pool: Any, runner: ThreadRunner) -> None:
        """The trap of ThreadPoolExecutor: its queue grows as long as producers are faster."""
        pool = worker_pool(2, 5)
        peak = 0

        def produce(_: int) -> None:
            nonlocal peak
            for _ in range(200):
                pool.submit(int)
                peak = max(peak, pool._group.tasks.qsize())

        runner.together(4, produce)
        runner.finish()
        assert 0 < peak <= 7

    def test_tasks_are_done_in_order(self, worker_pool: Any) -> None:
        pool = worker_pool(1, 100)
        done: list[int] = []
        for number in range(100):
            pool.submit(done.append, number)
        pool.shutdown()
        assert done == list(range(100))


class TestWhenFull:
    def test_refuse(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 1, when_full="refuse")
        fill(pool, hall, 2)
        with pytest.raises(PoolOverloaded, match="full: 2 tasks are under way, for 1 workers and"):
            pool.submit(int)
        hall.let_go(2)

    def test_submit_timeout(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 1, submit_timeout=0.01)
        fill(pool, hall, 2)
        with pytest.raises(PoolTimeout, match=r"WorkerPool-\d+: no 1 units within"):
            pool.submit(int)
        hall.let_go(2)

    def test_submit_timeout_of_zero_is_no_wait(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 1, submit_timeout=0)
        fill(pool, hall, 2)
        with pytest.raises((PoolTimeout, PoolOverloaded)):
            pool.submit(int)
        with pytest.raises((PoolTimeout, PoolOverloaded)):
            asyncio.run(asyncio.wait_for(pool.asubmit(int), PATIENCE))
        hall.let_go(2)

    def test_each_call_can_choose(self, worker_pool: Any, hall: Hall, runner: ThreadRunner) -> None:
        """Names that cannot clash with the keywords of the function."""
        pool = worker_pool(1, 0)

        def echo(**kwargs: Any) -> dict[str, Any]:
            return kwargs

        words = {"timeout": 1, "fn": 2, "self": 3, "when_full": 4, "wait": 5}
        assert pool.try_submit(echo, **words).result(PATIENCE) == words
        assert pool.submit_within(1, echo, **words).result(PATIENCE) == words
        assert pool.submit(echo, **words).result(PATIENCE) == words
        fill(pool, hall, 1)
        with pytest.raises(PoolOverloaded):
            pool.try_submit(echo)
        with pytest.raises(PoolTimeout):
            pool.submit_within(0.01, echo)
        late = runner.start(pool.submit_within, None, echo)
        eventually(lambda: pool.stats().waiting == 1)
        hall.let_go(1)
        assert late.result().result(PATIENCE) == {}

    def test_refused_even_where_the_others_wait(
        self, worker_pool: Any, hall: Hall, runner: ThreadRunner
    ) -> None:
        """``try_submit`` does not overtake those in the queue."""
        pool = worker_pool(1, 0)
        fill(pool, hall, 1)
        late = runner.start(pool.submit, hall.task)
        eventually(lambda: pool.stats().waiting == 1)
        with pytest.raises(PoolOverloaded):
            pool.try_submit(int)
        hall.let_go(2)
        late.result()


class TestThreads:
    def test_they_are_started_when_they_are_needed(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(3, 5)
        assert pool.stats().threads == 0
        for n in (1, 2, 3):
            pool.submit(hall.task)
            assert pool.stats().threads == n
        pool.submit(hall.task)
        assert pool.stats().threads == 3
        hall.let_go(4)

    def test_one_that_is_free_is_used_before_another_is_started(self, worker_pool: Any) -> None:
        pool = worker_pool(3, 5)
        for number in range(10):
            assert pool.submit(abs, -number).result(PATIENCE) == number
            eventually(lambda: pool._group.tasks.unfinished_tasks == 0)
        assert pool.stats().threads == 1

    def test_they_end_when_idle(self, worker_pool: Any, hall: Hall) -> None:
        """And are started again; names are not used twice."""
        pool = worker_pool(2, 0, idle_timeout=0.01, thread_name_prefix="w")
        names = set()
        for _ in range(3):
            futures = [pool.submit(hall.task) for _ in range(2)]
            names |= {thread.name for thread in pool._threads}
            hall.let_go(2)
            for future in futures:
                future.result(PATIENCE)
            eventually(lambda: pool.stats().threads == 0)
        assert names == {f"w_{number}" for number in range(6)}

    @pytest.mark.parametrize("idle_timeout", [0, 1e-6, 0.0005])
    def test_none_is_missing_when_they_end_at_that_moment(
        self, worker_pool: Any, idle_timeout: float
    ) -> None:
        pool = worker_pool(2, 2, idle_timeout=idle_timeout)
        for number in range(150):
            assert pool.submit(abs, -number).result(PATIENCE) == number

    def test_initializer(self, worker_pool: Any, hall: Hall) -> None:
        seen: list[Any] = []
        pool = worker_pool(2, 0, initializer=lambda *a: seen.append(a), initargs=[1, "x"])
        fill(pool, hall, 2)
        assert seen == [(1, "x")] * 2
        hall.let_go(2)

    def test_an_initializer_that_fails(
        self, worker_pool: Any, hall: Hall, runner: ThreadRunner
    ) -> None:
        """What is queued fails, and so does whoever waits for a permit: nobody hangs."""
        gate = threading.Event()

        def initializer() -> None:
            assert gate.wait(PATIENCE)
            raise ValueError

        pool = worker_pool(1, 1, initializer=initializer)
        futures = [pool.submit(int) for _ in range(2)]
        waits = runner.start(pool.submit, int)
        eventually(lambda: pool.stats().waiting == 1)
        gate.set()
        broken = concurrent.futures.BrokenExecutor
        for future in futures:
            assert isinstance(future.exception(PATIENCE), broken)
        with pytest.raises(broken):
            waits.result()
        with pytest.raises(broken):
            pool.submit(int)
        with pytest.raises(broken):
            asyncio.run(pool.asubmit(int))

    def test_a_pool_that_is_dropped_finishes_and_ends(self) -> None:
        pool = WorkerPool(2, 10)
        gate = threading.Event()
        futures = [pool.submit(gate.wait, PATIENCE) for _ in range(6)]
        threads = set(pool._threads)
        del pool
        gc.collect()
        gate.set()
        assert all(future.result(PATIENCE) for future in futures)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


class TestShutdown:
    def test_who_waits_for_a_permit_is_told(
        self, worker_pool: Any, hall: Hall, runner: ThreadRunner
    ) -> None:
        pool = worker_pool(1, 0)
        (busy,) = fill(pool, hall, 1)
        waits = runner.start(pool.submit, int)
        eventually(lambda: pool.stats().waiting == 1)
        pool.shutdown(wait=False)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            waits.result()
        hall.let_go(1)
        assert busy.result(PATIENCE) == 0
        for submit in (pool.submit, pool.try_submit, lambda fn: pool.submit_within(1, fn)):
            with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
                submit(int)

    def test_what_is_queued_is_done(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 3)
        futures = fill(pool, hall, 4)
        pool.shutdown(wait=False)
        hall.let_go(4)
        assert [future.result(PATIENCE) for future in futures] == [0, 1, 2, 3]

    def test_or_cancelled(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 3)
        futures = fill(pool, hall, 4)
        pool.shutdown(wait=False, cancel_futures=True)
        assert [future.cancelled() for future in futures] == [False, True, True, True]
        hall.let_go(1)
        assert futures[0].result(PATIENCE) == 0

    def test_shutdown_tells_those_who_wait_for_cancelled_futures(
        self, worker_pool: Any, hall: Hall
    ) -> None:
        """`wait` and `as_completed` end; one that was cancelled before is no trouble."""
        pool = worker_pool(1, 3)
        futures = fill(pool, hall, 4)
        futures[1].cancel()
        pool.shutdown(wait=False, cancel_futures=True)
        hall.let_go(1)
        assert concurrent.futures.wait(futures, PATIENCE).not_done == set()
        assert set(concurrent.futures.as_completed(futures, PATIENCE)) == set(futures)

    def test_by_a_worker(self, worker_pool: Any) -> None:
        """It does not wait for itself."""
        pool = worker_pool(1, 0)
        assert pool.submit(pool.shutdown).result(PATIENCE) is None

    def test_by_a_worker_waits_for_the_others(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(2, 0)
        (busy,) = fill(pool, hall, 1)
        ends = pool.submit(pool.shutdown)
        eventually(lambda: "shut down" in repr(pool))
        with pytest.raises(concurrent.futures.TimeoutError):
            ends.result(0.02)
        hall.let_go(1)
        assert ends.result(PATIENCE) is None and busy.done()


class TestMap:
    def test_an_endless_iterable(self, worker_pool: Any) -> None:
        """No more is taken from it than there are permits: results do not fill the memory."""
        pool = worker_pool(2, 3)
        taken = 0

        def endless() -> Iterator[int]:
            nonlocal taken
            while True:
                taken += 1
                yield taken

        results = pool.map(abs, endless())
        assert [next(results) for _ in range(20)] == list(range(1, 21))
        assert taken <= 20 + 5 + 1
        results.close()  # type: ignore[attr-defined]

    def test_buffersize(self, worker_pool: Any) -> None:
        pool = worker_pool(2, 3)
        taken: list[int] = []
        results = pool.map(abs, (taken.append(n) or n for n in range(9)), buffersize=2)
        assert len(taken) == 2
        assert next(results) == 0 and len(taken) == 3
        assert list(results) == list(range(1, 9))

    def test_in_a_pool_that_others_use(self, worker_pool: Any, hall: Hall) -> None:
        """It waits for one place and goes on with that, also where others are refused."""
        pool = worker_pool(2, 0, when_full="refuse")
        fill(pool, hall, 1)
        assert list(pool.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        hall.let_go(1)

    def test_an_iterable_that_fails(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 5)
        fill(pool, hall, 1)

        def two() -> Iterator[int]:
            yield 1
            yield 2
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more") as caught:
            pool.map(hall.task, two())
        hall.let_go(1)
        eventually(lambda: pool._group.permits.in_use == 0)
        assert caught.tb is not None  # and with it the frames of the call
        pool.shutdown()
        assert hall.inside == 1  # what had been submitted was cancelled

    def test_items_that_are_made_by_the_same_pool(
        self, worker_pool: Any, runner: ThreadRunner
    ) -> None:
        """No permit is held while an item is made, or there might be none for that."""
        for workers, max_queue in ((1, 0), (1, 1), (2, 3)):
            pool = worker_pool(workers, max_queue)

            def chain(pool: WorkerPool = pool) -> list[int]:
                return list(pool.map(abs, pool.map(int, pool.map(abs, range(-9, 0)))))

            assert runner.start(chain).result() == list(range(9, 0, -1))

    def test_time_is_over_while_it_waits_for_a_result(self, worker_pool: Any, hall: Hall) -> None:
        """The time is that of all results together; what is under way is cancelled."""
        pool = worker_pool(1, 3)
        results = pool.map(hall.task, range(3), timeout=0.01)
        with pytest.raises(TimeoutError):
            next(results)
        hall.let_go(3)
        pool.shutdown()
        assert hall.inside <= 1

    @pytest.mark.parametrize("how", ["closed", "failed"])
    def test_what_nobody_asks_for_any_more_is_cancelled(
        self, worker_pool: Any, hall: Hall, how: str
    ) -> None:
        """The iterator is closed, or has raised what a task did."""
        pool = worker_pool(1, 3)

        def task(number: int) -> int:
            if number == 1 and how == "failed":
                raise ValueError("text")
            return hall.task(number) if number else number

        results = pool.map(task, range(4))
        assert next(results) == 0
        if how == "closed":
            eventually(lambda: hall.inside == 1)  # in the second
            results.close()
        else:
            with pytest.raises(ValueError, match="text"):
                next(results)
        assert list(results) == []
        hall.let_go(3)
        pool.shutdown()
        assert hall.inside <= 1  # the third may have begun before, the fourth has not

    def test_time_is_over_while_it_waits_for_a_permit(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 0)
        fill(pool, hall, 1)
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError):
                pool.map(abs, [1], timeout=timeout)
        hall.let_go(1)


class TestTasks:
    def test_asubmit_waits_and_does_not_block_the_loop(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 0)

        async def main() -> None:
            first = await pool.asubmit(hall.task, 1)
            waits = asyncio.create_task(pool.asubmit(hall.task, 2))
            while pool.stats().waiting != 1:
                await asyncio.sleep(0)
            hall.let_go(2)
            assert await first == 1
            assert await (await waits) == 2

        asyncio.run(asyncio.wait_for(main(), PATIENCE))

    def test_asubmit_refuses_and_times_out(self, worker_pool: Any, hall: Hall) -> None:
        for options, error in (
            ({"when_full": "refuse"}, PoolOverloaded),
            ({"submit_timeout": 0.01}, PoolTimeout),
        ):
            pool = worker_pool(1, 0, **options)
            hall.inside = 0
            fill(pool, hall, 1)
            with pytest.raises(error):
                asyncio.run(pool.asubmit(int))
            hall.let_go(1)
            pool.shutdown()
            with pytest.raises(RuntimeError, match="after shutdown"):
                asyncio.run(pool.asubmit(int))

    def test_a_cancelled_asubmit_has_submitted_nothing(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 0)

        async def main() -> None:
            fill(pool, hall, 1)
            waits = asyncio.create_task(pool.asubmit(hall.task))
            while pool.stats().waiting != 1:
                await asyncio.sleep(0)
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits
            assert pool.stats().waiting == 0
            hall.let_go(1)

        asyncio.run(asyncio.wait_for(main(), PATIENCE))
        pool.shutdown()
        assert hall.inside == 1

    def test_submit_does_not_block_an_event_loop(self, worker_pool: Any, hall: Hall) -> None:
        """``run_in_executor`` calls it: an error that says what to do, instead of a loop that
        stands still until some worker is free."""
        pool = worker_pool(1, 0)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(pool, hall.task, 7)
            with pytest.raises(PoolOverloaded, match=r"await pool\.asubmit"):
                await loop.run_in_executor(pool, hall.task)
            hall.let_go(1)
            assert await future == 7

        asyncio.run(asyncio.wait_for(main(), PATIENCE))


class TestOptions:
    @pytest.mark.parametrize(
        ("args", "options", "error", "says"),
        [
            ((0, 1), {}, ValueError, "workers must be at least 1, not 0"),
            ((True, 1), {}, TypeError, "workers must be a whole number, not True"),
            ((1.0, 1), {}, TypeError, "workers must be a whole number"),
            ((1, -1), {}, ValueError, "max_queue must be at least 0, not -1"),
            ((1, None), {}, TypeError, "max_queue must be a whole number, not None"),
            ((1, 1), {"when_full": "block"}, ValueError, 'when_full must be "wait" or "refuse"'),
            ((1, 1), {"submit_timeout": -1}, ValueError, "submit_timeout must be at least 0"),
            ((1, 1), {"submit_timeout": -0.5}, ValueError, "submit_timeout must be at least 0"),
            ((1, 1), {"submit_timeout": "1"}, TypeError, "submit_timeout must be a number"),
            ((1, 1), {"submit_timeout": True}, TypeError, "submit_timeout must be a number"),
            (
                (1, 1),
                {"when_full": "refuse", "submit_timeout": 1},
                ValueError,
                "who is refused does not wait",
            ),
            ((1, 1), {"idle_timeout": float("nan")}, ValueError, "idle_timeout must be at least 0"),
            ((1, 1), {"initializer": 3}, TypeError, "initializer must be a callable"),
        ],
    )
    def test_bad_ones_are_named(
        self, args: Any, options: Any, error: type[Exception], says: str
    ) -> None:
        with pytest.raises(error, match=says):
            WorkerPool(*args, **options)

    def test_bad_arguments_of_calls(self, worker_pool: Any) -> None:
        pool = worker_pool(1, 1)
        with pytest.raises(ValueError, match="timeout must be at least 0"):
            pool.submit_within(-1, int)
        with pytest.raises(ValueError, match="buffersize must be None or > 0, not 0"):
            pool.map(abs, [1], buffersize=0)
        for bad in ("2", 2.0, True):
            with pytest.raises(TypeError, match="buffersize must be an integer or None, not"):
                pool.map(abs, [1], buffersize=bad)

    def test_repr(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 2, thread_name_prefix="jobs")
        fill(pool, hall, 2)
        said = "<WorkerPool 'jobs': 1 of 1 workers busy, 1 of 2 tasks queued, 0 waiting"
        assert repr(pool) == said + ">"
        hall.let_go(2)
        pool.shutdown()
        assert repr(pool).endswith(", shut down>")

"""WorkerPool: what it does beyond ThreadPoolExecutor.  CPython's own tests of executors run in
test_stdlib_executor_suite.py."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastpool import PoolDeadlock, PoolOverloaded, PoolTimeout, WorkerPool
from fastpool.limits import WorkerStats
from interrupting import interrupt
from support import GIL, PATIENCE, Crew, eventually


class Hall:
    """Where tasks stay until they are let go."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.inside = 0

    def task(self, number: int = 0) -> int:
        self.inside += 1
        assert self.gate.acquire(timeout=PATIENCE)
        return number

    def let_go(self, n: int) -> None:
        for _ in range(n):
            self.gate.release()


@pytest.fixture
def hall() -> Hall:
    return Hall()


@pytest.fixture
def make() -> Iterator[Callable[..., WorkerPool]]:
    """Pools that are accounted for: at the end every place is free and no thread is left."""
    pools: list[WorkerPool] = []

    def pool(*args: Any, **options: Any) -> WorkerPool:
        pools.append(WorkerPool(*args, **options))
        return pools[-1]

    yield pool
    for made in pools:
        made.shutdown()
        assert (made.stats().running, made.stats().queued, made.stats().waiting) == (0, 0, 0), made
        assert made._crew.places.in_use == 0
        assert not [thread for thread in made._threads if thread.is_alive()]


def fill(pool: WorkerPool, hall: Hall, n: int) -> list[concurrent.futures.Future[int]]:
    futures = [pool.submit(hall.task, number) for number in range(n)]
    eventually(lambda: hall.inside == min(n, pool._max_workers))
    return futures


class TestTheBound:
    def test_submit_waits_for_a_place(self, make: Any, hall: Hall, crew: Crew) -> None:
        """As many tasks as workers, and as many again as the queue holds; then it waits."""
        pool = make(2, 3)
        futures = fill(pool, hall, 5)
        assert pool.stats() == WorkerStats(threads=2, running=2, queued=3, waiting=0)
        late = crew.start(pool.submit, hall.task, 5)
        eventually(lambda: pool.stats().waiting == 1)
        hall.let_go(1)
        futures.append(late.result())
        assert pool.stats().waiting == 0
        hall.let_go(5)
        assert [future.result(PATIENCE) for future in futures] == [0, 1, 2, 3, 4, 5]

    def test_submitters_are_served_first_come_first_served(
        self, make: Any, hall: Hall, crew: Crew
    ) -> None:
        pool = make(1, 0)
        order: list[int] = []

        def task(number: int) -> None:
            order.append(number)

        fill(pool, hall, 1)
        for number in range(5):
            crew.start(pool.submit, task, number)
            eventually(lambda wanted=number + 1: pool.stats().waiting == wanted)
        hall.let_go(1)
        crew.finish()
        pool.shutdown()
        assert order == [0, 1, 2, 3, 4]

    def test_no_queue_at_all(self, make: Any, hall: Hall) -> None:
        """``max_queue=0``: a task is taken if a worker is free, which it is once the last one's
        result is there."""
        pool = make(1, 0, when_full="refuse")
        for number in range(300):
            assert pool.submit(abs, -number).result(PATIENCE) == number
        fill(pool, hall, 1)
        with pytest.raises(PoolOverloaded, match="full: 1 tasks are under way, for 1 workers"):
            pool.submit(int)
        hall.let_go(1)

    def test_it_never_holds_more_than_it_may(self, make: Any, crew: Crew) -> None:
        """The trap of ThreadPoolExecutor: its queue grows as long as producers are faster."""
        pool = make(2, 5)
        peak = 0

        def produce(_: int) -> None:
            nonlocal peak
            for _ in range(200):
                pool.submit(int)
                peak = max(peak, pool._crew.tasks.qsize())

        crew.together(4, produce)
        crew.finish()
        assert 0 < peak <= 7

    def test_tasks_are_done_in_order(self, make: Any) -> None:
        pool = make(1, 100)
        done: list[int] = []
        for number in range(100):
            pool.submit(done.append, number)
        pool.shutdown()
        assert done == list(range(100))


class TestWhenFull:
    def test_refuse(self, make: Any, hall: Hall) -> None:
        pool = make(1, 1, when_full="refuse")
        fill(pool, hall, 2)
        with pytest.raises(PoolOverloaded, match="full: 2 tasks are under way, for 1 workers and"):
            pool.submit(int)
        hall.let_go(2)

    def test_submit_timeout(self, make: Any, hall: Hall) -> None:
        pool = make(1, 1, submit_timeout=0.01)
        fill(pool, hall, 2)
        with pytest.raises(PoolTimeout, match=r"WorkerPool-\d+: no 1 units within"):
            pool.submit(int)
        hall.let_go(2)

    def test_each_call_can_choose(self, make: Any, hall: Hall, crew: Crew) -> None:
        """Names that cannot clash with the keywords of the function."""
        pool = make(1, 0)

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
        late = crew.start(pool.submit_within, None, echo)
        eventually(lambda: pool.stats().waiting == 1)
        hall.let_go(1)
        assert late.result().result(PATIENCE) == {}

    def test_refused_even_where_the_others_wait(self, make: Any, hall: Hall, crew: Crew) -> None:
        """``try_submit`` does not overtake those in line."""
        pool = make(1, 0)
        fill(pool, hall, 1)
        late = crew.start(pool.submit, hall.task)
        eventually(lambda: pool.stats().waiting == 1)
        with pytest.raises(PoolOverloaded):
            pool.try_submit(int)
        hall.let_go(2)
        late.result()


class TestWorkersThatSubmit:
    def test_a_worker_that_waits_for_its_own_full_pool(self, make: Any) -> None:
        """The trap: it waits for a place that only it could free.  An error, and the pool works
        on."""
        pool = make(1, 0)

        def submit_more() -> Any:
            return pool.submit(int)

        with pytest.raises(PoolDeadlock, match="all 1 workers would wait for a place"):
            pool.submit(submit_more).result(PATIENCE)
        assert pool.submit(abs, -1).result(PATIENCE) == 1

    def test_all_workers_wait_for_it(self, make: Any) -> None:
        """The last one gets the error, which frees its place, and the others go on."""
        pool = make(3, 2)
        ready = threading.Barrier(4)

        def submit_more() -> Any:
            ready.wait(PATIENCE)
            return pool.submit(abs, -1)

        futures = [pool.submit(submit_more) for _ in range(3)]
        futures += [pool.submit(int) for _ in range(2)]  # full
        ready.wait(PATIENCE)
        stuck = [future.exception(PATIENCE) for future in futures[:3]]
        assert [type(error) for error in stuck if error is not None] == [PoolDeadlock]
        for future in futures[:3]:
            if future.exception() is None:
                assert future.result().result(PATIENCE) == 1

    def test_from_a_callback(self, make: Any) -> None:
        """A callback runs in a worker whose task has given its place back."""
        pool = make(1, 0)
        found: list[Any] = []
        filled = threading.Event()
        begun = threading.Event()

        def call_back(_: Any) -> None:
            begun.set()
            assert filled.wait(PATIENCE)
            try:
                pool.submit(int)
            except PoolDeadlock as error:
                found.append(error)

        gate = threading.Event()
        first = pool.submit(gate.wait, PATIENCE)
        first.add_done_callback(call_back)
        gate.set()
        assert begun.wait(PATIENCE)
        second = pool.submit(int)  # the place is free, and its worker is not
        filled.set()
        assert second.result(PATIENCE) == 0 and len(found) == 1

    def test_no_false_alarm(self, make: Any) -> None:
        """As long as one worker is at work the others may wait for it."""
        pool = make(2, 0)
        gate = threading.Event()
        worker = pool.submit(lambda: pool.submit(abs, -1).result(PATIENCE))
        assert worker.result(PATIENCE) == 1
        busy = pool.submit(gate.wait, PATIENCE)
        waits = pool.submit(lambda: pool.submit(abs, -2))
        eventually(lambda: pool.stats().waiting == 1)
        gate.set()
        assert busy.result(PATIENCE) and waits.result(PATIENCE).result(PATIENCE) == 2

    def test_no_false_alarm_while_a_place_is_on_its_way(self, make: Any) -> None:
        """All workers wait, and somebody has a place who has not yet submitted."""
        pool = make(1, 1)
        place = pool._crew.places.hold()
        place.__enter__()
        waits = pool.submit(lambda: pool.submit(abs, -1))
        eventually(lambda: pool.stats().waiting == 1)
        place.release()
        assert waits.result(PATIENCE).result(PATIENCE) == 1

    def test_many_who_submit_to_their_own_pool(self, make: Any) -> None:
        """A tree of tasks: whoever is refused does the work itself, and nothing hangs."""
        pool = make(3, 2)
        lock = threading.Lock()
        done = 0

        def node(depth: int) -> None:
            nonlocal done
            with lock:
                done += 1
            for _ in range(3 if depth else 0):
                try:
                    pool.submit(node, depth - 1)
                except PoolDeadlock:
                    node(depth - 1)

        node(5)
        eventually(lambda: pool._crew.tasks.unfinished_tasks == 0)
        assert done == sum(3**depth for depth in range(6))


class TestLostPlaces:
    """No place is lost where a call ends early."""

    def test_a_thread_cannot_be_started(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The trap of ThreadPoolExecutor: the task stays in its queue, with nobody to do it."""
        pool = make(2, 0)

        def fail(self: Any) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            kept = []
            for _ in range(5):
                with pytest.raises(RuntimeError, match="can't start") as error:
                    pool.submit(int)
                kept.append(error)  # and with it the frames of the call
        assert pool.stats() == WorkerStats(0, 0, 0, 0)
        gate = threading.Event()
        first = pool.submit(gate.wait, PATIENCE)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            second = pool.submit(abs, -1)  # there is one, which will come to it
        gate.set()
        assert first.result(PATIENCE) and second.result(PATIENCE) == 1

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_submit_is_interrupted(self, make: Any) -> None:
        """A signal handler that raises, at every point where one may run."""
        pool = make(1, 0)
        pool.submit(int).result(PATIENCE)
        point, more = 0, True
        while more:
            point += 1
            more = interrupt(point, lambda: pool.submit(int).result(PATIENCE))
            gc.collect()
            eventually(lambda: pool._crew.places.in_use == 0)
        assert point > 8

    def test_a_cancelled_task_gives_its_place_back(self, make: Any, hall: Hall) -> None:
        pool = make(1, 2)
        futures = fill(pool, hall, 3)
        assert futures[1].cancel() and futures[2].cancel()
        hall.let_go(1)
        assert futures[0].result(PATIENCE) == 0
        eventually(lambda: pool._crew.places.in_use == 0)
        assert hall.inside == 1

    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_a_task_that_raises(self, make: Any, error: type[BaseException]) -> None:
        """Whatever it raises is its future's, and costs neither the place nor the thread."""
        pool = make(1, 0)

        def task() -> None:
            raise error("text")

        for _ in range(3):
            assert type(pool.submit(task).exception(PATIENCE)) is error
        assert pool.stats().threads == 1

    def test_a_callback_that_raises_what_it_should_not(
        self, make: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A SystemExit of a callback ends a thread of ThreadPoolExecutor for good."""
        pool = make(1, 1)
        gate = threading.Event()
        future = pool.submit(gate.wait, PATIENCE)

        def call_back(_: Any) -> None:
            raise SystemExit

        future.add_done_callback(call_back)
        gate.set()
        assert pool.submit(abs, -1).result(PATIENCE) == 1
        assert "Exception in worker" in caplog.text and pool.stats().threads == 1

    def test_no_reference_is_kept(self, make: Any) -> None:
        """Neither to the task's arguments and result, nor to an error and what it refers to."""
        pool = make(1, 0)

        class Thing:
            pass

        def fail(thing: Thing) -> None:
            raise ValueError(thing)

        def once() -> list[weakref.ref[Any]]:
            one, other = Thing(), Thing()
            future = pool.submit(lambda thing: thing, one)
            future.result(PATIENCE)
            assert pool.submit(fail, other).exception(PATIENCE) is not None
            return [weakref.ref(one), weakref.ref(other)]

        if GIL:  # at once; else when the threads that made them come by
            gc.disable()
        try:
            seen = once()
            eventually(lambda: GIL or gc.collect() >= 0)
            eventually(lambda: all(ref() is None for ref in seen))
        finally:
            gc.enable()


class TestThreads:
    def test_they_are_started_when_they_are_needed(self, make: Any, hall: Hall) -> None:
        pool = make(3, 5)
        assert pool.stats().threads == 0
        for n in (1, 2, 3):
            pool.submit(hall.task)
            assert pool.stats().threads == n
        pool.submit(hall.task)
        assert pool.stats().threads == 3
        hall.let_go(4)

    def test_they_end_when_idle(self, make: Any, hall: Hall) -> None:
        """And are started again; names are not used twice."""
        pool = make(2, 0, idle_timeout=0.01, thread_name_prefix="w")
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
        self, make: Any, idle_timeout: float
    ) -> None:
        pool = make(2, 2, idle_timeout=idle_timeout)
        for number in range(150):
            assert pool.submit(abs, -number).result(PATIENCE) == number

    def test_initializer(self, make: Any, hall: Hall) -> None:
        seen: list[Any] = []
        pool = make(2, 0, initializer=lambda *a: seen.append(a), initargs=[1, "x"])
        fill(pool, hall, 2)
        assert seen == [(1, "x")] * 2
        hall.let_go(2)

    def test_an_initializer_that_fails(self, make: Any, hall: Hall, crew: Crew) -> None:
        """What is queued fails, and so does whoever waits for a place: nobody hangs."""
        gate = threading.Event()

        def initializer() -> None:
            assert gate.wait(PATIENCE)
            raise ValueError

        pool = make(1, 1, initializer=initializer)
        futures = [pool.submit(int) for _ in range(2)]
        waits = crew.start(pool.submit, int)
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
    def test_who_waits_for_a_place_is_told(self, make: Any, hall: Hall, crew: Crew) -> None:
        pool = make(1, 0)
        (busy,) = fill(pool, hall, 1)
        waits = crew.start(pool.submit, int)
        eventually(lambda: pool.stats().waiting == 1)
        pool.shutdown(wait=False)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            waits.result()
        hall.let_go(1)
        assert busy.result(PATIENCE) == 0
        for submit in (pool.submit, pool.try_submit, lambda fn: pool.submit_within(1, fn)):
            with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
                submit(int)

    def test_what_is_queued_is_done(self, make: Any, hall: Hall) -> None:
        pool = make(1, 3)
        futures = fill(pool, hall, 4)
        pool.shutdown(wait=False)
        hall.let_go(4)
        assert [future.result(PATIENCE) for future in futures] == [0, 1, 2, 3]

    def test_or_cancelled(self, make: Any, hall: Hall) -> None:
        pool = make(1, 3)
        futures = fill(pool, hall, 4)
        pool.shutdown(wait=False, cancel_futures=True)
        assert [future.cancelled() for future in futures] == [False, True, True, True]
        hall.let_go(1)
        assert futures[0].result(PATIENCE) == 0

    def test_by_a_worker(self, make: Any) -> None:
        """It does not wait for itself."""
        pool = make(1, 0)
        assert pool.submit(pool.shutdown).result(PATIENCE) is None


class TestMap:
    def test_an_endless_iterable(self, make: Any) -> None:
        """No more is taken from it than there are places: results do not fill the memory."""
        pool = make(2, 3)
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

    def test_buffersize(self, make: Any) -> None:
        pool = make(2, 3)
        taken: list[int] = []
        results = pool.map(abs, (taken.append(n) or n for n in range(9)), buffersize=2)
        assert len(taken) == 2
        assert next(results) == 0 and len(taken) == 3
        assert list(results) == list(range(1, 9))

    def test_in_a_pool_that_others_use(self, make: Any, hall: Hall) -> None:
        """It waits for one place and goes on with that, also where others are refused."""
        pool = make(2, 0, when_full="refuse")
        fill(pool, hall, 1)
        assert list(pool.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        hall.let_go(1)

    def test_an_iterable_that_fails(self, make: Any, hall: Hall) -> None:
        pool = make(1, 5)
        fill(pool, hall, 1)

        def two() -> Iterator[int]:
            yield 1
            yield 2
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more") as caught:
            pool.map(hall.task, two())
        hall.let_go(1)
        eventually(lambda: pool._crew.places.in_use == 0)
        assert caught.tb is not None  # and with it the frames of the call
        pool.shutdown()
        assert hall.inside == 1  # what had been submitted was cancelled

    def test_time_is_over_while_it_waits_for_a_place(self, make: Any, hall: Hall) -> None:
        pool = make(1, 0)
        fill(pool, hall, 1)
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError):
                pool.map(abs, [1], timeout=timeout)
        hall.let_go(1)


class TestTasks:
    def test_asubmit_waits_and_does_not_block_the_loop(self, make: Any, hall: Hall) -> None:
        pool = make(1, 0)

        async def main() -> None:
            first = await pool.asubmit(hall.task, 1)
            waits = asyncio.create_task(pool.asubmit(hall.task, 2))
            while pool.stats().waiting != 1:
                await asyncio.sleep(0)
            hall.let_go(2)
            assert await first == 1
            assert await (await waits) == 2

        asyncio.run(asyncio.wait_for(main(), PATIENCE))

    def test_asubmit_refuses_and_times_out(self, make: Any, hall: Hall) -> None:
        for options, error in (
            ({"when_full": "refuse"}, PoolOverloaded),
            ({"submit_timeout": 0.01}, PoolTimeout),
        ):
            pool = make(1, 0, **options)
            hall.inside = 0
            fill(pool, hall, 1)
            with pytest.raises(error):
                asyncio.run(pool.asubmit(int))
            hall.let_go(1)
            pool.shutdown()
            with pytest.raises(RuntimeError, match="after shutdown"):
                asyncio.run(pool.asubmit(int))

    def test_a_cancelled_asubmit_has_submitted_nothing(self, make: Any, hall: Hall) -> None:
        pool = make(1, 0)

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

    def test_submit_does_not_block_an_event_loop(self, make: Any, hall: Hall) -> None:
        """``run_in_executor`` calls it: an error that says what to do, instead of a loop that
        stands still until some worker is free."""
        pool = make(1, 0)

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
            ((1, 1), {"submit_timeout": "1"}, TypeError, "submit_timeout must be a number"),
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

    def test_bad_arguments_of_calls(self, make: Any) -> None:
        pool = make(1, 1)
        with pytest.raises(ValueError, match="timeout must be at least 0"):
            pool.submit_within(-1, int)
        with pytest.raises(ValueError, match="buffersize must be at least 1"):
            pool.map(abs, [1], buffersize=0)

    def test_repr(self, make: Any, hall: Hall) -> None:
        pool = make(1, 2, thread_name_prefix="jobs")
        fill(pool, hall, 2)
        said = "<WorkerPool 'jobs': 1 of 1 workers busy, 1 of 2 tasks queued, 0 waiting"
        assert repr(pool) == said + ">"
        hall.let_go(2)
        pool.shutdown()
        assert repr(pool).endswith(", shut down>")

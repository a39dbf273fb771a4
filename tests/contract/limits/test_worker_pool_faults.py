"""WorkerPool: workers that submit to their own pool, and calls that end early: no permit is
lost."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from contract.limits.worker_pools import Hall, fill
from fastpool import PoolDeadlock, PoolTimeout
from fastpool.limits import WorkerStats
from support.helpers import GIL, PATIENCE, eventually
from support.signal_injection import interrupt


class TestWorkersThatSubmit:
    def test_a_worker_that_waits_for_its_own_full_pool(self, worker_pool: Any) -> None:
        """The trap: it waits for a permit that only it could free.  An error, and the pool works
        on."""
        pool = worker_pool(1, 0)

        def submit_more() -> Any:
            return pool.submit(int)

        with pytest.raises(PoolDeadlock, match="all 1 workers would wait for a permit"):
            pool.submit(submit_more).result(PATIENCE)
        assert pool.submit(abs, -1).result(PATIENCE) == 1

    def test_all_workers_wait_for_it(self, worker_pool: Any) -> None:
        """The last one gets the error, which frees its permit, and the others go on."""
        pool = worker_pool(3, 2)
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

    def test_from_a_callback(self, worker_pool: Any) -> None:
        """A callback runs in a worker whose task has given its permit back."""
        pool = worker_pool(1, 0)
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
        second = pool.submit(int)  # the permit is free, and its worker is not
        filled.set()
        assert second.result(PATIENCE) == 0 and len(found) == 1

    def test_no_false_alarm(self, worker_pool: Any) -> None:
        """As long as one worker is at work the others may wait for it."""
        pool = worker_pool(2, 0)
        gate = threading.Event()
        worker = pool.submit(lambda: pool.submit(abs, -1).result(PATIENCE))
        assert worker.result(PATIENCE) == 1
        busy = pool.submit(gate.wait, PATIENCE)
        waits = pool.submit(lambda: pool.submit(abs, -2))
        eventually(lambda: pool.stats().waiting == 1)
        gate.set()
        assert busy.result(PATIENCE) and waits.result(PATIENCE).result(PATIENCE) == 2

    def test_no_false_alarm_while_a_worker_is_in_a_callback(self, worker_pool: Any) -> None:
        """It has no place, and comes to what is queued when the callback is over."""
        pool = worker_pool(2, 0)
        inside, gate = threading.Event(), threading.Event()

        def call_back(_: Any) -> None:
            inside.set()
            assert gate.wait(PATIENCE)

        first = threading.Event()
        called = pool.submit(first.wait, PATIENCE)
        called.add_done_callback(call_back)
        first.set()
        assert inside.wait(PATIENCE)
        waits = pool.submit(lambda: [pool.submit(abs, -number) for number in (1, 2)])
        eventually(lambda: pool.stats().waiting == 1 or waits.done())
        assert not waits.done()
        gate.set()
        assert [future.result(PATIENCE) for future in waits.result(PATIENCE)] == [1, 2]

    def test_a_worker_that_waits_for_another_pool(self, worker_pool: Any, hall: Hall) -> None:
        """It is no worker of that one, which has its own to make room."""
        pool, other = worker_pool(1, 0), worker_pool(1, 0)
        fill(other, hall, 1)
        waits = pool.submit(lambda: other.submit(abs, -1))
        eventually(lambda: other.stats().waiting == 1 or waits.done())
        assert not waits.done()
        hall.let_go(1)
        assert waits.result(PATIENCE).result(PATIENCE) == 1

    def test_a_worker_waits_no_longer_than_it_wants(self, worker_pool: Any, hall: Hall) -> None:
        """For its own pool, while another worker may still make room."""
        pool = worker_pool(2, 0)
        fill(pool, hall, 1)
        late = pool.submit(lambda: pool.submit_within(0.01, int))
        with pytest.raises(PoolTimeout):
            late.result(PATIENCE)
        assert not pool._group.stuck
        hall.let_go(1)

    def test_who_got_a_permit_in_the_end_waits_no_more(self, worker_pool: Any) -> None:
        """Not for the alarm, either: the next worker that waits is the only one."""
        pool = worker_pool(2, 0)
        for number in range(3):
            gate = threading.Event()
            busy = pool.submit(gate.wait, PATIENCE)
            waits = pool.submit(lambda number=number: pool.submit(abs, -number))
            eventually(lambda: pool.stats().waiting == 1)
            gate.set()
            assert waits.result(PATIENCE).result(PATIENCE) == number and busy.result(PATIENCE)

    def test_no_false_alarm_while_a_permit_is_on_its_way(self, worker_pool: Any) -> None:
        """All workers wait, and somebody has a permit who has not yet submitted."""
        pool = worker_pool(1, 1)
        permit = pool._group.permits.hold()
        permit.__enter__()
        waits = pool.submit(lambda: pool.submit(abs, -1))
        eventually(lambda: pool.stats().waiting == 1)
        permit.release()
        assert waits.result(PATIENCE).result(PATIENCE) == 1

    def test_many_who_submit_to_their_own_pool(self, worker_pool: Any) -> None:
        """A tree of tasks: whoever is refused does the work itself, and nothing hangs."""
        pool = worker_pool(3, 2)
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
        eventually(lambda: pool._group.tasks.unfinished_tasks == 0)
        assert done == sum(3**depth for depth in range(6))


class TestLostPermits:
    """No permit is lost where a call ends early."""

    def test_a_thread_cannot_be_started(
        self, worker_pool: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The trap of ThreadPoolExecutor: the task stays in its queue, with nobody to do it."""
        pool = worker_pool(2, 0)

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
    def test_submit_is_interrupted(self, worker_pool: Any) -> None:
        """A signal handler that raises, at every point where one may run."""
        pool = worker_pool(1, 0)
        pool.submit(int).result(PATIENCE)
        point, more = 0, True
        while more:
            point += 1
            more = interrupt(point, lambda: pool.submit(int).result(PATIENCE))
            gc.collect()
            eventually(lambda: pool._group.permits.in_use == 0)
        assert point > 8

    def test_a_cancelled_task_gives_its_permit_back(self, worker_pool: Any, hall: Hall) -> None:
        pool = worker_pool(1, 2)
        futures = fill(pool, hall, 3)
        assert futures[1].cancel() and futures[2].cancel()
        hall.let_go(1)
        assert futures[0].result(PATIENCE) == 0
        eventually(lambda: pool._group.permits.in_use == 0)
        assert hall.inside == 1

    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_a_task_that_raises(self, worker_pool: Any, error: type[BaseException]) -> None:
        """Whatever it raises is its future's, and costs neither the permit nor the thread."""
        pool = worker_pool(1, 0)

        def task() -> None:
            raise error("text")

        for _ in range(3):
            assert type(pool.submit(task).exception(PATIENCE)) is error
        assert pool.stats().threads == 1

    def test_a_callback_that_raises_what_it_should_not(
        self, worker_pool: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A SystemExit of a callback ends a thread of ThreadPoolExecutor for good."""
        pool = worker_pool(1, 1)
        gate = threading.Event()
        future = pool.submit(gate.wait, PATIENCE)

        def call_back(_: Any) -> None:
            raise SystemExit

        future.add_done_callback(call_back)
        gate.set()
        assert pool.submit(abs, -1).result(PATIENCE) == 1
        assert "Exception in worker" in caplog.text and pool.stats().threads == 1

    def test_no_reference_is_kept(self, worker_pool: Any) -> None:
        """Neither to the task's arguments and result, nor to an error and what it refers to."""
        pool = worker_pool(1, 0)

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

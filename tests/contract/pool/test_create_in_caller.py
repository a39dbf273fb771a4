"""``create_in="caller"``: the factory runs in the borrower's thread, under ``max_creating``."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, PoolClosed, PoolOverloaded, PoolTimeout, SharedPool
from support.helpers import ThreadRunner, eventually, states, works

HERE = {"create_in": "caller"}


def thread_of(resource: Any) -> int:
    return resource["thread"]


def make() -> dict[str, int]:
    return {"thread": threading.get_ident()}


close = {"close": lambda resource: None}


class TestWhere:
    @pytest.mark.option("create_in")
    def test_the_factory_runs_in_the_borrowers_thread(self) -> None:
        with FastPool(2, factory=make, **HERE, **close) as pool, pool.lease() as resource:
            assert thread_of(resource) == threading.get_ident()

    def test_it_sees_the_borrowers_context(self) -> None:
        variable: ContextVar[str] = ContextVar("variable", default="unset")
        with FastPool(1, factory=lambda: [variable.get()], **HERE, **close) as pool:
            variable.set("borrower's")
            with pool.lease() as resource:
                assert resource == ["borrower's"]

    @pytest.mark.parametrize("how", ["min_idle", "warm"])
    def test_what_nobody_waits_for_is_opened_by_workers(self, how: str) -> None:
        options: dict[str, Any] = {"min_idle": 1} if how == "min_idle" else {}
        with FastPool(2, factory=make, **HERE, **close, **options) as pool:
            if how == "warm":
                pool.warm(1)
            eventually(lambda: states(pool) == {"idle": 1})
            with pool.lease() as resource:
                assert thread_of(resource) != threading.get_ident()

    def test_a_task_has_it_run_by_a_worker(self) -> None:
        """The factory would stop the loop."""

        async def main() -> None:
            with FastPool(3, factory=make, **HERE, **close) as pool:
                leases = [await pool.aacquire() for _ in range(3)]
                assert threading.get_ident() not in [thread_of(each.resource) for each in leases]
                waiter = asyncio.ensure_future(pool.aget())
                await asyncio.sleep(0)
                leases.pop().release()
                pool.put(await waiter)
                for lease in leases:
                    lease.release()
                assert pool.stats().created == 3

        asyncio.run(main())

    def test_it_is_refused_where_it_cannot_be(self) -> None:
        async def connect() -> object:
            return object()

        with pytest.raises(TypeError, match="outlives a borrower who is cancelled"):
            FastPool(factory=connect, create_in="caller")
        with pytest.raises(TypeError, match="needs a factory"):
            FastPool(items=[1], create_in="caller")
        with pytest.raises(ValueError, match="a timeout of its own"):
            FastPool(factory=make, create_in="caller", create_timeout=5)
        with pytest.raises(ValueError, match="worker, caller"):
            FastPool(factory=make, create_in="thread")
        with pytest.raises(TypeError, match=r"'create_in': .* belongs in the key"):
            KeyedPool(make, create_in="caller")
        with pytest.raises(TypeError, match=r"'create_in': .* for many callers"):
            SharedPool(make, create_in="caller")


class TestPermits:
    def test_timeout_zero_creates_while_there_is_capacity(self, accounted: Any) -> None:
        pool, maker = accounted(2, **HERE)
        resources = [pool.get(timeout=0), pool.get_nowait()]
        assert maker.made == 2
        with pytest.raises(PoolTimeout):
            pool.get_nowait()
        for resource in resources:
            pool.put(resource)
        assert maker.made == 2

    def test_no_more_than_max_creating_at_once(self, accounted: Any, runner: ThreadRunner) -> None:
        pool, maker = accounted(8, max_creating=2, **HERE)
        maker.gate.clear()
        tasks = [runner.start(pool.get) for _ in range(8)]
        eventually(lambda: maker.running == 2 and pool.stats().waiting == 6)
        with pytest.raises(PoolTimeout):  # room, but no permit
            pool.get_nowait()
        maker.gate.set()
        for resource in [task.result() for task in tasks]:
            pool.put(resource)
        assert maker.peak == 2 and maker.made == 8

    def test_what_comes_back_first_is_taken(self, accounted: Any, runner: ThreadRunner) -> None:
        pool, maker = accounted(3, max_creating=1, **HERE)
        resource = pool.get()
        maker.gate.clear()
        creator = runner.start(pool.get)
        eventually(lambda: maker.running == 1)
        waiter = runner.start(pool.get).parked()
        pool.put(resource)
        assert waiter.result() is resource
        maker.gate.set()
        pool.put(creator.result())
        pool.put(resource)
        assert maker.made == 2

    def test_the_head_of_the_queue_has_the_next_permit(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """A newcomer does not create while others wait to do so."""
        pool, maker = accounted(0, max_creating=1, **HERE)
        maker.gate.clear()
        tasks = []
        for number in range(4):
            tasks.append(runner.start(pool.get))
            eventually(lambda n=number: maker.running == 1 and pool.stats().waiting == n)
        maker.gate.set()
        resources = [task.result() for task in tasks]
        assert resources == maker.all
        for resource in resources:
            pool.put(resource)

    def test_a_failure_is_the_borrowers_and_the_next_tries(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        pool, maker = accounted(1, max_creating=1, name="database", **HERE)
        failure = ConnectionRefusedError("no server")
        maker.script.append(failure)
        maker.gate.clear()
        first = runner.start(pool.get)
        eventually(lambda: maker.running == 1)
        second = runner.start(pool.get).parked()
        maker.gate.set()
        with pytest.raises(ConnectionRefusedError) as caught:
            first.result()
        assert caught.value is failure and "database" in failure.__notes__[0]
        pool.put(second.result())
        assert pool.stats().create_failures == 1
        works(pool, 1)

    def test_who_times_out_in_queue_leaves_no_permit_behind(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        pool, maker = accounted(4, max_creating=1, **HERE)
        for _ in range(20):
            maker.gate.clear()
            holder = runner.start(pool.get)
            eventually(lambda: maker.running == 1)
            late = [runner.start(self._in_vain, pool) for _ in range(3)]
            maker.gate.set()
            for task in late:
                task.result()
            pool.put(holder.result())
            pool.flush()
        works(pool, 4)

    @staticmethod
    def _in_vain(pool: Any) -> None:
        try:
            pool.put(pool.get(timeout=0.001))
        except PoolTimeout:
            pass

    def test_cancelled_tasks_leave_no_permit_behind(self, accounted: Any) -> None:
        pool, _ = accounted(3, max_creating=1, **HERE)

        async def main() -> None:
            for round in range(30):
                tasks = [asyncio.ensure_future(pool.aget()) for _ in range(4)]
                for _ in range(round % 5):
                    await asyncio.sleep(0)
                tasks[round % 4].cancel()
                for task in asyncio.as_completed(tasks):
                    try:
                        pool.discard(await task)
                    except asyncio.CancelledError:
                        pass

        asyncio.run(main())
        works(pool, 3)

    def test_threads_and_tasks_in_one_queue(self, accounted: Any, runner: ThreadRunner) -> None:
        """Each gets one, whoever is given the permit."""
        pool, maker = accounted(6, max_creating=1, **HERE)
        maker.gate.clear()
        threads = [runner.start(pool.get) for _ in range(3)]
        eventually(lambda: maker.running == 1)

        async def main() -> None:
            tasks = [asyncio.ensure_future(pool.aget()) for _ in range(3)]
            while pool.stats().waiting < 5:
                await asyncio.sleep(0)
            maker.gate.set()
            for resource in await asyncio.gather(*tasks):
                pool.put(resource)

        asyncio.run(main())
        for thread in threads:
            pool.put(thread.result())
        works(pool, 6)


class TestEnds:
    def test_closed_while_the_factory_runs(self, accounted: Any, runner: ThreadRunner) -> None:
        """What it makes is the borrower's all the same, and closed when it comes back."""
        pool, maker = accounted(1, max_creating=1, **HERE)
        maker.gate.clear()
        creator = runner.start(pool.get)
        eventually(lambda: maker.running == 1)
        waiter = runner.start(pool.get).parked()
        pool.close(timeout=0)
        with pytest.raises(PoolClosed):
            waiter.result()
        maker.gate.set()
        resource = creator.result()
        assert not resource.closed
        pool.put(resource)
        assert resource.closed

    def test_max_waiting(self, accounted: Any, runner: ThreadRunner) -> None:
        pool, maker = accounted(1, max_waiting=1, **HERE)
        resource = pool.get()
        waiter = runner.start(pool.get).parked()
        with pytest.raises(PoolOverloaded):
            pool.get()
        pool.put(resource)
        pool.put(waiter.result())
        assert maker.made == 1

    def test_suspended(self, accounted: Any, runner: ThreadRunner) -> None:
        pool, maker = accounted(2, **HERE)
        pool.suspend()
        waiter = runner.start(pool.get).parked()
        assert maker.calls == 0
        pool.resume()
        pool.put(waiter.result())

    @pytest.mark.parametrize("wrong", ["None", "awaitable", "held already"])
    def test_what_is_no_resource_is_refused(self, accounted: Any, wrong: str) -> None:
        pool, maker = accounted(2, **HERE)
        held = pool.get()

        class Awaitable:
            closed = False

            def __await__(self) -> Any:
                yield

            def close(self) -> None:
                self.closed = True

        unawaited = Awaitable()
        maker.script.append({"None": None, "awaitable": unawaited, "held already": held}[wrong])
        with pytest.raises(ValueError if wrong == "held already" else TypeError, match="factory"):
            pool.get()
        assert unawaited.closed == (wrong == "awaitable")
        assert states(pool) == {"leased": 1}
        pool.put(held)
        works(pool, 2)

"""Loops that are closed with tasks of theirs in the queue: others are served as if they had not
come."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from fastpool import FastPool
from fastpool._aio import loop as aio_loop
from support.helpers import PATIENCE, ThreadRunner, eventually, works
from support.loops import KINDS, new_loop, queued_up, run_in
from support.loops import eventually as aeventually

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Ended:
    """A loop with pending tasks that stays as it is: stopped, then closed."""

    def __init__(self, kind: str) -> None:
        self.loop = new_loop(kind)
        self.loop.set_exception_handler(lambda loop, context: None)
        self.tasks: list[Any] = []

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(self.loop.create_task(coroutine))

    def run_until(self, condition: Callable[[], Any]) -> None:
        self.loop.run_until_complete(aeventually(condition))

    def close(self) -> None:
        self.loop.close()

    def forget(self) -> None:
        self.tasks.clear()
        del self.loop
        gc.collect()


@pytest.fixture(params=KINDS)
def ended(request: pytest.FixtureRequest) -> Iterator[Ended]:
    loop = Ended(request.param)
    yield loop
    if not loop.loop.is_closed():
        loop.loop.close()
    loop.forget()


async def _hold(pool: Any, held: list[Any]) -> None:
    async with pool.lease(timeout=None) as resource:
        held.append(resource)
        await asyncio.Event().wait()


@pytest.mark.parametrize("fairness", ["fair", "throughput"])
class TestClosedLoops:
    def test_waiters_of_a_closed_loop_are_passed_over(
        self, ended: Ended, fairness: str, accounted: Any, runner: ThreadRunner
    ) -> None:
        """A thread behind them gets what comes back after the loop was closed, soon."""
        pool, _ = accounted(1, fairness=fairness)
        first = pool.acquire()
        for _ in range(3):
            ended.start(_hold(pool, []))
        ended.run_until(lambda: pool.stats().waiting == 3)
        thread = runner.start(pool.get, True, PATIENCE).parked()
        ended.close()
        first.release()
        pool.put(thread.result())  # else its own time would be over
        works(pool, 1)
        assert pool.stats().waiting == 0

    def test_grants_of_a_closed_loop_are_passed_on(
        self, ended: Ended, fairness: str, accounted: Any, runner: ThreadRunner
    ) -> None:
        """Granted while the loop stood still, which is then closed: the thread behind gets it."""
        pool, _ = accounted(2, fairness=fairness)
        first, second = pool.acquire(), pool.acquire()
        for _ in range(2):
            ended.start(_hold(pool, []))
        ended.run_until(lambda: pool.stats().waiting == 2)
        threads = [runner.start(pool.get, True, PATIENCE).parked() for _ in range(2)]
        first.release()
        second.release()
        ended.close()
        for thread in threads:
            pool.put(thread.result())
        works(pool, 2)

    def test_leases_of_a_closed_loop_come_back_with_their_tasks(
        self, ended: Ended, fairness: str, accounted: Any, runner: ThreadRunner
    ) -> None:
        """The tasks are collected: their blocks end, and the thread that waits is served."""
        pool, _ = accounted(2, fairness=fairness)
        held: list[Any] = []
        for _ in range(2):
            ended.start(_hold(pool, held))
        ended.run_until(lambda: len(held) == 2)
        thread = runner.start(pool.get, True, PATIENCE).parked()
        ended.close()
        ended.loop = asyncio.SelectorEventLoop()  # let go of the other
        ended.tasks.clear()
        gc.collect()
        pool.put(thread.result())
        works(pool, 2)

    def test_items_granted_to_a_closed_loop_stay_in_the_queue(
        self, ended: Ended, fairness: str, runner: ThreadRunner
    ) -> None:
        """Queue use: the item goes to the thread behind; a putter's item leaves with its task."""
        q: Any = FastPool(1, order="fifo", fairness=fairness)
        ended.start(q.aget())
        ended.run_until(lambda: queued_up(q) == 1)
        thread = runner.start(q.get).parked()
        q.put("item")
        ended.close()
        assert thread.result() == "item"
        assert q.empty()

    def test_putters_of_a_closed_loop_are_passed_over(
        self, ended: Ended, fairness: str, runner: ThreadRunner
    ) -> None:
        """Their items do not come into the queue once the loop is known to be closed."""
        q: Any = FastPool(1, order="fifo", fairness=fairness)
        q.put(0)
        ended.start(q.aput("never"))
        ended.loop.run_until_complete(asyncio.sleep(0.001))  # one step brings it into the queue
        ended.close()
        its = ended.loop._fastpool
        eventually(lambda: all(known() is not its for known in aio_loop._loops.copy().values()))
        assert q.get() == 0 and q.empty()
        q.put(1)
        assert q.get() == 1

    def test_a_pool_is_closed_beside_a_closed_loop(
        self, ended: Ended, fairness: str, accounted: Any
    ) -> None:
        """close() waits for nobody who cannot come any more."""
        pool, maker = accounted(1, fairness=fairness)
        first = pool.acquire()
        ended.start(_hold(pool, []))
        ended.run_until(lambda: pool.stats().waiting == 1)
        first.release()  # granted
        ended.close()
        assert pool.close(timeout=PATIENCE) is True
        assert maker.made == maker.closed == 1

    def test_a_second_loop_takes_over(self, ended: Ended, fairness: str, accounted: Any) -> None:
        """A new loop often follows one that was closed: it need not wait for the scheduler."""
        pool, _ = accounted(1, fairness=fairness)
        first = pool.acquire()
        ended.start(_hold(pool, []))
        ended.run_until(lambda: pool.stats().waiting == 1)
        ended.close()

        async def main() -> None:
            async with pool.lease(timeout=PATIENCE):
                pass

        threading.Timer(0.05, first.release).start()
        run_in("asyncio", main())
        works(pool, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_loops_that_close_with_waiters_again_and_again(kind: str, accounted: Any) -> None:
    """Collected here and found by the scheduler at the same time: each wait ends once."""
    pool, _ = accounted(1)
    for _ in range(30):
        first = pool.acquire(timeout=PATIENCE)
        loop = new_loop(kind)
        loop.set_exception_handler(lambda loop, context: None)
        tasks = [loop.create_task(pool.aget()) for _ in range(5)]
        loop.run_until_complete(aeventually(lambda: pool.stats().waiting == 5))
        first.release()
        loop.close()
        del tasks, loop
        gc.collect()
        works(pool, 1)
        eventually(lambda: pool.stats().waiting == 0)


@pytest.mark.parametrize("ends", ["before", "after"])
def test_a_check_for_a_closed_loop_is_nobodys_grant(
    ended: Ended, accounted: Any, ends: str, clock: Any
) -> None:
    """It ends before or after the loop is closed; the task is kept, and others get the resource."""
    entered, leave = threading.Event(), threading.Event()

    def check(resource: Any) -> None:
        entered.set()
        assert leave.wait(PATIENCE)

    pool, _ = accounted(1, check=check, check_after=0, clock=clock)
    pool.put(pool.get())  # a new one is not checked
    ended.start(pool.aget())
    ended.run_until(entered.is_set)
    if ends == "before":
        leave.set()
        eventually(lambda: pool.stats().leased == 1)
    ended.close()
    leave.set()
    pool.put(pool.get(timeout=2))
    works(pool, 1)

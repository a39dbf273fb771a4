"""WeightedSemaphore and event loops: cancelled, closed and interrupted callers lose nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import Any

import pytest

from fastpool import FastPool, PoolClosed, WeightedSemaphore, _core
from support.helpers import PATIENCE, ThreadRunner, eventually
from support.loops import KINDS, new_loop, queued_up, run_in
from support.loops import eventually as aeventually
from support.signal_injection import interrupt


def all_free(semaphore: Any) -> None:
    assert semaphore.in_use == 0 and semaphore.waiting == 0
    assert semaphore.try_acquire(semaphore.size)
    semaphore.release(semaphore.size)


@pytest.mark.parametrize("kind", KINDS)
class TestCancelled:
    def test_in_queue(self, kind: str) -> None:
        """The head is cancelled, and those behind it who fit proceed."""
        semaphore = WeightedSemaphore(10)

        async def main() -> None:
            semaphore.acquire(6)
            big = asyncio.create_task(semaphore.aacquire(8))
            small = [asyncio.create_task(semaphore.aacquire(2)) for _ in range(2)]
            await aeventually(lambda: semaphore.waiting == 3)
            big.cancel()
            await asyncio.gather(*small)
            with pytest.raises(asyncio.CancelledError):
                await big
            semaphore.release(10)

        run_in(kind, main())
        all_free(semaphore)

    def test_after_the_grant(self, kind: str) -> None:
        """The trap: a cancelled waiter swallows the wake-up that it was sent."""
        semaphore = WeightedSemaphore(3)

        async def main() -> None:
            for enter in (semaphore.aacquire, lambda n: semaphore.hold(n).__aenter__()):
                semaphore.acquire(3)
                first = asyncio.create_task(enter(2))
                second = asyncio.create_task(semaphore.aacquire(2))
                await aeventually(lambda: semaphore.waiting == 2)
                semaphore.release(3)
                assert semaphore.in_use == 2  # granted, and its task has not run yet
                first.cancel()
                await second
                with pytest.raises(asyncio.CancelledError):
                    await first
                semaphore.release(2)

        run_in(kind, main())
        all_free(semaphore)

    def test_before_the_first_step(self, kind: str) -> None:
        semaphore = WeightedSemaphore(3)

        async def main() -> None:
            task = asyncio.create_task(semaphore.aacquire(2))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            coroutine = semaphore.aacquire(2)
            coroutine.close()

        run_in(kind, main())
        all_free(semaphore)

    def test_inside_the_block(self, kind: str) -> None:
        semaphore = WeightedSemaphore(3)

        async def hold() -> None:
            async with semaphore.hold(2):
                await asyncio.Event().wait()

        async def main() -> None:
            task = asyncio.create_task(hold())
            await aeventually(lambda: semaphore.in_use == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run_in(kind, main())
        all_free(semaphore)

    def test_by_a_timeout_of_asyncio(self, kind: str) -> None:
        semaphore = WeightedSemaphore(3)

        async def main() -> None:
            semaphore.acquire(2)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await semaphore.aacquire(2)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(semaphore.aacquire(2), 0.01)
            semaphore.release(2)

        run_in(kind, main())
        all_free(semaphore)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestClosedLoops:
    @pytest.mark.parametrize("granted", [False, True], ids=["waiting", "granted"])
    def test_tasks_of_a_closed_loop_are_passed_over(
        self, kind: str, granted: bool, runner: ThreadRunner
    ) -> None:
        """Those in the queue, and one who was granted its units and never ran again."""
        semaphore = WeightedSemaphore(4)
        semaphore.acquire(4)
        loop = new_loop(kind)
        loop.set_exception_handler(lambda loop, context: None)
        tasks: list[Any] = [loop.create_task(semaphore.aacquire(3)) for _ in range(2)]
        loop.run_until_complete(aeventually(lambda: semaphore.waiting == 2))
        thread = runner.start(semaphore.acquire, 3, PATIENCE).parked()
        if granted:
            semaphore.release(4)
            assert semaphore.in_use == 3 and semaphore.waiting == 2
        loop.close()
        if not granted:
            semaphore.release(4)
        thread.result()  # else its own time would be over
        tasks.clear()
        del loop
        gc.collect()
        semaphore.release(3)
        all_free(semaphore)

    def test_a_task_whose_loop_runs_on_hears_of_the_close(self, kind: str) -> None:
        semaphore = WeightedSemaphore(1)

        async def main() -> None:
            semaphore.acquire()
            task = asyncio.create_task(semaphore.aacquire())
            await aeventually(lambda: semaphore.waiting == 1)
            semaphore.close()
            with pytest.raises(PoolClosed, match="this semaphore is closed"):
                await task

        run_in(kind, main())


def test_threads_and_tasks_of_two_loops_in_one_queue(runner: ThreadRunner) -> None:
    semaphore = WeightedSemaphore(1)
    order: list[str] = []

    def in_loop(name: str) -> None:
        async def main() -> None:
            async with semaphore.hold():
                order.append(name)

        asyncio.run(main())

    def in_thread(name: str) -> None:
        with semaphore.hold():
            order.append(name)

    semaphore.acquire()
    for number in range(6):
        runner.start(in_loop if number % 3 else in_thread, str(number))
        eventually(lambda n=number: semaphore.waiting == n + 1)
    semaphore.release()
    runner.finish()
    assert order == list("012345")
    all_free(semaphore)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestInterrupted:
    """A signal handler that raises, at every point where one may run: no unit is lost.  A hold that
    was taken just before, and is nobody's, gives back when it is collected."""

    def test_released_by_a_signal_handler_inside_an_acquire(self, runner: ThreadRunner) -> None:
        """The very thread that waits gives back what it waits for."""
        semaphore = WeightedSemaphore(1)
        semaphore.acquire()

        def strike() -> None:
            eventually(lambda: semaphore.waiting)
            os.kill(os.getpid(), signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, lambda *_: semaphore.release())
        try:
            thread = runner.start(strike)
            semaphore.acquire(timeout=PATIENCE)
            thread.result()
        finally:
            signal.signal(signal.SIGUSR1, before)
        semaphore.release()
        all_free(semaphore)

    def test_a_hold_of_a_thread(self) -> None:
        semaphore = WeightedSemaphore(3)

        def block() -> None:
            with semaphore.hold(2):
                pass

        point = 1
        while interrupt(point, block):
            gc.collect()
            assert semaphore.in_use == 0
            point += 1

    @pytest.mark.parametrize("use", ["semaphore", "queue"])
    def test_on_the_way_to_the_first_wait(self, use: str) -> None:
        """Where the task is the first that waits, and has the scheduler watch the loops: it
        leaves the queue, and closed loops are found out about as before."""

        async def main(point: int) -> bool:
            semaphore, queue = WeightedSemaphore(1), FastPool(1)
            semaphore.acquire()
            while _core.is_watching():
                await asyncio.sleep(0.001)
            of_queue = use == "queue"
            coroutine = queue.aget(PATIENCE) if of_queue else semaphore.aacquire(1, PATIENCE)
            suspended: list[Any] = []
            kept: list[BaseException] = []
            gc.collect()  # or the loop before is taken apart meanwhile, and swallows the error
            more = interrupt(point, lambda: suspended.append(coroutine.send(None)), kept)
            if suspended:
                coroutine.close()
            assert semaphore.waiting == queued_up(queue) == 0, point
            return more

        point = 1
        while asyncio.run(main(point)):
            # somebody looks, and finds that nobody waits
            eventually(lambda: not _core.is_watching())
            point += 1
        assert point > 25

    @pytest.mark.parametrize("waits", [False, True], ids=["free", "waits"])
    def test_a_hold_of_a_task(self, waits: bool) -> None:
        semaphore = WeightedSemaphore(3)

        def block() -> None:
            async def main() -> None:
                asyncio.get_running_loop().call_soon(semaphore.release, taken)
                async with semaphore.hold(2):
                    pass

            taken = 2 if waits else 0
            semaphore.acquire(taken)
            try:
                asyncio.run(main())
            finally:
                # what the loop did not come to, or a waiter that was interrupted
                gc.collect()
                if semaphore.in_use:
                    semaphore.release(taken)

        point = 1
        while interrupt(point, block):
            gc.collect()
            all_free(semaphore)
            point += 1
        assert point > 2
        all_free(semaphore)

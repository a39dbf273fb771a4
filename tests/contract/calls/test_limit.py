"""`Limit`: calls at once, and one fair queue for threads and tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fastpool.calls import CallPolicy, DeadlineExceeded, Limit, Overloaded, Retry
from support.helpers import PATIENCE, ThreadRunner, eventually


class Hall:
    """Where calls are held until they are let go; it counts who is inside."""

    def __init__(self, policy: CallPolicy) -> None:
        self.inside = self.peak = 0
        self.gate = threading.Semaphore(0)
        self.order: list[int] = []
        self._lock = threading.Lock()
        self.call = policy(self._call)

    def _call(self, number: int = 0) -> int:
        with self._lock:
            self.order.append(number)
            self.inside += 1
            self.peak = max(self.peak, self.inside)
        assert self.gate.acquire(timeout=PATIENCE)
        with self._lock:
            self.inside -= 1
        return number

    def let_go(self, n: int) -> None:
        for _ in range(n):
            self.gate.release()


def test_no_more_calls_at_once_than_its_size(runner: ThreadRunner) -> None:
    limit = Limit(3)
    hall = Hall(CallPolicy(limit=limit))
    runner.together(10, hall.call)
    eventually(lambda: limit.stats().waiting == 7)
    stats = limit.stats()
    assert (stats.size, stats.in_use, stats.overloads) == (3, 3, 0)
    eventually(lambda: hall.inside == 3)
    hall.let_go(10)
    runner.finish()
    assert hall.peak == 3
    stats = limit.stats()
    assert (stats.in_use, stats.waiting) == (0, 0)


def test_first_come_first_served(runner: ThreadRunner) -> None:
    limit = Limit(1)
    hall = Hall(CallPolicy(limit=limit))
    runner.start(hall.call, 0)
    eventually(lambda: hall.inside == 1)
    for number in range(1, 6):
        runner.start(hall.call, number)
        eventually(lambda n=number: limit.stats().waiting == n)
    hall.let_go(6)
    runner.finish()
    assert hall.order == list(range(6))


def test_threads_and_tasks_stand_in_one_queue(
    runner: ThreadRunner, run: Callable[..., Any]
) -> None:
    limit = Limit(1)
    policy = CallPolicy(limit=limit)
    hall = Hall(policy)
    order = hall.order

    @policy
    async def as_task(number: int) -> int:
        order.append(number)
        return number

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.001)

    async def main() -> None:
        runner.start(hall.call, 0)
        await until(lambda: hall.inside == 1)
        task = asyncio.create_task(as_task(1))
        await until(lambda: limit.stats().waiting == 1)
        runner.start(hall.call, 2)
        await until(lambda: limit.stats().waiting == 2)
        other = asyncio.create_task(as_task(3))
        await until(lambda: limit.stats().waiting == 3)
        hall.let_go(2)
        assert await task == 1 and await other == 3

    run(main())
    runner.finish()
    assert order == [0, 1, 2, 3]


def test_the_queue_has_an_end(runner: ThreadRunner) -> None:
    limit = Limit(1, max_waiting=1)
    policy = CallPolicy(limit=limit, name="line")
    hall = Hall(policy)
    runner.start(hall.call)
    eventually(lambda: hall.inside == 1)
    runner.start(hall.call)
    eventually(lambda: limit.stats().waiting == 1)
    with pytest.raises(Overloaded) as caught:
        hall.call()
    assert (caught.value.size, caught.value.max_waiting) == (1, 1)
    assert "1 calls are under way and 1 wait in the queue" in str(caught.value)
    assert limit.stats().overloads == policy.stats().overloaded == 1
    hall.let_go(2)
    runner.finish()


def test_max_waiting_0_means_nobody_waits(runner: ThreadRunner) -> None:
    hall = Hall(CallPolicy(limit=Limit(1, max_waiting=0)))
    runner.start(hall.call)
    eventually(lambda: hall.inside == 1)
    with pytest.raises(Overloaded):
        hall.call()
    hall.let_go(1)
    runner.finish()
    hall.let_go(1)
    assert hall.call(5) == 5


def test_the_wait_ends_with_the_budget(runner: ThreadRunner) -> None:
    limit = Limit(1)
    hall = Hall(CallPolicy(limit=limit, timeout=None))
    runner.start(hall.call)
    eventually(lambda: hall.inside == 1)
    short = CallPolicy(limit=limit, timeout=0.01)
    with pytest.raises(DeadlineExceeded) as caught:
        short(hall._call)(1)
    assert caught.value.phase == "limit" and caught.value.timeout == pytest.approx(0.01)
    assert "in the queue for a permit" in str(caught.value)
    assert limit.stats().waiting == 0 and hall.order == [0]  # never sent
    assert short.stats().expired == 1
    hall.let_go(1)
    runner.finish()
    assert limit.stats().in_use == 0


def test_a_cancelled_task_leaves_the_queue(run: Callable[..., Any]) -> None:
    limit = Limit(1)

    async def main() -> None:
        release = asyncio.Event()

        @CallPolicy(limit=limit)
        async def call() -> str:
            await release.wait()
            return "done"

        first, second, third = (asyncio.create_task(call()) for _ in range(3))
        while limit.stats().waiting < 2:
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert limit.stats().waiting == 1
        first.cancel()  # under way: its permit goes to the third
        release.set()
        assert await third == "done"
        assert limit.stats().in_use == 0

    run(main())


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()], ids=repr)
def test_a_call_that_fails_gives_its_permit_back(error: BaseException) -> None:
    limit = Limit(1)

    @CallPolicy(limit=limit)
    def call() -> None:
        assert limit.stats().in_use == 1
        raise error

    for _ in range(3):
        with pytest.raises(type(error)):
            call()
    assert limit.stats().in_use == 0


def test_no_permit_is_held_between_two_tries(clock: Any) -> None:
    limit = Limit(1)
    seen = []

    class Clock:
        @property
        def now(self) -> float:
            return clock.now

        def advance(self, seconds: float) -> None:
            seen.append(limit.stats().in_use)
            clock.advance(seconds)

    @CallPolicy(limit=limit, retry=Retry(3), clock=Clock())(idempotent=True)
    def call() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        call()
    assert seen == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"size": 0}, "size must be a whole number of at least 1, not 0"),
        ({"size": True}, "size"),
        ({"size": 1.5}, "size"),
        ({"size": 1, "max_waiting": -1}, "max_waiting must be a whole number of at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Limit(**arguments)

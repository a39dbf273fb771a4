"""Semaphores and worker pools under random use by threads and tasks: never more than there is,
nobody is stuck, nothing is lost.  FASTPOOL_STRESS_OPS and FASTPOOL_STRESS_SEED as in
test_conservation.py."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest

from fastpool import PoolDeadlock, PoolOverloaded, PoolTimeout, WeightedSemaphore, WorkerPool
from support.helpers import LIMIT, QUICK, STRESS_OPS, ThreadRunner, stress_ops

OPS = stress_ops(50_000)
SEED = int(os.environ.get("FASTPOOL_STRESS_SEED", random.randrange(2**32)))
THREADS, LOOPS, TASKS = 4, 2, 6
SIZE = 9

pytestmark = [pytest.mark.stress, pytest.mark.timeout(LIMIT + OPS // 500)]


class Held:
    """What callers say that they hold; more than there is fails."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = self.peak = 0
        self.lock = threading.Lock()

    def add(self, n: int) -> None:
        with self.lock:
            self.now += n
            self.peak = max(self.peak, self.now)
            assert 0 <= self.now <= self.most, self.now


def some(dice: random.Random) -> int:
    return SIZE if dice.random() < 0.1 else dice.randrange(1, SIZE)


def span(dice: random.Random) -> float | None:
    return dice.choice([None, None, 0.0, 0.0001, 0.002])


def test_semaphore(runner: ThreadRunner) -> None:
    """Threads, and tasks of two loops that are cancelled at any time."""
    print(f"FASTPOOL_STRESS_OPS={STRESS_OPS or OPS} FASTPOOL_STRESS_SEED={SEED}")
    semaphore = WeightedSemaphore(SIZE)
    held = Held(SIZE)

    def thread(number: int) -> None:
        dice = random.Random(SEED + number)
        for _ in range(OPS // (THREADS + LOOPS)):
            n = some(dice)
            if dice.random() < 0.3:
                if semaphore.try_acquire(n):
                    held.add(n)
                    held.add(-n)
                    semaphore.release(n)
                continue
            try:
                with semaphore.hold(n, span(dice)):
                    held.add(n)
                    held.add(-n)
            except PoolTimeout:
                pass

    async def task(dice: random.Random, rounds: int) -> None:
        for _ in range(rounds):
            n = some(dice)
            try:
                if dice.random() < 0.5:
                    async with semaphore.hold(n, span(dice)):
                        held.add(n)
                        try:
                            await asyncio.sleep(0)
                        finally:
                            held.add(-n)
                else:
                    await semaphore.aacquire(n, span(dice))
                    held.add(n)
                    held.add(-n)
                    semaphore.release(n)
            except PoolTimeout:
                await asyncio.sleep(0)

    async def tasks(dice: random.Random) -> None:
        rounds = 10
        for _ in range(OPS // (THREADS + LOOPS) // (rounds * TASKS)):
            crowd = [asyncio.ensure_future(task(dice, rounds)) for _ in range(TASKS)]
            for one in crowd:
                if dice.random() < 0.5:
                    for _ in range(dice.randrange(8)):
                        await asyncio.sleep(0)
                    one.cancel()
            for outcome in await asyncio.gather(*crowd, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome

    def loop(number: int) -> None:
        asyncio.run(tasks(random.Random(SEED - number)))

    running = [runner.start(thread, number) for number in range(THREADS)]
    running += [runner.start(loop, number) for number in range(LOOPS)]
    for each in running:
        each.result(50 + OPS // 500)
    assert (semaphore.in_use, semaphore.waiting, held.now) == (0, 0, 0) and held.peak == SIZE
    assert semaphore.try_acquire(SIZE)


@pytest.mark.parametrize("max_queue", [0, 3])
def test_worker_pool(runner: ThreadRunner, max_queue: int) -> None:
    """Submitters of all kinds, workers that end when idle, tasks that are cancelled or submit more:
    each future gets an outcome, and never are more tasks under way than may be."""
    print(f"FASTPOOL_STRESS_OPS={STRESS_OPS or OPS} FASTPOOL_STRESS_SEED={SEED}")
    pool = WorkerPool(3, max_queue, idle_timeout=0.0005)
    under_way = Held(3)

    def work(dice: random.Random, depth: int = 0) -> Any:
        under_way.add(1)
        try:
            kind = dice.random()
            if kind < 0.1:
                raise ValueError
            if kind < 0.2 and not depth:
                try:
                    return pool.submit(work, dice, 1)
                except PoolDeadlock:
                    return None
        finally:
            under_way.add(-1)
        return None

    def look(future: Any) -> None:
        try:
            inner = future.result(30)
        except (ValueError, CancelledError):
            return
        if inner is not None:
            look(inner)

    def thread(number: int) -> None:
        dice = random.Random(SEED + number)
        for _ in range(OPS // 20 // THREADS):
            futures = []
            try:
                for _ in range(dice.randrange(1, 4)):
                    way = dice.choice([pool.submit, pool.try_submit, pool.submit])
                    futures.append(way(work, random.Random(dice.random())))
                if dice.random() < 0.2:
                    futures[-1].cancel()
                if dice.random() < 0.1:
                    assert list(pool.map(abs, range(5))) == [0, 1, 2, 3, 4]
            except PoolOverloaded:
                pass
            for future in futures:
                look(future)

    async def tasks(dice: random.Random) -> None:
        async def one() -> None:
            future = await pool.asubmit(abs, -1)
            assert await future == 1

        for _ in range(OPS // 20 // TASKS):
            crowd = [asyncio.ensure_future(one()) for _ in range(3)]
            await asyncio.sleep(0)
            if dice.random() < 0.5:
                crowd[0].cancel()
            for outcome in await asyncio.gather(*crowd, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome

    def loop(number: int) -> None:
        asyncio.run(tasks(random.Random(SEED - number)))

    running = [runner.start(thread, number) for number in range(THREADS)]
    running.append(runner.start(loop, 0))
    for each in running:
        each.result(50 + OPS // 500)
    pool.shutdown()
    assert under_way.now == 0 and under_way.peak <= 3
    assert under_way.peak == 3 or QUICK, "never as many at once as it may run"
    assert (pool._group.permits.in_use, pool._group.tasks.unfinished_tasks) == (0, 0)

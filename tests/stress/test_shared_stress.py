"""A shared pool under threads and tasks: every slot comes back, every resource is closed."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest

from fastpool import PoolError, PoolTimeout, SharedPool
from support.helpers import LIMIT, Flaky, ThreadRunner, consistent, eventually, stress_ops

OPS = stress_ops(20_000)
THREADS, LOOPS, TASKS = 4, 2, 6
SLOTS, MOST = 3, 3

pytestmark = [pytest.mark.stress, pytest.mark.timeout(LIMIT + OPS // 1000)]


def note(pool: Any, held: list[int]) -> None:
    """Never more leases than slots; the snapshot adds up."""
    stats = pool.stats()
    parts = stats.idle + stats.leased + stats.creating + stats.checking + stats.closing
    assert parts == stats.open <= 2 * MOST and stats.leases <= SLOTS * stats.open, stats
    held.append(stats.leases)


@pytest.mark.parametrize("fairness", ["fair", "throughput"])
def test_a_shared_pool_keeps_its_accounts(
    runner: ThreadRunner, fast_switching: None, caplog: pytest.LogCaptureFixture, fairness: str
) -> None:
    """Leases, gets, discards, failures, cancels, drains, renewals and resizes at random."""
    caplog.set_level(logging.CRITICAL, "fastpool")
    maker = Flaky(cap=2 * MOST)
    pool: Any = SharedPool(
        maker,
        items=(1, MOST),
        slots=SLOTS,
        fairness=fairness,
        timeout=5,
        max_lifetime=0.3,
        idle_timeout=0.2,
        shrink_after=0.1,
        max_uses=500,
        check=lambda resource: not resource.closed,
        check_after=0.001,
    )
    counts: list[int] = []

    def judged(dice: random.Random, resource: Any) -> None:
        assert not resource.closed, "closed in use"
        kind = dice.randrange(40)
        if kind == 0:
            raise ConnectionResetError
        if kind == 1:
            raise TimeoutError
        if kind == 2:
            pool.drain(resource)
        elif kind == 3:
            pool.replace(resource)

    def thread(number: int) -> None:
        dice = random.Random(number)
        for _ in range(OPS // 10 // THREADS):
            try:
                kind = dice.randrange(30)
                if kind == 0:
                    note(pool, counts)
                elif kind == 1:
                    pool.resize((1, dice.randint(1, MOST)))
                elif kind == 2 and dice.randrange(5) == 0:
                    pool.flush()
                elif kind < 12:
                    resource = pool.get(timeout=dice.choice((0, 0.001, 5)))
                    try:
                        judged(dice, resource)
                    finally:
                        pool.put(resource)
                elif kind < 16:
                    lease = pool.acquire(timeout=5)
                    dice.choice((lease.release, lease.discard))()
                else:
                    with pool.lease(timeout=dice.choice((0.001, 5))) as resource:
                        judged(dice, resource)
            except (PoolError, Flaky.Failure, ConnectionResetError, TimeoutError):
                pass

    async def task(number: int) -> None:
        dice = random.Random(number)
        for _ in range(OPS // 10 // (LOOPS * TASKS)):
            try:
                async with pool.lease(timeout=dice.choice((0.001, 5))) as resource:
                    if dice.randrange(2):
                        await asyncio.sleep(0)
                    judged(dice, resource)
            except (PoolError, Flaky.Failure, ConnectionResetError, TimeoutError):
                pass

    async def struck(number: int) -> None:
        """A task that is cancelled, and begun anew, until it has been struck often enough."""
        dice = random.Random(number)
        for _ in range(OPS // 200):
            one = asyncio.create_task(task(dice.randrange(10**6)))
            for _ in range(dice.randrange(20)):
                await asyncio.sleep(0)
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)

    async def tasks(number: int) -> None:
        every = [task(100 * number + n) for n in range(TASKS)]
        await asyncio.gather(struck(1000 + number), *every)

    for number in range(THREADS):
        runner.start(thread, number)
    for number in range(LOOPS):
        runner.start(lambda n=number: asyncio.run(tasks(n)))
    runner.finish(within=LIMIT - 30)
    eventually(lambda: pool.stats().waiting == 0)
    assert pool.stats().leases == 0 and pool.stats().draining == 0, pool.stats()
    assert counts and pool.close(timeout=10) is True
    assert maker.made == maker.closed and not maker.faults, maker.faults
    assert consistent(pool.stats())


def test_all_slots_are_there_after_a_storm_of_time_outs(
    runner: ThreadRunner, fast_switching: None
) -> None:
    """Waiters that give up at the very moment when a slot comes back."""
    pool: Any = SharedPool(object, items=1, slots=2)

    def thread(number: int) -> None:
        dice = random.Random(number)
        for _ in range(OPS // 40):
            try:
                with pool.lease(timeout=dice.choice((0.00001, 0.0001, 0.001))):
                    pass
            except PoolTimeout:
                pass

    runner.together(8, thread)
    runner.finish(within=LIMIT - 30)
    leases = [pool.acquire(timeout=0) for _ in range(2)]
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0)
    for lease in leases:
        lease.release()
    assert pool.close() is True

"""Pools of every kind on one budget, at random: never more are open than the limit says.

The resources count themselves, from before they are made until they are closed.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, PoolTimeout, SharedPool
from fastpool.fleet import LocalBudget
from support.helpers import PATIENCE, ThreadRunner, eventually, stress_ops

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(sys.platform != "linux", reason="open file description locks"),
]
LIMIT = 7


class Account:
    """How many are open, over all pools of the test."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open = self.most = 0

    def opened(self) -> None:
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)

    def closed(self) -> None:
        with self.lock:
            self.open -= 1


class Resource:
    def __init__(self, account: Account, dice: random.Random) -> None:
        self.account = account
        account.opened()
        if dice.random() < 0.1:
            account.closed()
            raise ConnectionRefusedError
        time.sleep(dice.uniform(0, 0.002))

    def close(self) -> None:
        time.sleep(0.0005)
        self.account.closed()


class AsyncResource:
    def __init__(self, account: Account) -> None:
        self.account = account
        account.opened()

    async def aclose(self) -> None:
        await asyncio.sleep(0.0005)
        self.account.closed()


def test_sum_of_all_pools_never_passes_the_limit(tmp_path: Path, runner: ThreadRunner) -> None:
    """Seven pools of five kinds on two budgets of one file, which others borrow from, flush,
    resize and discard at random; the limit is raised and set back by nobody, so it holds always."""
    operations = stress_ops(4000)
    path = tmp_path / "stress.budget"
    budgets = [LocalBudget(path, LIMIT), LocalBudget(path)]
    account, dice = Account(), random.Random(7)

    def create(key: object = None) -> Resource:
        return Resource(account, dice)

    async def acreate() -> AsyncResource:
        await asyncio.sleep(0.0005)
        return AsyncResource(account)

    options: dict[str, Any] = {"timeout": 0.2, "idle_timeout": 0.05}
    pools: list[Any] = []
    for budget in budgets:
        options["budget"] = budget
        pools += [
            FastPool(5, factory=create, **options),
            FastPool(3, factory=create, create_in="caller", fairness="throughput", **options),
            SharedPool(create, items=(0, 4), slots=2, **options),
        ]
    pools.append(KeyedPool(create, max_total=6, max_per_key=3, **options))
    tasks_pool: Any = FastPool(4, factory=acreate, **options)

    def borrower(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(operations // 8):
            pool = mine.choice(pools)
            args = (mine.randrange(3),) if isinstance(pool, KeyedPool) else ()
            try:
                with pool.lease(*args, timeout=mine.choice([0, 0.02, 0.2])) as resource:
                    time.sleep(mine.uniform(0, 0.002))
                    if mine.random() < 0.05 and not isinstance(pool, SharedPool):
                        raise ConnectionResetError
                    del resource
            except (PoolTimeout, ConnectionResetError, ConnectionRefusedError):
                pass
            if mine.random() < 0.01:
                pool.flush()

    async def use(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(operations // 40):
            try:
                async with tasks_pool.lease(timeout=0.2):
                    await asyncio.sleep(mine.uniform(0, 0.002))
            except PoolTimeout:
                pass

    async def on_loop(seed: int) -> None:
        await asyncio.gather(*(use(seed + i) for i in range(4)))
        await tasks_pool.aclose()

    def loops(seed: int) -> None:
        asyncio.run(on_loop(seed))

    threads = [runner.start(borrower, seed) for seed in range(8)]
    threads.append(runner.start(loops, 100))
    for thread in threads:
        thread.result(4 * PATIENCE)
    assert 0 < account.most <= LIMIT
    for pool in pools:
        pool.close()
    eventually(lambda: account.open == 0)
    eventually(lambda: LocalBudget.report(path).in_force == 0)

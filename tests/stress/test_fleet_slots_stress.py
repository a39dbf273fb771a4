"""Leases that take permits, while the allowance changes at random: no lease is given beyond it.

The test counts leases from after they are given until before they are given back, so never more
than there are.  ``Ceiling`` says how many there may be: as many as are allowed, and after that was
lowered as many as there were, until they have come back.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastpool import PoolError, PoolTimeout, SharedPool
from fastpool.fleet import LocalBudget
from support.budgets import ScriptedBudget
from support.helpers import (
    LIMIT,
    PATIENCE,
    Flaky,
    Maker,
    ThreadRunner,
    consistent,
    eventually,
    stress_ops,
)

OPS = stress_ops(20_000)
THREADS, LOOPS, TASKS = 6, 2, 6
SLOTS, MOST = 3, 3

pytestmark = [pytest.mark.stress, pytest.mark.timeout(LIMIT + OPS // 1000)]


class Ceiling:
    """The most leases that there may be, which the budget's thread moves; those that there are."""

    def __init__(self, budget: ScriptedBudget) -> None:
        self.budget = budget
        self.lock = threading.Lock()
        self.most = self.leases = self.given = 0
        self.faults: list[tuple[int, int]] = []

    def allow(self, n: int) -> None:
        """As the budget: first the ceiling goes up, and it comes down when the pool has heard."""
        with self.lock:
            self.most = max(self.most, n)
        in_use = self.budget.member.allow(n)
        with self.lock:
            self.most = max(n, min(self.most, in_use))

    def look(self) -> None:
        """What was more has come back by now, in part."""
        in_use, _ = self.budget.member.share.look() or (0, 0)
        with self.lock:
            self.most = max(self.budget.member.allowance, min(self.most, in_use))

    @contextmanager
    def lease(self) -> Iterator[None]:
        with self.lock:
            self.given += 1
            self.leases += 1
            if self.leases > self.most:
                self.faults.append((self.leases, self.most))
        try:
            yield
        finally:
            with self.lock:
                self.leases -= 1


def turn(ceiling: Ceiling, over: threading.Event, seed: int) -> None:
    """The budget, until the others are through."""
    dice = random.Random(seed)
    while not over.is_set():
        for _ in range(dice.randrange(4)):
            ceiling.look()
        ceiling.allow(dice.choice((0, 1, 2, 3, 5, SLOTS * MOST, 4 * SLOTS * MOST)))
        over.wait(dice.choice((0, 0.0005, 0.003)))
    ceiling.allow(4 * SLOTS * MOST)


@pytest.mark.parametrize("check", [False, True], ids=["plain", "check"])
@pytest.mark.parametrize("fairness", ["fair", "throughput"])
def test_no_lease_is_given_beyond_the_allowance(
    runner: ThreadRunner, fast_switching: None, fairness: str, check: bool
) -> None:
    """Threads and tasks, which drain, discard, fail and give up at random."""
    budget = ScriptedBudget()
    maker: Any = Flaky(cap=2 * MOST) if check else Maker(cap=2 * MOST)
    hooks = {"check": lambda resource: not resource.closed, "check_after": 0.001} if check else {}
    pool: Any = SharedPool(
        maker,
        items=(0, MOST),
        slots=SLOTS,
        fairness=fairness,
        budget=budget,
        units="slots",
        timeout=PATIENCE,
        shrink_after=0.1,
        **hooks,
    )
    ceiling, over = Ceiling(budget), threading.Event()

    def use(dice: random.Random, resource: Any) -> None:
        with ceiling.lease():
            assert not resource.closed, "closed in use"
            kind = dice.randrange(60)
            if kind == 0:
                pool.drain(resource)
            elif kind == 1:
                raise ConnectionResetError
            elif kind == 2:
                pool.avoid(resource)
                pool.avoid(resource, False)

    def thread(number: int) -> None:
        dice = random.Random(number)
        for _ in range(OPS // 5 // THREADS):
            try:
                if dice.randrange(3):
                    with pool.lease(timeout=dice.choice((0, 0.001, PATIENCE))) as resource:
                        use(dice, resource)
                else:
                    resource = pool.get(timeout=dice.choice((0, 0.001, PATIENCE)))
                    try:
                        use(dice, resource)
                    finally:
                        pool.put(resource)
            except (PoolError, Flaky.Failure, ConnectionResetError, ValueError):
                pass

    async def task(number: int) -> None:
        dice = random.Random(number)
        for _ in range(OPS // 5 // (LOOPS * TASKS)):
            try:
                async with asyncio.timeout(dice.choice((0.0005, 0.002, PATIENCE))):
                    async with pool.lease(timeout=dice.choice((0.001, PATIENCE))) as resource:
                        use(dice, resource)
                        if dice.randrange(2):
                            await asyncio.sleep(0)
            except (PoolError, Flaky.Failure, ConnectionResetError, ValueError, TimeoutError):
                pass

    async def tasks(number: int) -> None:
        await asyncio.gather(*(task(100 * number + n) for n in range(TASKS)))

    callers = [runner.start(thread, number) for number in range(THREADS)]
    callers += [runner.start(lambda n=n: asyncio.run(tasks(n))) for n in range(LOOPS)]
    turns = runner.start(turn, ceiling, over, 1)
    try:
        for caller in callers:
            caller.result(LIMIT - 30)
    finally:
        over.set()
    turns.result()
    assert ceiling.given > OPS // 20 and not ceiling.faults, ceiling.faults[:10]
    eventually(lambda: budget.member.share.look() == (0, 0))
    assert pool.stats().leases == pool.stats().waiting == 0
    assert pool.close(timeout=10) is True
    assert maker.made == maker.closed and consistent(pool.stats())


@pytest.mark.skipif(sys.platform != "linux", reason="open file description locks")
def test_leases_of_all_pools_never_pass_the_limit_of_a_file(
    tmp_path: Path, runner: ThreadRunner
) -> None:
    """Three pools on two budgets of one file, for threads and for tasks; each may have it all, so
    permits go from one to the other."""
    limit = 4
    path = tmp_path / "stress.budget"
    budgets = [LocalBudget(path, limit), LocalBudget(path)]
    ceiling = Ceiling(ScriptedBudget())
    ceiling.most = limit
    options: dict[str, Any] = {"items": (0, MOST), "slots": SLOTS, "units": "slots"}
    pools: list[Any] = [SharedPool(object, budget=budget, **options) for budget in budgets]

    async def create() -> object:
        return object()

    tasks_pool: Any = SharedPool(create, budget=budgets[0], **options)

    def thread(number: int) -> None:
        dice = random.Random(number)
        for _ in range(OPS // 50):
            try:
                pool = dice.choice(pools)
                with pool.lease(timeout=dice.choice((0, 0.02, PATIENCE))), ceiling.lease():
                    time.sleep(dice.choice((0, 0.0002)))
            except PoolTimeout:
                pass

    async def use(number: int) -> None:
        dice = random.Random(number)
        for _ in range(OPS // 100):
            try:
                async with tasks_pool.lease(timeout=dice.choice((0, 0.02, PATIENCE))):
                    with ceiling.lease():
                        await asyncio.sleep(0)
            except PoolTimeout:
                pass

    async def on_loop() -> None:
        await asyncio.gather(*(use(n) for n in range(TASKS)))
        await tasks_pool.aclose()

    callers = [runner.start(thread, number) for number in range(4)]
    callers.append(runner.start(lambda: asyncio.run(on_loop())))
    for caller in callers:
        caller.result(LIMIT - 30)
    assert ceiling.given > OPS // 50 and not ceiling.faults, ceiling.faults[:10]
    for pool in pools:
        pool.close()
    eventually(lambda: LocalBudget.report(path).in_force == 0)


def test_no_lease_is_given_beyond_the_allowance_on_any_loop(runner: ThreadRunner) -> None:
    """An async factory, on three loops that come and go."""

    class Resource:
        async def aclose(self) -> None:
            await asyncio.sleep(0)

    async def create() -> Resource:
        await asyncio.sleep(0)
        return Resource()

    budget = ScriptedBudget()
    pool: Any = SharedPool(
        create,
        items=(0, 2 * MOST),
        slots=SLOTS,
        budget=budget,
        units="slots",
        timeout=PATIENCE,
        warn_unclosed=False,
    )
    ceiling, over = Ceiling(budget), threading.Event()

    async def use(number: int) -> None:
        dice = random.Random(number)
        for _ in range(OPS // 10 // (LOOPS * TASKS)):
            try:
                async with pool.lease(timeout=dice.choice((0, 0.001, PATIENCE))):
                    with ceiling.lease():
                        await asyncio.sleep(dice.choice((0, 0, 0.0005)))
            except PoolTimeout:
                pass

    async def on_loop(number: int) -> None:
        await asyncio.gather(*(use(100 * number + n) for n in range(TASKS)))

    def loops(number: int) -> None:
        for n in range(3):
            asyncio.run(on_loop(10 * number + n))

    callers = [runner.start(loops, n) for n in range(LOOPS + 1)]
    turns = runner.start(turn, ceiling, over, 2)
    try:
        for caller in callers:
            caller.result(LIMIT - 30)
    finally:
        over.set()
    turns.result()
    assert ceiling.given > OPS // 40 and not ceiling.faults, ceiling.faults[:10]
    eventually(lambda: budget.member.share.look() == (0, 0))
    pool.close()
    eventually(lambda: pool.stats().open == 0)

"""Random operations of many threads, then the books: nothing lost, nothing doubled, nobody stuck.

FASTPOOL_STRESS_OPS says how many operations a test makes (see ``helpers.stress_ops``);
FASTPOOL_STRESS_SEED repeats the choices of a run (not its schedule).
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import fastpool.queue
from fastpool import FastPool, PoolClosed, PoolDeadlock, PoolError, PoolOverloaded, PoolTimeout
from support.helpers import (
    GIL,
    LIMIT,
    STRESS_OPS,
    Flaky,
    Resource,
    ThreadRunner,
    ailing,
    consistent,
    eventually,
    stress_ops,
    unresettable,
)

OPS = stress_ops(50_000, share=0.5)
SEED = int(os.environ.get("FASTPOOL_STRESS_SEED", random.randrange(2**32)))
THREADS = 8

pytestmark = [pytest.mark.stress, pytest.mark.timeout(LIMIT + OPS // 1000)]


def _run(runner: ThreadRunner, act: Callable[[random.Random, int], None], ops: int = OPS) -> None:
    """THREADS threads make so many operations in all, each with its own sequence of choices."""
    print(f"FASTPOOL_STRESS_OPS={STRESS_OPS or OPS} FASTPOOL_STRESS_SEED={SEED}")

    def work(index: int) -> None:
        dice = random.Random(SEED + index)
        for _ in range(ops // THREADS):
            act(dice, index)

    for task in runner.together(THREADS, work):
        task.result(45 + OPS // 1000)


def _hold(resource: Resource, index: int, dice: random.Random) -> None:
    """Be the only holder for a moment; whoever else comes sees it."""
    assert not resource.closed, f"{resource} was lent after its close"
    assert resource.holder is None, f"{resource} is held by {resource.holder} and {index}"
    resource.holder = index
    for _ in range(dice.randrange(20)):
        pass
    assert resource.holder == index, f"{resource} was taken over by {resource.holder}"
    resource.holder = None


@pytest.mark.parametrize(
    "make",
    [
        lambda size: FastPool(size),
        lambda size: FastPool(size, order="fifo"),
        lambda size: FastPool(size, fairness="fair"),
        fastpool.queue.Queue,
        fastpool.queue.LifoQueue,
    ],
    ids=["FastPool", "FastPool-fifo", "FastPool-fair", "Queue", "LifoQueue"],
)
@pytest.mark.parametrize("size", [0, 2])
def test_a_queue_passes_every_item_exactly_once(
    make: Any, size: int, runner: ThreadRunner, fast_switching: None
) -> None:
    """Puts and gets of every form, with timeouts: what went in came out or is still there."""
    q = make(size)
    sent: list[int] = [0] * THREADS
    received: list[list[tuple[int, int]]] = [[] for _ in range(THREADS)]

    def act(dice: random.Random, index: int) -> None:
        form = dice.randrange(4)
        wait: Any = {"block": False} if form == 0 else {"timeout": (0, 0.0005, 0.005)[form - 1]}
        try:
            if dice.random() < 0.5:
                q.put((index, sent[index]), **wait)
                sent[index] += 1
            else:
                received[index].append(q.get(**wait))
        except (queue.Empty, queue.Full):
            pass

    _run(runner, act)
    rest = list(q.queue)
    assert q.qsize() == len(rest) and (not size or len(rest) <= size)
    out = Counter(item for items in (*received, rest) for item in items)
    assert out == Counter((index, n) for index in range(THREADS) for n in range(sent[index]))
    assert q.unfinished_tasks == sum(sent)


@pytest.mark.parametrize("fairness", ["fair", "throughput"])
@pytest.mark.parametrize("order", ["lifo", "fifo"])
def test_a_pool_keeps_its_accounts(
    accounted: Any,
    runner: ThreadRunner,
    fast_switching: None,
    caplog: pytest.LogCaptureFixture,
    fairness: str,
    order: str,
) -> None:
    """Gets, leases, discards, failures, timeouts, flushes, resizes and pauses at random."""
    caplog.set_level(logging.CRITICAL, "fastpool")  # each failing reset is a line
    maker = Flaky(cap=4)
    pool, _ = accounted(
        maker=maker,
        maxsize=4,
        fairness=fairness,
        order=order,
        max_idle=3,
        max_uses=50,
        max_waiting=6,
        check=ailing,
        check_after=0.001,
        reset=unresettable,
        max_lifetime=0.5,
        idle_timeout=0.2,
        discard_on=ZeroDivisionError,
    )
    turns = [0] * THREADS

    def act(dice: random.Random, index: int) -> None:
        timeout = dice.choice([0, 0.001, 0.01, 5, 5, 5, 5])
        chance = dice.random()
        try:
            if chance < 0.35:
                resource = pool.get(timeout=timeout)
                _hold(resource, index, dice)
                pool.discard(resource) if chance < 0.05 else pool.put(resource)
            elif chance < 0.7:
                with pool.lease(timeout=timeout) as resource:
                    _hold(resource, index, dice)
                    if chance < 0.4:
                        pool.discard(resource)
                    elif chance < 0.45:
                        raise ZeroDivisionError
            elif chance < 0.97:
                lease = pool.acquire(timeout)
                _hold(lease.resource, index, dice)
                lease.discard() if chance < 0.72 else lease.release()
            elif chance < 0.98:
                pool.flush()
            elif chance < 0.985:
                pool.suspend()
                pool.resume()
            elif chance < 0.99:
                pool.resize(dice.choice([2, 3, 4]))
            else:
                stats = pool.stats()
                assert (stats.open <= 4 and consistent(stats)) or stats.maxsize < 4, stats
            turns[index] += 1
        except (PoolTimeout, PoolOverloaded, Flaky.Failure, ZeroDivisionError):
            pass

    _run(runner, act)
    pool.resume()
    eventually(lambda: pool.stats().leased == 0 and pool.stats().waiting == 0)
    assert min(turns) > 0
    assert maker.made > 10


def test_closing_in_the_middle_loses_nothing(runner: ThreadRunner, fast_switching: None) -> None:
    """Pool after pool is closed under load: all is closed once, everybody leaves, in time."""
    rounds = max(5, OPS // 2000)

    def one_round(number: int) -> None:
        maker = Flaky(cap=3)
        pool: Any = FastPool(3, factory=maker, max_waiting=20)
        threads = ThreadRunner()
        go = threading.Barrier(5)

        def work(index: int) -> None:
            dice = random.Random(SEED + 100 * number + index)
            go.wait()
            while True:
                try:
                    with pool.lease(timeout=5) as resource:
                        _hold(resource, index, dice)
                        if dice.random() < 0.1:
                            pool.discard(resource)
                except PoolClosed:
                    return
                except Flaky.Failure:
                    pass

        tasks = [threads.start(work, index) for index in range(4)]
        go.wait()
        for _ in range(random.Random(SEED + number).randrange(2000)):
            pass
        assert pool.close(timeout=10) is True
        for task in tasks:
            task.result(10)
        assert maker.made == maker.closed and not maker.faults, maker.faults
        stats = pool.stats()
        assert stats.open == stats.waiting == 0, stats

    for number in range(rounds):
        one_round(number)


def test_nested_holds_neither_hang_nor_leak(accounted: Any, runner: ThreadRunner) -> None:
    """Threads that take a second resource while they hold one: an error or a turn, never a loss."""
    pool, maker = accounted(3)
    errors: Counter[str] = Counter()

    def act(dice: random.Random, index: int) -> None:
        try:
            with pool.lease(timeout=5) as first:
                assert first.holder is None
                first.holder = index
                try:
                    with pool.lease(timeout=0.002) as second:
                        assert second.holder is None and second is not first
                finally:
                    first.holder = None
        except (PoolTimeout, PoolDeadlock) as error:
            errors[type(error).__name__] += 1

    _run(runner, act, OPS // 10)  # most of them wait
    assert errors["PoolDeadlock"] == 0, "nobody held all three"
    assert pool.stats().leased == 0


def test_waiters_that_give_up_leave_the_queue_whole(accounted: Any, runner: ThreadRunner) -> None:
    """Timeouts at about the moment of the hand-off: each resource is with one, or back."""
    pool, maker = accounted(1)

    def act(dice: random.Random, index: int) -> None:
        try:
            resource = pool.get(timeout=dice.random() * 0.002)
        except PoolError:
            return
        _hold(resource, index, dice)
        pool.put(resource)

    _run(runner, act)
    assert pool.stats().leased == 0 and maker.made == 1


@pytest.mark.skipif(GIL, reason="needs threads that run at the same time")
def test_threads_in_parallel_share_by_owner_word(accounted: Any, runner: ThreadRunner) -> None:
    """On a free-threaded build: hot pairs through bound methods, one holder at a time."""
    pool, _ = accounted(3)

    def work(index: int) -> None:
        get, put = pool.get, pool.put
        for _ in range(OPS // 2):
            resource = get()
            assert resource.holder is None
            resource.holder = index
            resource.holder = None
            put(resource)

    for task in runner.together(2, work):
        task.result(45 + OPS // 1000)

"""Threads and tasks of three loops mixed at random, then the books: 0 lost, 0 doubled, 0 stuck.

FASTPOOL_STRESS_OPS and FASTPOOL_STRESS_SEED: see ``test_conservation.py``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from fastpool import FastPool, PoolOverloaded, PoolTimeout
from support.helpers import (
    LIMIT,
    STRESS_OPS,
    Flaky,
    Resource,
    ThreadRunner,
    ailing,
    eventually,
    stress_ops,
    unresettable,
)
from support.loops import KINDS, new_loop, run_in

OPS = stress_ops(6000, share=0.2)
SEED = int(os.environ.get("FASTPOOL_STRESS_SEED", random.randrange(2**32)))
LOOPS, TASKS, THREADS = 3, 4, 4
SHARE = OPS // (LOOPS * TASKS + THREADS)
LONG = LIMIT + OPS // 500

pytestmark = [pytest.mark.stress, pytest.mark.timeout(LONG + 30)]
kinds = pytest.mark.parametrize("kind", KINDS)


def _tell() -> None:
    print(f"FASTPOOL_STRESS_OPS={STRESS_OPS or OPS} FASTPOOL_STRESS_SEED={SEED}")


def _begin(resource: Resource, who: Any) -> None:
    assert not resource.closed, f"{resource} was lent after its close"
    assert resource.holder is None, f"{resource} is held by {resource.holder} and {who}"
    resource.holder = who


def _end(resource: Resource, who: Any) -> None:
    assert resource.holder == who, f"{resource} was taken over by {resource.holder}"
    resource.holder = None


async def _hold(resource: Resource, who: Any, dice: random.Random) -> None:
    _begin(resource, who)
    try:
        for _ in range(dice.randrange(3)):
            await asyncio.sleep(0)
    finally:
        _end(resource, who)


async def _use(pool: Any, who: Any, dice: random.Random) -> None:
    """One operation of a task; it may be cancelled anywhere."""
    timeout = dice.choice([0, 0.0005, 0.005, 5, 5, 5, 5])
    chance = dice.random()
    if chance < 0.35:
        resource = await pool.aget(timeout)
        try:
            await _hold(resource, who, dice)
        finally:
            pool.discard(resource) if chance < 0.05 else pool.put(resource)
    elif chance < 0.8:
        async with pool.lease(timeout=timeout) as resource:
            await _hold(resource, who, dice)
            if chance < 0.4:
                pool.discard(resource)
            elif chance < 0.45:
                raise ZeroDivisionError
    else:
        lease = await pool.aacquire(timeout)
        try:
            await _hold(lease.resource, who, dice)
        finally:
            lease.discard() if chance < 0.82 else lease.release()


def _use_in_thread(pool: Any, who: Any, dice: random.Random) -> None:
    timeout = dice.choice([0, 0.0005, 0.005, 5, 5, 5, 5])
    with pool.lease(timeout=timeout) as resource:
        _begin(resource, who)
        _end(resource, who)


ENDS = (PoolTimeout, PoolOverloaded, Flaky.Failure, ZeroDivisionError, queue.Empty, queue.Full)


def _turns(who: Any, done: Counter[Any]) -> Iterator[None]:
    """As many as everyone has, and more until one was served: those who come to a crowd are refused
    at once, and may have used up all their turns before the first resource comes back."""
    for turn in count():
        if turn >= SHARE and done[who]:
            return
        yield


async def _worker(act: Any, who: Any, done: Counter[Any]) -> None:
    """Operations one after the other; every fourth in a task of its own that is cancelled."""
    dice = random.Random(f"{SEED} {who}")
    loop = asyncio.get_running_loop()
    for _ in _turns(who, done):
        try:
            if dice.random() < 0.25:
                task = asyncio.ensure_future(act(who, dice))
                if dice.random() < 0.5:
                    loop.call_later(dice.random() * 0.002, task.cancel)
                else:
                    for _ in range(dice.randrange(4)):
                        await asyncio.sleep(0)
                    task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.result()
            else:
                await act(who, dice)
            done[who] += 1
        except ENDS:
            done["refused"] += 1
            await asyncio.sleep(0)  # others of this loop may have what is wanted


def _run(kind: str, runner: ThreadRunner, act: Any, act_in_thread: Any) -> None:
    """Ends once everybody was served."""
    _tell()
    new_loop(kind).close()
    done: Counter[Any] = Counter()

    async def main(loop: int) -> None:
        await asyncio.gather(*(_worker(act, (loop, n), done) for n in range(TASKS)))

    def thread(number: int) -> None:
        dice = random.Random(f"{SEED} {number}")
        for _ in _turns(number, done):
            try:
                act_in_thread(number, dice)
                done[number] += 1
            except ENDS:
                done["refused"] += 1
                time.sleep(0)

    def part(index: int) -> None:
        if index < LOOPS:
            run_in(kind, main(index), LONG)
        else:
            thread(index)

    for task in runner.together(LOOPS + THREADS, part):
        task.result(LONG)


@kinds
@pytest.mark.parametrize("fairness", ["fair", "throughput"])
def test_threads_and_tasks_keep_the_accounts(
    kind: str,
    fairness: str,
    accounted: Any,
    runner: ThreadRunner,
    fast_switching: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Leases, gets, discards, failures, checks and resets, cut off by cancels and timeouts."""
    caplog.set_level(logging.CRITICAL, "fastpool")
    pool, maker = accounted(
        maker=Flaky(cap=4),
        maxsize=4,
        fairness=fairness,
        max_uses=50,
        max_waiting=12,
        check=ailing,
        check_after=0.001,
        reset=unresettable,
        discard_on=ZeroDivisionError,
    )
    _run(kind, runner, lambda *a: _use(pool, *a), lambda *a: _use_in_thread(pool, *a))
    eventually(lambda: pool.stats().waiting == 0)
    eventually(lambda: pool.stats().leased == pool.stats().checking == 0)
    assert pool.close(timeout=10) is True
    eventually(lambda: maker.made == maker.closed and pool.stats().open == 0)
    assert not maker.faults, maker.faults


@kinds
@pytest.mark.parametrize("fairness", ["fair", "throughput"])
def test_threads_and_tasks_without_hooks(
    kind: str, fairness: str, accounted: Any, runner: ThreadRunner, fast_switching: None
) -> None:
    """The same where a return is one call: nothing is ever closed, so nothing is made anew."""
    pool, maker = accounted(3, fairness=fairness, discard_on=())

    async def act(who: Any, dice: random.Random) -> None:
        async with pool.lease(timeout=dice.choice([0, 0.0005, 0.005, 5, 5])) as resource:
            await _hold(resource, who, dice)

    _run(kind, runner, act, lambda *a: _use_in_thread(pool, *a))
    eventually(lambda: pool.stats().waiting == pool.stats().leased == 0)
    assert pool.close(timeout=10) is True and maker.made == maker.closed


@kinds
@pytest.mark.parametrize("fairness", ["fair", "throughput"])
@pytest.mark.parametrize("size", [0, 2])
def test_every_item_arrives_once(
    kind: str, fairness: str, size: int, runner: ThreadRunner, fast_switching: None
) -> None:
    """Queue use: an item put is got once or still there.  Of a put that was cancelled, or that
    timed out, either may be true."""
    q: Any = FastPool(size, order="fifo", fairness=fairness)
    lock = threading.Lock()
    sent: list[Any] = []
    unsure: list[Any] = []
    got: list[Any] = []
    numbers = iter(range(10**9))

    def number() -> int:
        with lock:
            return next(numbers)

    async def act(who: Any, dice: random.Random) -> None:
        span = dice.choice([0, 0.0005, 0.005])
        if dice.random() < 0.5:
            item = number()
            try:
                await q.aput(item, timeout=span)
            except asyncio.CancelledError:
                unsure.append(item)
                raise
            sent.append(item)
        else:
            got.append(await q.aget(timeout=span))

    def act_in_thread(who: Any, dice: random.Random) -> None:
        span = dice.choice([0, 0.0005, 0.005])
        if dice.random() < 0.5:
            item = number()
            q.put(item, timeout=span)
            sent.append(item)
        else:
            got.append(q.get(timeout=span))

    _run(kind, runner, act, act_in_thread)
    out = Counter(got + list(q.queue))
    assert max(out.values()) == 1, "doubled"
    assert not set(sent) - set(out), "lost"
    assert not set(out) - set(sent) - set(unsure), "from nowhere"


@kinds
@pytest.mark.measures
def test_threads_and_tasks_get_equal_turns(kind: str, accounted: Any, runner: ThreadRunner) -> None:
    """12 threads and 12 tasks on 4 resources, 2 ms each: fewest to most turns at least 0.9."""
    new_loop(kind).close()
    pool, _ = accounted(4)
    pool.warm(4)
    turns = [0] * 24
    start = threading.Barrier(13)
    over = threading.Event()

    def thread(index: int) -> None:
        start.wait(10)
        while not over.is_set():
            with pool.lease():
                time.sleep(0.002)
            turns[index] += 1

    async def task(index: int) -> None:
        while not over.is_set():
            async with pool.lease():
                await asyncio.sleep(0.002)
            turns[index] += 1

    async def main() -> None:
        await asyncio.to_thread(start.wait, 10)
        asyncio.get_running_loop().call_later(1.5, over.set)
        await asyncio.gather(*(task(12 + n) for n in range(12)))

    for index in range(12):
        runner.start(thread, index)
    run_in(kind, main(), 30)
    runner.finish()
    assert min(turns) >= 0.9 * max(turns), turns

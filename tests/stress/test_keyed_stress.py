"""Random operations on a pool of many keys, by threads and tasks at once: what was made is closed
or open, no limit is ever exceeded, nobody is stuck, and no key is left when all have gone.

FASTPOOL_STRESS_OPS says how many leases each test asks for (of a large number a tenth),
FASTPOOL_STRESS_SEED which."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from typing import Any

import pytest

import fastpool
from fastpool import _core
from support.helpers import (
    LIMIT,
    PATIENCE,
    STRESS_OPS,
    ThreadRunner,
    consistent,
    eventually,
    stress_ops,
)
from support.keyed_factories import KeyedMaker

OPS = stress_ops(3000, share=0.1)
SEED = int(os.environ.get("FASTPOOL_STRESS_SEED", random.randrange(10**6)))
THREADS, LOOPS, TASKS = 5, 2, 6  # each makes as many turns
ROUND_TRIPS = max(1, OPS // (THREADS + LOOPS * TASKS))
LONG = 3 * PATIENCE  # a timeout that is reached by a bug alone

pytestmark = [pytest.mark.stress, pytest.mark.timeout(LIMIT + OPS // 20)]


class Broken(Exception):
    pass


KEYS = [f"host-{n}" for n in range(12)]
SHAPES = [
    # total, per key, idle in all, idle of one
    pytest.param(4, 2, None, None, id="few-slots"),
    pytest.param(8, 8, None, None, id="one-key-may-have-all"),
    pytest.param(16, 3, 5, 1, id="few-idle"),
    pytest.param(8, 2, 0, None, id="none-idle"),
    pytest.param(None, 2, 6, None, id="no-total"),
]


def begin(resource: Any, key: str, who: object) -> None:
    assert resource.key == key and not resource.closed, resource
    assert resource.holder is None, f"{resource} is held by {resource.holder}"
    resource.holder = who


def one_act(rng: random.Random) -> tuple[str, float | None, str]:
    """A key, some of them hot; a timeout; how the lease ends."""
    key = KEYS[int(len(KEYS) * rng.random() ** 3)]
    timeout = rng.choice((None, None, None, 0.05, 0.002, 0))
    return key, timeout, rng.choice(("return",) * 8 + ("discard", "error", "late"))


def threads_turn(pool: Any, seed: str, counts: list[int]) -> None:
    rng = random.Random(seed)
    for _ in range(ROUND_TRIPS):
        key, timeout, end = one_act(rng)
        try:
            with pool.lease(key, LONG if timeout is None else timeout) as resource:
                begin(resource, key, seed)
                if end == "late":
                    time.sleep(rng.random() * 0.003)
                resource.holder = None
                if end == "discard":
                    raise OSError
                if end == "error":
                    raise Broken
            counts[0] += 1
        except fastpool.PoolTimeout:
            assert timeout is not None, "one who had all the time was not served"
        except (OSError, Broken):
            pass


async def tasks_turn(pool: Any, seed: str, counts: list[int]) -> None:
    rng = random.Random(seed)

    async def act(key: str, timeout: float | None, end: str) -> None:
        async with pool.lease(key, LONG if timeout is None else timeout) as resource:
            begin(resource, key, seed)
            try:
                await asyncio.sleep(0.001 if end == "late" else 0)
            finally:
                resource.holder = None
            if end == "discard":
                raise OSError
        counts[0] += 1

    for _ in range(ROUND_TRIPS):
        key, timeout, end = one_act(rng)
        task = asyncio.create_task(act(key, timeout, end))
        try:
            if end == "error":
                await asyncio.sleep(0)
                task.cancel()
            await task
        except fastpool.PoolTimeout:
            assert timeout is not None, "one who had all the time was not served"
        except (OSError, asyncio.CancelledError):
            pass


@pytest.mark.parametrize("total, per_key, idle, idle_per_key", SHAPES)
def test_nothing_is_lost_and_no_limit_exceeded(
    total: int | None, per_key: int, idle: int | None, idle_per_key: int | None,
    runner: ThreadRunner, fast_switching: None,
) -> None:  # fmt: skip
    infinity = float("inf")
    maker = KeyedMaker(total or infinity, per_key)
    pool = fastpool.KeyedPool(
        maker,
        max_total=total,
        max_per_key=per_key,
        max_idle_total=idle,
        max_idle_per_key=idle_per_key,
    )
    counts = [[0] for _ in range(THREADS + 1)]
    print(f"FASTPOOL_STRESS_OPS={STRESS_OPS or OPS} FASTPOOL_STRESS_SEED={SEED}")
    busy = [
        runner.start(threads_turn, pool, f"{SEED} thread {n}", counts[n]) for n in range(THREADS)
    ]

    async def many(loop: int) -> None:
        turns = (tasks_turn(pool, f"{SEED} {loop} {n}", counts[-1]) for n in range(TASKS))
        await asyncio.gather(*turns)

    busy += [runner.start(asyncio.run, many(loop)) for loop in range(LOOPS)]
    while any(one.running for one in busy):
        stats = pool.stats()
        assert consistent(stats), stats
        assert all(one.open <= per_key for one in stats.keys.values()), stats
        time.sleep(0.01)
    runner.finish()
    assert sum(count[0] for count in counts) > ROUND_TRIPS
    assert not maker.faults, maker.faults[:3]

    stats = eventually(lambda: (s := pool.stats()) and s.idle == s.open and s)
    assert stats.waiting == 0
    assert stats.open == maker.open
    if idle is not None:
        assert stats.idle <= idle, stats
    if idle_per_key is not None:
        assert all(one.idle <= idle_per_key for one in stats.keys.values()), stats
    for key in KEYS:  # nobody's slot was lost: each key can have all that it may
        most = min(per_key, total or per_key)
        leases = [pool.acquire(key, PATIENCE) for _ in range(most)]
        assert len({id(lease.resource) for lease in leases}) == most
        for lease in leases:
            lease.release()
    assert pool.close()
    eventually(lambda: not maker.open)
    assert maker.made == maker.closed == pool.stats().created
    assert not maker.faults, maker.faults[:3]
    names = f"fastpool-{pool.name}-"
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith(names)])


def test_forgotten_keys_leave_nothing(runner: ThreadRunner) -> None:
    """Thousands of keys, each used once by one of several threads: only what is open is known."""
    maker, uses = KeyedMaker(20, 2), max(10, OPS // 15)
    with fastpool.KeyedPool(maker, max_total=20, max_per_key=2) as pool:

        def use(thread: int) -> None:
            for n in range(uses):
                key = (thread, n)
                with pool.lease(key, LONG) as resource:
                    assert resource.key == key

        runner.together(4, use)
        runner.finish()
        stats = eventually(lambda: (s := pool.stats()) and s.open == len(s.keys) and s)
        manager = _core.manager(pool, "test")
        eventually(lambda: len(manager.cores) == len(pool.stats().keys))
        assert len(stats.keys) <= 20 and stats.uses == 4 * uses
        assert stats.closed_total == 4 * uses - stats.open
        assert not maker.faults, maker.faults[:3]

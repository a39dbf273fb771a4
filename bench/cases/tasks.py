"""P5: `async with pool.lease()` with something idle, against what the rivals ask for the same.

One task, CPU time of its thread, all pools full of idle dummies on one event loop, turn by turn.
`asyncio.Lock` is the least that a task can hold. The lease is made and entered inside the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from bench.adapter import SIZE, Thing, fastpool, pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Case, NotRun, pair_times
from bench.task_peers import TASK_PEERS, TaskPeer

LEASE = "async with pool.lease() as resource: pass"
LOCK = "async with lock: pass"
KEYS = {
    "psycopg_pool": "P5a",
    "asyncpg": "P5b",
    "redis": "P5c",
    "SQLAlchemy": "P5e",
    "aiologic": "P5f",
    "culsans": "P5g",
    "generic-connection-pool": "P5h",
}


async def create() -> Thing:
    return Thing()


async def loop_pool() -> Any:
    """A warm pool whose factory is a coroutine function: its resources belong to this loop."""
    pool = fastpool().FastPool(SIZE, factory=create)
    held = [await pool.aget() for _ in range(SIZE)]
    for each in held:
        pool.put(each)
    return pool


async def close(pool: Any) -> None:
    await pool.aclose()


def p5(effort: Effort) -> Iterator[Figure]:
    pool = pool_use()
    rivals: list[tuple[TaskPeer, Any]] = []
    with asyncio.Runner() as runner:
        ours = runner.run(loop_pool())
        try:
            cases = {
                "lease": Case(LEASE, {"pool": pool}),
                "loop's": Case(LEASE, {"pool": ours}),
                "Lock": Case(LOCK, {"lock": asyncio.Lock()}),
            }
            for peer in TASK_PEERS:
                try:
                    rival = runner.run(peer.warm(SIZE))
                except NotRun as reason:
                    yield Figure(KEYS[peer.name], None, note=str(reason))
                    continue
                rivals.append((peer, rival))
                cases[peer.name] = Case(peer.pair, peer.names(rival))
            times = pair_times(cases, rounds=effort.rounds, runner=runner)
            for peer, _ in rivals:
                yield of_ratio(KEYS[peer.name], times[peer.name], times["lease"])
            yield of_ratio("P5d", times["lease"], times["Lock"])
            yield of_ratio("P5i", times["loop's"], times["Lock"])
        finally:
            for peer, rival in rivals:
                runner.run(peer.close(rival))
            runner.run(close(ours))
            pool.close()

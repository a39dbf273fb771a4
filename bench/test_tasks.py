"""P5 as pytest-benchmark cases: one lease of a task, and what each rival calls one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bench.adapter import SIZE, pool_use
from bench.cases.tasks import LEASE, close, loop_pool
from bench.measure import UNROLLED, Case, NotRun, timed_loop
from bench.task_peers import TASK_PEERS, TaskPeer

ROUND_TRIPS = 20


def timed(benchmark: Any, case: Case, runner: asyncio.Runner) -> None:
    benchmark.group = "P5"
    benchmark.extra_info["statements"] = ROUND_TRIPS * UNROLLED
    loop = timed_loop(case, runner)
    benchmark.pedantic(loop, args=(ROUND_TRIPS,), rounds=21, warmup_rounds=2)


def test_lease(benchmark: Any) -> None:
    try:
        pool = pool_use()
    except NotRun as reason:
        pytest.skip(str(reason))
    with asyncio.Runner() as runner:
        timed(benchmark, Case(LEASE, {"pool": pool}), runner)
    assert pool.stats().idle == SIZE
    pool.close()


def test_lease_of_the_loop(benchmark: Any) -> None:
    """The factory is a coroutine function."""
    with asyncio.Runner() as runner:
        try:
            pool = runner.run(loop_pool())
        except NotRun as reason:
            pytest.skip(str(reason))
        timed(benchmark, Case(LEASE, {"pool": pool}), runner)
        assert pool.stats().idle == SIZE
        runner.run(close(pool))


@pytest.mark.parametrize("peer", TASK_PEERS, ids=lambda peer: peer.name)
def test_peer(benchmark: Any, peer: TaskPeer) -> None:
    with asyncio.Runner() as runner:
        try:
            pool = runner.run(peer.warm(SIZE))
        except NotRun as reason:
            pytest.skip(str(reason))
        try:
            timed(benchmark, Case(peer.pair, peer.names(pool)), runner)
        finally:
            runner.run(peer.close(pool))

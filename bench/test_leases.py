"""P4 as pytest-benchmark cases: one lease, and what each rival calls one."""

from __future__ import annotations

from typing import Any

import pytest

from bench.adapter import SIZE, pool_use
from bench.cases.leases import LEASE
from bench.measure import UNROLLED, Case, NotRun, timed_loop
from bench.peers import PEERS, Peer

ROUND_TRIPS = 100


def timed(benchmark: Any, statement: str, pool: Any) -> None:
    benchmark.group = "P4"
    benchmark.extra_info["statements"] = ROUND_TRIPS * UNROLLED
    loop = timed_loop(Case(statement, {"pool": pool}))
    benchmark.pedantic(loop, args=(ROUND_TRIPS,), rounds=21, warmup_rounds=2)


def test_lease(benchmark: Any) -> None:
    try:
        pool = pool_use()
    except NotRun as reason:
        pytest.skip(str(reason))
    timed(benchmark, LEASE, pool)
    assert pool.stats().idle == SIZE
    pool.close()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer(benchmark: Any, peer: Peer) -> None:
    try:
        pool = peer.warm(SIZE)
    except NotRun as reason:
        pytest.skip(str(reason))
    try:
        timed(benchmark, peer.pair, pool)
    finally:
        peer.close(pool)

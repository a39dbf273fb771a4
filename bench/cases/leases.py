"""P4: one lease against what the pools of other projects ask for the same.

All pools have the same size, are full of idle dummies, and take turns in the same rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.adapter import SIZE, pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Case, NotRun, pair_times
from bench.peers import PEERS, Peer

LEASE = "with pool.lease() as resource: pass"
KEYS = {
    "psycopg_pool": "P4a",
    "SQLAlchemy": "P4b",
    "redis": "P4c",
    "urllib3": "P4d",
    "DBUtils": "P4e",
}


def p4(effort: Effort) -> Iterator[Figure]:
    pool = pool_use()
    cases = {"lease": Case(LEASE, {"pool": pool})}
    rivals: list[tuple[Peer, Any]] = []
    try:
        for peer in PEERS:
            try:
                rival = peer.warm(SIZE)
            except NotRun as reason:
                yield Figure(KEYS[peer.name], None, note=str(reason))
                continue
            rivals.append((peer, rival))
            cases[peer.name] = Case(peer.pair, {"pool": rival})
        if not rivals:
            return
        times = pair_times(cases, rounds=effort.rounds)
        for peer, _ in rivals:
            yield of_ratio(KEYS[peer.name], times[peer.name], times["lease"])
    finally:
        for peer, rival in rivals:
            peer.close(rival)
        pool.close()

"""F2: how soon others have the permits of processes that were killed.  F3: what a budget costs a
lease and a call that find what they want: nobody asks it then, so it ought to cost nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from statistics import median
from typing import Any

from bench import servers
from bench.adapter import pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.cases.calls import answer
from bench.cases.leases import LEASE
from bench.fleet import recovery
from bench.measure import Case, NotRun, pair_times

PERMITS = 100
TTL, GRACE = 1.0, 0.5  # seconds of a lease, and what is waited beyond its end


def f2(effort: Effort) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:

        def recovered(key: str, *, file: bool = True, less: float = 0.0, **budget: Any) -> Figure:
            """``less``: what is not to be counted; each run has a budget of its own."""
            seconds: list[float] = []
            for run in range(effort.repeats):
                mine = budget | {"name": f"{key}-{run}"}
                if file:
                    mine["path"] = os.path.join(folder, f"{mine['name']}.budget")
                seconds.append(recovery.measure(mine) - less)
            return Figure(key, 1000 * median(seconds), 1000 * min(seconds), 1000 * max(seconds))

        yield recovered("F2a")
        with servers.redis() as port:
            url = f"redis://127.0.0.1:{port}"
            yield recovered("F2b", file=False, less=TTL + GRACE, url=url, ttl=TTL, grace=GRACE)
            # Its lease would outlast the measurement: whoever inherits did not wait for its end.
            yield recovered("F2c", url=url, ttl=600.0)


def f3(effort: Effort) -> Iterator[Figure]:
    from fastpool.calls import CallPolicy, Limit
    from fastpool.fleet import LocalBudget

    with tempfile.TemporaryDirectory() as folder:
        try:
            budget = LocalBudget(os.path.join(folder, "bench.budget"), PERMITS)
        except NotImplementedError as reason:
            raise NotRun(str(reason)) from None
        with pool_use() as plain, pool_use(budget=budget) as under:
            calls = {"limit": CallPolicy(limit=Limit(8)), "shared": CallPolicy(limit=budget)}
            cases = {"lease": Case(LEASE, {"pool": plain}), "under": Case(LEASE, {"pool": under})}
            cases |= {name: Case("call()", {"call": calls[name](answer)}) for name in calls}
            times = pair_times(cases, rounds=effort.rounds)
            yield of_ratio("F3a", times["under"], times["lease"])
            yield of_ratio("F3b", times["shared"], times["limit"])

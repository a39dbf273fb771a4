"""F3: what a budget costs those who find what they want: a lease, and a call under a limit.

Nobody asks the budget then, so it ought to cost nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

from bench.adapter import pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.cases.calls import answer
from bench.cases.leases import LEASE
from bench.measure import Case, NotRun, pair_times

PERMITS = 100


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

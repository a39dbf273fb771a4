"""A Redis that has learned already that nobody else is there.

One that comes up empty gives nothing until the leases that it may have forgotten are over.
"""

from __future__ import annotations

import time


def learn(url: str, name: str, limit: int) -> None:
    """Returns when it has; what follows may have a lease of any length."""
    from fastpool import FastPool
    from fastpool.fleet import RedisBudget

    first = RedisBudget(url, name, limit, ttl=0.3, grace=0.05)
    with FastPool(1, factory=object, budget=first) as pool:
        pool.acquire().release()
    while RedisBudget.report(url, name).members:
        time.sleep(0.05)

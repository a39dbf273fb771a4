"""Leases of shared pools, many at a time."""

from __future__ import annotations

from collections import Counter
from typing import Any


def taken(pool: Any, n: int) -> list[Any]:
    return [pool.acquire(timeout=10) for _ in range(n)]


def release(leases: list[Any]) -> None:
    for lease in leases:
        lease.release()


def loads(leases: list[Any]) -> list[int]:
    """How many of these leases are of one resource, the most loaded first."""
    return sorted(Counter(id(lease.resource) for lease in leases).values(), reverse=True)

"""The arguments of LocalBudget, checked."""

from __future__ import annotations

import os

from ._permit_file import MOST_PERMITS
from ._redis import RedisBudget

__all__ = ["check_limit", "check_parent", "name_of"]


def name_of(path: str) -> str:
    """What a budget is called, by its file."""
    return os.path.basename(path).removesuffix(".budget")


def check_parent(parent: object, limit: object) -> None:
    """TypeError or ValueError unless it can be one, and takes the place of a limit."""
    if not isinstance(parent, RedisBudget):
        raise TypeError(f"LocalBudget: parent must be a RedisBudget, not {parent!r}")
    if limit is not None:
        raise ValueError("LocalBudget: give limit= or parent=, whose limit is that of all machines")


def check_limit(limit: object) -> None:
    """TypeError or ValueError unless it is a number of permits."""
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"LocalBudget: limit must be an int or None, not {limit!r}")
    if not 1 <= limit <= MOST_PERMITS:
        raise ValueError(f"LocalBudget: limit must be 1 to {MOST_PERMITS}, not {limit!r}")

"""Ends leases of a shared pool under their borrowers, where there may not be so many any more.

A lease cannot be ended alone: its resource is, with all leases of it, and is not lent again.  Those
are ended whose leases are the fewest that are enough.  A lease counts until its borrower gives it
back.  For resources, see ``pool/_termination.py``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["terminate_leases"]


def terminate_leases(parts: list[Any], surplus: int, how: Callable[[Any], object]) -> None:
    """On the scheduler's thread: have ``surplus`` leases ended, or a few more, less those that were
    ended before, by ending resources, once each.  ``parts``: the managers of the pool."""
    lent = []
    for part in parts:
        before, part.terminated = part.terminated, {}
        for index, *_ in part.core.slots():
            use, load = part.core.generation(index), part.core.load(index)
            if before.get(index) == use:
                part.terminated[index] = use
                surplus -= load
            elif load:
                lent.append((load, part, index, use))
    lent.sort(key=lambda found: found[0])
    while surplus > 0 and lent:
        enough = (i for i, found in enumerate(lent) if found[0] >= surplus)
        load, part, index, use = lent.pop(next(enough, -1))
        part.drain(index, "surplus", later=True)
        part.terminated[index] = use
        part.terminate(index, use, how)
        surplus -= load

"""Ends what is lent under its borrowers, where so much may not be open any more.

Only resources that are to be closed when they come back: none of them is lent again.  A borrower
whose resource is ended hears of it by its next use, and its slot is taken until it gives it back.
How a resource is ended is for others to say: ``how(resource)`` is called while the borrower uses
it, and has to be safe for that.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["aend_use", "end_use", "terminate_lent"]


def terminate_lent(parts: list[Any], surplus: int, how: Callable[[Any], object]) -> None:
    """On the scheduler's thread: have ``surplus`` resources ended, once each, less those that are
    being closed and those that were ended before.  ``parts``: the managers of the pool."""
    lent = []
    for part in parts:
        before, part.terminated = part.terminated, {}
        for index, state, *_, retire in part.core.slots():
            use = part.core.generation(index)
            if state == "closing":
                surplus -= 1
            elif state == "leased" and retire and before.get(index) == use:
                part.terminated[index] = use
                surplus -= 1
            elif state == "leased" and retire:
                lent.append((part, index, use))
    for part, index, use in lent[: max(0, surplus)]:
        part.terminated[index] = use
        part.terminate(index, use, how)


def end_use(part: Any, index: int, use: int, how: Callable[[Any], object]) -> None:
    """On a worker, or on the loop of the resource: end it, unless it has come back."""
    core = part.core
    resource = core.item(index)
    if core.generation(index) != use or core.slot(index)[1] != "leased":
        return
    try:
        how(resource)
    except Exception as failure:
        part.log("terminate failed; the resource is closed when it comes back", failure)


async def aend_use(part: Any, index: int, use: int, how: Callable[[Any], object]) -> None:
    """As ``end_use``, as a task."""
    end_use(part, index, use, how)

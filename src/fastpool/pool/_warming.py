"""Waiting until so many are open: ``warm``, and ``open`` with ``wait``."""

from __future__ import annotations

import time

from .. import _blocking
from .._runtime import scheduler
from ._attempt import Warming
from ._creation import Creator

__all__ = ["warm"]


def warm(creator: Creator, n: int, timeout: float | None) -> int:
    """Waits until ``n`` are open, or one could not be opened; see ``FastPool.warm``."""
    manager, core = creator.manager, creator.manager.core
    start = time.monotonic()
    wanted = [n]  # empty: nobody waits for it any more
    call = Warming()

    def over() -> bool:
        enough = creator.usable(manager.counts()) >= n
        if enough or call.failure is not None or core.closed:
            return True
        # again, if one under way came to nothing
        scheduler.call_soon(_fill_up, creator, wanted, call)
        return False

    if creator.usable(manager.counts()) < n:
        _blocking.before_wait(manager.name, _blocking.WARM)
    try:
        creator.warming.append(call)
        manager.state_changed.wait_for(over, timeout)
    finally:
        wanted.clear()
        # as long as this call is among those that warm: then a failure ends the wish, too
        enough = creator.usable(manager.counts()) >= n
        if call.failure is not None or not enough:
            manager.lock.run(setattr, creator, "background_demand", 0)
        if call in creator.warming:
            creator.warming.remove(call)
    if enough:
        return int(manager.counts()["open"])
    if core.closed:
        raise manager.refusal("closed", start, timeout)
    if call.failure is not None:
        raise call.failure
    raise manager.refusal("timeout", start, timeout, "create")


def _fill_up(creator: Creator, wanted: list[int], call: Warming) -> None:
    """On the scheduler's thread: wishes for what is lacking by now, if it is wanted still."""
    with creator.manager.lock.hold():
        if call.failure is not None:  # its caller is about to hear of it
            return
        counts = creator.manager.counts()
        # A new one is CHECKING until it is lent: not wished for any more, and not usable yet.
        lacking = sum(wanted) - creator.usable(counts) - counts["checking"]
        if lacking > 0:
            wished = lacking - creator.for_callers()
            creator.background_demand = max(creator.background_demand, wished)
            creator.start()

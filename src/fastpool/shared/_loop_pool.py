"""What a SharedPool with an async factory keeps for one event loop.

As ``_manager.py``, with hooks that are awaited: see ``pool/_awaiting_manager.py``.  How many may be
open is for ``_per_loop.py`` to say.
"""

from __future__ import annotations

from .._aio.hook_tasks import called, within
from .._runtime import scheduler
from ..pool._awaiting_manager import LoopMaintenance
from ..pool._creation import Attempt
from ..pool._loop_hooks import LoopClosing, LoopHealthChecks
from ..pool._loop_pool import LoopCreator, LoopPool
from ..pool._manager import Manager
from ._lease_tracking import SharedLeaseTracking
from ._maintenance import SharedMaintenance
from ._manager import SharedClosing, SharedCreator, SharedManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SharedLoopPool"]


class SharedLoopCreator(LoopCreator, SharedCreator):
    """Creations of one loop, as its tasks; the least number is wished for over all loops."""

    manager: Any  # a SharedLoopPool

    def missing(self) -> int:
        return len(self.manager.renewing) + int(self.manager.whole.lacking())

    def refill(self, more: int = 0) -> None:
        """What the least number lacks is wished for on the loop that used the pool last."""
        manager = self.manager
        with manager.lock.hold():
            self.background_demand = max(self.background_demand, more, len(manager.renewing))
            manager.whole.refill()
            self.start()

    def _finish(self, attempt: Attempt, error: BaseException | None) -> None:
        if error is None:
            self.replaces[attempt] = self.manager.next_to_renew()
        super()._finish(attempt, error)


class SharedLoopClosing(LoopClosing, SharedClosing):
    """Closes by tasks, for the reason that was noted when the resource began to drain."""

    manager: Any  # a SharedLoopPool

    def submit(self, index: int, why: str, use: int) -> None:
        if self.core.generation(index) == use:
            why = self.manager.reasons.get(index, why)
            self.manager.on_closing(index)
        super().submit(index, why, use)


class SharedLoopMaintenance(LoopMaintenance, SharedMaintenance):
    manager: Any  # a SharedLoopPool

    def end_uses(self, resource: Any) -> None:
        self.manager.tasks.submit(self._aend_uses, (resource,))

    async def _aend_uses(self, resource: Any) -> None:
        """On the loop."""
        try:
            if resource is not None and self.options.abort is not None:
                async with within(self.options.hook_timeout):
                    await called(self.options.abort, resource)
        except Exception as failure:
            self.manager.log("abort failed", failure)


class SharedLoopPool(LoopPool, SharedManager):
    """The manager of one loop's share of a SharedPool."""

    whole: Any  # a SharedPerLoopManager
    permits = 0  # of a budget whose permits are leases, see _loop_permits.py; under the lock
    options: Any
    creator: Any
    closing: Any
    checking: Any
    tracking: Any

    def create_parts(self) -> None:
        Manager.create_parts(self)
        self.create_records()
        self.tracking = SharedLeaseTracking(self)
        self.closing = SharedLoopClosing(self)
        self.checking = LoopHealthChecks(self)
        self.creator = SharedLoopCreator(self)
        self.maintenance = SharedLoopMaintenance(self)

    def reconfigure(self) -> None:
        self.shrink_after = self.options.shrink_after
        super().reconfigure()

    def live_elsewhere(self) -> int:
        n = self.core.counts()
        here = n["idle"] + n["leased"] + n["checking"] - n["draining"]
        return max(0, self.live() - int(here))

    def on_return(self, later: bool = False) -> None:
        if self.budget is not None:
            self.budget.lease_returned()
        if self.core.closed:
            self.notify_changed()
            return
        self.whole.on_idle(self)
        if self.core.demand:
            scheduler.call_soon(self.creator.refill)

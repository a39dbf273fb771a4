"""The event loops that use one key of a KeyedPool with an async factory, and the limits that they
share: those of the key.

Each of them has a core of its own, whose resources it alone can lend.  One that is alone has the
whole limit of the key, and its callers queue without asking; where there are several, all ask.
"""

from __future__ import annotations

from .._runtime import scheduler
from ..pool._loop_capacity import LoopCapacity, priority

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .. import _core
    from ..pool._awaiting_manager import AwaitingManager
    from ._options import KeyedOptions

__all__ = ["KeyLoops"]

INF = float("inf")


class KeyLoops:
    """See the module.  Under the lock of the whole pool, unless a method says otherwise."""

    def __init__(self, options: KeyedOptions) -> None:
        self.options = options
        self.parts: list[Any] = []  # AwaitingManagers
        self.opened = 0  # slots taken, those included that hold what a closed loop has left
        self.capacity = LoopCapacity(self.everyone, self.free)

    def everyone(self) -> list[Any]:
        return list(self.parts)

    def cores(self) -> dict[Any, _core.Core]:
        return {part.loop: part.core for part in self.everyone()}

    def free(self) -> float:
        """How many more may be open."""
        most = self.options.maxsize
        return most - self.opened if most else INF

    def join(self, part: AwaitingManager) -> None:
        self.parts.append(part)
        self.limit_cores()

    def leave(self, part: AwaitingManager) -> None:
        if part in self.parts:
            self.parts.remove(part)
            self.limit_cores()
            self.look()

    def limit_cores(self) -> None:
        """The limit of the key has changed, or who shares it."""
        alone = len(self.parts) == 1
        for part in self.parts:
            part.core.set_limit(self.options.maxsize if alone and self.options.maxsize else INF)
            scheduler.call_soon(part.creator.refill)  # those who have queued without asking

    def refuses(self, me: int) -> str | None:
        """Why a caller for whom nothing is idle may not wait for the sake of the key, or None."""
        if len(self.parts) < 2 or self.free() > 0:  # else its core has said so
            return None
        return self.capacity.refuses(me, self.options.maxsize, self.options.max_waiting)

    def serve(self, arbiter: Any) -> None:
        """Something has changed for this key: those who have waited longest first, each loop asks
        for as many slots as it wants and the key has left; or it is seen who gives up one."""
        for part in sorted(self.parts, key=priority):
            arbiter.serve(part)
        self.look()

    def look(self) -> None:
        """Closes what is idle on one loop for callers on another, where the key is full."""
        hungry = []
        if len(self.parts) > 1 and self.free() <= 0:
            hungry = [
                part
                for part in self.parts
                if part.core.demand and part.creator.wanted_at_all() and not part.core.suspended
            ]
        if hungry or self.capacity.hungry:
            self.capacity.evict_for(hungry)

    def must_yield(self, part: AwaitingManager) -> bool:
        """Whether this loop has to give up the slot of what it gets back to another.  Without the
        lock: two that look at once may both do so, as two that look in turn may."""
        return bool(self.capacity.hungry) and self.capacity.must_yield(part)

    def shrink(self) -> None:
        """On the scheduler's thread: closes what is open beyond the limit, after it was lowered."""
        if len(self.parts) > 1 and self.free() < 0:
            self.capacity.close_surplus(self.capacity.staying() - self.options.maxsize)

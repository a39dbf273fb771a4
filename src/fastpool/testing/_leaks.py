"""What a test leaves behind in its pools: leases held, and leases that were forgotten."""

from __future__ import annotations

import gc
import time
from types import TracebackType
from typing import TYPE_CHECKING

from ..pool import _managers

if TYPE_CHECKING:
    from ..pool._manager import Manager
    from ..stats import Holder

GRACE = 1.0  # seconds for threads of the test that are about to give back


class LeakWatch:
    """Looks at all pools of the process: ``with LeakWatch() as watch: ...; watch.findings()``.

    Watched are the pools made inside the block, and the leases that were taken there from others.
    One block at a time, or nested.
    """

    def __enter__(self) -> LeakWatch:
        #: Pool: what was leased, and how many leases had been lost, when it was first seen.
        #: Strong references: the counters of a pool must be there when the pool is not.
        self._watched: dict[Manager, tuple[list[Holder[object]], int]] = {
            manager: (manager.leases(), _lost(manager)) for manager in list(_managers)
        }
        outer = _managers.add

        def add(manager: Manager) -> None:
            outer(manager)
            self._watched[manager] = ([], 0)

        self._outer = _managers.__dict__.get("add")  # of a block around this one
        _managers.add = add  # type: ignore[assignment, method-assign]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._outer is None:
            del _managers.add
        else:
            _managers.add = self._outer  # type: ignore[method-assign]
        del self._watched

    def findings(self) -> list[str]:
        """A paragraph for each pool that has a leak; after at most ``GRACE`` seconds, and at once
        if there is nothing to wait for."""
        deadline = time.monotonic() + GRACE
        if self._unsettled():
            gc.collect()  # a lease in a cycle is lost, not held
        while self._unsettled() and time.monotonic() < deadline:
            time.sleep(0.005)
        return [text for manager in list(self._watched) for text in self._reports(manager)]

    def _unsettled(self) -> bool:
        return any(self._held(manager) or _in_transit(manager) for manager in list(self._watched))

    def _held(self, manager: Manager) -> list[Holder[object]]:
        before = {id(holder.resource) for holder in self._watched[manager][0]}
        return [holder for holder in manager.leases() if id(holder.resource) not in before]

    def _reports(self, manager: Manager) -> list[str]:
        reports = []
        if held := self._held(manager):
            counts = manager.core.counts()
            state = "closed" if manager.core.closed else "open"
            lines = [
                f"fastpool {manager.name!r} ({state}): {len(held)} of {counts['open']} resources "
                f"{'is' if len(held) == 1 else 'are'} still leased:"
            ]
            lines += [f"  {holder.resource!r:.80}, by {holder}" for holder in held]
            if not all(holder.stack for holder in held):
                lines.append("  (leak_after= on the pool shows where each was taken)")
            reports.append("\n".join(lines))
        if lost := _lost(manager) - self._watched[manager][1]:
            reports.append(
                f"fastpool {manager.name!r}: {lost} {'lease' if lost == 1 else 'leases'} collected "
                "unreleased (a ResourceWarning, with leak_after= on, says where it was taken)"
            )
        return reports


def _lost(manager: Manager) -> int:
    lost: int = manager.core.counts()["closed"].get("lost", 0)
    return lost


def _in_transit(manager: Manager) -> bool:
    """Whether something is being given back or closed: it may yet be counted as lost."""
    counts = manager.core.counts()
    return bool(counts["checking"] or counts["closing"])

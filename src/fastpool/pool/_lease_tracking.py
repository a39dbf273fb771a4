"""Who holds what, since when, and where it was taken: ``leases()`` and ``leak_after``."""

from __future__ import annotations

import threading

from .. import _reports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .. import _core
    from ..stats import Holder
    from ._manager import Manager

__all__ = ["LeaseTracking"]

INF = float("inf")


class LeaseTracking:
    """Without a lock: an entry is written by the owner of its slot alone."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.core = manager.core
        self.leak_after = manager.options.leak_after
        self.on = self.leak_after != INF
        if self.on:  # now: an import inside a borrow would wait for its lock
            from ..stats import call_stack

            self.call_stack = call_stack
        self.taken: dict[int, list[Any]] = {}  # by slot: time, thread, stack, whether reported

    def note(self, guard: _core.SlotGuard) -> None:
        """What is guarded is lent."""
        self.taken[guard.index] = self.entry()
        self.manager.maintenance.within(self.leak_after)

    def entry(self) -> list[Any]:
        """Of what is lent now."""
        return [self.core.now(), threading.current_thread().name, self.call_stack(), False]

    def forget(self, index: int) -> float | None:
        """It came back, or nobody has it any more; how long it was held, if that is known."""
        entry = self.taken.pop(index, None)
        if entry is None:
            return None
        held: float = max(0.0, self.core.now() - entry[0])
        self.core.add_held(held)
        return held

    def taken_at(self, index: int) -> str | None:
        """Where it was taken.  May be asked in a finaliser."""
        entry = self.taken.get(index)
        return entry[2][0] if entry and entry[2] else None

    def holders(self) -> list[str]:
        """For a message, if it can tell the place."""
        return [str(holder) for holder in self.leases()] if self.on else []

    def leases(self) -> list[Holder[Any]]:
        from ..stats import Holder

        now = self.core.now()
        # not enumerate(): a signal handler that raises in it can leave the lock of all threads held
        active = threading._active.copy()  # type: ignore[attr-defined]
        names = {ident: thread.name for ident, thread in active.items()}
        found = []
        for index, state, since, _, _, owner, _ in self.core.slots():
            if state == "leased" and (resource := self.core.item(index)) is not None:
                entry = self.taken.get(index)
                taken, thread, stack = entry[:3] if entry else (since, names.get(owner & ~3), ())
                found.append(Holder(resource, max(0.0, now - taken), thread, tuple(stack)))
        return found

    def report_leaks(self, now: float) -> float:
        """Logs, once each, what is held for too long; when the next will be."""
        next_at = INF
        for entry in list(self.taken.values()):
            taken, thread, stack, reported = entry[:4]
            if reported:
                continue
            if now - taken >= self.leak_after:
                entry[3] = True
                self._report(now - taken, thread, stack)
            else:
                next_at = min(next_at, taken + self.leak_after)
        return next_at

    def _report(self, age: float, thread: str, stack: list[str]) -> None:
        """On a worker: a handler of the log may borrow, for which the scheduler is needed."""
        text = "%s: a lease is held for %.3g s by %s, taken at\n  %s"
        about = (self.manager.name, age, thread, "\n  ".join(stack))
        self.manager.offload_threads.submit(_reports.warn, text, *about)

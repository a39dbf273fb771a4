"""Hooks under way, and what becomes of those that do not return in time.

A sync hook cannot be killed.  Past its deadline it counts as overdue until it returns; and if it
runs on a worker of the pool, that worker's permit is free, so that what is behind it in the queue
goes on with another.  Creations have such records of their own, in ``_creation.py``: they have no
resource yet.
"""

from __future__ import annotations

import time

from .._runtime import scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._runtime.threads import ThreadGroup
    from ._state import PoolState

__all__ = ["HookCall", "HookDeadlines"]

INF = float("inf")


class HookCall:
    """One call of a hook on a worker."""

    __slots__ = ("deadline", "replaced", "workers")

    def __init__(self, deadline: float, workers: ThreadGroup) -> None:
        self.deadline = deadline  # on the monotonic clock, in seconds
        self.workers = workers
        self.replaced = False  # its permit is free


class HookDeadlines:
    """The calls of one pool, by slot: its owner runs one hook at a time for it, and ends the call
    before the slot is anybody else's.  An entry that a signal handler left behind, by raising in a
    caller's thread, ends with the slot, which is then closed.  Fields are read and written under
    the manager's lock, but for ``ends``: one step of a dict each, so that a reset costs little."""

    def __init__(self, manager: PoolState) -> None:
        self.lock = manager.lock
        self.options = manager.options
        self.ends: dict[int, float] = {}  # deadlines in callers' own threads
        self.calls: dict[int, HookCall] = {}
        self.watches: list[float] = []  # when the scheduler comes by, the next one last

    def begin(self, index: int, workers: ThreadGroup | None = None) -> None:
        """A hook is about to be called for a slot, and may take ``hook_timeout``.  ``workers``:
        whose thread this is, None for a caller's."""
        deadline = time.monotonic() + self.options.hook_timeout
        if workers is None:
            self.ends[index] = deadline
        else:
            self.enter(index, HookCall(deadline, workers))

    def enter(self, index: int, call: HookCall) -> None:
        """The same on a worker with a deadline of its own; may be done twice for a call."""
        with self.lock.hold():
            self.calls[index] = call
            if not call.replaced:
                self._watch_until(call.deadline)

    def end(self, index: int) -> None:
        """It has returned, or there was none."""
        self.ends.pop(index, None)
        if index in self.calls:
            with self.lock.hold():
                call = self.calls.pop(index)
                if call.replaced:
                    call.workers.replace_stuck(-1)

    def overdue(self) -> int:
        """How many are past their deadline at this moment."""
        now = time.monotonic()
        late = [call for call in self.calls.copy().values() if call.deadline <= now]
        return len(late) + sum(end <= now for end in self.ends.copy().values())

    def _watch_until(self, at: float) -> None:
        """Has the scheduler come by at that time, unless it comes before anyway: then it sees to
        the rest itself."""
        if at < (self.watches[-1] if self.watches else INF):
            self.watches.append(at)
            scheduler.call_at(at, self._watch, at)

    def _watch(self, at: float) -> None:
        """On the scheduler's thread: frees the permits of workers that are stuck, and comes back
        for the next."""
        with self.lock.hold():
            now = max(time.monotonic(), at)
            while self.watches and self.watches[-1] <= now:
                self.watches.pop()
            first = INF
            for call in self.calls.values():
                if call.replaced:
                    continue
                if call.deadline <= now:
                    call.replaced = True
                    call.workers.replace_stuck()
                else:
                    first = min(first, call.deadline)
            self._watch_until(first)

"""Capacity: the right to have one resource open, shared by the keys of a KeyedPool.

A place is taken under ``lock``, when the core of a key reserves a slot (``BranchOpener.reserve``),
and is free again when the housekeeper hears that the slot is (``place_free``): the count is never
below what is open.  Callers wait in the lines of their keys, never here, so none holds up another
key's, and whoever gives up takes nothing along.  What waits here, when no place is free, is the
keys, each once:

- ``bare``: keys that have nothing open, first;
- ``short``: keys that have something and could do with more.

A place that becomes free goes to the first of them, which then goes to the end.  If something is
idle for which nobody waits, the one idle longest is closed for them.  If nothing is, a key with
callers of its own gives up what comes back to it for a key that is bare; see ``owes``.
"""

from __future__ import annotations

import time
from weakref import WeakMethod

from .. import _core
from .._runtime import scheduler
from ._idle_ages import IdleAges
from ._lazy_flag import LazyFlag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._key_pool import KeyPool
    from ._options import KeyedOptions

__all__ = ["CapacityArbiter"]

INF = float("inf")
SPARE_AFTER = 0.05  # as in pool/_per_loop.py: with less, each turn would open and close


class CapacityArbiter:
    """See the module.  Fields are read and written under ``lock``."""

    def __init__(
        self,
        core: _core.Core,
        cores: dict[Any, _core.Core],
        options: KeyedOptions,
        lock: _core.Lock,
    ) -> None:
        self.core = core  # of the whole pool: whether it is suspended
        self.cores = cores
        self.lock = lock
        self.max_total = options.max_total
        self.max_idle_total = options.max_idle_total
        self.max_waiting = options.max_waiting
        self.opened = 0  # places taken
        self.bare: dict[KeyPool, None] = {}
        self.short: dict[KeyPool, None] = {}
        self.hook_timeout = options.hook_timeout
        # Slots that are being closed for others, and until when that is counted upon.
        self.promised: dict[KeyPool, dict[int, float]] = {}
        self.watching = False  # the housekeeper will look for promises that were not kept
        self.credit = _core.Credit()  # returns that cannot make too many idle, at least
        self.look = WeakMethod(self._look)  # for the core to have the housekeeper call
        self.ages = IdleAges()
        # Whether returns are asked for their place, for a bare key; whether they are told of.
        self.asking = LazyFlag(lambda branch, on: branch.ask(on))
        self.telling = LazyFlag(lambda branch, on: branch.core.tell(on))

    def enter(self, branch: KeyPool) -> None:
        """A key that has something open for the first time."""
        branch.entered = True
        self.ages.add(branch, len(self.cores))
        self.asking.add(branch)
        self.telling.add(branch)

    def reconfigure(self, options: KeyedOptions) -> None:
        """The limits have changed."""
        self.max_waiting, self.hook_timeout = options.max_waiting, options.hook_timeout
        self.max_total, self.max_idle_total = options.max_total, options.max_idle_total

    def shrink(self) -> None:
        """On the scheduler: closes what is idle and more than the new limits allow, and has what is
        leased beyond them closed when it comes back; or opens more."""
        with self.lock.hold():
            surplus = self.opened - self.max_total - self._coming()
            while surplus > 0 and self._close_oldest():
                surplus -= 1
            for branch in _core.managers_of(self.cores):
                if surplus > 0:
                    surplus -= branch.core.mark_retire(surplus, lent=True)
            if self.is_crowded():
                self._trim()
            self.feed()

    def forget(self, branch: KeyPool) -> None:
        self.leave_line(branch)
        self.asking.remove(branch)
        self.telling.remove(branch)
        self.promised.pop(branch, None)

    def close(self) -> None:
        """On the housekeeper: nobody waits any more."""
        with self.lock.hold():
            self.bare.clear()
            self.short.clear()

    def is_in_line(self, branch: KeyPool) -> bool:
        """Whether this key waits for a place."""
        return branch in self.bare or branch in self.short

    def room(self) -> bool:
        """Whether one more may be opened."""
        return self.opened < self.max_total

    def is_over(self) -> bool:
        """Whether more are open than may be, since the limit was lowered."""
        return self.opened > self.max_total

    def is_crowded(self) -> bool:
        """Whether too many may be idle."""
        return self.opened > self.max_idle_total

    def took(self, branch: KeyPool) -> None:
        """This key has taken a place."""
        if not branch.entered:
            self.enter(branch)
        self.opened += 1
        if self.opened == self.max_idle_total + 1:  # from here on too many may be idle
            self.credit.begin()

    def serve(self, branch: KeyPool) -> None:
        """Something has changed for this key: starts as many creations as are wanted and fit, or
        lines it up.  Never blocks."""
        with self.lock.hold():
            core, creator = branch.core, branch.creator
            if core.closed or core.suspended:
                return
            if creator.wanted() > 0 and (self.room() or core.demand):
                self._line_up(branch)
            else:
                creator.wishes = 0  # of nobody in particular: not worth a place that others have
                self.leave_line(branch)
            self.feed()

    def _line_up(self, branch: KeyPool) -> None:
        if branch.core.open and branch not in self.short:
            self.leave_line(branch)
            self.short[branch] = None
        elif not branch.core.open and branch not in self.bare:
            self.leave_line(branch)
            self.bare[branch] = None

    def leave_line(self, branch: KeyPool) -> None:
        self.bare.pop(branch, None)
        self.short.pop(branch, None)

    def feed(self) -> None:
        """On a thread of the pool: gives places to those in line, as long as there are any; then
        sees to more."""
        with self.lock.hold():
            while self.room() and not self.core.suspended and (self.bare or self.short):
                branch = next(iter(self.bare or self.short))
                self.leave_line(branch)
                creator = branch.creator
                if creator.wanted() > 0 and creator.attempt() and creator.wanted() > 0:
                    self._line_up(branch)
            self._listen()
            self._make_room()

    def _listen(self) -> None:
        """First the bits, then the look: what comes back later is told of, so nothing is idle
        unseen."""
        if self.bare:
            self.asking.turn_on()
        else:
            self.asking.turn_off()
        if self.bare or self.short or self.is_crowded():
            self.telling.turn_on()
        else:
            self.telling.turn_off()

    def _make_room(self) -> None:
        """Closes what has been idle longest, one for each key in line."""
        for branch in [*self.bare, *self.short]:
            if len(self.bare) + len(self.short) <= self._coming():
                return
            if branch.creator.wanted() <= 0:
                self.leave_line(branch)
            elif not self._close_oldest():
                return

    def _close_oldest(self) -> bool:
        """Closes one; False: nothing is idle."""
        while True:
            found = self.ages.oldest()
            if found is None:
                return False
            other, index = found
            if other.core.end_idle(index, other.closing.soon, "evicted"):
                _core.promise(self, other, index)
                return True

    def _look(self) -> None:
        """On the housekeeper: a close hook that hangs is not waited for, if anything else is
        idle."""
        with self.lock.hold():
            self.watching = False
            left = [until for slots in self.promised.values() for until in slots.values()]
            late = min((until for until in left if until > time.monotonic()), default=None)
            if late is not None:
                self.watching = True
                scheduler.watch(late, self._look)
            if left:
                self.feed()

    def _coming(self) -> int:
        """How many places are about to be free for others."""
        return _core.places_coming(self.promised)

    def place_free(self, branch: KeyPool) -> None:
        """On the housekeeper: one slot of it is free."""
        with self.lock.hold():
            self.opened -= 1
            promised = self.promised.get(branch)
            if promised:
                promised.popitem()
                if not promised:
                    del self.promised[branch]
            branch.crowded()
            self.feed()

    def owes(self, branch: KeyPool, index: int) -> bool:
        """Whether this key has to give up the place of what it gets back: to a key that is bare,
        and would wait for as long as others are busy.  Not at once; and its only one not while
        callers of its own have waited longer."""
        if not self.bare:
            return False
        owing: bool = self.lock.run(_core.owes, self, branch, index, SPARE_AFTER)
        return owing

    def came_back(self, branch: KeyPool) -> None:
        """Something is idle, or lent, that was not: perhaps wanted as a place, or one too many."""
        if self.is_crowded() and not self.credit.spend():
            self._trim()
        if self.room() and self.asking.is_settled(branch) and self.telling.is_settled(branch):
            return
        if not branch.heard_of:  # else the housekeeper has not come to it yet
            try:
                branch.heard_of = True
                scheduler.poke(self._came_back, branch)
            except BaseException:  # a signal handler's
                branch.heard_of = False
                raise

    def _came_back(self, branch: KeyPool) -> None:
        """On the housekeeper."""
        branch.heard_of = False  # first: what comes from here on may be missed
        with self.lock.hold():
            if branch.core.closed:
                return
            if not self.room():
                self._make_room()
            self.asking.settle(branch)
            self.telling.settle(branch)

    def _trim(self) -> None:
        """Closes what is idle beyond the limit, the oldest first.  The look says how many returns
        will not need another one.  Without the lock: two at a time choose the same."""
        self.credit.begin()
        idle, oldest = _core.oldest_idle(self.cores, 16)
        room = self.max_idle_total - idle
        if room >= 0:
            self.credit.grant(int(room))
        for branch, index in oldest[: max(0, int(-room))]:
            branch.core.end_idle(index, branch.closing.soon, "surplus")

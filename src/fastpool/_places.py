"""Places: the right to have one resource open, shared by the keys of a KeyedPool.

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

from . import _core, _keeper
from ._ages import Ages
from ._switch import Switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._branch import Branch
    from ._keyed_options import KeyedOptions

__all__ = ["Places"]

INF = float("inf")
SPARE_AFTER = 0.05  # as in _shards.py: with less, each turn would open and close


class Places:
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
        self.bare: dict[Branch, None] = {}
        self.short: dict[Branch, None] = {}
        self.hook_timeout = options.hook_timeout
        # Slots that are being closed for others, and until when that is counted upon.
        self.promised: dict[Branch, dict[int, float]] = {}
        self.watching = False  # the housekeeper will look for promises that were not kept
        self.credit = 0  # returns that cannot make too many idle, at least
        self.ages = Ages()
        # Whether returns are asked for their place, for a bare key; whether they are told of.
        self.asking = Switch(lambda branch, on: branch.ask(on))
        self.telling = Switch(lambda branch, on: branch.core.tell(on))

    def enter(self, branch: Branch) -> None:
        """A new key."""
        self.ages.add(branch, len(self.cores))
        self.asking.add(branch)
        self.telling.add(branch)

    def forget(self, branch: Branch) -> None:
        self.leave_line(branch)
        self.asking.remove(branch)
        self.telling.remove(branch)
        self.promised.pop(branch, None)

    def close(self) -> None:
        """Nobody waits any more."""
        self.bare.clear()
        self.short.clear()

    def is_in_line(self, branch: Branch) -> bool:
        """Whether this key waits for a place."""
        return branch in self.bare or branch in self.short

    def room(self) -> bool:
        """Whether one more may be opened."""
        return self.opened < self.max_total

    def is_crowded(self) -> bool:
        """Whether too many may be idle."""
        return self.opened > self.max_idle_total

    def took(self) -> None:
        """A place was taken."""
        self.opened += 1
        if self.opened == self.max_idle_total + 1:  # from here on too many may be idle
            self.credit = 0

    def refuses(self, branch: Branch, me: int) -> str | None:
        """Why a caller for whom nothing is idle may not wait for a place, or None.  ``me``: the
        thread, or the task, that it is."""
        if self.room():
            return None
        if _core.all_held_by(self.cores, me) == self.opened:
            return "deadlock at total"
        most = self.max_waiting
        if most == INF or branch.core.waiting < most:
            return None
        idle, _ = _core.oldest_idle(self.cores, 0)
        callers = sum(other.core.demand for other in (*self.bare, *self.short))
        return "overloaded" if callers >= idle + self._coming() else None

    def serve(self, branch: Branch) -> None:
        """Something has changed for this key: starts as many creations as are wanted and fit, or
        lines it up.  Never blocks."""
        with self.lock.hold():
            core, opener = branch.core, branch.opener
            if core.closed or core.suspended:
                return
            if opener.wanted() > 0 and (self.room() or core.demand):
                self._line_up(branch)
            else:
                opener.wishes = 0  # of nobody in particular: not worth a place that others have
                self.leave_line(branch)
            self.feed()

    def _line_up(self, branch: Branch) -> None:
        if branch.core.open and branch not in self.short:
            self.leave_line(branch)
            self.short[branch] = None
        elif not branch.core.open and branch not in self.bare:
            self.leave_line(branch)
            self.bare[branch] = None

    def leave_line(self, branch: Branch) -> None:
        self.bare.pop(branch, None)
        self.short.pop(branch, None)

    def feed(self) -> None:
        """On a thread of the pool: gives places to those in line, as long as there are any; then
        sees to more."""
        with self.lock.hold():
            while self.room() and not self.core.suspended and (self.bare or self.short):
                branch = next(iter(self.bare or self.short))
                self.leave_line(branch)
                opener = branch.opener
                if opener.wanted() > 0 and opener.attempt() and opener.wanted() > 0:
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
            if branch.opener.wanted() <= 0:
                self.leave_line(branch)
            elif not self._close_oldest("evicted"):
                return

    def _close_oldest(self, why: str) -> bool:
        """Closes one; False: nothing is idle."""
        while True:
            found = self.ages.oldest()
            if found is None:
                return False
            other, index = found
            if other.core.end_idle(index, other.closing.soon, why):
                if why == "evicted":
                    self._promise(other, index)
                return True

    def _promise(self, branch: Branch, index: int) -> None:
        until = time.monotonic() + self.hook_timeout
        self.promised.setdefault(branch, {})[index] = until
        if not self.watching and until != INF:
            self.watching = True
            _keeper.watch(until, self._look)

    def _look(self) -> None:
        """On the housekeeper: a close hook that hangs is not waited for, if anything else is
        idle."""
        with self.lock.hold():
            self.watching = False
            left = [until for slots in self.promised.values() for until in slots.values()]
            late = min((until for until in left if until > time.monotonic()), default=None)
            if late is not None:
                self.watching = True
                _keeper.watch(late, self._look)
            if left:
                self.feed()

    def _coming(self) -> int:
        """How many places are about to be free for others."""
        if not self.promised:
            return 0
        now = time.monotonic()
        return sum(until > now for slots in self.promised.values() for until in slots.values())

    def place_free(self, branch: Branch) -> None:
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

    def owes(self, branch: Branch, index: int) -> bool:
        """Whether this key has to give up the place of what it gets back: to a key that is bare,
        and would wait for as long as others are busy.  Not at once; and its only one not while
        callers of its own have waited longer."""
        if not self.bare:
            return False
        with self.lock.hold():
            core = branch.core
            if index in self.promised.get(branch, ()):  # it has been said before
                return True
            if not core.waiting or len(self.bare) <= self._coming():
                return False
            since = next(iter(self.bare)).core.waits_since(0)
            if time.monotonic() - since < SPARE_AFTER:
                return False
            if core.open == 1 and core.waits_since(0) <= since:
                return False
            self._promise(branch, index)
            return True

    def came_back(self, branch: Branch) -> None:
        """Something is idle, or lent, that was not: perhaps wanted as a place, or one too many."""
        with self.lock.hold():
            if branch.core.closed:
                return
            if not self.room():
                self._make_room()
            if self.is_crowded():
                self._trim()
            self.asking.settle(branch)
            self.telling.settle(branch)

    def _trim(self) -> None:
        """Closes what is idle beyond the limit, the oldest first.  A look says how many returns
        will not need another one."""
        self.credit -= 1
        if self.credit >= 0:
            return
        idle, _ = _core.oldest_idle(self.cores, 0)
        while idle > self.max_idle_total and self._close_oldest("surplus"):
            idle -= 1
        self.credit = int(max(0, self.max_idle_total - idle))

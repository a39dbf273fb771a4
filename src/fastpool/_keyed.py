"""The manager behind a KeyedPool: a branch for each key, and the limits over all of them.

Each key has a core of its own: idle store, line and fast path.  What the keys share is the right to
open.  A place is one open resource, whatever its state.  It is taken under ``lock``, when the core
of a key reserves a slot (``BranchOpener.reserve``), and is free again when the housekeeper hears
that the slot is (``place_free``): so the count is never below what is open.  Callers wait in the
lines of their keys, never here, so none holds up another key's, and whoever gives up takes nothing
along.  What waits here, when no place is free, is the keys, each once:

- ``bare``: keys that have nothing open, first;
- ``short``: keys that have something and could do with more.

A place that becomes free goes to the first of them, which then goes to the end.  If something is
idle for which nobody waits, the one idle longest is closed for them.  If nothing is, a key with
callers of its own gives up what comes back to it for a key that is bare; see ``owes``.
"""

from __future__ import annotations

import sys
import threading
import time

from . import _core, _keeper
from ._branch import Branch, holder
from ._manager import warn_unclosed
from ._switch import Switch
from ._workers import Workers
from .errors import PoolClosed
from .stats import added, keyed_snapshot, nothing, tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._keyed_options import KeyedOptions
    from .stats import Holder, KeyedStats

__all__ = ["Keyed"]

INF = float("inf")
MOST_CREATING = 256  # calls of the factory at once, over all keys; a place each
CLOSERS = 8  # threads that close what expires or is evicted, of all keys
SPARE_AFTER = 0.05  # as in _shards.py: with less, each turn would open and close
GRACE = 1.0 if not getattr(sys, "_is_gil_enabled", lambda: True)() else 0.0


class Keyed:
    """See the module.  Fields are read and written under ``lock`` unless they say otherwise.  Its
    own core lends nothing: it says that the pool is closed or suspended."""

    def __init__(self, core: _core.Core, options: KeyedOptions) -> None:
        self.core = core
        self.options = options
        self.name = options.name
        self.max_total = options.max_total
        self.max_idle_total = options.max_idle_total
        self.cores: dict[Any, _core.Core] = {}  # by key; also read by the core, without the lock
        self.branches: dict[Any, Branch] = {}
        self.start_anew()
        core.set_pool(
            self,
            lifo=True,
            fair=True,
            limit=options.max_total,
            span=None if options.timeout == INF else options.timeout,
            max_waiting=INF,
            fresh_for=INF,
            timed=False,
            asks=False,
            ask_get=True,
            ask_put=False,
        )

    def start_anew(self) -> None:
        """Everything that is bound to this process; in a forked child all keys are forgotten."""
        self.lock = threading.RLock()
        self.news = threading.Condition(self.lock)
        name, o = f"fastpool-{self.name}", self.options
        self.creators = Workers(f"{name}-create", MOST_CREATING)
        self.checkers = Workers(f"{name}-check", min(o.max_creating * 16, 64))
        self.closers = Workers(f"{name}-close", CLOSERS)
        self.errands = Workers(f"{name}-task", 64)
        self.opened = 0  # places taken
        self.bare: dict[Branch, None] = {}
        self.short: dict[Branch, None] = {}
        self.promised: dict[Branch, set[int]] = {}  # slots that are being closed for others
        self.credit = 0  # returns that cannot make too many idle, at least
        self.asking = Switch(Branch.ask)  # returns are asked whether a bare key may have the place
        self.telling = Switch(Branch.tell)  # returns are told of
        self.past = nothing()  # the tally of keys that are forgotten
        self.orphaned = False
        self.cores.clear()
        branches = list(self.branches.values())
        self.branches.clear()
        for branch in branches:
            branch.forgotten = True
            branch.core.drop_manager()

    # ---- which key -----------------------------------------------------------------------------

    def pin(self, key: Any) -> Branch:
        """The branch of a key, made when it is first asked for; ``Branch.unpin`` it."""
        branch = self._pinned(self.branches.get(key))
        while branch is None:
            if self.core.closed:
                raise PoolClosed(self.name, "the pool is closed")
            fresh = Branch(self, key)
            with self.lock:
                found = self.branches.setdefault(key, fresh)
                if found is fresh:
                    self._enter(fresh)
            if found is not fresh:
                fresh.core.drop_manager()
            branch = self._pinned(found)
        return branch

    def _pinned(self, branch: Branch | None) -> Branch | None:
        """It, unless it was forgotten meanwhile."""
        if branch is None:
            return None
        with self.lock:
            if branch.forgotten:
                return None
            branch.pins += 1
        return branch

    def _enter(self, branch: Branch) -> None:
        self.cores[branch.key] = branch.core
        if self.core.suspended:
            branch.core.suspend()
        if self.core.closed:  # the look at it was too early
            branch.core.close()
        self.asking.add(branch)
        self.telling.add(branch)

    def is_in_line(self, branch: Branch) -> bool:
        """Whether this key waits for a place."""
        return branch in self.bare or branch in self.short

    def left(self, branch: Branch) -> None:
        """On the housekeeper: a caller has left, or a resource, and the key may be of no interest
        any more."""
        with self.lock:
            if self.is_in_line(branch):
                self.serve(branch)
            if branch.core.closed or branch.busy():
                return
            branch.forgotten = True
            self._leave_line(branch)
            self.asking.remove(branch)
            self.telling.remove(branch)
            self.promised.pop(branch, None)
            branch.core.close(wake=False)  # for whoever has just found it
            self.past = added(self.past, tally(branch))
            self.cores.pop(branch.key, None)
            self.branches.pop(branch.key, None)
        if GRACE:  # without the GIL one who has just given back may be about to look at the manager
            _keeper.watch(time.monotonic() + GRACE, _drop, branch.core)
        else:
            branch.core.drop_manager()

    def everyone(self) -> list[Branch]:
        with self.lock:
            return list(self.branches.values())

    # ---- places --------------------------------------------------------------------------------

    def room(self) -> bool:
        """Whether one more may be opened."""
        return self.opened < self.max_total

    def took(self) -> None:
        """A place was taken."""
        self.opened += 1
        if self.opened == self.max_idle_total + 1:  # from here on too many may be idle
            self.credit = 0

    def refuses(self, branch: Branch) -> str | None:
        """Why a caller for whom nothing is idle may not wait for a place, or None."""
        if self.room():
            return None
        if _core.blocks_of(self.cores, *holder()) >= self.opened:
            return "deadlock at total"
        most = self.options.max_waiting
        if most == INF or branch.core.waiting < most:
            return None
        idle, _ = _core.oldest_idle(self.cores, 0)
        callers = sum(other.core.demand for other in (*self.bare, *self.short))
        return "overloaded" if callers >= idle + self._coming() else None

    def serve(self, branch: Branch) -> None:
        """Something has changed for this key: starts as many creations as are wanted and fit, or
        lines it up.  Never blocks."""
        with self.lock:
            core, opener = branch.core, branch.opener
            if core.closed or core.suspended:
                return
            if opener.wanted() > 0 and (self.room() or core.demand):
                self._line_up(branch)
            else:
                opener.wishes = 0  # of nobody in particular: not worth a place that others have
                self._leave_line(branch)
            self.feed()

    def _line_up(self, branch: Branch) -> None:
        if branch.core.open and branch not in self.short:
            self._leave_line(branch)
            self.short[branch] = None
        elif not branch.core.open and branch not in self.bare:
            self._leave_line(branch)
            self.bare[branch] = None

    def _leave_line(self, branch: Branch) -> None:
        self.bare.pop(branch, None)
        self.short.pop(branch, None)

    def feed(self) -> None:
        """Gives places to those in line, as long as there are any; then sees to more."""
        while self.room() and not self.core.suspended and (self.bare or self.short):
            branch = next(iter(self.bare or self.short))
            self._leave_line(branch)
            opener = branch.opener
            if opener.wanted() > 0 and opener.attempt() and opener.wanted() > 0:
                self._line_up(branch)
        self._listen()
        if self.bare or self.short:
            self._make_room()

    def _listen(self) -> None:
        """First the bits, then the look: what comes back later is told of, so nothing is idle
        unseen."""
        if self.bare:
            self.asking.turn_on()
        else:
            self.asking.turn_off()
        if self.bare or self.short or self.opened > self.max_idle_total:
            self.telling.turn_on()
        else:
            self.telling.turn_off()

    def _make_room(self) -> None:
        """Closes what has been idle longest, one for each key in line."""
        for branch in [*self.bare, *self.short]:
            if len(self.bare) + len(self.short) <= self._coming():
                return
            if branch.opener.wanted() <= 0:
                self._leave_line(branch)
            elif not self._close_oldest("evicted"):
                return

    def _close_oldest(self, why: str) -> bool:
        """Closes one; False: nothing is idle."""
        while True:
            _, oldest = _core.oldest_idle(self.cores, 1)
            if not oldest:
                return False
            other, index = oldest[0]
            if other.core.end_idle(index, other.closing.later, why):
                if why == "evicted":
                    self.promised.setdefault(other, set()).add(index)
                return True

    def _coming(self) -> int:
        """How many places are about to be free for others."""
        return sum(map(len, self.promised.values()))

    def place_free(self, branch: Branch) -> None:
        """On the housekeeper: one slot of it is free."""
        with self.lock:
            self.opened -= 1
            promised = self.promised.get(branch)
            if promised:
                promised.pop()
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
        with self.lock:
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
            self.promised.setdefault(branch, set()).add(index)
            return True

    def came_back(self, branch: Branch) -> None:
        """Something is idle, or lent, that was not: perhaps wanted as a place, or one too many."""
        with self.lock:
            if branch.core.closed:
                return
            if self.bare or self.short:
                self.feed()
            if self.opened > self.max_idle_total:
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

    # ---- what the pool asks of it --------------------------------------------------------------

    def flush(self) -> None:
        for branch in self.everyone():
            branch.flush()

    def flush_key(self, key: Any) -> None:
        branch = self.branches.get(key)
        if branch is not None:
            branch.flush()

    def suspend(self) -> None:
        with self.lock:
            self.core.suspend()
            for branch in self.everyone():
                branch.core.suspend()

    def resume(self) -> None:
        with self.lock:
            self.core.resume()
            for branch in self.everyone():
                branch.core.resume()
        for branch in self.everyone():
            _keeper.poke(branch.opener.refill)

    # ---- closing -------------------------------------------------------------------------------

    def close(self, timeout: float | None, me: int | None = None) -> bool:
        """As ``Manager.close``."""
        self.options.check_timeout("close", timeout)
        self._refuse()
        self.sweep()
        mine = threading.get_ident() if me is None else me
        with self.news:
            self.news.wait_for(lambda: not _core.busy(self.cores, mine), timeout)
        self.sweep()
        if any(branch.core.open for branch in self.everyone()):
            return False
        self.dismiss_if_empty()
        return True

    def _refuse(self) -> bool:
        """Closes the gates; True for the call that did it."""
        with self.lock:
            first: bool = self.core.close()
            self.bare.clear()
            self.short.clear()
            for branch in self.everyone():
                branch.core.close()
        return first

    def sweep(self, later: bool = False) -> None:
        """Closes everything idle."""
        for branch in self.everyone():
            branch.core.close(wake=False)  # at interpreter exit; else it is closed already
            branch.sweep(later)

    def dismiss_if_empty(self) -> None:
        """Closed and nothing is open: its threads end."""
        if self.core.closed and not any(branch.core.open for branch in self.everyone()):
            for workers in (self.creators, self.checkers, self.closers, self.errands):
                workers.stop()

    def abandoned(self) -> None:
        """The KeyedPool is being collected."""
        open_ = sum(branch.core.open for branch in self.everyone())
        unclosed = self._refuse()
        for branch in self.everyone():
            branch.orphan()
        self.core.drop_manager()
        if unclosed and open_:
            warn_unclosed(self.name, open_)

    # ---- what goes on in it --------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        with self.lock:
            counted = [branch.core.counts() for branch in self.branches.values()]
        names = ("idle", "leased", "creating", "checking", "closing", "open", "waiting")
        both = {name: sum(n[name] for n in counted) for name in names}
        return both | {"keys": len(counted), "maxsize": self._most()}

    def _most(self) -> int:
        return 0 if self.max_total == INF else int(self.max_total)

    def idle(self) -> list[Any]:
        return [resource for branch in self.everyone() for resource in branch.idle()]

    def leases(self) -> list[Holder[Any]]:
        return [holder for branch in self.everyone() for holder in branch.leases()]

    def stats(self) -> KeyedStats:
        with self.lock:  # nothing is opened meanwhile: the sum is never above the limit
            tallies = {key: tally(branch) for key, branch in self.branches.items()}
            past = self.past
        return keyed_snapshot(self.name, self._most(), past, tallies)

    def workers(self) -> tuple[Any, ...]:
        return self.creators, self.checkers, self.closers

    def tend(self) -> None:
        """For the manual clock: the time has moved."""
        for branch in self.everyone():
            branch.tend()

    def log(self, what: str, error: BaseException | None) -> None:
        import logging

        logging.getLogger("fastpool").warning("%s: %s", self.name, what, exc_info=error)


def _drop(core: _core.Core) -> None:
    core.drop_manager()

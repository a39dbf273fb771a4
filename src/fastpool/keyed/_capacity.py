"""Capacity: the right to have one resource open, shared by the keys of a KeyedPool.

A slot is taken under ``lock``, when the core of a key reserves a slot (``KeyCreator.reserve``),
and is free again when the scheduler hears that the slot is (``slot_freed``): the count is never
below what is open.  Callers wait in the lines of their keys, never here, so none holds up another
key's, and whoever gives up takes nothing along.  What waits here, when no slot is free, is the
keys, each once:

- ``starved``: keys that have nothing open, first;
- ``underserved``: keys that have something and could do with more;
- ``warming``: keys that want more for nobody who waits: ``KeyedPool.warm``.

A slot that becomes free goes to the first of them, which then goes to the end.  If something is
idle for which nobody waits, the one idle longest is closed for them.  If nothing is, a key with
callers of its own gives up what comes back to it for a key that is bare; see ``must_yield``.
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
SPARE_AFTER = 0.05  # as in pool/_loop_capacity.py: with less, each turn would open and close


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
        self.allowance = INF  # a second limit, of the pool's budget if it has one
        self.budget: Any = None
        self.max_idle_total = options.max_idle_total
        self.max_waiting = options.max_waiting
        self.opened = 0  # slots taken
        self.starved: dict[KeyPool, None] = {}
        self.underserved: dict[KeyPool, None] = {}
        self.warming: dict[KeyPool, None] = {}
        self.hook_timeout = options.hook_timeout
        # Slots that are being closed for others, and until when that is counted upon.
        self.promised: dict[KeyPool, dict[int, float]] = {}
        self.watching = False  # the scheduler will look for promises that were not kept
        self.credit = _core.Credit()  # returns that cannot make too many idle, at least
        self.look = WeakMethod(self._look)  # for the core to have the scheduler call
        self.ages = IdleAges()
        # Whether returns are asked for their slot, for a bare key; whether they are told of.
        self.asking = LazyFlag(lambda key_pool, on: key_pool.ask(on))
        self.notifying = LazyFlag(lambda key_pool, on: key_pool.notify(on))

    def enter(self, key_pool: KeyPool) -> None:
        """A key that has something open for the first time."""
        key_pool.entered = True
        self.ages.add(key_pool, len(self.cores))
        self.asking.add(key_pool)
        self.notifying.add(key_pool)

    def reconfigure(self, options: KeyedOptions) -> None:
        """The limits have changed."""
        self.max_waiting, self.hook_timeout = options.max_waiting, options.hook_timeout
        self.max_total, self.max_idle_total = options.max_total, options.max_idle_total

    def shrink(self) -> None:
        """On the scheduler: closes what is idle and more than the new limits allow, and has what is
        leased beyond them closed when it comes back; or opens more."""
        with self.lock.hold():
            surplus = self.opened - self.most() - self._pending_capacity()
            while surplus > 0 and self._close_oldest():
                surplus -= 1
            for key_pool in _core.managers_of(self.cores):
                if surplus > 0:
                    surplus -= key_pool.core.mark_retire(surplus, lent=True)
            if self.is_crowded():
                self._trim()
            self.feed()

    def forget(self, key_pool: KeyPool) -> None:
        self.leave_queue(key_pool)
        self.asking.remove(key_pool)
        self.notifying.remove(key_pool)
        self.promised.pop(key_pool, None)

    def close(self) -> None:
        """On the scheduler's thread: nobody waits any more."""
        with self.lock.hold():
            for queue in (self.starved, self.underserved, self.warming):
                queue.clear()

    def is_queued(self, key_pool: KeyPool) -> bool:
        """Whether this key waits for a slot."""
        return any(key_pool in q for q in (self.starved, self.underserved, self.warming))

    def queued(self) -> list[KeyPool]:
        """The keys that wait for slots, in the order in which they are served."""
        return [*self.starved, *self.underserved, *self.warming]

    def has_capacity(self) -> bool:
        """Whether one more may be opened."""
        return self.opened < self.most()

    def most(self) -> float:
        """How many may be open."""
        return min(self.max_total, self.allowance)

    def is_over(self) -> bool:
        """Whether more are open than may be, since the limit was lowered."""
        return self.opened > self.most()

    def is_crowded(self) -> bool:
        """Whether too many may be idle."""
        return self.opened > self.max_idle_total

    def count_opened(self, key_pool: KeyPool) -> None:
        """This key has taken a slot."""
        if not key_pool.entered:
            self.enter(key_pool)
        self.opened += 1
        if self.opened == self.max_idle_total + 1:  # from here on too many may be idle
            self.credit.begin()

    def serve(self, key_pool: KeyPool) -> None:
        """Something has changed for this key: starts as many creations as are wanted and fit, or
        lines it up.  Never blocks."""
        with self.lock.hold():
            core, creator = key_pool.core, key_pool.creator
            if core.closed or core.suspended:
                return
            somebody = core.demand or creator.warming
            if creator.wanted() > 0 and (somebody or self.has_capacity()):
                self._enqueue(key_pool)
            else:
                if not creator.warming:  # of nobody in particular: not worth a slot of others
                    creator.background_demand = 0
                self.leave_queue(key_pool)
            self.feed()

    def _enqueue(self, key_pool: KeyPool) -> None:
        core = key_pool.core
        waited_for = self.underserved if core.open else self.starved
        queue = waited_for if core.demand else self.warming
        if key_pool not in queue:
            self.leave_queue(key_pool)
            queue[key_pool] = None

    def leave_queue(self, key_pool: KeyPool) -> None:
        self.starved.pop(key_pool, None)
        self.underserved.pop(key_pool, None)
        self.warming.pop(key_pool, None)

    def feed(self) -> None:
        """On a thread of the pool: gives slots to those in the queue, as long as there are any;
        then sees to more."""
        with self.lock.hold():
            while (
                self.has_capacity()
                and not self.core.suspended
                and (queue := self.starved or self.underserved or self.warming)
            ):
                key_pool = next(iter(queue))
                self.leave_queue(key_pool)
                creator = key_pool.creator
                if creator.wanted() > 0 and creator.attempt() and creator.wanted() > 0:
                    self._enqueue(key_pool)
            self._listen()
            self._evict_for_waiting()
            if self.budget is not None and self.queued():
                self.budget.ask()

    def _listen(self) -> None:
        """First the bits, then the look: what comes back later is told of, so nothing is idle
        unseen."""
        if self.starved:
            self.asking.switch_on()
        else:
            self.asking.switch_off()
        if self.starved or self.underserved or self.warming or self.is_crowded():
            self.notifying.switch_on()
        else:
            self.notifying.switch_off()

    def _frees_a_slot(self) -> bool:
        """Whether a freed slot can be taken again: not while too many are open.  Under the lock."""
        return self.opened - self._pending_capacity() <= self.most()

    def _evict_for_waiting(self) -> None:
        """Closes what has been idle longest, one for each key in the queue."""
        if not self._frees_a_slot():
            return
        for key_pool in self.queued():
            waiting = len(self.starved) + len(self.underserved) + len(self.warming)
            if waiting <= self._pending_capacity():
                return
            if key_pool.creator.wanted() <= 0:
                self.leave_queue(key_pool)
            elif not self._close_oldest(for_warming=not key_pool.core.demand):
                return

    def _close_oldest(self, for_warming: bool = False) -> bool:
        """Closes one; False: nothing is idle that may be closed."""
        while True:
            found = self._oldest(for_warming)
            if found is None:
                return False
            other, index = found
            if other.core.end_idle(index, other.closing.soon, "evicted"):
                _core.promise(self, other, index)
                return True

    def _oldest(self, for_warming: bool) -> tuple[KeyPool, int] | None:
        return self.ages.oldest(for_warming)

    def _look(self) -> None:
        """On the scheduler's thread: a close hook that hangs is not waited for, if anything else is
        idle."""
        with self.lock.hold():
            self.watching = False
            left = [until for slots in self.promised.values() for until in slots.values()]
            late = min((until for until in left if until > time.monotonic()), default=None)
            if late is not None:
                self.watching = True
                scheduler.call_at(late, self._look)
            if left:
                self.feed()

    def _pending_capacity(self) -> int:
        """How many slots are about to be free for others."""
        return _core.promised_capacity(self.promised)

    def slot_freed(self, key_pool: KeyPool) -> None:
        """On the scheduler's thread: one slot of it is free."""
        with self.lock.hold():
            self.opened -= 1
            promised = self.promised.get(key_pool)
            if promised:
                promised.popitem()
                if not promised:
                    del self.promised[key_pool]
            key_pool.crowded()
            self.feed()
            if self.budget is not None:
                self.budget.ask()

    def must_yield(self, key_pool: KeyPool, index: int) -> bool:
        """Whether this key has to give up the slot of what it gets back: to a key that is bare,
        and would wait for as long as others are busy.  Not at once; and its only one not while
        callers of its own have waited longer."""
        if not self.starved or self.is_over():
            return False
        owing: bool = self.lock.run(_core.must_yield, self, key_pool, index, SPARE_AFTER)
        return owing

    def on_idle(self, key_pool: KeyPool) -> None:
        """Something is idle, or lent, that was not: perhaps wanted as a slot, or one too many."""
        if self.is_crowded() and not self.credit.spend():
            self._trim()
        if (
            self.has_capacity()
            and self.asking.is_synced(key_pool)
            and self.notifying.is_synced(key_pool)
        ):
            return
        if not key_pool.notice_pending:  # else the scheduler has not come to it yet
            try:
                key_pool.notice_pending = True
                scheduler.call_soon(self._on_idle, key_pool)
            except BaseException:  # a signal handler's
                key_pool.notice_pending = False
                raise

    def _on_idle(self, key_pool: KeyPool) -> None:
        """On the scheduler's thread."""
        key_pool.notice_pending = False  # first: what comes from here on may be missed
        with self.lock.hold():
            if key_pool.core.closed:
                return
            if not self.has_capacity():
                self._evict_for_waiting()
            self.asking.sync(key_pool)
            self.notifying.sync(key_pool)

    def _trim(self) -> None:
        """Closes what is idle beyond the limit, the oldest first.  The look says how many returns
        will not need another one.  Without the lock: two at a time choose the same."""
        self.credit.begin()
        idle, oldest = _core.oldest_idle(self.cores, 16)
        spare = self.max_idle_total - idle
        if spare >= 0:
            self.credit.grant(int(spare))
        for key_pool, index in oldest[: max(0, int(-spare))]:
            key_pool.core.end_idle(index, key_pool.closing.soon, "surplus")

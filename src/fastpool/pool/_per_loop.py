"""The manager of a pool whose factory is asynchronous: one part per event loop, under one cap.

Resources belong to the loop that made them, so each loop has a core of its own: idle store, queue
and fast path.  What they share is the right to open: every creation of every part is started here,
under ``lock``, for the caller who has waited longest, wherever it is.  When the cap is reached, the
resource that has been idle longest is closed in favour of a loop that waits for a slot.
"""

from __future__ import annotations

import time
from asyncio import _get_running_loop

from .. import _core, _reports
from .._aio import loop as aio_loop
from .._runtime import scheduler
from ..errors import PoolClosed
from ._budget import LoopsShare, Share
from ._loop_capacity import LoopCapacity, priority
from ._loop_pool import LoopPool
from ._on_loops import OnLoopsManager
from ._opening import begin

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any, NoReturn

    from ._options import Options

__all__ = ["PerLoopManager"]

INF = float("inf")


class PerLoopManager(OnLoopsManager):
    """See the module.  ``cores`` is by event loop."""

    share_kind: type[Share] = LoopsShare
    maxsize: int

    def __init__(self, core: _core.Core, options: Options) -> None:
        self.maxsize = options.maxsize
        self.unopened = not options.open
        super().__init__(core, options)

    def create_arbiter(self) -> None:
        # What closed loops left is being closed, and keeps its slot for so long: until when at
        # most.
        self.parting: list[float] = []
        self.capacity = LoopCapacity(self.everyone, self._free)

    # ---- which loop ----------------------------------------------------------------------------

    def core_for(self, loop: asyncio.AbstractEventLoop | None) -> _core.Core:
        """The core that serves this loop; made when it is first asked for."""
        if loop is None:
            raise self.not_on_a_loop()
        if self.unopened:
            begin(self)
        core = self.cores.get(loop)
        if core is None:
            aio_loop.loop_of(loop).pools.add(self)
            self.forget_closed()
            core = scheduler.run(self._admit, loop)
        return core

    def _admit(self, loop: asyncio.AbstractEventLoop) -> _core.Core:
        """On the scheduler's thread: as ``core_for``."""
        with self.lock.hold():
            core = self.cores.get(loop)
            if core is None:
                if self.core.closed:
                    raise PoolClosed(self.name, "the pool is closed")
                core = self.cores[loop] = self.new_part(loop).core
                self.limit_cores()
                if self.core.suspended:
                    core.suspend()
                if self.to_keep():
                    scheduler.call_soon(core.manager.creator.refill)
        return core

    def new_part(self, loop: asyncio.AbstractEventLoop) -> LoopPool:
        return LoopPool(self, loop)

    def holder(self, resource: object) -> _core.Core:
        """The core that holds it, or one that holds nothing."""
        cores = (part.core for part in self.everyone())
        return next((core for core in cores if core.find(resource) >= 0), self.core)

    def latest(self) -> LoopPool | None:
        """Of the loop that used the pool last, one that runs if possible."""
        return max(
            reversed(self.everyone()),
            key=lambda part: (part.loop.is_running(), part.last_use()),
            default=None,
        )

    # ---- closed loops --------------------------------------------------------------------------

    def forgotten(self, part: LoopPool, n: int) -> float:
        self.limit_cores()
        scheduler.call_soon(part.creator.refill)  # on another loop
        return self.hold(part, n)

    def hold(self, part: LoopPool, n: int) -> float:
        until = time.monotonic() + self.options.hook_timeout
        self.parting += [until] * n
        return until

    def release(self, part: LoopPool, held: float) -> None:
        with self.lock.hold():
            self.parting.remove(held)
        scheduler.call_soon(self.start)
        if self.budget is not None:
            self.budget.ask()

    def limit_cores(self) -> None:
        """A loop that is alone with the pool has its whole cap, and its callers queue without
        asking.  Where there are several, all ask, since something may be idle elsewhere."""
        parts = self.everyone()
        alone = len(parts) == 1
        for part in parts:
            part.core.set_limit(self.maxsize if alone and self.maxsize else INF)
        if self.budget is not None:
            self.budget.limit(parts)

    # ---- slots --------------------------------------------------------------------------------

    def has_capacity(self) -> bool:
        """Whether one more may be opened now."""
        return self._free() > 0 and not self.core.suspended

    def _free(self) -> float:
        """How many more fit under the cap; after it was lowered, perhaps less than none."""
        most = self.maxsize or INF
        if self.budget is not None:
            most = min(most, self.budget.most_open)
        return INF if most == INF else most - self.taken()

    def taken(self) -> int:
        """How many slots are taken: what is open, and what a closed loop has left, for as long as
        closing it may take."""
        now = time.monotonic()
        return self.opened() + sum(until > now for until in list(self.parting))

    def refuses(self, me: int) -> str | None:
        """Why a caller for whom nothing is idle may not wait, or None.  ``me``: its task.  Under
        the lock, until it has come."""
        if not self.maxsize:
            return None
        return self.capacity.refuses(me, self.maxsize, self.options.max_waiting)

    def refill(self) -> None:
        """Wishes for what ``min_idle`` or ``min_size`` lacks.  Under the lock."""
        latest = self.latest()
        if latest is not None:
            running = self.running_parts()
            others = sum(part.creator.background_demand for part in running if part is not latest)
            creator = latest.creator
            creator.background_demand = max(creator.background_demand, creator.missing() - others)

    def start(self) -> None:
        """Starts as many creations as are wanted and fit under the cap, those who have waited
        longest first.  Never blocks."""
        core = self.core
        with self.lock.hold():
            if core.closed or core.suspended:
                return
            while wanting := self._wanting():
                part = min(wanting, key=priority)
                if not self.has_capacity():
                    break
                if not part.creator.attempt() and not part.loop.is_closed():
                    break
            self.capacity.evict_for([part for part in wanting if part.core.demand])
            if wanting and self.budget is not None:
                self.budget.ask()

    def _wanting(self) -> list[LoopPool]:
        """Who could start a creation, if there were a slot.  A loop that does not run stands in
        nobody's way."""
        everyone = self.everyone()
        in_flight = sum(part.core.in_flight for part in everyone if part.loop.is_running())
        if in_flight >= self.options.max_creating:
            return []
        return [s for s in everyone if s.creator.wanted_at_all() and not s.loop.is_closed()]

    def must_yield(self, part: LoopPool) -> bool:
        """Whether this loop has to give up the slot of what it gets back to another.  Without the
        lock: two that look at once may both do so, as two that look in turn may."""
        return self.capacity.is_wanted_by_others(part) and self.capacity.must_yield(part)

    def on_idle(self, part: LoopPool) -> None:
        """Something of this loop is idle, perhaps wanted as a slot by another."""
        if self.capacity.is_wanted_by_others(part):
            scheduler.call_soon(self.start)

    # ---- what the pool asks of it --------------------------------------------------------------

    def acquire_slow(self, *_: object) -> NoReturn:
        self.refuse_caller("`async with pool.lease()`, aget() or aacquire()")

    def raise_misuse(self, act: str, resource: object) -> NoReturn:
        from .._misuse import ask_resource

        cure = ask_resource(act, resource)
        if cure is not None:
            raise ValueError(f"{self.name}: {cure}")
        raise ValueError(
            f"{self.name}: {act}: this pool did not make, or has closed, the "
            f"{type(resource).__name__} object {_reports.shown(resource, 80)}"
        )

    def open(self, wait: bool, timeout: float | None) -> NoReturn:
        raise TypeError(self.for_tasks("`await pool.aopen()`"))

    def to_keep(self) -> int:
        return self.options.least_idle

    def demand_in_background(self, n: int) -> None:
        """Idle ones are made by the first loop there is; of a pool that is not open yet, by the one
        that opens it."""
        if _get_running_loop() is not None and not self.unopened:
            self.core_for(_get_running_loop())

    def warm(self, n: Any, timeout: float | None, use_default: bool) -> NoReturn:
        raise TypeError(self.for_tasks("`await pool.awarm()`"))

    def look(self) -> None:
        scheduler.call_soon(self.start)

    def resize(self, maxsize: Any, /) -> int:
        self.options.check_maxsize(maxsize)
        scheduler.run(self._resize, maxsize)
        return int(maxsize)

    def _resize(self, maxsize: int) -> None:
        """On the scheduler's thread: no loop keeps the limit of before."""
        with self.lock.hold():
            self.maxsize = maxsize
            self.core.set_limit(maxsize or INF)
            for part in self.everyone():
                part.maxsize = maxsize
            self.limit_cores()
        self.close_surplus(maxsize or INF)
        self.start()

    def close_surplus(self, most: float) -> None:
        """Close what is open beyond so many: what is idle, the oldest first, and what is lent when
        it comes back."""
        with self.lock.hold():
            surplus = max(0, self.capacity.staying() - int(most)) if most != INF else 0
            self.capacity.close_surplus(surplus)

    def retire(self, resource: object) -> NoReturn:
        """No loop holds it: see ``holder``."""
        self.raise_misuse("retire", resource)

    # ---- closing -------------------------------------------------------------------------------

    def wait_closed(self, timeout: float | None, me: int | None) -> None:
        if self.may_wait():
            mine = me or 0
            self.state_changed.wait_for(lambda: all(s.only(mine) for s in self.everyone()), timeout)

    def on_return(self, later: bool = True) -> None:
        self.sweep(later)

    # ---- what goes on in it --------------------------------------------------------------------

    def counts(self) -> dict[str, Any]:
        """As ``Core.counts``, of all loops together."""
        return self.counted()[0]

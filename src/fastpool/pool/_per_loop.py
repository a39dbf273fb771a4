"""The manager of a pool whose factory is asynchronous: one shard per event loop, under one cap.

Resources belong to the loop that made them, so each loop has a core of its own: idle store, queue
and fast path.  What they share is the right to open: every creation of every shard is started here,
under ``lock``, for the caller who has waited longest, wherever it is.  When the cap is reached, the
resource that has been idle longest is closed in favour of a loop that waits for a slot.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import _get_running_loop

from .. import _core, _reports
from .._aio import loop as aio_loop
from .._runtime import scheduler
from .._runtime.threads import ThreadGroup
from ..errors import PoolClosed
from ..stats import added, nothing, snapshot, tally
from ._budget import LoopsShare, join
from ._closed_loops import close_at_last
from ._configuration import change, configure_core, look_again, readable
from ._ended_waits import end_waits
from ._idle_checks import check_all, checkable
from ._listeners import add, remove
from ._loop_capacity import LoopCapacity, priority
from ._loop_pool import LoopPool
from ._manager import warn_unclosed
from ._opening import begin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ..stats import Holder, PoolStats
    from ._options import Options

__all__ = ["PerLoopManager"]

INF = float("inf")
AT_ONCE = 5.0  # seconds at most that a caller waits for the scheduler, which blocks nowhere
GAUGES = ("idle", "leased", "creating", "checking", "closing", "open", "waiting", "overdue")


class PerLoopManager:
    """See the module.  Its own core opens nothing: it says that the pool is closed or suspended,
    and sends threads here."""

    listeners: Any = None

    def __init__(self, core: _core.Core, options: Options) -> None:
        self.core = core
        self.options = options
        self.name = options.name
        self.maxsize = options.maxsize
        self.unopened = not options.open
        self.shards: dict[asyncio.AbstractEventLoop, LoopPool] = {}
        self.bind_to_process()
        core.set_sharded()
        core.set_pool(
            self,
            lifo=True,
            fair=True,
            limit=options.maxsize or INF,
            timeout=None if options.timeout == INF else options.timeout,
            max_waiting=INF,
            fresh_for=INF,
            timed=False,
            has_check=False,
            ask_get=True,
            ask_put=False,
        )

    def bind_to_process(self) -> None:
        """Everything that is bound to this process; a forked child has none of the loops."""
        self.lock = _core.Lock()
        self.state_changed = _core.Condition()
        name, context = f"fastpool-{self.name}", self.options.context
        self.offload_threads = ThreadGroup(f"{name}-task", 64, context)
        self.closers = ThreadGroup(f"{name}-close", 1, context)  # for what a closed loop left
        if self.shards:  # the parent's: hooks under way must not be ended here, not even at exit,
            _core.keep_forever(
                self.shards
            )  # for that would run what stands in their ``finally`` blocks
        self.shards = {}
        self.past = nothing()  # the tally of shards whose loop was closed
        # What they left is being closed, and keeps its slot for so long: until when at most.
        self.parting: list[float] = []
        self.capacity = LoopCapacity(self.everyone, self._free)
        self.budget: Any = None  # none of its own calls asks before it has joined
        self.budget = join(LoopsShare, self)

    # ---- which shard ---------------------------------------------------------------------------

    def core_for(self, loop: asyncio.AbstractEventLoop | None) -> _core.Core:
        """The core that serves this loop; made when it is first asked for."""
        if loop is None:
            raise TypeError(self._for_tasks("asyncio; none of its event loops runs in this thread"))
        if self.unopened:
            begin(self)
        its = aio_loop.loop_of(loop)  # before the lock: it may have other pools forget closed loops
        if loop not in self.shards:
            self.forget_closed()
        with self.lock.hold():
            shard = self.shards.get(loop)
            if shard is None:
                if self.core.closed:
                    raise PoolClosed(self.name, "the pool is closed")
                its.pools.add(self)
                shard = self.shards[loop] = LoopPool(self, loop)
            if not shard.ready:  # new, or a signal handler has raised before this was done
                self.limit_cores()
                if self.core.suspended:
                    shard.core.suspend()
                if self.options.least_idle:
                    scheduler.call_soon(shard.creator.refill)
                shard.ready = True
        return shard.core

    def holder(self, resource: object) -> _core.Core:
        """The core that holds it, or one that holds nothing."""
        cores = (shard.core for shard in self.everyone())
        return next((core for core in cores if core.find(resource) >= 0), self.core)

    def everyone(self) -> list[LoopPool]:
        with self.lock.hold():
            return list(self.shards.values())

    def latest(self) -> LoopPool | None:
        """Of the loop that used the pool last, one that runs if possible."""
        return max(
            reversed(self.everyone()),
            key=lambda shard: (shard.loop.is_running(), shard.last_use()),
            default=None,
        )

    def forget_closed(self, wait: bool = True) -> list[LoopPool]:
        """Those whose loop is closed: what they held is gone, and their slots are free.  The
        scheduler sees to it; ``wait``: until it has, not under the lock."""
        closed = [shard for shard in self.everyone() if shard.loop.is_closed()]
        for shard in closed:
            scheduler.call_soon(self._forget, shard)
        if closed and wait and not scheduler.runs_here():
            self.state_changed.wait_for(
                lambda: not any(self.shards.get(shard.loop) is shard for shard in closed), AT_ONCE
            )
        return closed

    def _forget(self, shard: LoopPool) -> None:
        """On the scheduler's thread: no signal handler comes between what is claimed and who closes
        it."""
        with self.lock.hold():
            if self.shards.pop(shard.loop, None) is None:
                return
            gone = shard.on_loop_closed()
            until = self._hold_capacity(len(gone))
            counted = tally(shard)
            stranded = counted["checking"] + counted["closing"]  # with tasks that never go on
            closed = counted["closed"]
            if stranded:
                closed["loop"] = closed.get("loop", 0) + stranded
            counted.update(dict.fromkeys(GAUGES, 0))
            self.limit_cores()
            self.past = added(self.past, counted)
            self.state_changed.notify_all()
        shard.core.drop_manager()
        self._submit(gone, until)
        scheduler.call_soon(shard.creator.refill)

    def part_with(self, shard: LoopPool, resources: list[Any]) -> None:
        """Of a loop that is closed."""
        with self.lock.hold():
            until = self._hold_capacity(len(resources))
        self._submit(resources, until)

    def _hold_capacity(self, count: int) -> float:
        until = time.monotonic() + self.options.hook_timeout
        self.parting += [until] * count
        return until

    def _submit(self, resources: list[Any], until: float) -> None:
        if resources:
            self.closers.submit(self._part_with, resources, until)

    def _part_with(self, resources: list[Any], until: float) -> None:
        """On a worker: what can be closed without a loop.  Only then is its slot free."""
        try:
            while resources:
                close_at_last(self.options.hooks, resources.pop())
                with self.lock.hold():
                    self.parting.remove(until)
        finally:
            scheduler.call_soon(self.start)
            if self.budget is not None:
                self.budget.ask()

    def limit_cores(self) -> None:
        """A loop that is alone with the pool has its whole cap, and its callers queue without
        asking.  Where there are several, all ask, since something may be idle elsewhere."""
        alone = len(self.shards) == 1
        for shard in self.shards.values():
            shard.core.set_limit(self.maxsize if alone and self.maxsize else INF)
            if self.budget is not None:
                shard.core.set_allowance(self.budget.allowance if alone else INF)

    # ---- slots --------------------------------------------------------------------------------

    def has_capacity(self) -> bool:
        """Whether one more may be opened now."""
        return self._free() > 0 and not self.core.suspended

    def _free(self) -> float:
        """How many more fit under the cap; after it was lowered, perhaps less than none."""
        most = self.maxsize or INF
        if self.budget is not None:
            most = min(most, self.budget.allowance)
        return INF if most == INF else most - self.taken()

    def taken(self) -> int:
        """How many slots are taken: what is open, and what a closed loop has left, for as long as
        closing it may take."""
        now = time.monotonic()
        return self.opened() + sum(until > now for until in list(self.parting))

    def opened(self) -> int:
        return sum(shard.core.open for shard in self.everyone())

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
            running = [shard for shard in self.everyone() if shard.loop.is_running()]
            others = sum(
                shard.creator.background_demand for shard in running if shard is not latest
            )
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
                shard = min(wanting, key=priority)
                if not self.has_capacity():
                    break
                if not shard.creator.attempt() and not shard.loop.is_closed():
                    break
            self.capacity.evict_for([shard for shard in wanting if shard.core.demand])
            if wanting and self.budget is not None:
                self.budget.ask()

    def _wanting(self) -> list[LoopPool]:
        """Who could start a creation, if there were a slot.  A loop that does not run stands in
        nobody's way."""
        everyone = self.everyone()
        in_flight = sum(shard.core.in_flight for shard in everyone if shard.loop.is_running())
        if in_flight >= self.options.max_creating:
            return []
        return [s for s in everyone if s.creator.wanted_at_all() and not s.loop.is_closed()]

    def must_yield(self, shard: LoopPool) -> bool:
        """Whether this loop has to give up the slot of what it gets back to another."""
        if not self.capacity.is_wanted_by_others(shard):
            return False
        with self.lock.hold():
            return self.capacity.must_yield(shard)

    def on_idle(self, shard: LoopPool) -> None:
        """Something of this loop is idle, perhaps wanted as a slot by another."""
        if self.capacity.is_wanted_by_others(shard):
            scheduler.call_soon(self.start)

    # ---- what the pool asks of it --------------------------------------------------------------

    def acquire_slow(self, *_: object) -> NoReturn:
        if self.core.closed:
            raise PoolClosed(self.name, "the pool is closed")
        raise TypeError(self._for_tasks("`async with pool.lease()`, aget() or aacquire()"))

    def _for_tasks(self, instead: str) -> str:
        return (
            f"{self.name}: the factory is a coroutine function, so its resources belong to event "
            f"loops and are for tasks alone: use {instead}"
        )

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
        raise TypeError(self._for_tasks("`await pool.aopen()`"))

    def configure(self, changes: dict[str, Any]) -> None:
        change(self, changes)
        self.core.set_span(self.options.timeout)
        for shard in self.everyone():
            configure_core(shard)
            look_again(shard)

    def readable(self) -> dict[str, Any]:
        return readable(self)

    def add_listener(self, pool: Any, listener: Any) -> None:
        add(self, [shard.core for shard in self.everyone()], pool, listener)

    def remove_listener(self, listener: Any) -> None:
        remove(self, [shard.core for shard in self.everyone()], listener)

    def to_keep(self) -> int:
        return self.options.least_idle

    def demand_in_background(self, n: int) -> None:
        """Idle ones are made by the first loop there is; of a pool that is not open yet, by the one
        that opens it."""
        if _get_running_loop() is not None and not self.unopened:
            self.core_for(_get_running_loop())

    def warm(self, n: Any, timeout: float | None, use_default: bool) -> NoReturn:
        raise TypeError(self._for_tasks("`await pool.awarm()`"))

    def resize(self, maxsize: Any, /) -> int:
        self.options.check_maxsize(maxsize)
        with self.lock.hold():
            self.maxsize = maxsize
            self.core.set_limit(maxsize or INF)
            for shard in self.everyone():
                shard.maxsize = maxsize
            self.limit_cores()
        self.close_surplus(maxsize or INF)
        scheduler.call_soon(self.start)
        return int(maxsize)

    def close_surplus(self, most: float) -> None:
        """Close what is open beyond so many: what is idle, the oldest first, and what is lent when
        it comes back."""
        with self.lock.hold():
            surplus = max(0, self.capacity.staying() - int(most)) if most != INF else 0
            self.capacity.close_surplus(surplus)

    def retire(self, resource: object) -> NoReturn:
        """No loop holds it: see ``holder``."""
        self.raise_misuse("retire", resource)

    def flush(self, idle_only: bool = False, fail_waiters: bool = False) -> None:
        if fail_waiters:
            end_waits("flush", self.everyone())
        end = _core.end_unused if idle_only else _core.end_all
        end([(shard.core, shard.closing.later) for shard in self.everyone()], "flushed")

    def check_idle(self, on_worker: bool = False) -> int:
        """On loops that run: elsewhere nothing can be awaited."""
        if not on_worker:
            raise TypeError(self._for_tasks("`await pool.acheck_idle()`"))
        checkable(self)
        return check_all(self, [each for each in self.everyone() if each.loop.is_running()])

    def suspend(self, fail_waiters: bool = False) -> None:
        with self.lock.hold():
            self.core.suspend()
            for shard in self.everyone():
                shard.core.suspend()
        if fail_waiters:
            end_waits("suspend", self.everyone())

    def resume(self) -> None:
        with self.lock.hold():
            self.core.resume()
            for shard in self.everyone():
                shard.core.resume()
        scheduler.call_soon(self.start)

    # ---- closing -------------------------------------------------------------------------------

    def close(self, timeout: float | None, me: int | None = None) -> bool:
        """As ``Manager.close``.  In the thread of a running loop it waits for nothing: the loop
        could not go on meanwhile."""
        self.options.check_timeout("close", timeout)
        self.core.close(then=self.sweep)  # whatever becomes of this call
        self.sweep()
        self.state_changed.notify_all()  # for warm(), which waits for them
        if _get_running_loop() is None:
            mine = me or 0
            self.state_changed.wait_for(lambda: all(s.only(mine) for s in self.everyone()), timeout)
        self.sweep()
        if self.budget is not None:
            self.budget.ask()
        if self.opened():
            return False
        self.shut_down_if_empty()
        return True

    def sweep(self, later: bool = True) -> None:
        """Closes everything idle, on its own loop."""
        self.forget_closed()
        for shard in self.everyone():
            shard.core.close()
            shard.sweep(later)

    def on_return(self, later: bool = True) -> None:
        self.sweep(later)

    def shut_down_if_empty(self) -> None:
        if self.core.closed and not self.opened():
            for workers in (self.offload_threads, self.closers):
                workers.stop()

    def on_collected(self) -> None:
        """The FastPool is being collected."""
        closed = self.forget_closed(wait=False)
        shards = [shard for shard in self.everyone() if shard not in closed]
        open_ = sum(shard.core.open for shard in shards)
        unclosed = self.core.close()
        for shard in shards:
            shard.orphan()
        self.core.drop_manager()
        if unclosed and open_:
            warn_unclosed(self.options, open_)

    # ---- what goes on in it --------------------------------------------------------------------

    def counts(self) -> dict[str, Any]:
        """The sizes of all shards together: under the lock nothing is opened meanwhile, so the sum
        is never above the cap."""
        with self.lock.hold():
            counted = [shard.core.counts() for shard in self.everyone()]
        return {name: sum(n[name] for n in counted) for name in GAUGES[:-1]}

    def sizes(self) -> dict[str, int]:
        return self.counts() | {"maxsize": self.maxsize}

    def idle(self) -> list[Any]:
        return [resource for shard in self.everyone() for resource in shard.idle()]

    def leases(self) -> list[Holder[Any]]:
        return [holder for shard in self.everyone() for holder in shard.leases()]

    def stats(self) -> PoolStats:
        self.forget_closed()
        with self.lock.hold():
            counted = self.past
            for shard in self.everyone():
                counted = added(counted, tally(shard))
        return snapshot(self.name, self.maxsize, dict(counted), budget=self.budget)

    def workers(self) -> tuple[Any, ...]:
        return *(shard.tasks for shard in self.everyone()), self.closers

    def maintain(self) -> None:
        """For the manual clock: the time has moved."""
        for shard in self.everyone():
            shard.maintain()

    def log(self, what: str, error: BaseException) -> None:
        _reports.warn("%s: %s", self.name, what, error=error)

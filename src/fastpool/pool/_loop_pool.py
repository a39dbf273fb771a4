"""What a pool with an async factory keeps for one event loop: a manager whose hooks are awaited.

The resources, the queue and the idle store of that loop.  Hooks run as tasks of the loop that
belong to the pool, so a borrower who is cancelled takes no hook with it; they can be cancelled
themselves, and are when their time is over.  How many may be open is for ``_per_loop.py`` to say.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop

from .. import _core
from .._aio.hook_tasks import HookTasks, called, within
from .._runtime import scheduler
from ._listeners import notify_in_worker
from ._loop_hooks import LoopClosing, LoopCreator, LoopHealthChecks
from ._maintenance import Maintenance
from ._manager import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from ._per_loop import PerLoopManager

__all__ = ["LoopPool"]

INF = float("inf")


class LoopMaintenance(Maintenance):
    manager: LoopPool

    def maintain(self) -> None:
        if self.manager.loop.is_closed():
            self.manager.shards.forget_closed()
        else:
            super().maintain()


class LoopPool(Manager):
    """The manager of one loop's share of a pool.  Its core's limit says only when callers ask for
    a slot; slots are given out under the lock of ``PerLoopManager``, which all of them share."""

    awaits = True
    creator: LoopCreator
    checking: LoopHealthChecks
    closing: LoopClosing

    def __init__(self, shards: PerLoopManager, loop: asyncio.AbstractEventLoop) -> None:
        self.shards = shards
        self.loop = loop  # kept alive: the core tells loops apart by their addresses
        self.tasks = HookTasks(loop, shards.options.context)
        self.ready = False  # the others know of it
        self.used_at = 0.0  # as far as is known: what is closed takes its own time along
        super().__init__(_core.Core(), shards.options)
        self.maxsize = shards.maxsize
        self.set_core(INF, self.options.max_waiting)

    def bind_to_process(self) -> None:
        self.lock, self.state_changed = self.shards.lock, self.shards.state_changed
        self.create_parts()
        self.budget = self.shards.budget

    def create_parts(self) -> None:
        super().create_parts()
        self.checkers = self.closers = self.tasks
        self.offload_threads = self.shards.offload_threads
        self.closing = LoopClosing(self)
        self.checking = LoopHealthChecks(self)
        self.creator = LoopCreator(self)
        self.maintenance = LoopMaintenance(self)

    def last_use(self) -> float:
        """When a resource was last given back here, or one more was asked for.  A slot that is
        being filled still tells the time of what it held before, maybe in another pool."""
        filled = (slot for slot in self.core.slots() if slot[1] != "creating")
        self.used_at = max([self.used_at, *(slot[2] for slot in filled)])
        return self.used_at

    # ---- borrowing -----------------------------------------------------------------------------

    def announce_waiter(
        self, guard: _core.SlotGuard, start: float, timeout: float | None, me: int
    ) -> None:
        with self.lock.hold():  # one step for whoever comes at the same time on another loop
            refused = self.shards.refuses(me)
            if refused is None:
                self.core.announce_waiter(guard)
                self.used_at = self.core.now()
        if refused is not None:
            raise self.refusal(refused, start, timeout)
        scheduler.call_soon(self.creator.refill)

    def counts(self) -> dict[str, Any]:
        return self.shards.counts()

    # ---- returning -----------------------------------------------------------------------------

    def retire(self, resource: object) -> None:
        if not _core.end_item(self.core, self.closing.later, resource, "flushed"):
            self.raise_misuse("retire", resource)

    def has_idle(self, n: int) -> bool:
        idle: int = self.counts()["idle"]
        return idle >= n

    def opened(self) -> int:
        return self.shards.opened()

    def give_back(self, index: int, error: BaseException | None, discard: bool) -> None:
        """For who cannot await it, in any thread: the loop does it soon."""
        use = self.core.generation(index)
        try:
            args = (self, index, use, error, discard)
            self.tasks.submit(_core.give_back_on_loop, args, LoopPool.ungiven)
        except RuntimeError:  # the loop is closed
            if self.core.retire(index):
                self.closing.drop(index, self.core.generation(index))

    async def agive_back(
        self, index: int, use: int, error: BaseException | None, discard: bool
    ) -> tuple[str | None, float | None]:
        """As ``Manager.give_back``; why it is to be closed, and how long it was used."""
        core = self.core
        if core.generation(index) != use:  # an interrupted caller's, whose slot was seen to
            return None, None
        self.used_at = core.now()
        used = self.tracking.forget(index) if self.tracking.on else None
        why = "discarded" if discard else self.broken(index, error)
        why = why or await self._areset(index) or self.recycle(index, error)
        if why is None:
            self.on_idle()
        return why, used

    def given_back(self, used: float | None) -> None:
        """It is idle or closed."""
        if self.core.closed:
            self.sweep()
        if used is not None:
            self.was_used(used)

    def ungiven(self, index: int, use: int, error: BaseException | None, discard: bool) -> None:
        """On the scheduler's thread: its return did not come to its end."""
        core = self.core
        if core.generation(index) == use:
            if core.slot(index)[1] == "checking":
                self.deadlines.end(index)
                self.rescue(index, "interrupted", use)
            else:
                self.closing.unfinished(index, "interrupted", use)
        self.on_idle()
        if core.closed:
            self.sweep(True)

    async def _areset(self, index: int) -> str | None:
        if self.hooks.reset is None:
            return None
        self.deadlines.begin(index)
        try:
            async with within(self.options.hook_timeout):
                await called(self.hooks.reset, self.core.item(index))
        except Exception as failure:
            self.log("reset failed; the resource is closed", failure)
            return "reset"
        except asyncio.CancelledError:
            self.log("reset failed; it was cancelled, most likely with its event loop", None)
            return "reset"
        finally:
            self.deadlines.end(index)
        return None

    def begin_give_back(
        self, index: int, error: BaseException | None, discard: bool
    ) -> Awaitable[None] | None:
        """``agive_back``, begun at once.  A caller who is cancelled does not cancel it; None: the
        caller's loop is another."""
        if _get_running_loop() is not self.loop:
            self.give_back(index, error, discard)
            return None
        args = (self, index, self.core.generation(index), error, discard)
        return asyncio.shield(self.tasks.begin(_core.give_back_on_loop, args, LoopPool.ungiven))

    @property
    def listeners(self) -> Any:
        return self.shards.listeners

    def new_quick_reset(self) -> None:
        return None  # it is awaited

    def asks_put(self) -> bool:
        return super().asks_put() or self.options.max_idle != INF

    def make_idle(self, index: int, suspect: bool) -> str | None:
        core, most = self.core, self.options.max_idle
        with self.lock.hold():
            if most != INF and self.has_idle(int(most) + core.callers):
                return "surplus"
            return None if core.publish(index, suspect=suspect) else "unfit"

    def exhausted(self, index: int) -> str | None:
        return super().exhausted(index) or ("evicted" if self.shards.must_yield(self) else None)

    def on_idle(self) -> None:
        super().on_idle()
        self.shards.on_idle()

    def on_return(self, later: bool = False) -> None:
        """Also while another loop waits for a slot."""
        if self.core.closed:
            self.sweep(later)
        else:
            self.shards.on_idle()

    # ---- closing -------------------------------------------------------------------------------

    def hand_over(self, closers: Any) -> Any:
        return closers  # tasks of the loop

    def shut_down(self) -> None:
        super().shut_down()
        self.shards.shut_down_if_empty()

    def on_loop_closed(self) -> list[Any]:
        """The loop is closed: its resources go, and nothing can be awaited for them.  One whose
        close hook has begun stays with the task of that hook, which is never resumed."""
        core = self.core
        core.close()
        gone = []
        for index, state, *_ in core.slots():
            if state in ("idle", "leased") and not core.claim(index, state):
                continue
            use = core.generation(index)
            resource = core.item(index)
            ended = state == "closing" or (state != "creating" and core.retire(index))
            if ended and core.begin_close(index, use):
                core.free(index, "loop")
                notify_in_worker(self, "closed", "loop")
                gone.append(resource)
        return gone

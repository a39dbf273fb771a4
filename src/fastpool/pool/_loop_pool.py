"""What a pool with an async factory keeps for one event loop: a manager whose hooks are awaited.

The resources, the line and the idle store of that loop.  Hooks run as tasks of the loop that belong
to the pool, so a borrower who is cancelled takes no hook with it; they can be cancelled themselves,
and are when their time is over.  How many may be open is for ``_per_loop.py`` to say.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import _get_running_loop
from functools import partial

from .. import _core
from .._aio.hook_tasks import HookTasks, called, within
from .._runtime import scheduler
from ..errors import PoolError
from . import _policy
from ._closing import Closing
from ._creation import Attempt, Creator
from ._health_checks import HealthChecks
from ._listeners import tell, tell_apart
from ._maintenance import Maintenance
from ._manager import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from ._idle_checks import CheckRound
    from ._per_loop import PerLoopManager

__all__ = ["LoopPool"]

INF = float("inf")


class LoopCreator(Creator):
    """Creations are tasks; who may start one is decided over all loops."""

    def __init__(self, manager: LoopPool) -> None:
        super().__init__(manager)
        self.shards = manager.shards
        self.workers = manager.tasks

    def room(self) -> bool:
        return self.shards.room()

    def refill(self, more: int = 0) -> None:
        """As ``Creator.refill``; what is missing is wished for on the loop that used the
        pool last."""
        with self.manager.lock.hold():
            self.wishes = max(self.wishes, more)
            if self.manager.options.least_idle:
                self.shards.refill()
            self.start()

    def start(self) -> None:
        self.shards.start()

    def wanted(self) -> int:
        """How many more tries this loop could do with: for callers, and by wishes."""
        if self.is_paused():
            return 0
        wishes = self.wishes if time.monotonic() >= self.paused_until else 0
        return _policy.tries_wanted(self.goal(wishes), self.tries, INF)

    async def _run(self, attempt: Attempt) -> None:
        attempt.task = asyncio.current_task()
        if not self._begin(attempt):
            return
        resource: Any = None
        error: BaseException | None = None
        try:
            resource = await called(self.manager.hooks.create)
            self._take_in(attempt, resource)
        except asyncio.CancelledError as cancelled:  # which would look like the waiter's own
            error = PoolError(self.manager.name, "the creation was cancelled")
            error.__cause__ = cancelled
        except BaseException as failure:
            error = failure
        del resource
        self._finish(attempt, error)

    def _tell_late(self, attempt: Attempt) -> None:
        super()._tell_late(attempt)
        # only now: a cancelled try starts the next one, which must not serve whom this one failed
        try:
            attempt.task.get_loop().call_soon_threadsafe(attempt.task.cancel)
        except RuntimeError:  # the loop is closed
            pass


class LoopHealthChecks(HealthChecks):
    """The check is a task; its borrower waits for it as long as there is time."""

    manager: LoopPool

    async def aexamine(self, hand: _core.SlotGuard, start: float, span: float | None) -> bool:
        """As ``examine``."""
        if not hand.claim():
            return False
        why, due = self.look(hand.index)
        if due:
            why = await self._aask(hand, start, span)
        return self.verdict(hand, why)

    async def _aask(self, hand: _core.SlotGuard, start: float, span: float | None) -> str | None:
        manager, index = self.manager, hand.index
        left = self.options.hook_timeout
        if span:
            left = min(left, max(0.0, start + span - time.monotonic()))
        task = manager.tasks.begin(self._check, index)
        away = hand.move()  # a borrower who goes away leaves the slot to the task
        try:
            await asyncio.wait({task}, timeout=None if left == INF else left)
        finally:
            if task.done():
                hand.receive(away)
            else:
                task.add_done_callback(partial(self._checked, index))
                away.leave()
        answer = self._answer_of(task) if task.done() else "late"
        if answer == "late":  # by its own timeout or by ours, whichever the loop saw first
            if task.done():
                self.core.condemn(hand, "check")
            raise manager.refusal("timeout", start, span, "check")
        return answer

    async def _check(self, index: int) -> str | None:
        """None for a good one; "check" also if the hook raised or was cancelled, but "late" if that
        was for its timeout."""
        self.deadlines.begin(index)
        limit = within(self.options.hook_timeout)
        try:
            async with limit:
                answer = await called(self.hook, self.core.item(index))
            return None if answer is None or answer else "check"
        except (Exception, asyncio.CancelledError):
            return "late" if limit.expired() else "check"
        finally:
            self.deadlines.end(index)

    @staticmethod
    def _answer_of(task: asyncio.Task[str | None]) -> str | None:
        if task.cancelled() or task.exception() is not None:  # before it began; SystemExit
            return "check"
        return task.result()

    def _checked(self, index: int, task: asyncio.Task[str | None]) -> None:
        """A check without a borrower is over."""
        self.core.freshen(index)
        good = self._answer_of(task) is None
        manager = self.manager
        if good and self.core.publish(index, used=False):
            manager.came_back()
            manager.changed()
        else:
            manager.closing.later(index, manager.why_not_idle(index) if good else "check")

    def begin(self, index: int, checks: CheckRound) -> None:
        try:
            self.manager.tasks.submit(self._acheck_idle, index, checks)
        except RuntimeError:  # the loop is closed
            checks.ended(False)

    async def _acheck_idle(self, index: int, checks: CheckRound) -> None:
        closed = False
        try:
            if not self.core.closed and self.core.claim(index):
                closed = await self._acheck_claimed(index)
        finally:
            checks.ended(closed)

    async def _acheck_claimed(self, index: int) -> bool:
        """As ``_check_claimed``; whoever cancels it leaves the rest to the check's own task."""
        why, _ = self.look(index)
        if why is not None:
            self.manager.closing.later(index, why)
            return True
        task = self.manager.tasks.begin(self._check, index)
        task.add_done_callback(partial(self._checked, index))
        await asyncio.wait({task})
        return self._answer_of(task) is not None

    async def keep_alive(self, index: int) -> None:  # type: ignore[override]
        task = self.manager.tasks.begin(self._check, index)
        task.add_done_callback(partial(self._checked, index))  # whoever cancels this one
        await asyncio.wait({task})
        self.manager.maintenance.was_kept_alive(index)


class LoopClosing(Closing):
    """Closing is a task; where the loop is closed, nothing can be awaited and the place is free at
    once."""

    manager: LoopPool

    def here(self, index: int, why: str, workers: object = None) -> None:
        self.later(index, why)

    def on(self, workers: object, index: int, why: str) -> None:
        self.later(index, why)

    def later(self, index: int, why: str) -> None:
        try:
            use = self.core.generation(index)
            if self.core.retire(index):
                self.submit(index, why, use)
        except BaseException:  # a signal handler's, anywhere in between
            scheduler.poke(self.rescue, index, why)
            raise

    def submit(self, index: int, why: str, use: int) -> None:
        """A CLOSING slot's end, on its loop; done twice, it ends once."""
        try:
            self.manager.tasks.submit(self.end, index, why, use)
        except RuntimeError:
            self.drop(index, use)

    def drop(self, index: int, use: int) -> None:
        """A CLOSING slot of a loop that is closed."""
        resource = self.core.item(index)
        if self.core.begin_close(index, use):
            self.manager.shards.part_with([resource])  # before its place looks free
            self.core.free(index, "loop")
            tell_apart(self.manager, "closed", "loop")

    def rescue(self, index: int, why: str) -> None:
        use = self.core.generation(index)
        state = self.core.slot(index)[1]
        if state == "checking":
            self.manager.tracking.forget(index)
            self.later(index, why)
        elif state == "closing":
            self.submit(index, why, use)

    async def end(self, index: int, why: str, use: int) -> None:
        """A CLOSING slot: its hook, and then the place."""
        if not self.core.begin_close(index, use):
            return
        self.deadlines.begin(index)
        failure: BaseException | None = None
        try:
            async with within(self.manager.options.hook_timeout):
                await self._close(self.core.item(index))
        except (Exception, asyncio.CancelledError) as error:
            failure = error
        finally:
            self.deadlines.end(index)
            self.core.free(index, why)
        if isinstance(failure, asyncio.CancelledError):
            self.manager.log("a close was cancelled, most likely with its event loop", None)
        elif failure is not None:
            self.manager.log("close failed", failure)
        tell(self.manager, "closed", why)

    async def _close(self, resource: Any) -> None:
        hook = self.hook
        if hook is not None:
            await called(hook, resource)
        elif hasattr(resource, "aclose"):
            await called(resource.aclose)
        elif hasattr(resource, "close"):
            await called(resource.close)


class LoopMaintenance(Maintenance):
    manager: LoopPool

    def tend(self) -> None:
        if self.manager.loop.is_closed():
            self.manager.shards.forget_closed()
        else:
            super().tend()


class LoopPool(Manager):
    """The manager of one loop's share of a pool.  Its core's limit says only when callers ask for
    a place; places are given out under the lock of ``PerLoopManager``, which all of them share."""

    awaits = True
    creator: LoopCreator
    checking: LoopHealthChecks
    closing: LoopClosing

    def __init__(self, shards: PerLoopManager, loop: asyncio.AbstractEventLoop) -> None:
        self.shards = shards
        self.loop = loop  # kept alive: the core tells loops apart by their addresses
        self.tasks = HookTasks(loop, shards.options.context)
        self.used_at = 0.0  # as far as is known: what is closed takes its own time along
        super().__init__(_core.Core(), shards.options)
        self.maxsize = shards.maxsize
        self.set_core(INF, self.options.max_waiting)

    def start_anew(self) -> None:
        self.lock, self.news = self.shards.lock, self.shards.news
        self.equip()

    def equip(self) -> None:
        super().equip()
        self.checkers = self.closers = self.tasks
        self.errands = self.shards.errands
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

    def come(self, hand: _core.SlotGuard, start: float, span: float | None, me: int) -> None:
        with self.lock.hold():  # one step for whoever comes at the same time on another loop
            refused = self.shards.refuses(me)
            if refused is None:
                self.core.come(hand)
                self.used_at = self.core.now()
        if refused is not None:
            raise self.refusal(refused, start, span)
        scheduler.poke(self.creator.refill)

    def counts(self) -> dict[str, Any]:
        return self.shards.counts()

    # ---- returning -----------------------------------------------------------------------------

    def retire(self, resource: object) -> None:
        if not _core.end_item(self.core, self.closing.later, resource, "flushed"):
            self.misused("retire", resource)

    def has_idle(self, n: int) -> bool:
        idle: int = self.counts()["idle"]
        return idle >= n

    def opened(self) -> int:
        return self.shards.opened()

    def settle(self, index: int, error: BaseException | None, discard: bool) -> None:
        """For who cannot await it, in any thread: the loop does it soon."""
        try:
            self.tasks.submit(self.asettle, index, error, discard)
        except RuntimeError:  # the loop is closed
            if self.core.retire(index):
                self.closing.drop(index, self.core.generation(index))

    async def asettle(self, index: int, error: BaseException | None, discard: bool) -> None:
        """As ``Manager.settle``."""
        core = self.core
        self.used_at = core.now()
        used = None
        try:
            if self.tracking.on:
                used = self.tracking.forget(index)
            why = "discarded" if discard else self.broken(index, error)
            why = why or await self._areset(index) or self.keep(index, error)
        except BaseException:
            self.rescue(index, "interrupted")
            raise
        if why is None:
            self.came_back()
        elif core.retire(index):
            await self.closing.end(index, why, core.generation(index))
        if core.closed:
            self.sweep()
        if used is not None:
            self.was_used(used)

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

    def settled(
        self, index: int, error: BaseException | None, discard: bool
    ) -> Awaitable[None] | None:
        """``asettle``, begun at once.  A caller who is cancelled does not cancel it; None: the
        caller's loop is another."""
        if _get_running_loop() is not self.loop:
            self.settle(index, error, discard)
            return None
        return asyncio.shield(self.tasks.insist(self.asettle, index, error, discard))

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

    def worn(self, index: int) -> str | None:
        return super().worn(index) or ("evicted" if self.shards.owes(self) else None)

    def came_back(self) -> None:
        super().came_back()
        self.shards.came_back()

    def returned(self, later: bool = False) -> None:
        """Also while another loop waits for a place."""
        if self.core.closed:
            self.sweep(later)
        else:
            self.shards.came_back()

    # ---- closing -------------------------------------------------------------------------------

    def hand_over(self, closers: Any) -> Any:
        return closers  # tasks of the loop

    def dismiss(self) -> None:
        super().dismiss()
        self.shards.dismiss_if_empty()

    def forsake(self) -> list[Any]:
        """The loop is closed: its resources go, and nothing can be awaited for them.  One whose
        close hook has begun stays with the task of that hook, which is never resumed."""
        core = self.core
        core.close()
        self.tasks.forget()
        gone = []
        for index, state, *_ in core.slots():
            if state in ("idle", "leased") and not core.claim(index, state):
                continue
            use = core.generation(index)
            resource = core.item(index)
            ended = state == "closing" or (state != "creating" and core.retire(index))
            if ended and core.begin_close(index, use):
                core.free(index, "loop")
                tell_apart(self, "closed", "loop")
                gone.append(resource)
        return gone

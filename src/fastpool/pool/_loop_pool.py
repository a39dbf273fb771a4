"""What a pool with an async factory keeps for one event loop: a manager whose hooks are awaited.

The resources, the queue and the idle store of that loop.  Hooks run as tasks of the loop that
belong to the pool, so a borrower who is cancelled takes no hook with it; they can be cancelled
themselves, and are when their time is over.  How many may be open is for ``_per_loop.py`` to say.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import _get_running_loop

from .. import _core, _reports
from .._aio.hook_tasks import HookTasks, called, within
from .._runtime import scheduler
from ..errors import PoolError
from . import _policy
from ._closing import Closing
from ._creation import Attempt, Creator
from ._health_checks import HealthChecks
from ._listeners import notify_in_worker, notify_listeners
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
    """Creations are tasks; who may start one is decided over all loops.  What comes of them is
    seen to on the scheduler's thread."""

    manager: LoopPool
    notify = staticmethod(notify_in_worker)

    def __init__(self, manager: LoopPool) -> None:
        super().__init__(manager)
        self.shards = manager.shards
        self.workers = manager.tasks

    def has_capacity(self) -> bool:
        return self.shards.has_capacity()

    def refill(self, more: int = 0) -> None:
        """As ``Creator.refill``; what is missing is wished for on the loop that used the
        pool last."""
        with self.manager.lock.hold():
            self.background_demand = max(self.background_demand, more)
            if self.manager.options.least_idle:
                self.shards.refill()
            self.start()

    def start(self) -> None:
        self.shards.start()

    def wanted(self) -> int:
        """How many more tries this loop could do with: for callers, and by wishes."""
        if self.is_paused():
            return 0
        background_demand = self.background_demand if time.monotonic() >= self.paused_until else 0
        return _policy.attempts_wanted(self.goal(background_demand), self.in_flight, INF)

    def submit(self, attempt: Attempt) -> None:
        self.manager.tasks.submit(_core.create_on_loop, (self, attempt), _never_begun)

    def begin(self, attempt: Attempt) -> bool:
        """As ``_begin``, in the task; what nobody wants is for ``ended`` to give back."""
        attempt.task = asyncio.current_task()
        with self.manager.lock.hold():
            wanted = self._wanted()
            if wanted:
                self._assign(attempt)
        return wanted

    def explained(self, error: BaseException) -> tuple[BaseException, BaseException]:
        """What the factory has raised, with a note, and a copy to be kept: users' code, which the
        scheduler does not run."""
        if isinstance(error, asyncio.CancelledError):  # which would look like the waiter's own
            cancelled = error
            error = PoolError(self.manager.name, "the creation was cancelled")
            error.__cause__ = cancelled
        failure = _reports.without_frames(error)
        super()._explain(error)
        return error, failure

    def _explain(self, error: BaseException) -> None:
        """It has been done, on the loop."""

    def _count(self, error: BaseException | None, took: float) -> None:
        """It has been done, on the loop."""

    def ended(
        self,
        attempt: Attempt,
        wanted: bool,
        error: BaseException | None,
        failure: BaseException | None,
    ) -> None:
        """On the scheduler's thread: a creation is over."""
        core = self.manager.core
        with self.manager.lock.hold():
            if not wanted:
                self.in_flight -= 1
                core.free(attempt.index)
                return
            if error is None:
                self.background_demand = max(0, self.background_demand - 1)
        attempt.failure = failure
        self._finish(attempt, error)
        if self.running:  # a signal handler may have kept the first one from asking for it
            self._watch()

    def _fail_late(self, attempt: Attempt) -> None:
        super()._fail_late(attempt)
        # only now: a cancelled try starts the next one, which must not serve whom this one failed
        try:
            attempt.task.get_loop().call_soon_threadsafe(attempt.task.cancel)
        except RuntimeError:  # the loop is closed
            pass


def _never_begun(creator: LoopCreator, attempt: Attempt) -> None:
    creator.ended(attempt, False, None, None)


class LoopHealthChecks(HealthChecks):
    """The check is a task; its borrower waits for it as long as there is time."""

    manager: LoopPool

    async def aexamine(self, guard: _core.SlotGuard, start: float, timeout: float | None) -> bool:
        """As ``examine``."""
        if not guard.claim():
            return False
        why, due = self.look(guard.index)
        if due:
            why = await self._aask(guard, start, timeout)
        return self.verdict(guard, why)

    async def _aask(
        self, guard: _core.SlotGuard, start: float, timeout: float | None
    ) -> str | None:
        manager, index = self.manager, guard.index
        left = self.options.hook_timeout
        if timeout:
            left = min(left, max(0.0, start + timeout - time.monotonic()))
        task = manager.tasks.begin(self._check, (index, guard.use))
        check: Any = task.get_coro()
        try:
            await asyncio.wait({task}, timeout=None if left == INF else left)
        finally:  # a borrower who goes away leaves the slot to the task
            check.take_over(guard, self._checked)
        answer = self._answer_of(task) if check.is_over else "late"
        if answer == "late":  # by its own timeout or by ours, whichever the loop saw first
            if check.is_over:
                self.core.condemn(guard, "check")
            raise manager.refusal("timeout", start, timeout, "check")
        return answer

    async def _check(self, index: int, use: int) -> str | None:
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

    def _checked(
        self, index: int, use: int, answer: str | None, error: BaseException | None
    ) -> None:
        """On the scheduler's thread: a check without a borrower is over."""
        core, manager = self.core, self.manager
        if core.generation(index) != use or core.slot(index)[1] != "checking":
            return  # its loop was closed
        self.deadlines.end(index)
        core.freshen(index)
        good = answer is None and error is None
        if good and core.publish(index, used=False):
            manager.on_idle()
            manager.notify_changed()
        else:
            manager.closing.later(index, manager.reject_reason(index) if good else "check")

    def begin(self, index: int, checks: CheckRound) -> None:
        try:
            self.manager.tasks.submit(self._acheck_idle, (index, checks), self._unfinished)
        except RuntimeError:  # the loop is closed
            checks.ended(False)

    def _unfinished(self, index: int, checks: CheckRound) -> None:
        checks.ended(False)

    async def _acheck_idle(self, index: int, checks: CheckRound) -> None:
        guard = _core.slot_guard(self.core)
        closed = False
        if not self.core.closed and guard.claim_idle(self.core, index):
            closed = await self._acheck_claimed(guard)
        checks.ended(closed)

    async def _acheck_claimed(self, guard: _core.SlotGuard) -> bool:
        """As ``_check_claimed``; whoever cancels it leaves the rest to the check's own task."""
        why, _ = self.look(guard.index)
        if why is not None:
            self.core.condemn(guard, why)
            return True
        task = self.manager.tasks.begin(self._check, (guard.index, guard.use))
        check: Any = task.get_coro()
        if check.take_over(guard, self._checked):
            await asyncio.wait({task})
        return self._answer_of(task) is not None

    def offer(self, index: int) -> bool:
        use = self.core.generation(index)
        self.manager.tasks.submit(self._check, (index, use), after=self._kept_alive)
        return True

    def _kept_alive(
        self, index: int, use: int, answer: str | None, error: BaseException | None
    ) -> None:
        self._checked(index, use, answer, error)
        self.manager.maintenance.was_kept_alive(index)


class LoopClosing(Closing):
    """Closing is a task; where the loop is closed, nothing can be awaited and the slot is free at
    once."""

    manager: LoopPool

    def here(self, index: int, why: str, workers: object = None) -> None:
        self.later(index, why)

    def on(self, workers: object, index: int, why: str) -> None:
        self.later(index, why)

    def later(self, index: int, why: str) -> None:
        use = None
        try:
            use = self.core.generation(index)
            if self.core.retire(index):
                self.submit(index, why, use)
        except BaseException:  # a signal handler's, anywhere in between
            scheduler.call_soon(self.rescue, index, why, use)
            raise

    def submit(self, index: int, why: str, use: int) -> None:
        """A CLOSING slot's end, on its loop; done twice, it ends once."""
        try:
            args = (self, index, why, use)
            self.manager.tasks.submit(_core.close_on_loop, args, LoopClosing.unfinished)
        except RuntimeError:
            self.drop(index, use)

    def unfinished(self, index: int, why: str, use: int) -> None:
        """On the scheduler's thread: its close did not come to its end."""
        if not self.core.close_has_begun(index, use):
            self.submit(index, why, use)
        elif self.core.generation(index) == use and self.core.slot(index)[1] == "closing":
            self.deadlines.end(index)
            self.core.free(index, why, use)

    def drop(self, index: int, use: int) -> None:
        """A CLOSING slot of a loop that is closed."""
        resource = self.core.item(index)
        if self.core.begin_close(index, use):
            self.manager.shards.part_with([resource])  # before its slot looks free
            self.core.free(index, "loop")
            notify_in_worker(self.manager, "closed", "loop")

    def rescue(self, index: int, why: str, of: int | None = None) -> None:
        use = self.core.generation(index)
        if of is not None and of != use:
            return
        state = self.core.slot(index)[1]
        if state == "checking":
            self.manager.tracking.forget(index)
            self.later(index, why)
        elif state == "closing":
            self.submit(index, why, use)

    def limit(self) -> asyncio.Timeout:
        """Of the hook's time."""
        return within(self.manager.options.hook_timeout)

    def closed(self, why: str, failure: BaseException | None) -> None:
        """The slot is free."""
        if isinstance(failure, asyncio.CancelledError):
            self.manager.log("a close was cancelled, most likely with its event loop", None)
        elif isinstance(failure, Exception):
            self.manager.log("close failed", failure)
        elif failure is not None:
            raise failure
        notify_listeners(self.manager, "closed", why)


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

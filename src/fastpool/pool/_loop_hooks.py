"""The hooks of a pool with an async factory: creations, checks and closes as tasks of one loop.

Where that loop runs in the main thread a signal handler may raise at any of their instructions.
What that leaves undone the scheduler sees to: see ``_core.HookTask``.
"""

from __future__ import annotations

import asyncio
import time

from .. import _core, _reports
from .._aio.hook_tasks import called, within
from .._runtime import scheduler
from ..errors import PoolError
from . import _policy
from ._closing import Closing
from ._creation import Attempt, Creator
from ._health_checks import HealthChecks
from ._listeners import notify_in_worker, notify_listeners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._awaiting_manager import AwaitingManager
    from ._idle_checks import CheckRound

__all__ = ["AwaitingCreator", "LoopClosing", "LoopHealthChecks"]

INF = float("inf")


class AwaitingCreator(Creator):
    """Creations are tasks.  What comes of them is seen to on the scheduler's thread."""

    manager: AwaitingManager
    notify = staticmethod(notify_in_worker)

    def __init__(self, manager: AwaitingManager) -> None:
        super().__init__(manager)
        self.submitted: set[Attempt] = set()  # and not ended

    def create_threads(self) -> Any:
        return self.manager.tasks

    def wanted_at_all(self) -> int:
        """How many more tries this loop could do with: for callers, and by wishes."""
        if self.is_paused():
            return 0
        background_demand = self.background_demand if time.monotonic() >= self.paused_until else 0
        in_flight = self.manager.core.in_flight
        return _policy.attempts_wanted(self.goal(background_demand), in_flight, INF)

    def submit(self, attempt: Attempt) -> None:
        args = (self, attempt)
        self.manager.tasks.submit(_core.create_on_loop, args, _unfinished, None, _refused)
        self.submitted.add(attempt)  # under the lock, which `ended` takes

    def begin(self, attempt: Attempt) -> bool:
        """As ``_begin``, in the task and without the lock; what nobody wants is for ``ended`` to
        give back, which looks whether it was wanted after all."""
        attempt.task = asyncio.current_task()
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
        """On the scheduler's thread: a creation is over.  It may be said twice: by one that ends
        with its loop, and by the task that it was."""
        core = self.manager.core
        with self.manager.lock.hold():
            if attempt not in self.submitted:
                return
            self.submitted.discard(attempt)
            if not wanted:
                self.manager.core.in_flight -= 1
                core.free(attempt.index)
                self.start()
                return
            if error is None:
                self.background_demand = max(0, self.background_demand - 1)
        attempt.failure = failure
        self._finish(attempt, error)
        if self.running:  # a signal handler may have kept the first one from asking for it
            self._watch()

    def refused(self, attempt: Attempt, error: BaseException, failure: BaseException) -> None:
        """On the scheduler's thread: the loop made no task of it, which is a failure like one of
        the factory."""
        with self.manager.lock.hold():
            if attempt not in self.submitted:
                return
            wanted = self._wanted()
            if wanted:
                self._assign(attempt)
                self.manager.core.count("create_failures")
        self.ended(attempt, wanted, error, failure)

    def _fail_late(self, attempt: Attempt) -> None:
        super()._fail_late(attempt)
        # only now: a cancelled try starts the next one, which must not serve whom this one failed
        try:
            attempt.task.get_loop().call_soon_threadsafe(attempt.task.cancel)
        except RuntimeError:  # the loop is closed
            pass


def _unfinished(creator: AwaitingCreator, attempt: Attempt) -> None:
    creator.ended(attempt, False, None, None)


def _refused(creator: AwaitingCreator, attempt: Attempt, error: BaseException) -> None:
    """On the loop: a note is users' code."""
    failure = _reports.without_frames(error)
    name = creator.manager.name
    _reports.note(error, f"raised by the task factory of the event loop, for fastpool {name!r}")
    scheduler.call_soon(creator.refused, attempt, error, failure)


class LoopHealthChecks(HealthChecks):
    """The check is a task; its borrower waits for it as long as there is time."""

    manager: AwaitingManager

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
                guard.condemn("check")
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
        scheduler.call_soon(checks.ended, closed)  # which has seen to the slot by then

    async def _acheck_claimed(self, guard: _core.SlotGuard) -> bool:
        """As ``_check_claimed``; whoever cancels it leaves the rest to the check's own task."""
        why, _ = self.look(guard.index)
        if why is not None:
            guard.condemn(why)
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

    manager: AwaitingManager

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

    def soon(self, index: int, why: str) -> None:
        self.later(index, why)

    def submit(self, index: int, why: str, use: int) -> None:
        """A CLOSING slot's end, on its loop; done twice, it ends once."""
        try:
            args = (self, index, why, use)
            self.manager.tasks.submit(
                _core.close_on_loop, args, LoopClosing.unfinished, None, LoopClosing.refused
            )
        except RuntimeError:
            self.drop(index, use)

    def unfinished(self, index: int, why: str, use: int) -> None:
        """On the scheduler's thread: its close did not come to its end."""
        if not _core.close_has_begun(self.core, index, use):
            self.submit(index, why, use)
        elif self.core.generation(index) == use and self.core.slot(index)[1] == "closing":
            self.deadlines.end(index)
            self.core.free(index, why, use)

    def refused(self, index: int, why: str, use: int, error: BaseException) -> None:
        """The loop makes no task of it: it ends as on a closed loop."""
        self.drop(index, use)
        self.manager.log("close failed: the event loop made no task of it", error)

    def drop(self, index: int, use: int) -> None:
        """A CLOSING slot of a loop that is closed; the scheduler does it, so that no signal handler
        comes between its steps."""
        scheduler.call_soon(self._drop, index, use)

    def _drop(self, index: int, use: int) -> None:
        resource = self.core.item(index)
        if _core.begin_close(self.core, index, use):
            self.manager.whole.part_with(self.manager, [resource])  # before its slot looks free
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

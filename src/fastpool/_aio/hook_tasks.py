"""Hooks as tasks: how a pool with an async factory runs them on one event loop.

The tasks belong to the pool: a borrower who is cancelled takes none with it.  They end with their
loop, wherever they stand, and say nothing of it.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import _get_running_loop

from .. import _core
from .._runtime import scheduler
from .loop import loop_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

__all__ = ["HookTasks", "Limit", "called", "within"]

INF = float("inf")

_core.set_task_switch(asyncio.current_task, asyncio.tasks._enter_task, asyncio.tasks._leave_task)


async def called(hook: Callable[..., Any], *args: Any) -> Any:
    """The result of a hook, which may be a plain function too."""
    result = hook(*args)
    return await result if hasattr(type(result), "__await__") else result


def within(seconds: float) -> asyncio.Timeout:
    """``asyncio.timeout``; inf: none."""
    return asyncio.timeout(None if seconds == INF else seconds)


class Limit:
    """The time that the hook of the running task may take, in seconds: when it is over, the task is
    cancelled.  ``asyncio.timeout`` would have a timer of its own each time; here one serves all
    hooks of a loop."""

    __slots__ = ("expired", "pending", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.task = asyncio.current_task(loop)
        self.expired = False
        self.pending = seconds != INF
        if self.pending:
            loop_of(loop).expire(self, seconds)

    def expire(self) -> None:
        """In the thread of the loop."""
        self.expired, self.pending = True, False
        if self.task is not None:
            self.task.cancel()

    def end(self) -> None:
        """The hook has returned."""
        self.pending, self.task = False, None


class HookTasks:
    """In the place of ``ThreadGroup``: runs coroutine functions as tasks of one loop, which belong
    to the pool.  They see the context variables that ``ThreadGroup`` would show them.  What becomes
    of one that a signal handler ends: see ``_core.HookTask``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self.loop = loop
        self._context = context
        self.under_way: set[asyncio.Task[Any]] = set()

    def submit(
        self,
        work: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        unfinished: Callable[..., object] | None = None,
        after: Callable[..., object] | None = None,
        refused: Callable[..., object] | None = None,
    ) -> None:
        """Never runs it at once: the caller may hold the manager's lock.  RuntimeError: the loop is
        closed."""
        task = _core.HookTask(self, work, args, unfinished, after, refused)
        context = scheduler.context_of_caller(self._context)
        here = _get_running_loop() is self.loop
        try:
            begin = self.loop.call_soon if here else self.loop.call_soon_threadsafe
            begin(task, context=context)
        except BaseException:  # whoever hears of it sees to the rest
            task.withdraw()
            raise

    def begin(
        self,
        work: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        unfinished: Callable[..., object] | None = None,
    ) -> asyncio.Task[Any]:
        """In the loop's own thread: begun, and to be awaited by who wants to."""
        task: asyncio.Task[Any] = _core.HookTask(self, work, args, unfinished)()
        return task

    def begin_now(
        self,
        work: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        unfinished: Callable[..., object] | None = None,
    ) -> Awaitable[None] | None:
        """As ``begin``, and its first step is made at once; what to await for its end, or None if
        that has come."""
        return _core.HookTask(self, work, args, unfinished).begin_now()

    def replace_stuck(self, tasks: int = 1) -> None:
        """Nothing: tasks stand in nobody's way."""

    def stop(self) -> None:
        """Nothing: what is under way ends by itself."""

    def wait_idle(self, timeout: float) -> bool:
        """Waits, in another thread than the loop's or the scheduler's, until nothing is under way,
        and what the tasks leave to the scheduler is done."""
        if _get_running_loop() is self.loop or not self.loop.is_running():
            return not self.under_way
        through = _core.Event()
        if not self._wait_for_tasks(timeout):
            return False
        scheduler.call_soon(through.set)
        return through.wait(timeout) and self._wait_for_tasks(timeout)

    def _wait_for_tasks(self, timeout: float) -> bool:

        async def ended() -> None:
            await asyncio.sleep(0)  # what was submitted before begins before this goes on
            while self.under_way:
                await asyncio.wait(list(self.under_way))

        bounded = asyncio.wait_for(ended(), timeout)
        try:
            asyncio.run_coroutine_threadsafe(bounded, self.loop).result()
        except TimeoutError:
            return False
        return True

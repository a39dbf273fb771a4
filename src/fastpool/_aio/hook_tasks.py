"""Hooks as tasks: how a pool with an async factory runs them on one event loop.

The tasks belong to the pool: a borrower who is cancelled takes none with it.  They end with their
loop, wherever they stand, and say nothing of it.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import _get_running_loop

from .._runtime import scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

__all__ = ["HookTasks", "called", "within"]

INF = float("inf")


async def called(hook: Callable[..., Any], *args: Any) -> Any:
    """The result of a hook, which may be a plain function too."""
    result = hook(*args)
    return await result if hasattr(type(result), "__await__") else result


def within(seconds: float) -> asyncio.Timeout:
    """``asyncio.timeout``; inf: none."""
    return asyncio.timeout(None if seconds == INF else seconds)


class HookTasks:
    """In the place of ``ThreadGroup``: runs coroutine functions as tasks of one loop, which belong
    to the pool.  They see the context variables that ``ThreadGroup`` would show them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self.loop = loop
        self._context = context
        self._under_way: set[asyncio.Task[Any]] = set()  # a loop keeps no task alive

    def submit(self, call: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Never runs it at once: the caller may hold the manager's lock.  RuntimeError: the loop is
        closed."""
        context = scheduler.context_of_caller(self._context)
        if _get_running_loop() is self.loop:
            self.loop.call_soon(self.ensure_runs, call, *args, context=context)
        else:
            self.loop.call_soon_threadsafe(self.ensure_runs, call, *args, context=context)

    def offer(self, call: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> bool:
        """As ``submit``: a task always begins soon."""
        self.submit(call, *args)
        return True

    def begin(self, call: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> asyncio.Task[Any]:
        """In the loop's own thread: begun, and to be awaited by who wants to."""
        task = self.loop.create_task(call(*args))
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # may end with its loop
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def ensure_runs(
        self, call: Callable[..., Coroutine[Any, Any, Any]], *args: Any
    ) -> asyncio.Task[Any]:
        """As ``begin``.  Whoever cancels all tasks of the loop may hit one that has not begun, and
        then nothing of it runs, not even what it would do to clean up: it is begun anew."""
        begun = False

        async def work() -> None:
            nonlocal begun
            begun = True
            await call(*args)

        def ended(_: object) -> None:
            if not begun and not self.loop.is_closed():
                self.ensure_runs(call, *args)

        task = self.begin(work)
        task.add_done_callback(ended)
        return task

    def replace_stuck(self, tasks: int = 1) -> None:
        """Nothing: tasks stand in nobody's way."""

    def stop(self) -> None:
        """Nothing: what is under way ends by itself."""

    def forget(self) -> None:
        """The loop is closed.  What had not begun never will, and must not complain about it."""
        for task in list(self._under_way):
            work: Any = task.get_coro()
            if work.cr_frame is not None and not (work.cr_suspended or work.cr_running):
                work.close()

    def wait_idle(self, timeout: float) -> bool:
        """Waits, in another thread than the loop's, until nothing is under way."""
        if _get_running_loop() is self.loop or not self.loop.is_running():
            return not self._under_way

        async def ended() -> None:
            await asyncio.sleep(0)  # what was submitted before begins before this goes on
            while self._under_way:
                await asyncio.wait(list(self._under_way))

        bounded = asyncio.wait_for(ended(), timeout)
        try:
            asyncio.run_coroutine_threadsafe(bounded, self.loop).result()
        except TimeoutError:
            return False
        return True

"""Ends what a task awaits when its time is over: `asyncio.timeout` without a block of its own.

The counting of cancellations is that of `asyncio.timeout`, at half its cost: a task that somebody
else has cancelled as well is cancelled, and not late.
"""

from __future__ import annotations

import asyncio


class TimeoutScope:
    """Made where the time begins, in the task whose await it may end.  ``stop`` once it is over."""

    __slots__ = ("_before", "_fired", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a policy with a timeout needs a task to run in")
        self._task = task
        self._before = task.cancelling()
        self._fired = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._fire)

    def _fire(self) -> None:
        self._fired = True
        self._task.cancel()

    def stop(self) -> bool:
        """The await is over.  Whether the task was cancelled by this, and by nobody else."""
        if not self._fired:
            self._timer.cancel()
            return False
        return self._task.uncancel() <= self._before

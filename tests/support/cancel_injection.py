"""A task that is struck at its k-th suspension: cancelled there, or whatever else is done to it."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

#: What is done to a task at a suspension, and what it is about to wait for.
Blow = Callable[["asyncio.Task[Any]", Any], object]


@types.coroutine
def _observed(
    coroutine: Coroutine[Any, Any, Any], suspended: Callable[[Any], None]
) -> Generator[Any, Any, Any]:
    """Runs it and calls ``suspended(what it waits for)`` before each of its suspensions."""
    thrown: BaseException | None = None
    while True:
        try:
            awaited = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
        except StopIteration as end:
            return end.value
        suspended(awaited)
        thrown = None
        try:
            yield awaited
        except BaseException as error:
            thrown = error


class Strike:
    """Counts the suspensions of a task and strikes at number ``at``; ``hit`` says if it came."""

    def __init__(self, at: int, blow: Blow) -> None:
        self.at, self.blow, self.seen, self.hit = at, blow, 0, False

    async def over(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The coroutine, struck; to be run as a task of its own."""
        return await _observed(coroutine, self._suspended)

    def _suspended(self, awaited: Any) -> None:
        if self.seen == self.at:
            self.hit = True
            task = asyncio.current_task()
            assert task is not None
            self.blow(task, awaited)
        self.seen += 1


def before(task: asyncio.Task[Any], awaited: Any) -> None:
    """Cancelled while what it waits for has not come."""
    task.get_loop().call_soon(task.cancel)


def after(task: asyncio.Task[Any], awaited: Any) -> None:
    """Cancelled when it has come, and the task has not run yet."""
    if asyncio.isfuture(awaited):
        awaited.add_done_callback(lambda _: task.cancel())
    else:
        before(task, awaited)


def every_suspension(play: Callable[[int], bool], at_most: int = 60) -> int:
    """Plays it with k = 0, 1, 2, ... until that is more than it has; how many it has."""
    for k in range(at_most):
        if not play(k):
            return k
    pytest.fail("it never gets through")

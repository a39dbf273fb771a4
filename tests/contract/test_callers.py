"""The faces themselves: a test that runs through tasks is really run by tasks."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from support import callers as support_callers
from support.callers import CallerKind
from support.helpers import ThreadRunner

pytestmark = pytest.mark.usefixtures("caller_kind")


class Mirror:
    """In place of a pool: says who called."""

    def get(self, block: bool = True) -> Any:
        return threading.current_thread()

    async def aget(self) -> Any:
        return asyncio.current_task()

    def put(self, item: Any, block: bool = True) -> None:
        try:
            item.append(asyncio.current_task())
        except RuntimeError:  # no event loop runs here
            item.append(threading.current_thread())


def test_each_thread_has_a_caller_of_its_own(caller_kind: CallerKind, runner: ThreadRunner) -> None:
    """The same one for all that it calls: itself or a task, as the face has it."""
    pool = support_callers.stand_in(Mirror())

    def callers(index: int = 0) -> Any:
        gives: list[Any] = []
        pool.put(gives)
        return [pool.get(), pool.get(), *gives]

    seen = [callers()] + [task.result() for task in runner.together(4, callers)]
    assert all(one is other is third for one, other, third in seen)
    assert len({id(one) for one, _, _ in seen}) == 5
    tasks = [isinstance(one, asyncio.Task) for one, _, _ in seen]
    expected = [caller_kind.tasks(number) for number in range(5)]
    assert tasks[0] == expected[0] and sorted(tasks) == sorted(expected)


def test_tasks_run_on_the_loop_of_the_caller_kind(caller_kind: CallerKind) -> None:
    """On its make of event loop, in a thread that is nobody's."""
    pool = support_callers.stand_in(Mirror())
    who = pool.get()
    if caller_kind.loop is None:
        assert who is threading.current_thread()
    else:
        assert type(who.get_loop()).__module__.startswith(caller_kind.loop)


class Failing:
    async def aget(self) -> None:
        raise LookupError

    def get(self, block: bool = True) -> None:
        raise LookupError


def test_what_a_task_raises_comes_out_of_the_call(caller_kind: CallerKind) -> None:
    """And the task serves the next call."""
    pool = support_callers.stand_in(Failing())
    for _ in range(2):
        with pytest.raises(LookupError):
            pool.get()

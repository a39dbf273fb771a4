"""What the tests of tasks share: event loops of both makes, waits that let the loop run."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from fastpool import _core
from support.helpers import PATIENCE

KINDS = ["asyncio", "uvloop"]

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """A fresh event loop; the test is skipped if its package is not there."""
    if kind == "asyncio":
        return asyncio.SelectorEventLoop()
    if importlib.util.find_spec("uvloop") is None:
        pytest.skip("needs uvloop: pip install uvloop")
    uvloop = importlib.import_module("uvloop")
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def kind_in_turn(n: int) -> str:
    """One make or the other; asyncio's alone where uvloop is not installed."""
    return KINDS[n % 2] if importlib.util.find_spec("uvloop") is not None else "asyncio"


def run_in(kind: str, main: Coroutine[Any, Any, Any], within: float = PATIENCE) -> Any:
    """As ``asyncio.run``, on a loop of that kind; TimeoutError if it takes longer."""

    async def bounded() -> Any:
        async with asyncio.timeout(within):
            return await main

    try:
        with asyncio.Runner(loop_factory=lambda: new_loop(kind)) as runner:
            return runner.run(bounded())
    finally:
        main.close()


async def eventually(condition: Callable[[], Any], within: float = PATIENCE) -> Any:
    """Let the loop run until ``condition()`` is true and return its value."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {within} s"
        await asyncio.sleep(0.0005)
    return value


async def queued(pool: Any, n: int, work: Awaitable[Any]) -> asyncio.Task[Any]:
    """Start a task and wait until it is the n-th in the pool's line."""
    task = asyncio.ensure_future(work)
    await eventually(lambda: task.done() or pool.stats().waiting == n)
    assert not task.done(), f"did not wait: {task}"
    return task  # type: ignore[return-value]


def queued_up(queue: Any) -> int:
    """How many getters and putters wait in the lines of a queue; it has no statistics."""
    core, _, _ = _core.asks(queue, None)
    return int(core.waiting)

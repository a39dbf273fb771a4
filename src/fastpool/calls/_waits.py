"""Where a call waits, in a thread or a task: for a place, and between two tries."""

from __future__ import annotations

import time
from queue import Empty
from typing import Any

from ._call import Call, Rules
from ._limit import Limit, LineFull


def sleep(rules: Rules, pause: float) -> None:
    """The pause between two tries; a clock that stands is moved by it."""
    if rules.advance is not None:
        rules.advance(pause)
    else:
        time.sleep(pause)


async def asleep(rules: Rules, pause: float) -> None:
    """``sleep`` for a task."""
    import asyncio

    if rules.advance is not None:
        rules.advance(pause)
        pause = 0
    await asyncio.sleep(pause)


def take(limit: Limit, call: Call) -> Any:
    """A place of the limit, or what this layer raises in place of one."""
    try:
        return limit.take_nowait()
    except Empty:
        pass
    try:
        return limit.take(call.left())
    except Empty:
        raise call.expired("limit") from call.last
    except LineFull:
        raise call.overloaded() from call.last


async def atake(limit: Limit, call: Call) -> Any:
    """``_take`` for a task."""
    try:
        return limit.take_nowait()
    except Empty:
        pass
    try:
        return await limit.atake(call.left())
    except Empty:
        raise call.expired("limit") from call.last
    except LineFull:
        raise call.overloaded() from call.last

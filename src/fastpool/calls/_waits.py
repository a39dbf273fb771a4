"""Where a call waits, in a thread or a task: for a place, and between two tries."""

from __future__ import annotations

import time
from queue import Empty
from typing import Any

from ._call import Call
from ._limit import Limit, LineFull


def sleep(call: Call, pause: float) -> None:
    """The pause before another try, which is not begun if the time is over then: whoever sleeps may
    wake late.  A clock that stands is moved by it."""
    advance = call.rules.advance
    if advance is not None:
        advance(pause)
    else:
        time.sleep(pause)
    call.still()


async def asleep(call: Call, pause: float) -> None:
    """``sleep`` for a task."""
    import asyncio

    advance = call.rules.advance
    if advance is not None:
        advance(pause)
        pause = 0
    await asyncio.sleep(pause)
    call.still()


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
    """``take`` for a task."""
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

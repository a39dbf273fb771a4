"""Where a call waits, in a thread or a task: for a permit, and between two tries."""

from __future__ import annotations

import time

from .._core import SemaphoreHold
from ..errors import PoolTimeout
from ._attempts import Call
from ._limit import Limit, QueueFull


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


def take(limit: Limit, call: Call) -> SemaphoreHold:
    """A permit of the limit, or what this layer raises in place of one."""
    permit = limit.take_nowait()
    if permit is not None:
        return permit
    try:
        return limit.take(call.left())
    except PoolTimeout:
        raise call.expired("limit") from call.last
    except QueueFull:
        raise call.overloaded() from call.last


async def atake(limit: Limit, call: Call) -> SemaphoreHold:
    """``take`` for a task."""
    permit = limit.take_nowait()
    if permit is not None:
        return permit
    try:
        return await limit.atake(call.left())
    except PoolTimeout:
        raise call.expired("limit") from call.last
    except QueueFull:
        raise call.overloaded() from call.last

"""The warm-up of new connections: what the user does with each before it takes calls."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

PATIENCE = 10.0  # seconds that tasks have for it; a thread cannot be stopped

WarmUp = Callable[[Any], object]


def checked_warm_up(who: str, kind: str, given: Any) -> None:
    """TypeError for what cannot be called, or not on this kind of channel."""
    if given is None:
        return
    if not callable(given):
        raise TypeError(f"{who} warm_up must be a callable (channel) or None, not {given!r}")
    if kind == "sync" and inspect.iscoroutinefunction(given):
        raise TypeError(
            f"{who} warm_up is a coroutine function, which nobody would await here: give shared() a"
            " plain function, or use aio_shared()"
        )


def warm_up(target: str, call: WarmUp | None, channel: Any) -> None:
    """Runs it on the channel of one connection. What it raises is logged: a connection that was not
    warmed up is better than none."""
    if call is None:
        return
    try:
        call(channel)
    except Exception:
        _failed(target)


async def awarm_up(target: str, call: WarmUp | None, channel: Any) -> None:
    """The same for tasks: what it returns is awaited, if it can be."""
    if call is None:
        return
    try:
        async with asyncio.timeout(PATIENCE):
            result = call(channel)
            if inspect.isawaitable(result):
                await result
    except Exception:
        _failed(target)


def _failed(target: str) -> None:
    logging.getLogger("fastpool").exception(
        "grpc %s: warm_up raised; the connection is used as it is", target
    )

"""ObjectCache, configured: when it lets go of what nobody asks for.

A generation ends with each full garbage collection, which the collector tells.  A process without
any would keep things for ever, so that the scheduler ends one after a minute without; it runs no
finalisers, which are for a worker.
"""

from __future__ import annotations

import gc
import os
import time

from . import (
    _core,
    pool,  # noqa: F401  what it does in a forked child comes before what is done here
)
from ._core import ObjectCache
from ._runtime import scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ObjectCache"]

EPOCH = 60.0  # seconds without a full collection after which a generation ends all the same

_first: dict[str, object] = {}


def configure(new: Any, reset: Any) -> None:
    """What ``ObjectCache.__init__`` does, apart from keeping its arguments."""
    if not callable(new):
        raise TypeError(f"ObjectCache: new must be a callable that makes an object, not {new!r}")
    if reset is not None and not callable(reset):
        raise TypeError(f"ObjectCache: reset must be a callable of one object, not {reset!r}")
    from .pool._options import is_async

    for name, function in (("new", new), ("reset", reset)):
        if is_async(function):
            raise TypeError(
                f"ObjectCache: {name} is a coroutine function, and get() and put() await nothing"
            )
    mine = object()
    if _first.setdefault("cache", mine) is mine:  # one step, so that the collector is asked once
        gc.callbacks.append(_core.collected)


def in_use() -> None:
    """Some cache keeps something, for the first time since time was watched last."""
    scheduler.call_at(time.monotonic() + EPOCH, due)


def due() -> None:
    """On the scheduler's thread: ends a generation, unless the collector has done so lately."""
    now = time.monotonic()
    if (at := _core.caches_advanced() + EPOCH) <= now:
        dropped, used = _core.advance_caches()
        if dropped:
            from ._runtime.threads import shared_group

            shared_group("fastpool-cache", 1).submit(dropped.clear)
        if not used:
            return  # until in_use() is called again
        at = now + EPOCH
    scheduler.call_at(at, due)


def _after_fork_in_child() -> None:
    if _core.caches_watched():
        in_use()


_core.bind_cache(configure, in_use)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

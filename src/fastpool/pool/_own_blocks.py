"""Whether a thread that is about to wait inside blocks of its own would wait for itself.

A block counts to the thread that has entered it.  Most threads do one thing, and are in that block
until they have left it.  A thread of an executor runs one function after the other, and a generator
that was entered by one of them may be left by another, on another thread: so do frameworks with
dependencies that are plain generators.  There the block is the caller's only if the function that
runs now uses what was lent: if its frames refer to the resource, or to what wraps it.

Asked only of a caller whom the core takes for one that waits for itself, which is rare.
"""

from __future__ import annotations

import gc
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import FrameType
    from typing import Any

    from .. import _core

__all__ = ["surround_call", "waits_for_itself"]

# Modules whose frames call one function after the other, each on behalf of somebody else.
EXECUTORS = {
    "anyio._backends._asyncio",
    "asgiref.sync",
    "concurrent.futures.thread",
    "fastpool._runtime.threads",
    "fastpool.limits._threads",
    "fastpool.limits._worker_pool",
    "multiprocessing.pool",
    "trio._core._thread_cache",
}
DEPTH = 2  # a local variable, its attributes, their attributes


def surround_call(cores: Iterable[_core.Core], me: int) -> bool:
    """Say whether the caller is inside all the blocks that are counted to it; thread-safe.

    ``me``: the running thread, or a task; a task is always inside its own blocks."""
    if me != threading.get_ident():
        return True
    frames = _frames_of_function(sys._getframe(1))
    if frames is None:
        return True
    lent = [
        core.item(index)
        for core in cores
        for index, state, _, _, _, owner, _ in core.slots()
        if state == "leased" and owner == me | 1
    ]
    missing = {id(resource) for resource in lent}
    for frame in frames:
        for value in frame.f_locals.values():
            _discard_reachable(value, missing, DEPTH)
    return not missing


def waits_for_itself(cores: Sequence[_core.Core], me: int) -> bool:
    """Say whether all that is open is lent to blocks that the caller is in; thread-safe.  What the
    core has seen may be over by now: others end blocks too."""
    if not surround_call(cores, me):
        return False
    slots = [slot for core in cores for slot in core.slots()]
    return bool(slots) and all(slot[1] == "leased" and slot[5] == me | 1 for slot in slots)


def _frames_of_function(frame: FrameType | None) -> list[FrameType] | None:
    """Return the frames of the function that an executor runs in this thread, without the pool's
    own; None: no executor runs it."""
    frames: list[FrameType] = []
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module in EXECUTORS:
            return frames
        if not module.startswith("fastpool."):
            frames.append(frame)
        frame = frame.f_back
    return None


def _discard_reachable(value: Any, missing: set[int], depth: int) -> None:
    missing.discard(id(value))
    if depth and missing:
        for other in _parts(value):
            _discard_reachable(other, missing, depth - 1)


def _parts(value: Any) -> Iterator[Any]:
    """Iterate over what an object consists of, without running its code.  A container, a class, a
    module or a pool is no wrapper of one resource."""
    kind = type(value)
    module = str(kind.__module__)
    if module == "builtins" and kind is not dict:
        return iter(())
    if module.startswith("fastpool") and not module.startswith("fastpool.contrib."):
        return iter(())
    return iter(gc.get_referents(value))

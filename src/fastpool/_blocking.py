"""Plain calls that wait in a thread whose event loop is running, which stands still meanwhile.

What they wait for is often in the hands of a task of that very loop, so that they wait in vain.
That is said when such a wait begins, and again when it has been in vain.
"""

from __future__ import annotations

import sys
import threading

from . import _reports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

__all__ = [
    "ACQUIRE",
    "CHECK",
    "CLOSE",
    "QUEUE",
    "SEMAPHORE",
    "WARM",
    "before_wait",
    "loop_here",
    "note",
]

#: What a task of asyncio says instead.
ACQUIRE = "`async with pool.lease()`, `await pool.aacquire()`"
QUEUE = "`await pool.aget()` and `await pool.aput(item)` of a FastPool, or asyncio.Queue"
SEMAPHORE = "`async with semaphore.hold()`, `await semaphore.aacquire()`"
CLOSE = "`await pool.aclose()`, `async with pool`"
WARM = "`await pool.awarm(n)`"
CHECK = "`await pool.acheck_idle()`"

_INSTEAD = {
    "trio": "fastpool.contrib.anyio, or trio.to_thread.run_sync(call)",
    "gevent": "a thread, gevent.get_hub().threadpool.apply(call)",
}
_NAMELESS = {QUEUE: "a queue of fastpool", SEMAPHORE: "a semaphore of fastpool"}
_warning: set[int] = set()  # threads that are about it: what shows a warning may wait itself


def loop_here() -> str | None:
    """Whose event loop runs in this thread, if any does; imports nothing.

    ``in`` and ``[]``, never ``get``: that one locks ``sys.modules`` on free-threaded 3.13, for all
    who wait at the same time, and a child that is forked while the lock goes from one to the other
    has it locked for ever.
    """
    modules = sys.modules
    if "asyncio" in modules:
        running = getattr(modules["asyncio"], "_get_running_loop", None)
        if running is not None and running() is not None:
            return "asyncio"
    if "trio.lowlevel" in modules:
        in_trio = getattr(modules["trio.lowlevel"], "in_trio_run", None)
        if in_trio is not None and in_trio():
            return "trio"
    if "gevent" in modules:
        gevent: Any = modules["gevent"]
        if hasattr(gevent, "getcurrent") and isinstance(gevent.getcurrent(), gevent.Greenlet):
            return "gevent"
    return None


def before_wait(name: str | None, instead: str) -> None:
    """Warn if the caller, who is about to wait, stops an event loop: EventLoopWarning, which a
    filter of ``warnings`` makes an error.  Not in a notebook: a cell that takes time is usual
    there."""
    kind = loop_here()
    me = threading.get_ident()
    if kind is None or me in _warning or _in_notebook():
        return
    import warnings

    from .errors import WARNINGS_PAGE, EventLoopWarning, with_page

    _warning.add(me)
    try:
        warnings.warn(
            with_page(
                f"{name or _NAMELESS[instead]}: a plain call waits here, and the event loop of "
                f"{kind} that runs in this thread stands still meanwhile: use "
                f"{_INSTEAD.get(kind, f'{instead}, or asyncio.to_thread(call)')}",
                WARNINGS_PAGE,
            ),
            EventLoopWarning,
            stacklevel=_depth(sys._getframe()),
        )
    finally:
        _warning.discard(me)


def note(error: BaseException, instead: str) -> None:
    """Say in the error of a wait in vain that it has stopped an event loop, if it has."""
    kind = loop_here()
    if kind is not None:
        _reports.note(
            error,
            f"the event loop of {kind} that runs in this thread stood still during this wait, so "
            "that none of its tasks could give anything back: use "
            f"{_INSTEAD.get(kind, f'{instead}, or asyncio.to_thread(call)')}",
        )


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules and threading.current_thread() is threading.main_thread()


def _depth(frame: FrameType | None) -> int:
    """The ``stacklevel`` of the first frame that is not of fastpool, for the one given."""
    depth = 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "fastpool":
        depth, frame = depth + 1, frame.f_back
    return depth

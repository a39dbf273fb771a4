"""The one scheduler thread for all pools: sleeps until the next deadline, runs no user code.

Pools are known by weak references.  ``call_soon`` is safe anywhere, in finalisers and signal
handlers too: it puts into a ``SimpleQueue``, which is re-entrant, and takes no lock.
"""

from __future__ import annotations

import threading
import time
from _contextvars import copy_context
from _heapq import heapify, heappop, heappush
from _queue import Empty, SimpleQueue
from _weakref import ref

from .. import _core, _reports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _contextvars import Context
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "call_at",
    "call_soon",
    "context_of_caller",
    "inbox_put",
    "restart",
    "run",
    "runs_here",
    "start",
]

AT_ONCE = 5.0  # seconds at most that a caller waits for this thread, which blocks nowhere

_inbox: SimpleQueue[tuple[float, Any, tuple[Any, ...]]] = SimpleQueue()
_schedulers: dict[str, threading.Thread] = {}  # the one that is at it


def call_soon(call: Callable[..., object], *args: Any) -> None:
    """Has ``call(*args)`` run on the scheduler thread, soon; it must not block or call hooks."""
    _inbox.put((0.0, call, args))
    if not _schedulers:
        start()


def run(call: Callable[..., Any], *args: Any) -> Any:
    """What ``call(*args)`` returns or raises, done on the scheduler thread: as a whole or not at
    all, whatever a signal handler does to the caller.  It must not block or call hooks, and the
    caller holds no lock.  Costs two switches of threads.

    Where the thread cannot be had, as at interpreter exit, the caller does it."""
    if runs_here():
        return call(*args)
    request = _Request(call, args)
    call_soon(request.perform)
    if _schedulers:
        request.wait()
    request.perform()  # unless it has been done
    request.wait()
    if not request.ended:
        raise RuntimeError("fastpool's scheduler is stuck in this change, and may make it yet")
    if request.error is not None:
        raise request.error
    return request.result


class _Request:
    """A call for whose end somebody waits."""

    def __init__(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.call, self.args = call, args
        self.begun = _core.Once()
        self.ended = False
        self.state_changed = _core.Condition()
        self.result: Any = None
        self.error: BaseException | None = None

    def perform(self) -> None:
        """Make the call, if nobody has begun it."""
        if not self.begun.take():
            return
        try:
            self.result = self.call(*self.args)
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self.state_changed.notify_all()

    def wait(self) -> None:
        self.state_changed.wait_for(lambda: self.ended, AT_ONCE)


def runs_here() -> bool:
    """Whether the caller is on the scheduler thread."""
    thread = _schedulers.get("scheduler")
    return thread is not None and thread.ident == threading.get_ident()


def call_at(at: float, call: Any, *args: Any) -> None:
    """Has ``call(*args)`` run when ``time.monotonic()`` reaches ``at``.  Bound methods are held
    weakly, so that a deadline keeps no pool alive."""
    if getattr(call, "__self__", None) is not None:
        from weakref import WeakMethod

        call = WeakMethod(call)
    _inbox.put((at, call, args))
    if not _schedulers:
        start()


def inbox_put() -> Callable[[tuple[float, Any, tuple[Any, ...]]], None]:
    """The bare ``put`` of the inbox, for the core: one call that no signal handler can split.  It
    relies on the thread, which is started with the first pool."""
    return _inbox.put


def restart() -> None:
    """In a forked child: the thread is gone and its deadlines are the parent's."""
    global _inbox, _schedulers
    _inbox, _schedulers = SimpleQueue(), {}


def context_of_caller(own: Context | None) -> Context:
    """A copy of the caller's context variables, for what is done on the caller's behalf; of those
    of the pool, ``own``, if the caller is the scheduler, on whose behalf nothing is done."""
    if own is not None and runs_here():
        return own.copy()
    return copy_context()


def start() -> None:
    """Starts the thread, if it is not there yet."""
    if _schedulers:
        return
    from .launch import launch  # with the first pool: the import of fastpool is to be quick

    begun = _core.Event()
    try:
        launch("fastpool-scheduler", _run, _inbox, _schedulers, begun)
    except RuntimeError:
        return  # interpreter exit: nothing is to be kept any more
    begun.wait(1.0)  # or who comes next would start another


def _wanted(call: Any) -> bool:
    """Whether a deadline still matters to anybody."""
    return not isinstance(call, ref) or call() is not None


def _run(
    inbox: SimpleQueue[tuple[float, Any, tuple[Any, ...]]],
    schedulers: dict[str, threading.Thread],
    begun: _core.Event,
) -> None:
    me = threading.current_thread()
    first = schedulers.setdefault("scheduler", me) is me
    begun.set()
    if not first:  # two have started one at once
        return
    deadlines: list[tuple[float, int, Any, tuple[Any, ...]]] = []
    order = live = 0
    while True:
        wait = max(0.0, deadlines[0][0] - time.monotonic()) if deadlines else None
        try:
            at, call, args = inbox.get(timeout=wait)
        except Empty:
            at, _, call, args = heappop(deadlines)
        else:
            if at > time.monotonic():
                order += 1
                heappush(deadlines, (at, order, call, args))
                if len(deadlines) > 2 * live + 64:
                    deadlines = [entry for entry in deadlines if _wanted(entry[2])]
                    heapify(deadlines)
                    live = len(deadlines)
                continue
        if isinstance(call, ref):
            call = call()
        if call is not None:
            try:
                call(*args)
            except BaseException as error:  # all pools of the process live by this thread
                text = "maintenance failed; it goes on"
                _reports.warn_and_go_on(text, error=error, level=_reports.ERROR)
        del call, args  # nothing is kept alive by a sleeping scheduler

"""What there is for each event loop: the mailbox where its tasks' waits end, and what wakes it.

Imported when the first task has to wait.  A task waits in the same queue as threads do; its record
ends in the mailbox of its event loop, and the mailbox sets the future that the task awaits.  A wait
that is cancelled, or whose task is never resumed, gives back what it was granted.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from asyncio import _get_running_loop  # None where no loop runs
from itertools import count

from .. import _core
from .._runtime import scheduler
from .timeouts import Timeouts
from .wakeup import WakeupFd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Abandonable(Protocol):
        def abandon(self) -> None: ...


__all__ = ["Loop", "look_later", "loop_of"]

#: How soon it is found out that a loop was closed while its tasks waited, in seconds.
LOOK = 0.1

# Not in the records: one may go with its loop in one cycle, and a socket that is collected in it
# complains before it can be closed.
_wakeups: dict[int, WakeupFd] = {}


class Loop(_core.Mailbox):
    """What is kept for one event loop, as an attribute of it: so it goes when the loop goes, with
    all that waits there."""

    write_fd = -1  # of one that is not made to the end

    def __init__(self, write_fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self.write_fd = write_fd
        self.loop = loop
        # uvloop's own clock is that of the start of the iteration; a test's loop may have another
        clock = time.monotonic if abs(loop.time() - time.monotonic()) < 1.0 else loop.time
        self.offloaded_calls: dict[int, weakref.ref[Abandonable]] = {}
        self.pools: weakref.WeakSet[Any] = weakref.WeakSet()  # that have resources of this loop
        self.own_time = clock is not time.monotonic
        self.expire = Timeouts(loop, clock).add

    def __del__(self) -> None:
        self.close()  # first nobody writes to it any more, then it is closed
        wakeup = _wakeups.pop(self.write_fd, None)
        if wakeup is not None:
            wakeup.close()

    def on_wakeup(self) -> None:
        try:
            _wakeups[self.write_fd].drain()
            self.open()
        except BaseException:  # a signal handler's: what was taken in would have to be heard again
            self.wake()
            raise

    @property
    def busy(self) -> bool:
        """Whether anything waits there."""
        return bool(self.waits or self.offloaded_calls)

    def on_loop_closed(self) -> None:
        """The loop is closed: what its tasks were granted goes to others."""
        self.close()
        for wait in list(self.waits):
            wait.abandon()
        for found in list(self.offloaded_calls.values()):
            offloaded = found()
            if offloaded is not None:
                offloaded.abandon()
        for pool in list(self.pools):
            pool.forget_closed()


def _new_loop(loop: asyncio.AbstractEventLoop) -> Loop:
    """A record with a wakeup descriptor that the loop watches."""
    wakeup = WakeupFd()
    its = Loop(wakeup.write_fd, loop)
    _wakeups[wakeup.write_fd] = wakeup
    try:
        loop.add_reader(wakeup.read_fd, its.on_wakeup)
    except NotImplementedError:
        raise RuntimeError(
            f"fastpool needs an event loop that can watch a descriptor, and {loop!r} cannot: "
            "use asyncio.SelectorEventLoop"
        ) from None
    return its


#: By a number that is never used twice; each change is one step, without a lock.
_loops: dict[int, weakref.ref[Loop]] = {}
_number = count().__next__


def loop_of(loop: asyncio.AbstractEventLoop | None) -> Loop:
    """Its record, made when first asked for.  RuntimeError where none runs."""
    if loop is None:
        raise RuntimeError(
            "fastpool: a task waits on asyncio only, and no event loop of asyncio runs in this "
            "thread; on trio use fastpool.contrib.anyio: async with lease(pool) as resource"
        )
    try:
        found: Loop = loop._fastpool  # type: ignore[attr-defined]
    except AttributeError:
        _forget_closed_loops()  # a new loop often follows one that was closed
        found = loop._fastpool = _new_loop(loop)  # type: ignore[attr-defined]
        _loops[_number()] = weakref.ref(found)
    return found


def _forget_closed_loops() -> bool:
    """True if somebody waits on a loop that is not closed."""
    waits = False
    for number, known in _loops.copy().items():
        its = known()
        if its is None:
            _loops.pop(number, None)
        elif its.loop.is_closed():
            its.on_loop_closed()
            _loops.pop(number, None)
        else:
            waits = waits or its.busy
    return waits


def _look() -> None:
    """On the scheduler's thread, as long as any task waits."""
    _core.set_watching(False)
    if _forget_closed_loops():
        look_later()


def look_later() -> None:
    try:
        _core.set_watching(True)
        scheduler.call_at(time.monotonic() + LOOK, _look)
    except BaseException:  # a signal handler's: nobody may rely on a look that does not come
        _core.set_watching(False)
        raise


_core.set_loops(_get_running_loop, loop_of, look_later)


def _after_fork_in_child() -> None:
    """The parent's loops are not this process's: nothing is read from, written to or removed."""
    for known in _loops.values():
        its = known()
        if its is not None:
            its.forked()
            del its.loop._fastpool  # type: ignore[attr-defined]
    _loops.clear()
    _core.set_watching(False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

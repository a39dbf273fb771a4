"""The async methods' slow paths: what a task does where a thread would sleep, or run a hook.

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

from .. import _core
from .._runtime import scheduler
from .timeouts import Timeouts
from .wakeup import WakeupFd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ..pool._manager import Manager

__all__ = ["aclose", "acquire_slow", "enter", "get", "give_back", "loop_of", "warm"]

#: How soon it is found out that a loop was closed while its tasks waited, in seconds.
LOOK = 0.1
MAY_OPEN = ("may open", "may open at head")  # of what a wait ends with: one more may be opened


# ---- Mailboxes ---------------------------------------------------------------------------------


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
        self.offloaded_calls: dict[int, weakref.ref[OffloadedCall]] = {}
        self.pools: weakref.WeakSet[Any] = weakref.WeakSet()  # that have resources of this loop
        self.own_time = clock is not time.monotonic
        self.expire = Timeouts(loop, clock, self.waits).add

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


_loops: weakref.WeakSet[Loop] = weakref.WeakSet()
_lock = _core.Lock()  # what is collected inside it may ask for a record, too


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
        with _lock.hold():
            _loops.add(found)
    return found


def _forget_closed_loops() -> bool:
    """True if somebody waits on a loop that is not closed."""
    waits = False
    with _lock.hold():
        known = list(_loops)
    for its in known:
        if its.loop.is_closed():
            its.on_loop_closed()
            with _lock.hold():
                _loops.discard(its)
        else:
            waits = waits or its.busy
    return waits


def _look() -> None:
    """On the scheduler's thread, as long as any task waits."""
    _core.set_watching(False)
    if _forget_closed_loops():
        _look_later()


def _look_later() -> None:
    try:
        _core.set_watching(True)
        scheduler.call_at(time.monotonic() + LOOK, _look)
    except BaseException:  # a signal handler's: nobody may rely on a look that does not come
        _core.set_watching(False)
        raise


_core.set_loops(_get_running_loop, loop_of, _look_later)


def _after_fork_in_child() -> None:
    """The parent's loops are not this process's: nothing is read from, written to or removed."""
    global _loops, _lock
    for its in _loops:
        its.forked()
        del its.loop._fastpool  # type: ignore[attr-defined]
    _loops, _lock = weakref.WeakSet(), _core.Lock()
    _core.set_watching(False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# ---- Waiting -----------------------------------------------------------------------------------


def _off_loop(manager: Manager, call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    """``call(*args)`` on a worker, begun at once; await its result."""
    offloaded = OffloadedCall(lambda: None)
    offloaded.send(manager, call, *args)
    return offloaded.result()


class OffloadedCall:
    """One call on a worker for one task.  Done, or given up by its task: whoever comes second finds
    out, and does ``undo()``.  Kept by the task until it has what the call has brought; dropped
    before, it gives up: a signal handler may raise anywhere in between."""

    def __init__(self, undo: Callable[[], object]) -> None:
        self.to_begin, self.to_end, self.to_leave = _core.Once(), _core.Once(), _core.Once()
        self.undo = undo
        loop: Any = _get_running_loop()
        self.offloaded_calls = offloaded_calls = loop_of(
            loop
        ).offloaded_calls  # first: it refuses where asyncio runs not
        self.loop = loop
        self.future = loop.create_future()
        self.found: Any = None
        self.error: BaseException | None = None
        me = id(self)
        offloaded_calls[me] = weakref.ref(self, lambda _: offloaded_calls.pop(me, None))

    def send(self, manager: Manager, call: Callable[..., Any], *args: Any) -> None:
        """Has it begun."""
        _look_later()
        manager.offload_threads.hand_over(self.run, call, args)

    def run(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """On a worker."""
        if not self.to_begin.take():
            return
        try:
            self.found = call(*args)
        except BaseException as error:
            self.error = error
        if not self.to_end.take():
            self.undo()
            return
        try:
            self.loop.call_soon_threadsafe(_core.set_done, self.future)
        except RuntimeError:  # the loop is closed
            self.abandon()

    async def result(self) -> Any:
        try:
            await self.future
        except BaseException:
            self.abandon()
            raise
        finally:
            self.offloaded_calls.pop(id(self), None)
        if self.error is not None:
            raise self.error
        return self.found

    def abandon(self) -> None:
        """Nobody awaits it any more.  Also for a loop that is closed, while the task is kept."""
        if self.to_leave.take() and not self.to_end.take():
            self.undo()

    def retract(self) -> None:
        """The same, and if it has not begun it never will."""
        if self.to_begin.take():
            self.to_leave.take()
            self.undo()
        else:
            self.abandon()

    def __del__(self) -> None:
        if hasattr(self, "undo"):
            self.retract()


# ---- Borrowing ---------------------------------------------------------------------------------


async def acquire_slow(
    manager: Any,
    guard: _core.SlotGuard,
    reason: str | None,
    timeout: float | None,
    take: Callable[[_core.SlotGuard], Any],
) -> Any:
    """As ``Manager.acquire_slow``, for a task; ends with ``take(guard)``.  ``manager``: or a
    ``LoopPool``, which awaits its hooks."""
    start = time.monotonic()
    in_front = asked = missed = False
    wait = offloaded = None
    try:
        its, me, core = _core.current(), _core.task(), manager.core
        if manager.maintenance.dozing:
            manager.maintenance.wake_up()
        while reason != "fresh":
            if reason == "due" and manager.awaits:
                if await manager.checking.aexamine(guard, start, timeout):
                    break
                in_front = True
            elif reason == "due":
                away = _core.slot_guard(core)
                offloaded = OffloadedCall(away.drop)
                away.receive(guard)
                offloaded.send(manager, manager.checking.examine, away, start, timeout)
                if await offloaded.result():
                    guard.receive(away)  # now the offloaded call has nothing to undo any more
                    break
                in_front = True
            elif reason in MAY_OPEN:
                if timeout == 0:
                    raise manager.refusal("timeout", start, timeout)
                missed = True
                manager.announce_waiter(guard, start, timeout, me)
                in_front, asked = in_front or asked or reason == "may open at head", True
            elif reason == "stolen":
                in_front = True
            elif reason is not None:
                raise manager.refusal(reason, start, timeout)
            left = None if timeout is None else max(0.0, start + timeout - time.monotonic())
            wait = _core.Wait(core, its)
            try:
                reason = wait.join_pool(guard, me, left, in_front=in_front)
                if reason is None:
                    missed = True
                    await wait
                    reason = wait.outcome
                    if manager.awaits:  # of two that it was notified of, another loop may want one
                        manager.shards.on_idle()
            except _core.Permit as granted:
                scheduler.call_soon(manager.creator.create_for_task, granted.args[0])
                reason, in_front = "may open", True
        if manager.tracking.on:
            manager.tracking.note(guard)
        if missed and manager.listeners is not None:
            manager.acquired_after_wait(time.monotonic() - start)
        return take(guard)
    except BaseException:
        if wait is not None:
            wait.close()  # a signal handler may have raised between the queue and the await
        if offloaded is not None:
            offloaded.retract()
        guard.drop()
        raise


def enter(
    lease: _core.Lease[Any] | _core.SharedLease[Any], guard: _core.SlotGuard, block: bool = True
) -> Awaitable[Any]:
    """The slow path of ``async with pool.lease()``."""
    manager, reason, timeout = _core.lease_asks(lease, guard)
    return acquire_slow(
        manager, guard, reason, timeout, lambda guard: _core.lease_keep(lease, guard, block)
    )


def get(pool: Any, guard: _core.SlotGuard | None, timeout: Any) -> Awaitable[Any]:
    """The slow path of ``aget`` in pool use."""
    core, manager, timeout = _core.asks(pool, timeout)
    reason = None if guard is None else "due"
    return acquire_slow(
        manager, guard or _core.slot_guard(core), reason, timeout, _core.SlotGuard.give
    )


# ---- Returning ---------------------------------------------------------------------------------


def give_back(
    manager: Any, index: int, error: BaseException | None, discard: bool
) -> Awaitable[None] | None:
    """The slow path of a return, begun at once: hooks run on a worker, or in a task of the pool's.
    None: all is done."""
    hooks = manager.hooks
    if (
        hooks.reset is None
        and error is None
        and not discard
        and manager.validate(index, None) is None
    ):
        used = manager.tracking.forget(index) if manager.tracking.on else None
        if manager.recycle(index) is None:
            manager.on_idle()
            if used is not None:
                manager.was_used(used)
            return None

    if manager.awaits:
        begun: Awaitable[None] | None = manager.begin_give_back(index, error, discard)
        return begun

    def end() -> None:
        try:
            manager.give_back(index, error, discard)
        except BaseException:
            manager.rescue(index, "interrupted")
            raise

    if _get_running_loop() is None:  # trio, which has nothing to wake: it is begun and not awaited
        manager.offload_threads.hand_over(end)
        return None
    return _off_loop(manager, end)


# ---- The rest ----------------------------------------------------------------------------------


async def aclose(manager: Manager, timeout: float | None) -> bool:
    me = _core.task()
    closed: bool = await _off_loop(manager, manager.close, timeout, me)
    return closed


async def open_pool(manager: Manager, wait: bool, timeout: float | None) -> None:
    await _off_loop(manager, manager.open, wait, timeout)


async def check_idle(manager: Manager) -> int:
    closed: int = await _off_loop(manager, manager.check_idle, True)
    return closed


async def warm(manager: Manager, *args: Any) -> int:
    n: int = await _off_loop(manager, manager.warm, *args)
    return n

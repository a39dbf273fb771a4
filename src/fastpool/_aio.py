"""The asyncio face: what a task does where a thread would sleep, or run a hook.

Imported when the first task has to wait.  A task waits in the same line as threads do; its record
ends in the mailbox of its event loop, and the mailbox sets the future that the task awaits.  A wait
that is cancelled, or whose task is never resumed, gives back what it was granted.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import weakref
from asyncio import _get_running_loop  # None where no loop runs
from functools import partial

from . import _core, _keeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ._manager import Manager

__all__ = ["aclose", "borrow", "enter", "get", "loop_of", "put", "settle", "warm"]

#: How soon it is found out that a loop was closed while its tasks waited, in seconds.
LOOK = 0.1


# ---- Mailboxes ---------------------------------------------------------------------------------


class Loop:
    """What is kept for one event loop: its mailbox, and the waits that are under way there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        if hasattr(os, "eventfd"):
            ear = bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            closers: tuple[Callable[[], object], ...] = (partial(os.close, bell),)
            listen: Callable[[], object] = partial(os.read, ear, 8)
        else:
            ends = socket.socketpair()
            for end in ends:
                end.setblocking(False)
            ear, bell = (end.fileno() for end in ends)
            closers = tuple(end.close for end in ends)
            listen = partial(ends[0].recv, 4096)
        this = weakref.ref(loop)
        self.mailbox = mailbox = _core.Mailbox(bell, lambda: _get_running_loop() is this())
        weakref.finalize(self, _hang_up, mailbox, closers)
        self.waits: dict[int, weakref.ref[_core.Wait]] = {}
        self.pools: weakref.WeakSet[Any] = weakref.WeakSet()  # that have resources of this loop

        def hear() -> None:
            try:
                listen()
            except BlockingIOError:
                pass
            mailbox.open()

        try:
            loop.add_reader(ear, hear)
        except NotImplementedError:
            raise RuntimeError(
                f"fastpool needs an event loop that can watch a descriptor, and {loop!r} cannot: "
                "use asyncio.SelectorEventLoop"
            ) from None

    def forsake(self) -> None:
        """The loop is closed: what its tasks were granted goes to others."""
        self.mailbox.close()
        for found in list(self.waits.values()):
            wait = found()
            if wait is not None:
                wait.abandon()
        for pool in list(self.pools):
            pool.forget_closed()


def _hang_up(mailbox: _core.Mailbox, closers: tuple[Callable[[], object], ...]) -> None:
    """First nobody rings any more, then the bell goes."""
    mailbox.close()
    for close in closers:
        close()


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Loop] = weakref.WeakKeyDictionary()
_lock = threading.Lock()
_looking = False


def loop_of(loop: asyncio.AbstractEventLoop) -> Loop:
    """Its record, made when first asked for."""
    found = _loops.get(loop)
    if found is None:
        _forsake_closed()  # a new loop often follows one that was closed
        with _lock:
            found = _loops[loop] = Loop(loop)
    return found


def _forsake_closed() -> bool:
    """True if somebody waits on a loop that is not closed."""
    waits = False
    with _lock:
        known = list(_loops.items())
    for loop, its in known:
        if loop.is_closed():
            its.forsake()
            with _lock:
                _loops.pop(loop, None)
        else:
            waits = waits or bool(its.waits)
    return waits


def _look() -> None:
    """On the housekeeper, as long as any task waits."""
    global _looking
    _looking = False
    if _forsake_closed():
        _look_again()


def _look_again() -> None:
    global _looking
    if not _looking:
        _looking = True
        _keeper.watch(time.monotonic() + LOOK, _look)


def _after_fork_in_child() -> None:
    """The parent's loops are not this process's: nothing is read from, written to or removed."""
    global _loops, _lock, _looking
    for its in _loops.values():
        its.mailbox.close()
    _loops, _lock, _looking = weakref.WeakKeyDictionary(), threading.Lock(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# ---- Waiting -----------------------------------------------------------------------------------


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _outcome(
    wait: _core.Wait, loop: asyncio.AbstractEventLoop, its: Loop, deadline: float | None
) -> str:
    """The outcome of a wait that has joined a line."""
    timer = None
    its.waits[id(wait)] = weakref.ref(wait)
    if not _looking:
        _look_again()
    try:
        while True:
            future = loop.create_future()
            if wait.arm(future):
                if deadline is not None:
                    timer = loop.call_later(deadline - time.monotonic(), _set, future)
                await future
                if timer is not None:
                    timer.cancel()
            reason = wait.look()
            if reason is not None:
                return reason
            if deadline is not None and time.monotonic() >= deadline:
                return wait.leave()
    except BaseException:
        wait.abandon()
        raise
    finally:
        del its.waits[id(wait)]
        if timer is not None:
            timer.cancel()


def _off_loop(
    manager: Manager, undo: Callable[[], object], call: Callable[..., Any], *args: Any
) -> Awaitable[Any]:
    """``call(*args)`` on a worker, begun at once; await its result.  ``undo()``: when it has ended
    and nobody awaits it any more."""
    loop = asyncio.get_running_loop()
    its = loop_of(loop)
    errand = Errand(loop, loop.create_future(), undo, its.waits)
    try:
        manager.errands.submit(errand.run, call, args)
    except BaseException:
        undo()
        raise
    _look_again()
    return errand.awaited()


class Errand:
    """One call on a worker for one task.  Done, or given up by its task: whoever comes second finds
    out, under ``lock``."""

    def __init__(
        self, loop: Any, future: asyncio.Future[Any], undo: Callable[[], object], waits: Any
    ) -> None:
        self.loop, self.future, self.undo, self.waits = loop, future, undo, waits
        me = id(self)
        waits[me] = weakref.ref(self, lambda _: waits.pop(me, None))
        self.lock = threading.Lock()
        self.done = self.given_up = False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self.result = call(*args)
        except BaseException as error:
            self.error = error
        with self.lock:
            self.done = True
            late = self.given_up
        if not late:
            try:
                self.loop.call_soon_threadsafe(_set, self.future)
            except RuntimeError:  # the loop is closed
                with self.lock:
                    late, self.given_up = not self.given_up, True
        if late:
            self.undo()

    async def awaited(self) -> Any:
        try:
            await self.future
        except BaseException:
            self.abandon()
            raise
        finally:
            self.waits.pop(id(self), None)
        if self.error is not None:
            raise self.error
        return self.result

    def abandon(self) -> None:
        """Nobody awaits it any more.  Also for a loop that is closed, while the task is kept."""
        with self.lock:
            late = not self.given_up and self.done
            self.given_up = True
        if late:
            self.undo()


# ---- Borrowing ---------------------------------------------------------------------------------


async def borrow(manager: Any, hand: _core.Hand, reason: str | None, span: float | None) -> None:
    """As ``Manager.borrow``, for a task.  ``manager``: or a ``Shard``, which awaits its hooks."""
    start = time.monotonic()
    in_front = asked = False
    try:
        loop = asyncio.get_running_loop()
        its, me, core = loop_of(loop), _core.task(), manager.core
        while reason != "fresh":
            if reason == "due" and manager.awaits:
                if await manager.checking.aexamine(hand, start, span):
                    break
                in_front = True
            elif reason == "due":
                away = hand.move()
                if await _off_loop(manager, away.drop, manager.checking.examine, away, start, span):
                    hand.receive(away)
                    break
                in_front = True
            elif reason == "room":
                if span == 0:
                    raise manager.refusal("timeout", start, span)
                manager.come(hand, start, span)
                in_front, asked = in_front or asked, True
            elif reason is not None:
                raise manager.refusal(reason, start, span)
            left = None if span is None else max(0.0, start + span - time.monotonic())
            wait = _core.Wait(core, its.mailbox)
            reason = wait.join_pool(hand, me, in_front=in_front, wait=left != 0)
            if reason is None:
                deadline = None if left is None else start + (span or 0)
                reason = await _outcome(wait, loop, its, deadline)
        if manager.tracking.on:
            manager.tracking.note(hand.index)
    except BaseException:
        hand.drop()
        raise


async def enter(lease: _core.Lease[Any], hand: _core.Hand, block: bool = True) -> Any:
    """The slow path of ``async with pool.lease()``."""
    manager, reason, span = _core.lease_asks(lease, hand)
    await borrow(manager, hand, reason, span)
    return _core.lease_hold(lease, hand, block)


async def get(pool: Any, hand: _core.Hand | None, timeout: Any) -> Any:
    """The slow path of ``aget``."""
    core, manager, span = _core.asks(pool, timeout)
    if manager is not None:
        reason = None if hand is None else "due"
        hand = hand or _core.hand(core)
        await borrow(manager, hand, reason, span)
        return hand.give()
    loop = asyncio.get_running_loop()
    its = loop_of(loop)
    wait = _core.Wait(core, its.mailbox)
    if wait.join_get(span != 0) is None:
        await _outcome(wait, loop, its, None if span is None else time.monotonic() + span)
    return wait.item


async def put(pool: Any, item: Any, timeout: Any) -> None:
    """The slow path of ``aput``, queue use."""
    core, _, span = _core.asks(pool, timeout)
    loop = asyncio.get_running_loop()
    its = loop_of(loop)
    wait = _core.Wait(core, its.mailbox)
    if wait.join_put(item, span != 0) is None:
        await _outcome(wait, loop, its, None if span is None else time.monotonic() + span)


# ---- Returning ---------------------------------------------------------------------------------


def settle(
    manager: Any, index: int, error: BaseException | None, discard: bool
) -> Awaitable[None] | None:
    """The slow path of a return, begun at once: hooks run on a worker, or in a task of the pool's.
    None: all is done."""
    hooks, core = manager.hooks, manager.core
    if hooks.reset is None and error is None and not discard and manager.unfit(index, None) is None:
        if manager.tracking.on:
            manager.tracking.forget(index)
        if core.publish(index):
            manager.came_back()
            return None

    if manager.awaits:
        begun: Awaitable[None] | None = manager.settled(index, error, discard)
        return begun

    def end() -> None:
        try:
            manager.settle(index, error, discard)
        except BaseException:
            manager.rescue(index, "interrupted")
            raise

    return _off_loop(manager, lambda: None, end)


# ---- The rest ----------------------------------------------------------------------------------


async def aclose(manager: Manager, timeout: float | None) -> bool:
    me = _core.task()
    closed: bool = await _off_loop(manager, lambda: None, manager.close, timeout, me)
    return closed


async def warm(manager: Manager, *args: Any) -> int:
    n: int = await _off_loop(manager, lambda: None, manager.warm, *args)
    return n

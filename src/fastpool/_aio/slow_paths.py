"""The async methods' slow paths: what a task does where a thread would sleep, or run a hook."""

from __future__ import annotations

import time
from asyncio import _get_running_loop  # None where no loop runs

from .. import _core
from .._runtime import scheduler
from .offload import OffloadedCall, off_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ..pool._manager import Manager

__all__ = ["aclose", "acquire_slow", "check_idle", "enter", "get", "give_back", "open_pool", "warm"]

MAY_OPEN = ("may open", "may open at head")  # of what a wait ends with: one more may be opened


# ---- Acquiring ---------------------------------------------------------------------------------


async def acquire_slow(
    manager: Any,
    guard: _core.SlotGuard,
    reason: str | None,
    timeout: float | None,
    take: Callable[[_core.SlotGuard], Any],
) -> Any:
    """As ``Manager.acquire_slow``, for a task; ends with ``take(guard)``.  ``manager``: or an
    ``AwaitingManager``, which awaits its hooks."""
    start = time.monotonic()
    in_front = asked = missed = False
    wait = offloaded = None
    try:
        its, me, core = _core.current(), _core.task(), manager.core
        if manager.maintenance.dozing:
            manager.maintenance.wake_up()
        while True:  # a condition here would leave its jump outside the `try`: test_loops_in_try.py
            if reason == "fresh":
                break
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
                    if manager.awaits:
                        manager.on_wait_over()
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
    return off_loop(manager, end)


# ---- The rest ----------------------------------------------------------------------------------


async def aclose(manager: Manager, timeout: float | None) -> bool:
    me = _core.task()
    closed: bool = await off_loop(manager, manager.close, timeout, me)
    return closed


async def open_pool(manager: Manager, wait: bool, timeout: float | None) -> None:
    await off_loop(manager, manager.open, wait, timeout)


async def check_idle(manager: Manager) -> int:
    closed: int = await off_loop(manager, manager.check_idle, True)
    return closed


async def warm(manager: Manager, *args: Any) -> int:
    n: int = await off_loop(manager, manager.warm, *args)
    return n

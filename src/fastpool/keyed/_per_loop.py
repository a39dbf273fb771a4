"""The manager behind a KeyedPool whose factory is asynchronous: a pool for each key on each event
loop, since resources belong to the loop that made them."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop

from .. import _core
from .._aio import loop as aio_loop
from .._aio.hook_tasks import HookTasks
from .._runtime import scheduler
from ..errors import PoolClosed
from ..pool._closed_loops import close_at_last
from ..pool._idle_checks import check_all, checkable
from ._loop_arbiter import LoopArbiter
from ._loop_key_pool import LoopKeyPool
from ._manager import KeyedManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from ..stats import KeyedStats
    from ._options import KeyedOptions

__all__ = ["KeyedPerLoopManager"]


class KeyedPerLoopManager(KeyedManager):
    """See the module.  ``cores`` is by (event loop, key)."""

    arbiter: LoopArbiter
    loops: dict[asyncio.AbstractEventLoop, HookTasks]

    def __init__(self, core: _core.Core, options: KeyedOptions) -> None:
        self.loops = {}
        super().__init__(core, options)
        core.set_sharded()

    def bind_to_process(self) -> None:
        if self.loops:  # the parent's: as in pool/_per_loop.py
            _core.keep_forever((self.loops, self.everyone()))
        self.loops = {}
        super().bind_to_process()

    def new_arbiter(self) -> LoopArbiter:
        return LoopArbiter(self.core, self.cores, self.options, self.lock)

    # ---- which key on which loop ---------------------------------------------------------------

    def pin(self, key: Any) -> LoopKeyPool:
        loop = _get_running_loop()
        if loop is None:
            raise TypeError(self._for_tasks("asyncio; none of its event loops runs in this thread"))
        if loop not in self.loops:
            its = aio_loop.loop_of(loop)  # has other pools forget closed loops
            its.pools.add(self)
            scheduler.call_soon(self.forget_closed)  # before it is asked for a slot
        part: Any = super().pin((loop, key))
        try:
            if part not in part.loops.parts:
                self.arbiter.join(part)
        except BaseException:
            part.unpin()
            raise
        return part  # type: ignore[no-any-return]

    def new_pool(self, key: Any) -> LoopKeyPool:
        return LoopKeyPool(self, *key)

    def tasks_of(self, loop: asyncio.AbstractEventLoop) -> HookTasks:
        """Where hooks run on this loop."""
        return self.loops.setdefault(loop, HookTasks(loop, self.options.context))

    def _for_tasks(self, instead: str) -> str:
        return (
            f"{self.name}: the factory is a coroutine function, so its resources belong to event "
            f"loops and are for tasks alone: use {instead}"
        )

    def refuse_threads(self) -> NoReturn:
        """For the core: a lease that is entered by a thread."""
        if self.core.closed:
            raise PoolClosed(self.name, "the pool is closed")
        raise TypeError(self._for_tasks("`async with pool.lease(key)` or aacquire()"))

    def everyone(self) -> list[LoopKeyPool]:  # type: ignore[override]
        return _core.managers_of(self.cores)

    # ---- closed loops --------------------------------------------------------------------------

    def forget_closed(self) -> None:
        """Those whose loop is closed: what they held is gone, and their slots are free."""
        for loop in list(self.loops):
            if loop.is_closed():
                self._forget(loop)

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        with self.lock.hold():
            if self.loops.pop(loop, None) is None:
                return
            left: list[tuple[LoopKeyPool, list[Any]]] = []
            for part in self.everyone():
                if part.loop is not loop:
                    continue
                self.cores.pop(part.core_key, None)
                part.core.forgotten = True
                resources = part.on_loop_closed()
                self.past.add_gone(part.core)
                self.arbiter.abandon(part, len(resources))
                left.append((part, resources))
            self.state_changed.notify_all()
        for part, resources in left:
            part.core.drop_manager()
            self._submit(part, resources)

    def part_with(self, part: LoopKeyPool, resources: list[Any]) -> None:
        """Resources of a loop that is closed, whose slots are free any moment."""
        self.arbiter.hold(part, len(resources))
        self._submit(part, resources)

    def _submit(self, part: LoopKeyPool, resources: list[Any]) -> None:
        if resources:
            self.closers.submit(self._part_with, part, resources)

    def _part_with(self, part: LoopKeyPool, resources: list[Any]) -> None:
        """On a worker: what can be closed without a loop.  Only then is its slot free."""
        while resources:
            try:
                close_at_last(self.options.hooks, resources.pop())
            finally:
                self.arbiter.release(part, 1)
                self.state_changed.notify_all()

    # ---- what the pool asks of it --------------------------------------------------------------

    def flush_key(self, key: Any, idle_only: bool = False, fail_waiters: bool = False) -> None:
        for part in self.everyone():
            if part.key == key:
                part.flush(idle_only, fail_waiters)

    def check_idle(self, on_worker: bool = False) -> int:
        """On loops that run: elsewhere nothing can be awaited."""
        if not on_worker:
            raise TypeError(self._for_tasks("`await pool.acheck_idle()`"))
        checkable(self)
        return check_all(self, [part for part in self.everyone() if part.loop.is_running()])

    def warm(self, key: Any, n: Any, timeout: float | None, use_default: bool) -> NoReturn:
        raise TypeError(self._for_tasks("`await pool.awarm(key, n)`"))

    def close(self, timeout: float | None, me: int | None = None) -> bool:
        """As ``KeyedManager.close``.  In the thread of a running loop it waits for nothing: the
        loop could not go on meanwhile."""
        self.options.check_timeout("close", timeout)
        return super().close(timeout if _get_running_loop() is None else 0, me)

    def sweep(self, later: bool = True) -> None:
        self.forget_closed()
        super().sweep(later)

    def on_collected(self) -> None:
        self.forget_closed()
        super().on_collected()

    # ---- what goes on in it --------------------------------------------------------------------

    def by_key(self, sizes: Sequence[tuple[Any, tuple[int, ...]]]) -> dict[Any, tuple[int, ...]]:
        found: dict[Any, tuple[int, ...]] = {}
        for (_, key), size in sizes:
            before = found.get(key)
            found[key] = size if before is None else tuple(map(sum, zip(before, size, strict=True)))
        return found

    def stats(self) -> KeyedStats:
        self.forget_closed()
        return super().stats()

    def workers(self) -> tuple[Any, ...]:
        return *list(self.loops.values()), self.closers

    def maintain(self) -> None:
        self.forget_closed()
        super().maintain()

"""The manager behind a KeyedPool whose factory is asynchronous: a pool for each key on each event
loop, since resources belong to the loop that made them."""

from __future__ import annotations

from asyncio import _get_running_loop

from .._aio import loop as aio_loop
from .._runtime import scheduler
from ..pool._on_loops import OnLoopsManager
from ._loop_arbiter import LoopArbiter
from ._loop_key_pool import LoopKeyPool
from ._manager import KeyedManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn


__all__ = ["KeyedPerLoopManager"]


class KeyedPerLoopManager(OnLoopsManager, KeyedManager):
    """See the module.  ``cores`` is by (event loop, key)."""

    arbiter: LoopArbiter

    def new_arbiter(self) -> LoopArbiter:
        return LoopArbiter(self.core, self.cores, self.options, self.lock)

    # ---- which key on which loop ---------------------------------------------------------------

    def pin(self, key: Any) -> LoopKeyPool:
        loop = _get_running_loop()
        if loop is None:
            raise self.not_on_a_loop()
        if loop not in self.loops:
            its = aio_loop.loop_of(loop)  # has other pools forget closed loops
            its.pools.add(self)
            scheduler.call_soon(self.forget_closed)  # before it is asked for a slot
        part: Any = super().pin((loop, key))
        try:
            if part not in part.loops.parts:
                scheduler.run(self.arbiter.join, part)
        except BaseException:
            part.unpin()
            raise
        return part  # type: ignore[no-any-return]

    def new_pool(self, key: Any) -> LoopKeyPool:
        loop, own = key
        return LoopKeyPool(self, loop, self.tasks_of(loop), own)

    def refuse_threads(self) -> NoReturn:
        """For the core: a lease that is entered by a thread."""
        self.refuse_caller("`async with pool.lease(key)` or aacquire()")

    # ---- closed loops --------------------------------------------------------------------------

    def forgotten(self, part: LoopKeyPool, n: int) -> None:
        self.arbiter.abandon(part, n)

    def hold(self, part: LoopKeyPool, n: int) -> None:
        self.arbiter.hold(part, n)

    def release(self, part: LoopKeyPool, held: None) -> None:
        self.arbiter.release(part, 1)

    # ---- what the pool asks of it --------------------------------------------------------------

    def flush_key(self, key: Any, idle_only: bool = False, fail_waiters: bool = False) -> None:
        for part in self.everyone():
            if part.key == key:
                part.flush(idle_only, fail_waiters)

    def warm(self, key: Any, n: Any, timeout: float | None, use_default: bool) -> NoReturn:
        raise TypeError(self.for_tasks("`await pool.awarm(key, n)`"))

    def wait_closed(self, timeout: float | None, me: int | None) -> None:
        super().wait_closed(timeout if self.may_wait() else 0, me)

    # ---- what goes on in it --------------------------------------------------------------------

    def by_key(self, sizes: Sequence[tuple[Any, tuple[int, ...]]]) -> dict[Any, tuple[int, ...]]:
        found: dict[Any, tuple[int, ...]] = {}
        for (_, key), size in sizes:
            before = found.get(key)
            found[key] = size if before is None else tuple(map(sum, zip(before, size, strict=True)))
        return found

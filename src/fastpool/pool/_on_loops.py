"""A pool in parts of which each belongs to an event loop: what such pools have beside the others.

They are for tasks alone, and forget loops that are closed.  What those leave is closed without
them, as far as that can be done; for so long its slots are taken still.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop

from .. import _core
from .._aio.hook_tasks import HookTasks
from .._runtime import scheduler
from ..errors import PoolClosed
from ._awaiting_manager import AwaitingManager
from ._closed_loops import close_at_last
from ._idle_checks import check_all, checkable
from ._partitioned import PartitionedManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ._options import Options

__all__ = ["OnLoopsManager"]


class OnLoopsManager(PartitionedManager):
    """See the module.  Its parts are AwaitingManagers.  Subclasses keep account of what closed
    loops have left: ``forgotten``, ``hold`` and ``release``."""

    def __init__(self, core: _core.Core, options: Options) -> None:
        self.loops: dict[asyncio.AbstractEventLoop, HookTasks] = {}  # where hooks run on each
        super().__init__(core, options)
        core.set_sharded()

    def bind_to_process(self) -> None:
        """A forked child has none of the loops."""
        if self.loops:  # the parent's: hooks under way must not be ended here, not even at exit,
            # for that would run what stands in their ``finally`` blocks
            _core.keep_forever((self.loops, self.everyone()))
        self.loops = {}
        super().bind_to_process()

    # ---- which loop ----------------------------------------------------------------------------

    def tasks_of(self, loop: asyncio.AbstractEventLoop) -> HookTasks:
        """Where hooks run on this loop."""
        return self.loops.setdefault(loop, HookTasks(loop, self.options.context))

    def running_parts(self) -> list[Any]:
        """Those whose loop runs: elsewhere nothing can be awaited."""
        return [part for part in self.everyone() if part.loop.is_running()]

    def for_tasks(self, instead: str) -> str:
        """What is wrong with a call that no task makes; ``instead``: the one to be made."""
        return (
            f"{self.name}: the factory is a coroutine function, so its resources belong to event "
            f"loops and are for tasks alone: use {instead}"
        )

    def not_on_a_loop(self) -> TypeError:
        return TypeError(self.for_tasks("asyncio; none of its event loops runs in this thread"))

    def refuse_caller(self, instead: str) -> NoReturn:
        """A thread has asked for a resource."""
        if self.core.closed:
            raise PoolClosed(self.name, "the pool is closed")
        raise TypeError(self.for_tasks(instead))

    # ---- closed loops --------------------------------------------------------------------------

    def forget_closed(self, wait: bool = True) -> list[Any]:
        """The loops that are closed: what they held is gone, and their slots are free.  The
        scheduler sees to it; ``wait``: until it has, not under the lock."""
        closed = [loop for loop in list(self.loops) if loop.is_closed()]
        for loop in closed:
            scheduler.call_soon(self._forget, loop)
        if closed and wait and not scheduler.runs_here():
            self.state_changed.wait_for(
                lambda: not any(loop in self.loops for loop in closed), scheduler.AT_ONCE
            )
        return closed

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the scheduler's thread: no signal handler comes between what is claimed and who closes
        it."""
        left: list[tuple[AwaitingManager, list[Any], Any]] = []
        with self.lock.hold():
            if self.loops.pop(loop, None) is None:
                return
            for part in self.everyone():
                if part.loop is loop:
                    self.cores.pop(part.core_key, None)
                    part.core.forgotten = True
                    resources = part.on_loop_closed()
                    self.past.add_gone(part.core)
                    left.append((part, resources, self.forgotten(part, len(resources))))
            self.state_changed.notify_all()
        for part, resources, held in left:
            part.core.drop_manager()
            self._submit(part, resources, held)

    def part_with(self, part: AwaitingManager, resources: list[Any]) -> None:
        """Resources of a loop that is closed, whose slots are free any moment."""
        with self.lock.hold():
            held = self.hold(part, len(resources))
        self._submit(part, resources, held)

    def _submit(self, part: AwaitingManager, resources: list[Any], held: Any) -> None:
        if resources:
            self.closers.submit(self._part_with, part, resources, held)

    def _part_with(self, part: AwaitingManager, resources: list[Any], held: Any) -> None:
        """On a worker: what can be closed without a loop.  Only then is its slot free."""
        while resources:
            try:
                close_at_last(self.options.hooks, resources.pop())
            finally:
                self.release(part, held)
                self.state_changed.notify_all()

    def forgotten(self, part: Any, n: int) -> Any:
        """The loop of this part is closed: its slots are free, but for ``n``, which hold what is
        left of it.  Under the lock; what it returns is for ``release``."""
        raise NotImplementedError

    def hold(self, part: Any, n: int) -> Any:
        """As ``forgotten``, of a part whose slots have been seen to."""
        raise NotImplementedError

    def release(self, part: Any, held: Any) -> None:
        """One of these slots is free.  On a worker."""
        raise NotImplementedError

    # ---- what the pool asks of it --------------------------------------------------------------

    def check_idle(self, on_worker: bool = False) -> int:
        """On loops that run: elsewhere nothing can be awaited."""
        if not on_worker:
            raise TypeError(self.for_tasks("`await pool.acheck_idle()`"))
        checkable(self)
        return check_all(self, self.running_parts())

    def refuse(self) -> bool:
        first: bool = self.core.close(then=self._refuse_parts)  # whatever becomes of this call
        super().refuse()
        return first

    def _refuse_parts(self) -> None:
        super().refuse()
        self.sweep()

    def sweep(self, later: bool = True) -> None:
        """Closes everything idle, each on its own loop."""
        self.forget_closed()
        super().sweep(later)

    def may_wait(self) -> bool:
        """Not in the thread of a running loop, which could not go on meanwhile."""
        return _get_running_loop() is None

    def remaining(self) -> list[Any]:
        closed = self.forget_closed(wait=False)
        return [part for part in self.everyone() if part.loop not in closed]

    # ---- what goes on in it --------------------------------------------------------------------

    def stats(self) -> Any:
        self.forget_closed()
        return super().stats()

    def workers(self) -> tuple[Any, ...]:
        return *list(self.loops.values()), self.closers

    def maintain(self) -> None:
        self.forget_closed()
        super().maintain()

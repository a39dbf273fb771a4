"""A manager whose hooks are awaited, on one event loop.

Its resources belong to that loop.  Hooks run as tasks of the loop that belong to the pool, so a
borrower who is cancelled takes no hook with it; they can be cancelled themselves, and are when
their time is over.  How many may be open is not for this to say: see ``_loop_pool.py`` and
``keyed/_loop_key_pool.py``.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop

from .. import _core
from .._aio.hook_tasks import HookTasks, Limit, called
from ._listeners import notify_in_worker
from ._loop_hooks import AwaitingCreator, LoopClosing, LoopHealthChecks
from ._maintenance import Maintenance
from ._manager import Manager
from ._termination import aend_use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

__all__ = ["AwaitingManager"]


class LoopMaintenance(Maintenance):
    manager: AwaitingManager

    def maintain(self) -> None:
        if self.manager.loop.is_closed():
            self.manager.whole.forget_closed()
        else:
            super().maintain()


class AwaitingManager(Manager):
    """See the module.  ``whole``, ``loop`` and ``tasks`` are set before it is initialised.

    ``whole`` is the manager of the whole pool: what it keeps once for all loops is taken from it,
    ``forget_closed()`` has it look for closed loops, and what is left of a closed one goes to
    ``part_with(manager, resources)``."""

    awaits = True
    whole: Any
    loop: asyncio.AbstractEventLoop  # kept alive: the core tells loops apart by their addresses
    tasks: HookTasks
    creator: AwaitingCreator
    checking: LoopHealthChecks
    closing: LoopClosing
    used_at = 0.0  # as far as is known: what is closed takes its own time along

    def create_parts(self) -> None:
        super().create_parts()
        self.closing = LoopClosing(self)
        self.checking = LoopHealthChecks(self)
        self.maintenance = LoopMaintenance(self)

    def create_threads(self) -> None:
        self.checkers = self.closers = self.tasks
        self.offload_threads = self.whole.offload_threads

    @property
    def listeners(self) -> Any:
        return self.whole.listeners

    def new_quick_reset(self) -> None:
        return None  # it is awaited

    def last_use(self) -> float:
        """When a resource was last given back here, or one more was asked for.  A slot that is
        being filled still tells the time of what it held before, maybe in another pool."""
        filled = (slot for slot in self.core.slots() if slot[1] != "creating")
        self.used_at = max([self.used_at, *(slot[2] for slot in filled)])
        return self.used_at

    def on_wait_over(self) -> None:
        """For a task: its wait has ended.  Of two that it was notified of, another loop may want
        one."""
        self.on_idle()

    # ---- returning -----------------------------------------------------------------------------

    def give_back(self, index: int, error: BaseException | None, discard: bool) -> None:
        """For who cannot await it, in any thread: the loop does it soon."""
        use = self.core.generation(index)
        try:
            args = (self, index, use, error, discard)
            self.tasks.submit(_core.give_back_on_loop, args, AwaitingManager.ungiven)
        except RuntimeError:  # the loop is closed
            if self.core.retire(index):
                self.closing.drop(index, self.core.generation(index))

    async def agive_back(
        self, index: int, use: int, error: BaseException | None, discard: bool
    ) -> tuple[str | None, float | None]:
        """As ``Manager.give_back``; why it is to be closed, and how long it was used."""
        core = self.core
        if core.generation(index) != use:  # an interrupted caller's, whose slot was seen to
            return None, None
        self.used_at = core.now()
        used = self.tracking.forget(index) if self.tracking.on else None
        why = "discarded" if discard else self.broken(index, error)
        why = why or await self._areset(index) or self.recycle(index, error)
        if why is None:
            self.on_idle()
        return why, used

    def given_back(self, used: float | None) -> None:
        """It is idle or closed."""
        if self.core.closed:
            self.sweep()
        if used is not None:
            self.was_used(used)

    def ungiven(self, index: int, use: int, error: BaseException | None, discard: bool) -> None:
        """On the scheduler's thread: its return did not come to its end."""
        core = self.core
        if core.generation(index) == use:
            if core.slot(index)[1] == "checking":
                self.deadlines.end(index)
                self.rescue(index, "interrupted", use)
            else:
                self.closing.unfinished(index, "interrupted", use)
        self.on_idle()
        if core.closed:
            self.sweep(True)

    async def _areset(self, index: int) -> str | None:
        if self.hooks.reset is None:
            return None
        limit = Limit(self.loop, self.options.hook_timeout)
        self.deadlines.begin(index)
        try:
            await called(self.hooks.reset, self.core.item(index))
        except Exception as failure:
            self.log("reset failed; the resource is closed", failure)
            return "reset"
        except asyncio.CancelledError:
            if limit.expired:
                self.log("reset failed; it took longer than hook_timeout", None)
            else:
                self.log("reset failed; it was cancelled, most likely with its event loop", None)
            return "reset"
        finally:
            limit.end()
            self.deadlines.end(index)
        return None

    def begin_give_back(
        self, index: int, error: BaseException | None, discard: bool
    ) -> Awaitable[None] | None:
        """``agive_back``, begun at once.  A caller who is cancelled does not cancel it; None: the
        caller's loop is another."""
        if _get_running_loop() is not self.loop:
            self.give_back(index, error, discard)
            return None
        args = (self, index, self.core.generation(index), error, discard)
        return self.tasks.begin_now(_core.give_back_on_loop, args, AwaitingManager.ungiven)

    # ---- closing -------------------------------------------------------------------------------

    def retire(self, resource: object) -> None:
        if not _core.end_item(self.core, self.closing.later, resource, "flushed"):
            self.raise_misuse("retire", resource)

    def terminate(self, index: int, use: int, how: Callable[[Any], object]) -> None:
        try:
            self.tasks.submit(aend_use, (self, index, use, how))
        except RuntimeError:  # the loop is closed, and what it had goes without it
            pass

    def hand_over(self, closers: Any) -> Any:
        return closers  # tasks of the loop

    def on_loop_closed(self) -> list[Any]:
        """The loop is closed: its resources go, and nothing can be awaited for them.  One whose
        close hook has begun stays with the task of that hook, which is never resumed."""
        core = self.core
        core.close()
        gone = []
        for index, state, *_ in core.slots():
            if state in ("idle", "leased") and not core.claim(index, state):
                continue
            use = core.generation(index)
            resource = core.item(index)
            ended = state == "closing" or (state != "creating" and core.retire(index))
            if ended and _core.begin_close(core, index, use):
                core.free(index, "loop")
                notify_in_worker(self, "closed", "loop")
                gone.append(resource)
        return gone

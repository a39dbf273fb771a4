"""What a KeyedPool with an async factory keeps for one key on one event loop.

As ``_key_pool.py``, with hooks that are awaited: see ``pool/_awaiting_manager.py``.  What the loops
that use one key have in common is in ``_key_loops.py``.
"""

from __future__ import annotations

from .. import _core
from .._runtime import scheduler
from ..pool._awaiting_manager import AwaitingManager
from ..pool._loop_hooks import AwaitingCreator
from ._key_loops import KeyLoops
from ._key_pool import KeyCreator, KeyPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from .._aio.hook_tasks import HookTasks
    from ._manager import KeyedManager

__all__ = ["LoopKeyPool"]

INF = float("inf")


class LoopKeyCreator(KeyCreator, AwaitingCreator):
    """Creations of one key, as tasks of one loop."""

    manager: Any  # a LoopKeyPool

    def create_threads(self) -> Any:
        return AwaitingCreator.create_threads(self)

    def has_capacity(self) -> bool:
        return self.manager.loops.free() > 0 and super().has_capacity()

    def start(self) -> None:
        with self.manager.lock.hold():
            self.manager.loops.serve(self.manager.arbiter)

    def end_pauses(self, recovered: bool) -> None:
        """On all loops: it is the same factory."""
        super().end_pauses(recovered)
        for part in self.manager.loops.everyone():
            part.creator.paused_until = 0.0

    def permits(self) -> float:
        """Of ``max_creating``, which is for all loops of a key.  One that does not run stands in
        nobody's way."""
        others = [part for part in self.manager.loops.everyone() if part is not self.manager]
        running: int = sum(part.core.in_flight for part in others if part.loop.is_running())
        return self.most - running


class LoopKeyPool(KeyPool, AwaitingManager):
    """See the module.  ``tasks``: where hooks run on ``loop``."""

    creator: LoopKeyCreator  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        whole: KeyedManager,
        loop: asyncio.AbstractEventLoop,
        tasks: HookTasks,
        key: Any,
    ) -> None:
        self.whole = whole
        self.loop = loop
        self.tasks = tasks
        self.arbiter = whole.arbiter
        self.loops = KeyLoops(whole.options)  # until it joins those that there are
        self.taken = 0  # slots; under the lock
        self.watched = self.asked = False  # other loops wait for a slot of this key
        super().__init__(whole, key)
        self.core_key = loop, key

    def create_threads(self) -> None:
        AwaitingManager.create_threads(self)

    def new_creator(self) -> LoopKeyCreator:
        return LoopKeyCreator(self)

    # ---- what the loops of the key share -------------------------------------------------------

    def limit_core(self) -> None:
        with self.lock.hold():
            self.loops.limit_cores()
            self.loops.shrink()

    def capacity_left(self) -> float:
        return self.loops.free()

    def cores_of_key(self) -> dict[Any, _core.Core]:
        return self.loops.cores()

    def open_of_key(self) -> int:
        return self.loops.opened

    def opened(self) -> int:
        return self.loops.opened

    def crowded(self) -> None:
        for part in self.loops.everyone():
            KeyPool.crowded(part)

    def oldest(self) -> tuple[float, int]:
        """A loop that does not run closes nothing."""
        return super().oldest() if self.loop.is_running() else (0.0, -1)

    def counts(self) -> dict[str, Any]:
        """Of the key, on all loops."""
        counted = super().counts()
        others = [part.core.counts() for part in self.loops.everyone() if part is not self]
        names = ("idle", "leased", "creating", "checking", "closing", "open", "waiting")
        return counted | {
            name: counted[name] + sum(other[name] for other in others) for name in names
        }

    # ---- borrowing -----------------------------------------------------------------------------

    def announce_waiter(
        self, guard: _core.SlotGuard, start: float, timeout: float | None, me: int
    ) -> None:
        # where the callers of several loops are counted: as one step for whoever comes on another
        counted = self.options.max_waiting != INF and len(self.loops.parts) > 1
        refused = (self._announce_alone if counted else self._announce)(guard, me)
        if refused is not None:
            raise self.refusal(refused, start, timeout)
        scheduler.call_soon(self.creator.refill)

    def _announce(self, guard: _core.SlotGuard, me: int) -> str | None:
        """Why the caller may not wait; None: it is on its way to the queue."""
        refused: str | None = self.loops.refuses(me)
        if refused is None:
            call = _core.announce_for_capacity
            refused = self.lock.run(call, self.arbiter, self.core, guard, me)
        return refused

    def _announce_alone(self, guard: _core.SlotGuard, me: int) -> str | None:
        """The same, one after the other."""
        refused: str | None = scheduler.run(self._announce, guard, me)
        return refused

    def on_wait_over(self) -> None:
        self.on_return()

    # ---- returning -----------------------------------------------------------------------------

    def asks_put(self) -> bool:
        return super().asks_put() or self.asked

    def watch_returns(self, notify: bool, ask: bool) -> None:
        """Whether other loops of this key want to know of what comes back here, or have a say in
        it."""
        self.watched, self.asked = notify, ask
        self.core.notify_returns(notify or self.notified)
        self.core.ask_put(self.asks_put())

    def notify(self, on: bool) -> None:
        self.notified = on
        self.core.notify_returns(on or self.watched)

    def make_idle(self, index: int, suspect: bool) -> str | None:
        unfit: str | None = self.lock.run(
            _core.recycle_on_loops,
            self.cores_of_key(),
            self.core,
            index,
            self.options.max_idle,
            suspect,
        )
        return unfit

    def exhausted(self, index: int) -> str | None:
        return super().exhausted(index) or ("evicted" if self.loops.must_yield(self) else None)

    def on_idle(self) -> None:
        super().on_idle()
        self._on_idle_for_loops()

    def on_return(self, later: bool = False) -> None:
        super().on_return(later)
        self._on_idle_for_loops()

    def _on_idle_for_loops(self) -> None:
        if self.loops.capacity.hungry:
            scheduler.call_soon(self.creator.start)

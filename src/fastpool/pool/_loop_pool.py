"""What a pool with an async factory keeps for one event loop.

The resources, the queue and the idle store of that loop.  How many may be open is for
``_per_loop.py`` to say.
"""

from __future__ import annotations

from .. import _core
from .._runtime import scheduler
from ._awaiting_manager import AwaitingManager
from ._configuration import configure_core, look_again
from ._loop_hooks import AwaitingCreator

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from ._per_loop import PerLoopManager

__all__ = ["LoopPool"]

INF = float("inf")


class LoopCreator(AwaitingCreator):
    """Of one loop; who may start one is decided over all loops."""

    manager: LoopPool  # pyright: ignore[reportIncompatibleVariableOverride]

    def has_capacity(self) -> bool:
        return self.manager.whole.has_capacity()

    def refill(self, more: int = 0) -> None:
        """As ``Creator.refill``; what is missing is wished for on the loop that used the
        pool last."""
        with self.manager.lock.hold():
            self.background_demand = max(self.background_demand, more)
            if self.manager.options.least_idle:
                self.manager.whole.refill()
            self.start()

    def start(self) -> None:
        self.manager.whole.start()

    def end_pauses(self, recovered: bool) -> None:
        """On all loops: it is the same factory."""
        for shard in self.manager.whole.everyone():
            shard.creator.paused_until = 0.0


class LoopPool(AwaitingManager):
    """The manager of one loop's share of a pool.  Its core's limit says only when callers ask for
    a slot; slots are given out under the lock of ``PerLoopManager``, which all of them share."""

    whole: PerLoopManager
    creator: LoopCreator  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, whole: PerLoopManager, loop: asyncio.AbstractEventLoop) -> None:
        self.whole = whole
        self.loop = loop
        self.core_key = loop
        self.tasks = whole.tasks_of(loop)
        super().__init__(_core.Core(), whole.options)
        self.maxsize = whole.maxsize
        self.set_core(INF, self.options.max_waiting)

    def bind_to_process(self) -> None:
        self.lock, self.state_changed = self.whole.lock, self.whole.state_changed
        self.create_parts()
        self.budget = self.whole.budget

    def new_creator(self) -> LoopCreator:
        return LoopCreator(self)

    def reconfigure(self) -> None:
        """The options have changed."""
        configure_core(self)
        look_again(self)

    # ---- borrowing -----------------------------------------------------------------------------

    def announce_waiter(
        self, guard: _core.SlotGuard, start: float, timeout: float | None, me: int
    ) -> None:
        # where the callers of several loops are counted: as one step for whoever comes on another
        counted = self.options.max_waiting != INF and len(self.whole.cores) > 1
        refused = (self._announce_alone if counted else self._announce)(guard, me)
        if refused is not None:
            raise self.refusal(refused, start, timeout)
        scheduler.call_soon(self.creator.refill)

    def _announce(self, guard: _core.SlotGuard, me: int) -> str | None:
        """Why the caller may not wait; None: it is on its way to the queue."""
        refused = self.whole.refuses(me)
        if refused is None:
            self.used_at = self.core.now()
            self.core.announce_waiter(guard)
        return refused

    def _announce_alone(self, guard: _core.SlotGuard, me: int) -> str | None:
        """The same, one after the other."""
        refused: str | None = scheduler.run(self._announce, guard, me)
        return refused

    def on_wait_over(self) -> None:
        self.whole.on_idle(self)

    def counts(self) -> dict[str, Any]:
        return self.whole.counts()

    # ---- returning -----------------------------------------------------------------------------

    def has_idle(self, n: int) -> bool:
        idle: int = self.counts()["idle"]
        return idle >= n

    def opened(self) -> int:
        return self.whole.opened()

    def asks_put(self) -> bool:
        return super().asks_put() or self.options.max_idle != INF

    def watch_returns(self, notify: bool, ask: bool) -> None:
        """Whether other loops want to know of what comes back here, or have a say in it."""
        self.core.notify_returns(notify)
        self.core.ask_put(self.asks_put() or ask)

    def make_idle(self, index: int, suspect: bool) -> str | None:
        unfit: str | None = self.lock.run(
            _core.recycle_on_loops,
            self.whole.cores,
            self.core,
            index,
            self.options.max_idle,
            suspect,
        )
        return unfit

    def exhausted(self, index: int) -> str | None:
        return super().exhausted(index) or ("evicted" if self.whole.must_yield(self) else None)

    def on_idle(self) -> None:
        super().on_idle()
        self.whole.on_idle(self)

    def on_return(self, later: bool = False) -> None:
        """Also while another loop waits for a slot."""
        if self.core.closed:
            self.sweep(later)
        else:
            self.whole.on_idle(self)

    # ---- closing -------------------------------------------------------------------------------

    def shut_down(self) -> None:
        super().shut_down()
        self.whole.shut_down_if_empty()

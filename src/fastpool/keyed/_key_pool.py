"""What a KeyedPool keeps for one key: a manager whose slots are given out over all keys.

The resources, the queue and the idle store of that key.  Its core knows the key's own limit; who
may open one more where the limit over all keys is reached is for ``_manager.py`` to say.  Threads,
lock and options are those of the whole pool.
"""

from __future__ import annotations

from .. import _core
from .._runtime import scheduler
from ..errors import PoolDeadlock
from ..pool import _policy
from ..pool._configuration import configure_core, look_again
from ..pool._creation import Attempt, Creator
from ..pool._manager import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..errors import PoolError
    from ._manager import KeyedManager

__all__ = ["KeyPool"]

INF = float("inf")


class KeyCreator(Creator):
    """Creations of one key; who may start one is decided over all keys."""

    manager: KeyPool

    def __init__(self, manager: KeyPool) -> None:
        self.keyed = manager.keyed
        super().__init__(manager)

    def create_threads(self) -> Any:
        return self.keyed.creators

    def has_capacity(self) -> bool:
        return self.keyed.arbiter.has_capacity() and super().has_capacity()

    def reserve(self) -> int:
        index = super().reserve()
        if index >= 0:
            self.keyed.arbiter.count_opened(self.manager)
            self.manager.crowded()
        return index

    def create(self) -> Any:
        return self.manager.hooks.create(self.manager.key)

    def start(self) -> None:
        self.keyed.arbiter.serve(self.manager)

    def wanted(self) -> int:
        """How many more tries this key could do with, if there were slots for all keys."""
        goal = 0 if self.is_paused() else self.goal(self.background_demand)
        core = self.manager.core
        if goal <= core.in_flight:
            return 0
        wanted = _policy.attempts_wanted(goal, core.in_flight, self.permits())
        return int(min(wanted, self.manager.capacity_left()))

    def _pause(self) -> None:
        """Nobody waits any more for one that cannot be had: who wants it says so again.  Unless it
        waits on."""
        self.background_demand = 0
        if self.insists:
            super()._pause()

    def end_pauses(self, recovered: bool) -> None:
        """Of other keys as well, if an outage is over: it may have been one of them all.  Not with
        each creation, since a key whose own server is down is tried less and less often."""
        super().end_pauses(recovered)
        for key_pool in self.keyed.everyone() if recovered else ():
            if key_pool.creator.paused_until:
                key_pool.creator.paused_until = 0.0
                scheduler.call_soon(key_pool.creator.refill)

    def _arrived(self, attempt: Attempt) -> None:
        self.manager.close_surplus()


class KeyPool(Manager):
    """See the module.  ``Core.pins``: callers on their way to its queue, in it, or just leaving it;
    while there are any, it is not forgotten.  A signal handler that raises between a pin and its
    end leaves one: that costs the memory of the key, and nothing else."""

    creator: KeyCreator

    def __init__(self, keyed: KeyedManager, key: Any) -> None:
        self.keyed = keyed
        self.key = self.core_key = key  # the second: in ``KeyedManager.cores``
        self.entered = False  # slots know of it
        self.notice_pending = False  # they are about to hear of a return
        self.asking = self.notified = self.idle_bound = False
        super().__init__(_core.Core(), keyed.options)
        self.name = f"{keyed.name}[{_shown(key)}]"
        self.set_core(self.maxsize or INF, self.options.max_waiting)

    def new_quick_reset(self) -> None:
        return None  # the slot may be owed to another key

    def most_idle(self) -> float:
        return INF  # or a slot that is free takes back what ``ask`` has asked

    def reconfigure(self) -> None:
        """The options have changed, perhaps the limits of the key too."""
        self.maxsize = self.options.maxsize
        self.limit_core()
        configure_core(self)
        self.crowded()
        look_again(self)
        _core.end_surplus(self.core, self.closing.soon)
        scheduler.call_soon(self.close_surplus)

    def limit_core(self) -> None:
        """The limit of the key may have changed."""
        self.core.set_limit(self.maxsize or INF)

    def capacity_left(self) -> float:
        """How many more may be open of this key."""
        return self.maxsize - self.core.open if self.maxsize else INF

    def most_to_warm(self, n: int) -> int:
        o = self.keyed.options
        n = int(min(n, self.maxsize or INF, self.keyed.max_total))
        most = min(o.max_idle, o.max_idle_total)
        if n > most:
            raise ValueError(
                f"{self.name}: warm: {n} are more than may be idle by max_idle_per_key and "
                f"max_idle_total, {int(most)}: raise them, or warm fewer"
            )
        return n

    def cores_of_key(self) -> dict[Any, _core.Core]:
        """Where the resources of this key are."""
        return {None: self.core}

    def open_of_key(self) -> int:
        return self.core.open

    def oldest(self) -> tuple[float, int]:
        """As ``Core.oldest``, of what may be closed for another key."""
        return self.core.oldest()

    def bind_to_process(self) -> None:
        self.lock, self.state_changed = self.keyed.lock, self.keyed.state_changed
        self.create_parts()
        self.budget = self.keyed.budget

    def create_threads(self) -> None:
        keyed = self.keyed
        self.checkers, self.closers, self.offload_threads = (
            keyed.checkers,
            keyed.closers,
            keyed.offload_threads,
        )

    def new_creator(self) -> KeyCreator:
        return KeyCreator(self)

    # ---- borrowing -----------------------------------------------------------------------------

    def announce_waiter(
        self, guard: _core.SlotGuard, start: float, timeout: float | None, me: int
    ) -> None:
        # one step for whoever comes at the same time for another key
        arbiter = self.keyed.arbiter
        refused = self.lock.run(_core.announce_for_capacity, arbiter, self.core, guard, me)
        if refused == "deadlock at total" and not self.keyed.would_wait_for_itself(me):
            refused = self.lock.run(_core.announce_for_capacity, arbiter, self.core, guard, 0)
        if refused is not None:
            raise self.refusal(refused, start, timeout)
        scheduler.call_soon(self.creator.refill)

    def refusal(
        self, reason: str, start: float, timeout: float | None, phase: str | None = None
    ) -> PoolError:
        arbiter = self.keyed.arbiter
        if reason == "deadlock at total":
            return PoolDeadlock(
                self.keyed.name,
                f"the caller holds all {arbiter.max_total} resources of max_total in its own "
                "`with` blocks and would wait for itself; take what you need in one place, or "
                "raise max_total",
            )
        error = super().refusal(reason, start, timeout, phase)
        if reason == "timeout" and not arbiter.has_capacity():
            error.add_note(
                f"all keys of {self.keyed.name!r} together: {arbiter.opened} open of max_total "
                f"{arbiter.max_total}, and nothing idle that could be closed for this key"
            )
        return error

    @property
    def listeners(self) -> Any:
        return self.keyed.listeners

    def unpin(self) -> None:
        """A caller has what it came for, or has gone without."""
        idle = self.lock.run(_core.unpin, self.core)
        if self.idle_bound or self.keyed.arbiter.is_crowded():
            self.close_surplus()
        if idle or self.keyed.arbiter.is_queued(self):
            scheduler.call_soon(
                self.keyed.left, self
            )  # behind what a refused caller may have asked for

    # ---- returning -----------------------------------------------------------------------------

    def asks_put(self) -> bool:
        """Surplus is looked for only while there can be any: see ``crowded``."""
        o = self.options
        return bool(
            self.asking
            or self.idle_bound
            or self.tracking.on
            or o.hooks.reset is not None
            or o.max_uses != INF
        )

    def ask(self, on: bool) -> None:
        """Whether returns ask for the sake of keys that have nothing."""
        self.asking = on
        self.core.ask_put(self.asks_put())

    def notify(self, on: bool) -> None:
        """Whether the manager hears of returns for the sake of keys that wait for slots."""
        self.core.notify_returns(on)

    def crowded(self) -> None:
        """The number of open ones has changed: with more than may be idle, returns ask."""
        most = self.options.max_idle
        if most != INF and self.idle_bound != (self.open_of_key() > most):
            self.idle_bound = not self.idle_bound
            self.core.ask_put(self.asks_put())

    def exhausted(self, index: int) -> str | None:
        return super().exhausted(index) or (
            "evicted" if self.keyed.arbiter.must_yield(self, index) else None
        )

    def why_retired(self) -> str:
        return "surplus" if self.keyed.arbiter.is_over() else super().why_retired()

    def on_idle(self) -> None:
        super().on_idle()
        self.keyed.arbiter.on_idle(self)

    def on_return(self, later: bool = False) -> None:
        if self.core.closed:
            self.sweep(later)
        else:
            self.keyed.arbiter.on_idle(self)

    def close_surplus(self) -> None:
        """A new one is idle, or lent, or a caller for whom it was has gone: perhaps more are idle
        now than may be."""
        if self.idle_bound:
            idle, oldest = _core.oldest_idle(self.cores_of_key(), 16)
            for key_pool, index in oldest[: max(0, idle - int(self.options.max_idle))]:
                key_pool.core.end_idle(index, key_pool.closing.soon, "surplus")
        self.keyed.arbiter.on_idle(self)

    # ---- closing -------------------------------------------------------------------------------

    def slot_freed(self, left: int) -> None:
        self.keyed.arbiter.slot_freed(self)
        self.after_freed(left)

    def after_freed(self, left: int) -> None:
        if self.core.closed or self.creator.wanted() > 0:
            super().after_freed(left)
        else:
            self.notify_changed()
        if not self.core.open:
            self.keyed.left(self)

    def shut_down(self) -> None:
        """As ``Manager.shut_down``; its threads are those of all keys."""
        self.keyed.shut_down_if_empty()
        self.release_manager()

    def busy(self) -> bool:
        """Whether it matters to anybody."""
        return bool(self.core.pins or self.core.open or self.creator.wanted() > 0)


def _shown(key: Any) -> str:
    try:
        return f"{key!r:.60}"
    except Exception:
        return f"a {type(key).__name__}"

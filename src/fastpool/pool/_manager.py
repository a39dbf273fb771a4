"""The manager behind a pool: what it is made of, its operations, and its end.

One manager per resource pool; the compiled core holds it and asks it, where a get or a return is
not an idle hit: see ``_acquiring.py`` and ``_returning.py``.  It never refers to the FastPool
itself, so that a pool nobody uses is collected at once.
"""

from __future__ import annotations

import threading

from .. import _blocking, _core
from .._runtime import scheduler
from .._runtime.threads import ThreadGroup, shared_group
from ..errors import WARNINGS_PAGE, with_page
from ._acquiring import Acquiring
from ._budget import Share, join
from ._closing import Closing
from ._creation import Creator
from ._health_checks import HealthChecks
from ._hook_deadlines import HookDeadlines
from ._lease_tracking import LeaseTracking
from ._listeners import add, remove
from ._maintenance import Maintenance
from ._opening import open_now
from ._own_blocks import surround_call
from ._termination import end_use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..stats import Holder, PoolStats
    from ._options import Options

__all__ = ["Manager"]

INF = float("inf")
CLOSERS = 4  # threads that close what expires, is flushed or lost; ended when idle

_orphans: set[Manager] = set()  # of pools that were collected with something lent: leases hold none


class Manager(Acquiring):
    """See the module.  Slots are named by number; a number is valid for whoever owns the slot."""

    share_kind: type[Share] = Share  # what it has of a budget; see _budget.py

    def __init__(self, core: _core.Core, options: Options) -> None:
        super().__init__(core, options)
        self.bind_to_process()

    def set_core(self, limit: float, max_waiting: float) -> None:
        """Tells the core what this pool is like; ``limit``: of its open resources."""
        o = self.options
        fresh_for = o.fresh_for()
        self.core.set_pool(
            self,
            lifo=o.order == "lifo",
            fair=o.fairness == "fair",
            limit=limit,
            timeout=None if o.timeout == INF else o.timeout,
            max_waiting=max_waiting,
            fresh_for=fresh_for,
            timed=o.factory is not None or fresh_for != INF,
            has_check=o.hooks.check is not None,
            ask_get=self.tracking.on or self.unopened,
            ask_put=self.asks_put(),
            clock=getattr(o.clock, "ticks", o.clock),
        )
        self.core.set_most_idle(self.most_idle())
        if self.listeners is not None and self.listeners.all:
            self.core.listen(True)

    def most_idle(self) -> float:
        """While more are open, the core asks at each return, if it does not ask anyway."""
        return INF if self.asks_put() else self.options.max_idle

    def asks_put(self) -> bool:
        """Whether every return has to be looked at.  Not for ``max_idle`` alone: as long as no more
        are open, no more can be idle, and the core asks when there are."""
        o = self.options
        return bool(self.tracking.on or o.hooks.reset is not None or o.max_uses != INF)

    def bind_to_process(self) -> None:
        """Everything that is bound to this process: at first, and in a forked child."""
        self.lock = _core.Lock()
        self.state_changed = _core.Condition()  # something was closed, opened or came back
        self.create_parts()
        self.budget: Any = join(self.share_kind, self)

    def create_parts(self) -> None:
        """Counters, workers and helpers, all new."""
        self.create_threads()
        self.orphaned = False  # the FastPool was collected
        self.terminated: dict[int, int] = {}  # slots that were ended while lent, and their use
        self.deadlines = HookDeadlines(self)
        self.tracking = LeaseTracking(self)
        self.closing = Closing(self)
        self.checking = HealthChecks(self)
        self.creator = self.new_creator()
        self.maintenance = Maintenance(self)
        self.quick_reset = self.new_quick_reset()

    def new_quick_reset(self) -> _core.QuickReset | None:
        """The reset hook for the core to call, where nothing else has to be asked at a return."""
        o = self.options
        if o.hooks.reset is None or self.tracking.on or o.max_uses != INF:
            return None
        return _core.QuickReset(o.hooks.reset, o.max_idle)

    def new_creator(self) -> Creator:
        if self.options.create_in == "caller":
            from ._creation_in_caller import CallerCreator  # with the first one: few pools want it

            return CallerCreator(self)
        return Creator(self)

    def create_threads(self) -> None:
        """Threads that start when there is work, but for those of the opener."""
        name, o = f"fastpool-{self.name}", self.options
        self.checkers: Any = ThreadGroup(f"{name}-check", min(o.max_creating, 64), o.context)
        self.closers: Any = ThreadGroup(f"{name}-close", CLOSERS, o.context)
        self.offload_threads = ThreadGroup(
            f"{name}-task", 64, o.context
        )  # what tasks have run off the loop

    def workers(self) -> tuple[Any, ...]:
        """Where its hooks run in the background."""
        return self.creator.workers, self.checkers, self.closers

    def overdue(self) -> int:
        """How many hooks are past their deadline and have not returned."""
        resets = self.core.resets_overdue(self.options.hook_timeout)
        return self.creator.overdue + self.deadlines.overdue() + int(resets)

    # ---- closing -------------------------------------------------------------------------------

    def slot_freed(self, left: int) -> None:
        """On the scheduler's thread: a slot under the cap is free."""
        self.after_freed(left)

    def after_freed(self, left: int) -> None:
        """Others may want the slot; a closed pool may be empty now."""
        core = self.core
        if not core.closed:
            self.creator.refill()
        elif not core.open:
            self.shut_down()
        if self.budget is not None:
            self.budget.ask()
        self.notify_changed()

    def shut_down(self) -> None:
        """The pool is closed and nothing is open: its threads end, and a pool that was collected
        lets go of its manager."""
        for workers in (*self.workers(), self.offload_threads):
            if workers is not _closers_of_collected():
                scheduler.call_soon(workers.stop)
        self.release_manager()

    def release_manager(self) -> None:
        """Nothing of a closed pool is left: if it was collected, its manager goes."""
        if self.orphaned:
            _orphans.discard(self)
            self.core.drop_manager()

    def close(self, timeout: float | None, me: int | None = None) -> bool:
        self.options.check_timeout("close", timeout)
        self.core.close()
        self.notify_changed()  # for warm(), which waits for the news
        self.sweep()
        if me is None:  # a task names itself
            me = threading.get_ident()
        if not surround_call((self.core,), me):
            me = 0  # others end the blocks that this thread has entered
        if timeout != 0 and self.core.busy(me, lent=True):  # what workers close takes its time
            _blocking.before_wait(self.name, _blocking.CLOSE)
        # looked at slot by slot only when as few are open as could stay so: each that comes
        # back asks, and there may be very many
        held = self.core.open - self.core.busy(me)
        self.state_changed.wait_for(lambda: self.core.open <= held and self.only(me), timeout)
        self.sweep()
        if self.budget is not None:
            self.budget.ask()
        if self.core.open:
            return False
        self.shut_down()
        return True

    def only(self, me: int) -> bool:
        """Whether nothing is open but what is idle or lent to blocks of this thread or task.  What
        it took by ``get`` or ``acquire`` others may give back, so that is waited for."""
        return not self.core.busy(me)

    def on_collected(self) -> None:
        """The FastPool is being collected."""
        open_ = self.core.open
        if self.orphan() and open_:  # last: a warning may be an error
            warn_unclosed(self.options, open_)

    def orphan(self) -> bool:
        """Closes it for good, with nobody to wait for; True unless it was closed before."""
        core = self.core
        unclosed: bool = core.close()
        self.orphaned = True
        _core.let_go(core)
        if self.budget is not None:
            self.budget.ask()
        if core.open:
            self.closers, own = self.hand_over(self.closers), self.closers
            scheduler.call_soon(own.stop)
            _orphans.add(self)  # until the last resource is closed; see dismiss
            scheduler.call_soon(self.sweep, True)
            scheduler.call_soon(self.after_freed, 0)  # if the last one was closed just now
        else:
            core.drop_manager()
        return unclosed

    def hand_over(self, closers: Any) -> Any:
        """Who closes what is left, in place of the pool's own."""
        return _closers_of_collected()

    # ---- operations ----------------------------------------------------------------------------

    def resize(self, maxsize: Any, /) -> int:
        self.options.check_maxsize(maxsize)
        self.lock.run(self.core.resize, self, {"maxsize": maxsize}, maxsize or INF)
        scheduler.call_soon(self.creator.refill)
        _core.end_surplus(self.core, self.closing.here)
        return int(maxsize)

    def retire(self, resource: object) -> None:
        if not _core.end_item(self.core, self.closing.here, resource, "flushed"):
            self.raise_misuse("retire", resource)

    def terminate(self, index: int, use: int, how: Callable[[Any], object]) -> None:
        """End what is lent, under its borrower: see _termination.py."""
        self.offload_threads.submit(end_use, self, index, use, how)

    def flush(self, idle_only: bool = False, fail_waiters: bool = False) -> None:
        if fail_waiters:
            from ._ended_waits import end_waits  # seldom wanted, as below

            end_waits("flush", [self])
        end = _core.end_unused if idle_only else _core.end_all
        end([(self.core, self.closing.here)], "flushed")

    def check_idle(self, on_worker: bool = False) -> int:
        """``on_worker``: for a task."""
        from ._idle_checks import check_all, checkable

        checkable(self)
        return check_all(self, [self])

    def suspend(self, fail_waiters: bool = False) -> None:
        self.lock.run(self.core.suspend)  # under which creations are started: none is from here on
        if fail_waiters:
            from ._ended_waits import end_waits

            end_waits("suspend", [self])

    def resume(self) -> None:
        self.core.resume()
        scheduler.call_soon(self.creator.refill)

    def open(self, wait: bool, timeout: float | None) -> None:
        open_now(self, wait, timeout)

    def configure(self, changes: dict[str, Any]) -> None:
        from ._configuration import change

        change(self, changes)

    def options_changed(self) -> None:
        """On the scheduler's thread: follow the new options."""
        from ._configuration import configure_core, look_again

        self.quick_reset = self.new_quick_reset()
        configure_core(self)
        look_again(self)

    def readable(self) -> dict[str, Any]:
        from ._configuration import readable

        return readable(self)

    def add_listener(self, pool: Any, listener: Any) -> None:
        add(self, {}, pool, listener)

    def remove_listener(self, listener: Any) -> None:
        remove(self, {}, listener)

    def demand_in_background(self, n: int) -> None:
        """Wants ``n`` to be opened in the background."""
        scheduler.call_soon(self.creator.refill, n)

    def warm(self, n: Any, timeout: float | None, use_default: bool) -> int:
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"{self.name}: warm: n must be an int, not {n!r}")
        if n < 0:
            raise ValueError(f"{self.name}: warm: n must be 0 or more, not {n!r}")
        if n and self.hooks.create is None:
            raise TypeError(f"{self.name}: warm() needs a factory")
        self.options.check_timeout("warm", timeout)
        if use_default:
            timeout = None if self.options.timeout == INF else self.options.timeout
        from ._warming import warm

        return warm(self.creator, self.most_to_warm(n), timeout)

    def most_to_warm(self, n: int) -> int:
        """So many of ``n`` may be open at once."""
        return min(n, self.maxsize) if self.maxsize else n

    # ---- what goes on in it --------------------------------------------------------------------

    def leases(self) -> list[Holder[Any]]:
        return self.tracking.leases()

    def stats(self) -> PoolStats:
        from ..stats import snapshot, tally

        return snapshot(self.name, self.maxsize, tally(self), budget=self.budget)

    def maintain(self) -> None:
        """For the manual clock: the time has moved."""
        self.maintenance.maintain()


def _closers_of_collected() -> ThreadGroup:
    """What closes the rest of all pools that were collected: with threads of their own, thousands
    that go at once would have thousands."""
    return shared_group("fastpool-close", 4 * CLOSERS)


def warn_unclosed(options: Options, open_: int) -> None:
    if not options.warn_unclosed:
        return
    import warnings

    warnings.warn(
        with_page(
            f"unclosed fastpool {options.name!r} with {open_} open; use `with` or close()",
            WARNINGS_PAGE,
        ),
        ResourceWarning,
        stacklevel=3,
    )

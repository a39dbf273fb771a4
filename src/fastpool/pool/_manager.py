"""The manager behind a pool: borrowing, returning and lifecycle, where that is not an idle hit.

One manager per resource pool; the compiled core holds it and asks it.  It never refers to the
FastPool itself, so that a pool nobody uses is collected at once.  ``lock`` guards its own counters
and is never held while a hook runs, a resource closes, or the core is waited in; it is re-entrant,
since a signal handler may return a resource in the middle of anything.
"""

from __future__ import annotations

import threading
import time
from _contextvars import copy_context

from .. import _blocking, _core, _reports
from .._runtime import scheduler
from .._runtime.threads import ThreadGroup, on_loop
from ..errors import (
    WARNINGS_PAGE,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolOverloaded,
    PoolTimeout,
    with_page,
)
from ._broken import are_exceptions, evidence, matches_any
from ._budget import Share, join
from ._closing import Closing
from ._creation import Creator
from ._health_checks import HealthChecks
from ._hook_deadlines import HookDeadlines
from ._lease_tracking import LeaseTracking
from ._listeners import add, notify_listeners, remove
from ._maintenance import Maintenance
from ._opening import open_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ..stats import Holder, PoolStats
    from ._options import Options

__all__ = ["Manager"]

INF = float("inf")
MAY_OPEN = ("may open", "may open at head")  # of what Core.take says: one more may be opened
FEW = 1000  # slots that are counted in no time
CLOSERS = 4  # threads that close what expires, is flushed or lost; ended when idle

# Closes what is left of all pools that were collected: with threads of their own, thousands that go
# at once would have thousands.
_undertakers = ThreadGroup("fastpool-close", 4 * CLOSERS)
_orphans: set[Manager] = set()  # of pools that were collected with something lent: leases hold none


class Manager:
    """See the module.  Slots are named by number; a number is valid for whoever owns the slot."""

    share_kind: type[Share] = Share  # what it has of a budget; see _budget.py
    awaits = False  # hooks are coroutine functions: see _loop_pool.py
    listeners: Any = None  # of the whole pool; see _listeners.py

    def __init__(self, core: _core.Core, options: Options) -> None:
        self.core = core
        self.options = options
        self.hooks = options.hooks
        self.name = options.name
        self.maxsize = options.maxsize
        # open=False, and neither opened nor used; one loop's share of a pool is made by its use
        self.unopened = not options.open and not self.awaits
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

    # ---- borrowing -----------------------------------------------------------------------------

    def acquire_slow(
        self,
        guard: _core.SlotGuard,
        reason: str | None,
        timeout: float | None,
        waited: float,
        permit: object = None,
    ) -> None:
        """The slow path of a get: returns with a guarded slot as LEASED, or raises.  ``reason``:
        what the core said, as ``Core.take``; None: not asked yet.  ``permit``: to open a resource,
        which has ended the wait so far.  What is guarded when a signal handler raises is given back
        by the caller."""
        core = self.core
        start = time.monotonic() - waited
        in_front = asked = False
        missed = waited > 0 and reason == "fresh"  # it has waited in the core
        if self.maintenance.dozing:
            self.maintenance.wake_up()
        while reason != "fresh":
            if reason == "due":
                if self.checking.examine(guard, start, timeout):
                    break
                in_front = True  # a grant that was no good: the position in the queue is kept
            elif reason in MAY_OPEN:
                missed = True
                if self.creator.create_in_caller(guard, permit):
                    break
                permit = None
                if timeout == 0:
                    raise self.refusal("timeout", start, timeout)
                self.announce_waiter(guard, start, timeout, threading.get_ident())
                in_front, asked = in_front or asked or reason == "may open at head", True
            elif reason == "stolen":
                in_front = True
            elif reason is not None:
                raise self.refusal(reason, start, timeout)
            left = None if timeout is None else max(0.0, start + timeout - time.monotonic())
            missed = True
            try:
                reason = core.take(guard, left, in_front=in_front)
            except _core.Permit as granted:
                reason, permit, in_front = "may open", granted.args[0], True
        if self.tracking.on:
            self.tracking.note(guard)
        if missed and self.listeners is not None:
            self.acquired_after_wait(time.monotonic() - start)

    def acquired_after_wait(self, seconds: float) -> None:
        """A borrower has a resource in hand, for which it had to wait so long."""
        notify_listeners(self, "acquired_after_wait", seconds)

    def announce_waiter(
        self, guard: _core.SlotGuard, start: float, timeout: float | None, me: int
    ) -> None:
        """Nothing is idle and there is free capacity: has one more opened for a caller on its way
        to the queue.  ``me`` names the caller, where other cores are looked at too: a thread or a
        task."""
        self.core.announce_waiter(guard)
        scheduler.call_soon(self.creator.refill)

    def refusal(
        self, reason: str, start: float, timeout: float | None, phase: str | None = None
    ) -> PoolError:
        """The exception for a borrower who gets nothing."""
        if reason == "closed":
            return PoolClosed(self.name, "the pool is closed")
        if reason == "overloaded":
            self.core.count("overloads")
            most = self.options.max_waiting
            text = f"{most} callers wait already, and max_waiting is {most}"
            return PoolOverloaded(self.name, text)
        if reason == "deadlock":
            return PoolDeadlock(
                self.name,
                f"the caller holds all {self.maxsize} resources in its own `with` blocks and "
                "would wait for itself; take what you need in one place, or raise maxsize",
            )
        has_capacity = phase is None and self.creator.has_capacity()  # before a creation takes it
        short = phase is None and self.budget is not None and self.budget.is_short(self.core)
        if timeout == 0 and (has_capacity or short) and not self.creator.in_caller:
            scheduler.call_soon(self.creator.refill, 1)
        self.core.count("timeouts")
        cause = self.creator.last_failure
        # counted at once where that costs little
        few = self.sizes() if self.core.open <= FEW else None
        creating = self.core.creating if few is None else few["creating"]
        if phase is None:
            phase = "create" if has_capacity or creating else "budget" if short else "wait"
        waited = time.monotonic() - start
        error = PoolTimeout(
            self.name, phase, waited, few or self.sizes, tuple(self.tracking.holders())
        )
        error.__cause__ = cause
        if phase == "budget" and self.budget:
            error.budget = self.budget.stats()
        notify_listeners(self, "timed_out", phase, waited)
        return error

    def sizes(self) -> dict[str, int]:
        n = self.counts()
        names = ("idle", "leased", "creating", "checking", "closing", "open", "waiting")
        return {name: n[name] for name in names} | {"maxsize": self.maxsize}

    def overdue(self) -> int:
        """How many hooks are past their deadline and have not returned."""
        resets = self.core.resets_overdue(self.options.hook_timeout)
        return self.creator.overdue + self.deadlines.overdue() + int(resets)

    def counts(self) -> dict[str, Any]:
        """As ``Core.counts``, of the whole pool."""
        counted: dict[str, Any] = self.core.counts()
        return counted

    # ---- returning -----------------------------------------------------------------------------

    def give_back(self, index: int, error: BaseException | None, discard: bool) -> None:
        """The slow path of a return: a hook, a limit, an exception, a closed pool, a discard.  The
        slot is CHECKING and the caller's; it ends idle or closed.  If anything is raised on the
        way, the caller has the rest done by the pool's threads (``rescue``)."""
        core = self.core
        if self.hooks.reset is not None and on_loop():
            self.offload_threads.hand_over(self._give_back, index, error, discard)
            return
        used = self.tracking.forget(index) if self.tracking.on else None
        why = "discarded" if discard else self.validate(index, error) or self.recycle(index, error)
        if why is None:
            self.on_idle()
        else:
            self.closing.here(index, why)
        if core.closed or self.orphaned:
            self.sweep()
        if used is not None:
            self.was_used(used)

    def was_used(self, seconds: float) -> None:
        """For the core: a use that was measured, and is over."""
        notify_listeners(self, "used", seconds)

    def _give_back(self, index: int, error: BaseException | None, discard: bool) -> None:
        """On a worker."""
        try:
            self.give_back(index, error, discard)
        except BaseException:
            self.rescue(index, "interrupted")
            raise

    def on_idle(self) -> None:
        """A slot was made idle outside the fast path."""
        if self.core.waiting:
            self.notify_changed()

    def on_return(self, later: bool = False) -> None:
        """For the core: something came back by the fast path while the pool was being closed, or
        while one more was opened than may be idle."""
        if self.core.closed:
            self.sweep(later)
        else:
            self.maintenance.ask()

    def rescue(self, index: int, why: str, use: int | None = None) -> None:
        """For the core: a slot whose owner did not get to the end of what it was doing.  ``use``:
        of the slot, when that was found out."""
        self.closing.rescue(index, why, use)

    def validate(self, index: int, error: BaseException | None) -> str | None:
        """Runs the reset hook in the caller's thread; why the resource may not be kept, or None."""
        return self.broken(index, error) or self.reset(index)

    def not_kept(self, index: int, why: str, failure: BaseException | None) -> None:
        """For the core: what it has reset, or has not, is not idle."""
        if failure is not None:
            self.log("reset failed; the resource is closed", failure)
        self.closing.here(index, self.reject_reason(index) if why == "unfit" else why)
        if self.core.closed or self.orphaned:
            self.sweep()

    def recycle(self, index: int, error: BaseException | None = None) -> str | None:
        """Makes it idle; or why it may not be kept.  ``error``: what has left its block, which
        makes it suspect."""
        suspect = error is not None and bool(evidence(error))
        why = self.exhausted(index) or self.make_idle(index, suspect)
        return self.reject_reason(index) if why == "unfit" else why

    def make_idle(self, index: int, suspect: bool) -> str | None:
        """As ``Core.keep``, of the whole pool."""
        why: str | None = self.core.recycle(index, self.options.max_idle, suspect)
        return why

    def broken(self, index: int, error: BaseException | None) -> str | None:
        """What speaks against it before the reset hook is run."""
        if error is not None and self.error_discards(error, self.core.item(index)):
            return "error"
        return "closed" if self.core.closed else None

    def reset(self, index: int) -> str | None:
        if self.hooks.reset is None:
            return None
        self.deadlines.begin(index)
        try:
            copy_context().run(self.hooks.reset, self.core.item(index))
        except Exception as failure:
            self.log("reset failed; the resource is closed", failure)
            return "reset"
        finally:
            self.deadlines.end(index)
        return None

    def exhausted(self, index: int) -> str | None:
        """What speaks against it after that."""
        _, _, _, _, uses, _, retire = self.core.slot(index)
        if retire:
            return self.why_retired()
        return "uses" if uses >= self.options.max_uses else None

    def why_retired(self) -> str:
        most = self.maxsize or INF
        if self.budget is not None:
            most = min(most, self.budget.allowance)
        return "surplus" if most < self.opened() else "flushed"

    def has_idle(self, n: int) -> bool:
        """Whether at least so many are idle in the whole pool."""
        return self.core.has_idle(n)

    def opened(self) -> int:
        """How many are open in the whole pool."""
        return self.core.open

    def reject_reason(self, index: int) -> str:
        _, _, _, dies_at, uses, _, retire = self.core.slot(index)
        if self.core.closed:
            return "closed"
        if retire:
            return self.why_retired()
        return "uses" if uses >= self.options.max_uses else "lifetime"

    def error_discards(self, error: BaseException, resource: object) -> bool:
        """Whether an exception that left a block means that the resource is broken."""
        found = evidence(error)
        if not found:
            return False
        rule = self.options.discard_on
        if callable(rule):
            try:
                return bool(rule(error, resource))
            except Exception as failure:
                self.log("discard_on raised; the resource is closed", failure)
                return True
        return matches_any(found, rule) or not are_exceptions(found)

    def raise_misuse(self, act: str, resource: object) -> NoReturn:
        from .._misuse import ask_resource

        cure = ask_resource(act, resource)
        if cure is not None and self.core.find(resource) < 0:
            raise ValueError(f"{self.name}: {cure}")
        what = f"{type(resource).__name__} object {_reports.shown(resource, 80)}"
        if self.core.find(resource) < 0:
            raise ValueError(
                f"{self.name}: {act}: this pool did not make, or has closed, the {what}"
            )
        raise ValueError(f"{self.name}: {act}: not lent out at this moment: the {what}")

    def taken_at(self, index: int) -> str | None:
        """Where a lease was taken that is being collected: no lock, no hook."""
        return self.tracking.taken_at(index)

    def warn_lost(self, taken_at: str | None) -> None:
        """A lease was collected unreleased; its slot is seen to.  In a finaliser."""
        import warnings

        where = f", taken at {taken_at}" if taken_at else "; leak_after= shows where it was taken"
        warnings.warn(
            with_page(
                f"fastpool {self.name!r}: a lease was collected unreleased; its resource is closed"
                f"{where}",
                WARNINGS_PAGE,
            ),
            ResourceWarning,
            stacklevel=2,
            source=None,
        )

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
            if workers is not _undertakers:
                scheduler.call_soon(workers.stop)
        self.release_manager()

    def release_manager(self) -> None:
        """Nothing of a closed pool is left: if it was collected, its manager goes."""
        if self.orphaned:
            _orphans.discard(self)
            self.core.drop_manager()

    def notify_changed(self) -> None:
        self.state_changed.notify_all()

    def sweep(self, later: bool = False) -> None:
        """Closes everything idle, in this thread or on workers."""
        self.closing.sweep(later)

    def close(self, timeout: float | None, me: int | None = None) -> bool:
        self.options.check_timeout("close", timeout)
        self.core.close()
        self.notify_changed()  # for warm(), which waits for the news
        self.sweep()
        if me is None:  # a task names itself
            me = threading.get_ident()
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
        return _undertakers

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
        from ._configuration import change, configure_core, look_again

        change(self, changes)
        self.quick_reset = self.new_quick_reset()
        configure_core(self)
        look_again(self)

    def readable(self) -> dict[str, Any]:
        from ._configuration import readable

        return readable(self)

    def add_listener(self, pool: Any, listener: Any) -> None:
        add(self, [self.core], pool, listener)

    def remove_listener(self, listener: Any) -> None:
        remove(self, [self.core], listener)

    def to_keep(self) -> int:
        """How many are open, at least, in a pool that nobody uses."""
        return self.options.least_idle

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
        return self.creator.warm(n, timeout)

    # ---- what goes on in it --------------------------------------------------------------------

    def idle(self) -> list[Any]:
        """The idle resources."""
        found = (self.core.item(slot[0]) for slot in self.core.slots() if slot[1] == "idle")
        return [resource for resource in found if resource is not None]  # None: gone meanwhile

    def leases(self) -> list[Holder[Any]]:
        return self.tracking.leases()

    def stats(self) -> PoolStats:
        from ..stats import snapshot, tally

        return snapshot(self.name, self.maxsize, tally(self), budget=self.budget)

    def log(self, what: str, error: BaseException | None) -> None:
        _reports.warn("%s: %s", self.name, what, error=error)

    def maintain(self) -> None:
        """For the manual clock: the time has moved."""
        self.maintenance.maintain()


def after_fork_in_child() -> None:
    """The threads are gone."""
    global _undertakers
    _undertakers = ThreadGroup(_undertakers.name, 4 * CLOSERS)


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

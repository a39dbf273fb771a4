"""The manager behind FastPool: hooks, lifecycle and everything that is not an idle hit.

One manager per resource pool; the compiled core holds it and asks it.  It never refers to the
FastPool itself, so that a pool nobody uses is collected at once.  ``lock`` guards its own counters
and is never held while a hook runs, a resource closes, or the core is waited in; it is re-entrant,
since a signal handler may return a resource in the middle of anything.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from operator import methodcaller

from . import _core, _keeper, _policy
from ._core import FastPool, Lease
from ._opener import Opener
from ._options import Options, parse
from ._workers import Job, Workers
from .errors import PoolClosed, PoolDeadlock, PoolError, PoolOverloaded, PoolTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .stats import Holder, PoolStats

__all__ = ["FastPool", "Lease"]

INF = float("inf")
_close = methodcaller("close")  # in C: no signal handler runs between the decision and the call
CLOSERS = 4  # threads that close what expires, is flushed or lost; ended when idle

_managers: weakref.WeakSet[Manager] = weakref.WeakSet()


class Manager:
    """See the module.  Slots are named by number; a number is valid for whoever owns the slot."""

    def __init__(self, core: _core.Core, options: Options) -> None:
        self.core = core
        self.options = options
        self.hooks = options.hooks
        self.name = options.name
        self.maxsize = options.maxsize
        self.tracking = options.leak_after != INF
        self.start_anew()

    def start_anew(self) -> None:
        """Everything that is bound to this process: at first, and in a forked child."""
        self.lock = threading.RLock()
        self.news = threading.Condition(self.lock)  # something was closed, opened or came back
        self.opener = Opener(self)
        self.checkers = Workers(f"fastpool-{self.name}-check", min(self.options.max_creating, 64))
        self.closers = Workers(f"fastpool-{self.name}-close", CLOSERS)
        self.timeouts = 0
        self.overloads = 0
        self.overdue = 0  # checks past their deadline
        self.orphaned = False  # the FastPool was collected
        self.tracked: dict[int, list[Any]] = {}
        self.kept_alive: dict[int, float] = {}  # when a slot's resource was last checked for it
        self.tending_at = INF
        self.tending = threading.RLock()

    # ---- borrowing -----------------------------------------------------------------------------

    def borrow(
        self, hand: _core.Hand, reason: str | None, span: float | None, waited: float
    ) -> None:
        """The slow path of a get: returns with a slot in hand as LEASED, or raises.  ``reason``:
        what the core said, as ``Core.take``; None: not asked yet.  What is in hand when a signal
        handler raises is given back by the caller."""
        core = self.core
        start = time.monotonic() - waited
        in_front = asked = False
        while reason != "fresh":
            if reason == "due":
                if self.examine(hand, start, span):
                    break
                in_front = True  # a grant that was no good: the place in line is kept
            elif reason == "room":
                if span == 0:
                    raise self.refusal("timeout", start, span)
                core.come(hand)
                in_front, asked = in_front or asked, True
                _keeper.poke(self.open_more, span)
            elif reason is not None:
                raise self.refusal(reason, start, span)
            left = None if span is None else max(0.0, start + span - time.monotonic())
            reason = core.take(hand, left, in_front=in_front)
        if self.tracking:
            self.track(hand.index)

    def open_more(self, span: float | None) -> None:
        opener = self.opener
        with self.lock:
            if span == 0:  # one for later, since there is room
                opener.wishes = max(opener.wishes, 1)
            opener.wishes = max(opener.wishes, self.missing_idle())
            opener.start()

    def room(self) -> bool:
        """Whether one more may be opened now."""
        core = self.core
        return (not self.maxsize or core.open < self.maxsize) and not core.suspended

    def missing_idle(self) -> int:
        """How many more have to be idle for ``min_idle``; under the lock.  Those being made count
        as missing still: they are among the wishes."""
        if not self.options.min_idle:
            return 0
        n = self.core.counts()
        return max(0, self.options.min_idle - int(n["idle"] + n["checking"]))

    def examine(self, hand: _core.Hand, start: float, span: float | None) -> bool:
        """A slot just taken that is no longer fresh: expired, or to be checked.  True: it is lent,
        False: it is being closed."""
        core, o = self.core, self.options
        index = hand.index
        if not core.claim(index, "leased"):
            return False
        _, _, since, dies_at, uses, _, retire = core.slot(index)
        now = core.now()
        why = "flushed" if retire else _policy.expiry(now, since, dies_at, o.idle_timeout)
        if why is None and self.hooks.check is not None:
            if _policy.check_due(now, since, o.check_after, uses):
                why = self.check(hand, start, span)
        if why is not None:
            core.condemn(hand, why)
            return False
        core.freshen(index)
        return core.lend(index)

    def check(self, hand: _core.Hand, start: float, span: float | None) -> str | None:
        """Runs the check on a worker; "check" if it failed.  Raises PoolTimeout when the borrower's
        time or the hook's is over first; the check then ends in the background."""
        index = hand.index
        job = Job(self.hooks.check)
        done = threading.Event()
        left = self.options.hook_timeout
        if span:
            left = min(left, max(start + span - time.monotonic(), 0.0))
        try:
            self.core.send(hand, self.checkers.submit, (self.run_check, job, index, done))
            done.wait(None if left == INF else left)
        finally:  # also when a signal handler raised
            if hand.index < 0:  # it was sent
                with job.lock:
                    job.given_up = not job.done
                    if job.done:
                        self.core.regain(hand, index)
        if job.given_up:
            with self.lock:
                self.overdue += 1
            _keeper.poke(self.checkers.excuse)
            raise self.refusal("timeout", start, span, "check")
        return "check" if self.check_failed(job) else None

    def run_check(self, job: Job, index: int, done: threading.Event) -> None:
        try:
            job.result = job.call(self.core.item(index))
        except BaseException as error:
            job.error = error
        with job.lock:
            job.done = True
            late = job.given_up
        done.set()
        if late:
            with self.lock:
                self.overdue -= 1
            self.checkers.excuse(-1)
            self.after_check(index, job)

    def after_check(self, index: int, job: Job) -> None:
        """A check whose borrower is gone: the resource goes back to the others, or is closed."""
        self.core.freshen(index)
        if self.check_failed(job):
            self.close_slot(index, "check")
        elif not self.core.publish(index, used=False):
            self.close_slot(index, "closed")

    @staticmethod
    def check_failed(job: Job) -> bool:
        return job.error is not None or (job.result is not None and not job.result)

    def refusal(
        self, reason: str, start: float, span: float | None, phase: str | None = None
    ) -> PoolError:
        """The exception for a borrower who gets nothing."""
        if reason == "closed":
            return PoolClosed(self.name, "the pool is closed")
        if reason == "overloaded":
            with self.lock:
                self.overloads += 1
            most = self.options.max_waiting
            text = f"{most} callers wait already, and max_waiting is {most}"
            return PoolOverloaded(self.name, text)
        if reason == "deadlock":
            return PoolDeadlock(
                self.name,
                f"this thread holds all {self.maxsize} resources in its own `with` blocks and "
                "would wait for itself; take what you need in one place, or raise maxsize",
            )
        if span == 0 and phase is None and self.room():
            _keeper.poke(self.open_more, 0)
        with self.lock:
            self.timeouts += 1
            cause = self.opener.last_failure
            if phase is None:
                phase = "create" if self.opener.tries or self.opener.overdue else "wait"
        error = PoolTimeout(
            self.name, phase, time.monotonic() - start, self.sizes(), tuple(self.holders())
        )
        error.__cause__ = cause
        return error

    def sizes(self) -> dict[str, int]:
        n = self.core.counts()
        names = ("idle", "leased", "creating", "checking", "closing", "open", "waiting")
        return {name: n[name] for name in names} | {"maxsize": self.maxsize}

    # ---- returning -----------------------------------------------------------------------------

    def settle(self, index: int, error: BaseException | None, discard: bool) -> None:
        """The slow path of a return: a hook, a limit, an exception, a closed pool, a discard.  The
        slot is CHECKING and the caller's; it ends idle or closed.  If anything is raised on the
        way, the caller has the rest done by the pool's threads (``rescue``)."""
        core = self.core
        self.untrack(index)
        why = "discarded" if discard else self.unfit(index, error)
        if why is None and core.publish(index):
            if core.waiting:
                self.changed()
        else:
            self.close_slot(index, why or self.why_not_idle(index))
        if core.closed or self.orphaned:
            self.sweep()

    def rescue(self, index: int, why: str) -> None:
        """On the housekeeper: a slot whose owner did not get to the end of what it was doing."""
        state = self.core.slot(index)[1]
        if state == "checking":
            self.untrack(index)
            self.close_later(index, why)
        elif state == "closing":
            self.closers.submit(self.end_close, index, why)

    def unfit(self, index: int, error: BaseException | None) -> str | None:
        """Runs the reset hook in the caller's thread; why the resource may not be kept, or None."""
        core, o = self.core, self.options
        resource = core.item(index)
        if error is not None and self.spoils(error, resource):
            return "error"
        if core.closed:
            return "closed"
        if self.hooks.reset is not None:
            try:
                self.hooks.reset(resource)
            except Exception as failure:
                self.log("reset failed; the resource is closed", failure)
                return "reset"
        _, _, _, _, uses, _, retire = core.slot(index)
        if retire:
            return "surplus" if self.maxsize and core.open > self.maxsize else "flushed"
        if uses >= o.max_uses:
            return "uses"
        if o.max_idle != INF and not core.waiting and core.counts()["idle"] >= o.max_idle:
            return "surplus"
        return None

    def why_not_idle(self, index: int) -> str:
        _, _, _, dies_at, uses, _, retire = self.core.slot(index)
        if self.core.closed:
            return "closed"
        if retire:
            return "flushed"
        return "uses" if uses >= self.options.max_uses else "lifetime"

    def spoils(self, error: BaseException, resource: object) -> bool:
        """Whether an exception that left a block means that the resource is broken."""
        if isinstance(error, PoolError):
            return False
        rule = self.options.discard_on
        if callable(rule):
            try:
                return bool(rule(error, resource))
            except Exception as failure:
                self.log("discard_on raised; the resource is closed", failure)
                return True
        return isinstance(error, rule) or not isinstance(error, Exception)

    def misused(self, act: str, resource: object) -> NoReturn:
        what = f"{type(resource).__name__} object {resource!r:.80}"
        if self.core.find(resource) < 0:
            raise ValueError(
                f"{self.name}: {act}: this pool did not make, or has closed, the {what}"
            )
        raise ValueError(f"{self.name}: {act}: not lent out at this moment: the {what}")

    def lost(self, index: int) -> None:
        """A lease was collected unreleased.  May be in a finaliser: no lock, no hook."""
        if self.core.claim(index, "leased"):
            _keeper.poke(self.close_lost, index)
            entry = self.tracked.get(index)
            import warnings

            hint = "; leak_after= shows where it was taken"
            place = f", taken at {entry[2][0]}" if entry else hint
            warnings.warn(
                f"fastpool {self.name!r}: a lease was collected unreleased; its resource is closed"
                f"{place}",
                ResourceWarning,
                stacklevel=2,
                source=None,
            )

    def close_lost(self, index: int) -> None:
        self.untrack(index)
        self.close_later(index, "lost")

    # ---- closing -------------------------------------------------------------------------------

    def close_slot(self, index: int, why: str) -> None:
        """Closes a CHECKING slot's resource in this thread; its place is free when that is done."""
        if self.core.retire(index):
            self.end_close(index, why)

    def end_close(self, index: int, why: str) -> None:
        """A CLOSING slot: the hook, unless an interrupted call has got to it already; then the
        place."""
        core = self.core
        try:
            if self.hooks.close is not None:
                core.close_resource(index, self.hooks.close)
            elif hasattr(core.item(index), "close"):
                core.close_resource(index, _close)
        except Exception as failure:
            self.log("close failed", failure)
        core.free(index, why)

    def close_on_worker(self, index: int, why: str) -> None:
        try:
            self.close_slot(index, why)
        except BaseException as failure:  # from the hook; where a borrower closes, it is theirs
            self.log("close failed", failure)
            self.end_close(index, why)

    def close_later(self, index: int, why: str) -> None:
        """The same on a worker, for what nobody gives up in person."""
        try:
            self.closers.submit(self.close_on_worker, index, why)
        except RuntimeError:  # no thread to be had
            self.close_slot(index, why)

    def place_free(self, left: int) -> None:
        """On the housekeeper: a place under the cap is free.  Others may want it; a closed pool may
        be empty now."""
        core = self.core
        if not core.closed:
            self.refill()
        elif not core.open:
            self.dismiss()
        self.changed()

    def dismiss(self) -> None:
        """The pool is closed and nothing is open: its threads end, and a pool that was collected
        lets go of its manager."""
        for workers in (self.opener.workers, self.checkers, self.closers):
            workers.stop()
        if self.orphaned:
            self.core.drop_manager()

    def refill(self) -> None:
        """On the housekeeper: opens what is wanted and fits."""
        with self.lock:
            if self.options.min_idle:
                self.opener.wishes = max(self.opener.wishes, self.missing_idle())
            self.opener.start()

    def changed(self) -> None:
        with self.news:
            self.news.notify_all()

    def sweep(self, later: bool = False) -> None:
        """Closes everything idle, in this thread or on workers."""
        for slot in self.core.slots():
            if slot[1] == "idle" and self.core.claim(slot[0]):
                (self.close_later if later else self.close_slot)(slot[0], "closed")

    def close(self, timeout: float | None) -> bool:
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
                raise TypeError(f"{self.name}: close: timeout must be a number, not {timeout!r}")
            if not timeout >= 0:
                raise ValueError(
                    f"{self.name}: close: timeout must be >= 0 or None, not {timeout!r}"
                )
        self.core.close()
        self.sweep()
        me = threading.get_ident()

        def nobody_else() -> bool:
            return all(
                (slot[1] == "leased" and slot[5] & ~1 == me) or slot[1] == "idle"
                for slot in self.core.slots()
            )

        with self.news:
            self.news.wait_for(nobody_else, timeout)
        self.sweep()
        if self.core.open:
            return False
        self.dismiss()
        return True

    def abandoned(self) -> None:
        """The FastPool is being collected."""
        core = self.core
        open_ = core.open
        unclosed = core.close()
        self.orphaned = True
        if open_:
            _keeper.poke(self.sweep, True)
        else:
            core.drop_manager()
        if unclosed and open_:  # last: a warning may be an error
            import warnings

            warnings.warn(
                f"unclosed fastpool {self.name!r} with {open_} open; use `with` or close()",
                ResourceWarning,
                stacklevel=2,
            )

    # ---- operations ----------------------------------------------------------------------------

    def resize(self, maxsize: Any) -> int:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int):
            raise TypeError(f"{self.name}: maxsize must be an int, not {maxsize!r}")
        if maxsize < 0 or (maxsize and maxsize < self.options.min_idle):
            raise ValueError(
                f"{self.name}: maxsize must be 0 (no cap) or at least min_idle "
                f"({self.options.min_idle}), not {maxsize!r}"
            )
        core = self.core
        with self.lock:
            self.maxsize = maxsize
            core.set_limit(maxsize or INF)
        _keeper.poke(self.refill)
        if maxsize:
            idle = sorted(slot[2:3] + slot[:1] for slot in core.slots() if slot[1] == "idle")
            for _, index in idle:
                if core.open <= maxsize:
                    break
                if core.claim(index):
                    self.close_slot(index, "surplus")
            if core.open > maxsize:
                core.mark_retire(core.open - maxsize)
        return maxsize

    def flush(self) -> None:
        self.core.mark_retire()
        for slot in self.core.slots():
            if slot[1] == "idle" and slot[6] and self.core.claim(slot[0]):
                self.close_slot(slot[0], "flushed")

    def suspend(self) -> None:
        self.core.suspend()

    def resume(self) -> None:
        self.core.resume()
        _keeper.poke(self.refill)

    def warm(self, n: Any, timeout: float | None, use_default: bool) -> int:
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"{self.name}: warm: n must be an int, not {n!r}")
        if n < 0:
            raise ValueError(f"{self.name}: warm: n must be 0 or more, not {n!r}")
        if n and self.hooks.create is None:
            raise TypeError(f"{self.name}: warm() needs a factory")
        if use_default:
            timeout = None if self.options.timeout == INF else self.options.timeout
        start = time.monotonic()
        n = min(n, self.maxsize) if self.maxsize else n
        opener, core = self.opener, self.core
        failed_before = opener.failed

        def ready() -> int:
            counts: dict[str, int] = core.counts()
            return int(counts["idle"] + counts["leased"])

        with self.news:
            opener.wish(max(0, n - ready() - opener.tries))
            done = self.news.wait_for(
                lambda: ready() >= n or opener.failed > failed_before or core.closed, timeout
            )
            if ready() < n:
                opener.wishes = 0
            failure = opener.last_failure
        if ready() >= n:
            return core.open
        if core.closed:
            raise self.refusal("closed", start, timeout)
        if done and failure is not None:
            raise failure
        raise self.refusal("timeout", start, timeout, "create")

    # ---- who holds what ------------------------------------------------------------------------

    def track(self, index: int) -> None:
        from .stats import call_stack

        thread = threading.current_thread().name
        self.tracked[index] = [self.core.now(), thread, call_stack(), False]

    def untrack(self, index: int) -> None:
        if self.tracking:
            entry = self.tracked.pop(index, None)
            if entry is not None:
                self.core.add_held(max(0.0, self.core.now() - entry[0]))

    def holders(self) -> list[str]:
        return [str(holder) for holder in self.leases()] if self.tracking else []

    def leases(self) -> list[Holder[Any]]:
        from .stats import Holder

        now = self.core.now()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        found = []
        for index, state, since, _, _, owner, _ in self.core.slots():
            if state == "leased":
                entry = self.tracked.get(index)
                taken, thread, stack = entry[:3] if entry else (since, names.get(owner & ~1), ())
                found.append(
                    Holder(self.core.item(index), max(0.0, now - taken), thread, tuple(stack))
                )
        return found

    def stats(self) -> PoolStats:
        from .stats import snapshot

        return snapshot(self)

    def log(self, what: str, error: BaseException) -> None:
        import logging

        logging.getLogger("fastpool").warning("%s: %s", self.name, what, exc_info=error)

    # ---- housekeeping: on the keeper's thread ----------------------------------------------------

    def tend_soon(self) -> None:
        """Something was opened: there may be a new first deadline."""
        if self.options.clock is None:
            _keeper.poke(self.tend)

    def tend(self) -> None:
        """Evicts what expired, starts a keepalive check, refills, reports leaks; sets the next
        deadline."""
        core, o = self.core, self.options
        if core.closed:
            return
        now = core.now()
        next_at = INF
        with self.tending:
            slots = core.slots()
            oldest = None
            for index, state, since, dies_at, *_ in slots:
                next_at = min(next_at, dies_at)
                if state != "idle":
                    continue
                why = _policy.expiry(now, since, dies_at, o.idle_timeout)
                if why is not None:
                    if core.claim(index):
                        self.close_later(index, why)
                    continue
                next_at = min(next_at, since + o.idle_timeout)
                since = max(since, self.kept_alive.get(index, since))
                if oldest is None or since < oldest[1]:
                    oldest = (index, since)
            if slots:
                next_at = min(next_at, now + o.idle_timeout)
            if o.keepalive != INF and slots:
                next_at = min(next_at, self.keep_alive(now, oldest))
            if o.min_idle:
                self.refill()
                if slots:
                    next_at = min(next_at, now + 1.0)
            if self.tracking and self.tracked:
                next_at = min(next_at, self.report_leaks(now))
        if o.clock is None and next_at != INF:
            delay = max(next_at - now, 0.01)
            at = time.monotonic() + delay
            if at < self.tending_at or self.tending_at <= time.monotonic():
                self.tending_at = at
                _keeper.watch(at, self.tend)

    def keep_alive(self, now: float, oldest: tuple[int, float] | None) -> float:
        """One idle resource at a time, and none while anybody waits."""
        core, o = self.core, self.options
        if oldest is None or now - oldest[1] < o.keepalive:
            return now + o.keepalive if oldest is None else oldest[1] + o.keepalive
        index = oldest[0]
        if not core.waiting and core.claim(index):
            self.kept_alive[index] = now
            self.checkers.submit(self.run_keepalive, index)
        return now + o.keepalive

    def run_keepalive(self, index: int) -> None:
        job = Job(self.hooks.check)
        try:
            job.result = job.call(self.core.item(index))
        except BaseException as error:
            job.error = error
        self.after_check(index, job)
        self.tend_soon()

    def report_leaks(self, now: float) -> float:
        o, next_at = self.options, INF
        for entry in list(self.tracked.values()):
            taken, thread, stack, reported = entry
            if reported:
                continue
            if now - taken >= o.leak_after:
                entry[3] = True
                import logging

                logging.getLogger("fastpool").warning(
                    "%s: a lease is held for %.3g s by %s, taken at\n  %s",
                    self.name, now - taken, thread, "\n  ".join(stack),
                )  # fmt: skip
            else:
                next_at = min(next_at, taken + o.leak_after)
        return next_at


# ---- Building a pool -----------------------------------------------------------------------------


def configure(core: _core.Core, maxsize: Any, given: dict[str, Any]) -> tuple[int, str]:
    """What ``FastPool.__init__`` does, apart from allocating the core; the maxsize and the name."""
    o = parse(maxsize, UNSET, given)
    lifo, fair = o.order == "lifo", o.fairness == "fair"
    span = None if o.timeout == INF else o.timeout
    if not o.pool_use:
        core.set_queue(lifo, fair, o.maxsize or INF, span, o.max_waiting)
        return o.maxsize, o.name
    manager = Manager(core, o)
    fresh_for = min(o.idle_timeout, o.check_after if o.hooks.check is not None else INF)
    core.set_pool(
        manager,
        lifo=lifo,
        fair=fair,
        limit=o.maxsize or INF,
        span=span,
        max_waiting=o.max_waiting,
        fresh_for=fresh_for,
        timed=o.factory is not None or fresh_for != INF,
        asks=o.hooks.check is not None,
        ask_get=manager.tracking,
        ask_put=manager.tracking
        or o.hooks.reset is not None
        or o.max_idle != INF
        or o.max_uses != INF,
        clock=getattr(o.clock, "ticks", o.clock),
    )
    _managers.add(manager)
    _keeper.start()
    if o.clock is not None and hasattr(o.clock, "managers"):
        o.clock.managers.add(manager)
    for item in o.items or ():
        index = core.reserve()
        core.fill(index, item, INF)
        core.publish(index, used=False)
    o.items = None  # a resource that is discarded must not live on here
    if o.min_idle:
        manager.opener.wish(o.min_idle)
    return o.maxsize, o.name


UNSET = _core.bind(configure, _keeper.inbox_put())


def _after_fork_in_child() -> None:
    _keeper.restart()
    _core.bind(configure, _keeper.inbox_put())
    managers = _core.after_fork_in_child()
    for manager in managers:
        manager.start_anew()
    if managers:
        _keeper.start()


def _at_exit() -> None:
    """Interpreter exit: refuse, close what is idle, and wait for nobody."""
    for manager in list(_managers):
        try:
            manager.core.close()
            manager.sweep()
        except Exception as error:
            manager.log("closing at interpreter exit failed", error)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

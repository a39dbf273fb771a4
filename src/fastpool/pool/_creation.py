"""Opening resources: the pool's own task, apart from any borrower.

A try is one creation under way on a worker, with a slot reserved under the cap.  Tries are started
for callers who wait (at most one for each) and for wishes (``min_idle``, ``min_size``, ``warm``, a
refused ``timeout=0``), at most ``max_creating`` at once.  A try outlives the borrower it was meant
for, and is skipped if nobody wants it by the time that a worker gets to it.
"""

from __future__ import annotations

import time

from .. import _core, _reports
from .._runtime import scheduler
from .._runtime.threads import ThreadGroup
from . import _policy
from ._attempt import Attempt, Warming
from ._listeners import notify_in_worker, notify_listeners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ._manager import Manager

__all__ = ["Attempt", "Creator"]


class Creator:
    """Shares the manager's lock; fields are read and written under it unless they say otherwise."""

    in_caller = False  # borrowers call the factory themselves
    notify = staticmethod(notify_listeners)

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.most = manager.options.max_creating
        self.workers: Any = self.create_threads()
        # By age, those past their deadline left out; each change is one step: tasks take no lock.
        self.running: dict[Attempt, None] = {}
        self.watched_until = 0.0
        self.background_demand = 0  # resources wanted by nobody in particular
        self.warming: list[Warming] = []
        self.overdue = 0  # creations past their deadline that have not come back
        self.failures = 0  # in a row
        self.last_failure: BaseException | None = None
        self.paused_until = 0.0  # of tries in the background, or of all: see is_paused
        self.callers_paused_until = 0.0  # no later than that

    def create_threads(self) -> Any:
        """The threads on which the factory is called."""
        most = 64 if self.most == float("inf") else self.most
        return ThreadGroup(
            f"fastpool-{self.manager.name}-create", most, self.manager.options.context
        )

    def has_capacity(self) -> bool:
        """Whether one more may be opened now."""
        core = self.manager.core
        able = self.manager.hooks.create is not None and not core.suspended
        return able and bool(core.has_capacity())

    def missing(self) -> int:
        """How many more have to be idle for ``min_idle``, or open for ``min_size``.  Those being
        made count as missing still: they are among the wishes."""
        manager, o = self.manager, self.manager.options
        if not o.least_idle or manager.has_idle(o.least_idle):
            return 0
        n = manager.counts()
        idle = int(n["idle"] + n["checking"])
        # what callers wait for is going to be leased
        leased = int(n["leased"]) + manager.core.demand
        return max(0, o.min_idle - idle, o.min_size - idle - leased)

    def refill(self, more: int = 0) -> None:
        """On the scheduler's thread: opens what is wanted and fits; ``more``: also wished for."""
        with self.manager.lock.hold():
            self.background_demand = max(self.background_demand, more, self.missing())
            self.start()

    def usable(self, counts: dict[str, Any]) -> int:
        """How many are open that serve callers."""
        return int(counts["idle"] + counts["leased"])

    def for_callers(self) -> int:
        """How many of the tries under way were started for callers, beside all wishes."""
        return max(0, self.manager.core.in_flight - self.background_demand)

    def start(self) -> None:
        """Starts as many tries as are wanted and fit under the cap.  Never blocks."""
        manager, core = self.manager, self.manager.core
        if manager.hooks.create is None:
            return
        with manager.lock.hold():
            now = time.monotonic()
            background_demand = self.background_demand if now >= self.paused_until else 0
            if core.suspended or self.is_paused():
                return
            wanted = _policy.attempts_wanted(
                self.worker_goal(background_demand), self.manager.core.in_flight, self.permits()
            )
            while wanted > 0 and self.attempt():
                wanted -= 1
            if manager.budget is not None and manager.budget.is_wanted(
                core, self.goal(background_demand) > core.in_flight
            ):
                manager.budget.ask()

    @property
    def insists(self) -> bool:
        """Whether who waits is told of no failure, and waits on."""
        return bool(self.manager.options.on_create_error == "wait")

    def is_paused(self) -> bool:
        """Whether nothing is tried for a while; for those who wait it is a short one."""
        until = self.paused_until
        if self.manager.core.demand:
            until = min(until, self.callers_paused_until)
        return self.insists and time.monotonic() < until

    def attempt(self) -> bool:
        """Starts one try; False: the cap is reached, or the event loop that it needs is closed."""
        core = self.manager.core
        index = self.reserve()
        if index < 0:
            return False
        self.manager.core.in_flight += 1
        try:
            # what is opened may change borrowers: it belongs to none of their contexts
            pool = self.manager.options.context.copy()
            pool.run(self.submit, Attempt(index))
        except RuntimeError:
            self.manager.core.in_flight -= 1
            core.free(index)
            return False
        return True

    def submit(self, attempt: Attempt) -> None:
        """Has it begun soon."""
        self.workers.submit(self._run, attempt)

    def reserve(self) -> int:
        """A slot under the cap, or -1."""
        return self.manager.core.reserve()

    def _wanted(self) -> bool:
        core = self.manager.core
        return not core.closed and core.in_flight <= self.goal(self.background_demand)

    def goal(self, background_demand: int) -> int:
        """How many tries there is a use for: one for every caller who waits or is about to, and one
        for every resource wished for in the background."""
        return self.manager.core.demand + background_demand

    def permits(self) -> float:
        """Most creations of workers at once."""
        return self.most

    def worker_goal(self, background_demand: int) -> int:
        """How many of these workers are to make."""
        return self.goal(background_demand)

    def create_in_caller(self, guard: _core.SlotGuard, permit: Any = None) -> bool:
        """Whether the borrower has opened one itself: see _creation_in_caller.py."""
        return False

    def _run(self, attempt: Attempt) -> Any:
        """On a worker: one creation, from elision to delivery."""
        if not self._begin(attempt):
            return
        resource = error = None
        forks = _core.forks()
        try:
            resource = self.create()
            self._take_in(attempt, resource)
        except BaseException as failure:  # whatever it is, it is the waiter's to see
            error = failure
        del resource
        if _core.forks() == forks:  # else the factory has forked, and this is the child
            self._finish(attempt, error)

    def create(self) -> Any:
        return self.manager.hooks.create()

    def _begin(self, attempt: Attempt) -> bool:
        """Assigns the try to a waiter; False: nobody wants it any more."""
        manager, core = self.manager, self.manager.core
        with manager.lock.hold():
            if not self._wanted():
                self.manager.core.in_flight -= 1
                core.free(attempt.index)
                return False
            self._assign(attempt)
        return True

    def _assign(self, attempt: Attempt) -> None:
        """It begins.  Under the lock, but in tasks."""
        attempt.ticket = self.manager.core.assign()
        attempt.started = time.monotonic()
        self.running[attempt] = None
        if len(self.running) == 1 and self.manager.options.create_timeout != float("inf"):
            scheduler.call_soon(self._watch)

    def _take_in(self, attempt: Attempt, resource: Any) -> None:
        """Puts what the factory returned into its slot, or says what is wrong with it."""
        invalid = resource is None or self._is_unawaited(resource)
        if invalid or not self.adopt(attempt.index, resource):
            self.refuse(resource)

    def _is_unawaited(self, resource: Any) -> bool:
        # a client of redis.asyncio, for one, can be awaited when it is made already
        return hasattr(type(resource), "cr_await" if self.manager.awaits else "__await__")

    def refuse(self, resource: Any) -> NoReturn:
        """Raise the error for what the factory returned and is no resource."""
        if resource is None:
            raise TypeError("the factory returned None instead of a resource")
        if self._is_unawaited(resource):
            if hasattr(resource, "close"):
                resource.close()
            raise TypeError(
                "the factory returned an awaitable, but is no coroutine function: write it as "
                "`async def` with `return await ...`, then its resources belong to event loops"
            )
        raise ValueError(
            "the factory returned an object that the pool already holds: "
            f"{_reports.shown(resource, 100)}"
        )

    def adopt(self, index: int, resource: Any) -> bool:
        """A reserved slot gets its resource, as CHECKING; False: the pool holds it already."""
        manager = self.manager
        with manager.lock.hold():  # one step for whoever counts what is still missing
            if not manager.core.fill(index, resource, self.lifetime()):
                return False
            self.background_demand = max(0, self.background_demand - 1)
            return True

    def lifetime(self) -> float:
        """Of the next one, in seconds."""
        most = self.manager.options.max_lifetime
        return _policy.lifetime(most) if most < 1e300 else most

    def _finish(self, attempt: Attempt, error: BaseException | None) -> None:
        took = time.monotonic() - attempt.started
        with self.manager.lock.hold():
            self.running.pop(attempt, None)
        self._count(error, took)
        self.note(error, attempt.failure)
        try:
            if error is None:
                self._deliver(attempt)
            else:
                self._fail(attempt, error)
        finally:
            self.start()
        if error is None:
            self.notify(self.manager, "created", took)
        else:
            self.notify(self.manager, "create_failed", error)

    def _count(self, error: BaseException | None, took: float) -> None:
        if error is None:
            self.manager.core.count_created(took)
        else:
            self.manager.core.count("create_failures")

    def note(self, error: BaseException | None, failure: BaseException | None = None) -> None:
        """Keep how a call of the factory ended.  In threads of the pool's own."""
        # a copy: the error itself gets the frames of the caller in whom it is raised
        if error is not None and failure is None:
            failure = _reports.without_frames(error)
        with self.manager.lock.hold():
            before = self.last_failure  # dropped after the lock
            self.last_failure = failure
            if error is None:
                recovered, self.failures = self.failures > 0, 0
                if self.insists:
                    self.end_pauses(recovered)
            else:
                self.failures += 1
                for call in self.warming if not self.insists else ():
                    call.failure = error
        del before

    def end_pauses(self, recovered: bool) -> None:
        """A creation went well: those who wait need not wait for the next try.  ``recovered``: the
        one before had failed.  Under the lock."""
        self.paused_until = 0.0

    def _deliver(self, attempt: Attempt) -> None:
        """What was made is idle from here on, or closed if nobody wants it so late."""
        manager = self.manager
        why = None
        if attempt.given_up and not self._late_is_wanted(attempt):
            why = "overdue"
        elif not _core.deliver(manager.core, attempt.index, not attempt.given_up):
            why = manager.reject_reason(attempt.index)
        self._return_permit(attempt, why is None)  # before a close, which may take what it likes
        if why is None:
            self._arrived(attempt)
            manager.notify_changed()
            manager.maintenance.opened(attempt.index)
        else:
            self.start()
            manager.closing.on(self.workers, attempt.index, why)

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        """The slot is free, and the one waiter for whom it was tried gets the exception."""
        manager, core = self.manager, self.manager.core
        core.free(attempt.index)
        try:
            self._explain(error)
        finally:
            delivered = self._deliver_error(attempt, error) if not attempt.given_up else False
            # one step: with a permit and no pause yet, the next one would start
            with manager.lock.hold():
                self._return_permit(attempt)
                if not delivered:
                    self._pause()
                # nothing is made behind the backs of those who warm; others wish anew
                if self.warming and not self.insists:
                    self.background_demand = 0
                    manager.state_changed.notify_all()

    def _explain(self, error: BaseException) -> None:
        _reports.note(error, f"raised by the factory of fastpool {self.manager.name!r}")

    def _deliver_error(self, attempt: Attempt, error: BaseException) -> bool:
        """Raise the exception in the waiter for whom it was tried; False: nobody is to hear it."""
        return not self.insists and _core.fail_waiter(self.manager.core, attempt.ticket, error)

    def _return_permit(self, attempt: Attempt, delivered: bool = False) -> None:
        """After the delivery: until then the try stands for the caller who is still waiting, and
        another one for the same caller must not start."""
        with self.manager.lock.hold():
            if attempt.given_up:
                self.overdue -= 1
                self.workers.replace_stuck(-1)
            else:
                _core.creation_over(self.manager.core, delivered)

    def _pause(self) -> None:
        """A try failed and nobody was told: the next in the background comes later, or where nobody
        ever is, the next of all.  Under the lock."""
        if self.background_demand or self.insists:
            now, pause = time.monotonic(), _policy.backoff(self.failures)
            self.paused_until = self.callers_paused_until = now + pause
            if self.insists:
                self.callers_paused_until = now + _policy.backoff_waited_for(pause)
            for at in {self.callers_paused_until, self.paused_until}:
                scheduler.call_at(at, self.start)

    def _arrived(self, attempt: Attempt) -> None:
        """What it has made is lent from here on: for those who have more to do then."""

    def _late_is_wanted(self, attempt: Attempt) -> bool:
        core, o = self.manager.core, self.manager.options
        counts = self.manager.counts()
        few = counts["idle"] < max(1, o.min_idle) or self.usable(counts) < o.min_size
        return core.waiting > 0 or bool(few)

    def _watch(self) -> None:
        """On the scheduler's thread: gives up tries that are past their deadline, and comes back
        for the next.  One deadline a pool, however many resources it opens."""
        now, most = time.monotonic(), self.manager.options.create_timeout
        with self.manager.lock.hold():
            late = [attempt for attempt in list(self.running) if attempt.started + most <= now]
            for attempt in late:
                self._give_up(attempt)
            oldest = next(iter(list(self.running)), None)
            if oldest is not None and self.watched_until <= now:
                self.watched_until = oldest.started + most
                scheduler.call_at(self.watched_until, self._watch)
        for attempt in late:
            self._fail_late(attempt)
        if late:
            self.start()

    def _give_up(self, attempt: Attempt) -> None:
        """The hook has had its time.  It cannot be killed: its slot stays counted, its permit is
        free."""
        del self.running[attempt]
        attempt.given_up = True
        self.manager.core.in_flight -= 1
        self.overdue += 1
        self.manager.core.count("timeouts")
        self.workers.replace_stuck()

    def _fail_late(self, attempt: Attempt) -> None:
        from ..errors import PoolTimeout

        manager = self.manager
        waited = time.monotonic() - attempt.started
        error = PoolTimeout(manager.name, "create", waited, manager.sizes())
        if not self._deliver_error(attempt, error) and self.insists:
            self.note(error)
        notify_in_worker(manager, "timed_out", "create", waited)

"""Whether an idle resource is still good: what is asked before it is lent, and in between.

The check hook runs on the pool's ``checkers``, so that the borrower's timeout holds whatever it
does.
"""

from __future__ import annotations

import time
from _contextvars import copy_context

from .. import _blocking, _core
from . import _policy
from ._hook_deadlines import HookCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._idle_checks import CheckRound
    from ._manager import Manager

__all__ = ["HealthChecks"]

INF = float("inf")


class HealthChecks:
    """Keeps nothing of its own.  A slot under a check is CHECKING: it belongs to the borrower who
    waits for the result, or to the worker once that one has given up."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.core = manager.core
        self.options = manager.options
        self.hook = manager.hooks.check
        self.deadlines = manager.deadlines

    def examine(self, guard: _core.SlotGuard, start: float, timeout: float | None) -> bool:
        """A slot just taken that is no longer fresh: expired, or to be checked.  True: it is lent,
        False: it is being closed."""
        if not guard.claim():
            return False
        why, due = self.look(guard.index)
        if due:
            why = self._ask(guard, start, timeout)
        return self.verdict(guard, why)

    def look(self, index: int) -> tuple[str | None, bool]:
        """Why the resource has to go, or None; and whether it has to be checked."""
        core, o = self.core, self.options
        _, _, since, dies_at, uses, _, retire = core.slot(index)
        now = core.now()
        why = "flushed" if retire else _policy.expiry(now, since, dies_at, o.idle_timeout)
        if why is not None or self.hook is None:
            return why, False
        # a block that an exception left says more than any age
        due = core.is_suspect(index) or _policy.needs_check(now, since, o.check_after, uses)
        return None, due

    def verdict(self, guard: _core.SlotGuard, why: str | None) -> bool:
        """Lends what is guarded, or has it closed."""
        if why is not None:
            guard.condemn(why)
            return False
        self.core.freshen(guard.index)
        return self.core.lend(guard.index)

    def _ask(self, guard: _core.SlotGuard, start: float, timeout: float | None) -> str | None:
        """Runs the check on a worker; "check" if it failed.  Raises PoolTimeout when the borrower's
        time or the hook's is over first; the check then ends in the background."""
        manager, index = self.manager, guard.index
        job = _core.Job(_core.Event())
        now = time.monotonic()
        left = self.options.hook_timeout
        if timeout:
            left = min(left, max(start + timeout - now, 0.0))
        call = HookCall(now + left, manager.checkers)
        asked = (copy_context().run, job, call, index)
        _blocking.before_wait(manager.name, _blocking.ACQUIRE)
        if not job.ask(guard, self._send, asked, None if left == INF else left):
            raise manager.refusal("timeout", start, timeout, "check")
        return "check" if self._failed(job) else None

    def _send(self, run: Any, job: _core.Job, call: HookCall, index: int) -> None:
        """On the scheduler's thread: the check counts from here on, though a worker may be wanting.
        ``run``: of the borrower's context."""
        self.deadlines.enter(index, call)
        self.manager.checkers.submit(run, self._answer, job, call, index)

    def _answer(self, job: _core.Job, call: HookCall, index: int) -> None:
        """On a worker: the check, for a borrower who waits for it."""
        self.deadlines.enter(index, call)
        self._run(job, index)
        self.deadlines.end(index)  # before the borrower can go on with the slot
        if not job.answer(self.core):
            self._after(job, index)

    def offer(self, index: int) -> bool:
        """Has a slot checked that nobody has asked for, if a worker is free."""
        return bool(self.manager.checkers.offer(self.keep_alive, index))

    def keep_alive(self, index: int) -> None:
        """On a worker: the check of a slot that nobody has asked for."""
        job = _core.Job()
        self.deadlines.begin(index, self.manager.checkers)
        self._run(job, index)
        self.deadlines.end(index)
        self._after(job, index)
        self.manager.maintenance.was_kept_alive(index)

    def begin(self, index: int, checks: CheckRound) -> None:
        """Have a slot checked that may be idle, for ``check_idle``.  In a caller's thread."""
        self.manager.checkers.hand_over(self._check_idle, index, checks)

    def _check_idle(self, index: int, checks: CheckRound) -> None:
        """On a worker."""
        closed = False
        try:
            if not self.core.closed and self.core.claim(index):
                closed = self._check_claimed(index)
        finally:
            checks.ended(closed)

    def _check_claimed(self, index: int) -> bool:
        """Check a slot that is the caller's, if it need not go anyway; whether it was closed."""
        checkers = self.manager.checkers
        why, _ = self.look(index)
        if why is not None:
            self.manager.closing.on(checkers, index, why)
            return True
        job = _core.Job()
        self.deadlines.begin(index, checkers)
        self._run(job, index)
        self.deadlines.end(index)
        return self._after(job, index)

    def _run(self, job: _core.Job, index: int) -> None:
        resource = self.core.item(index)
        try:
            assert self.hook is not None
            job.result = self.hook(resource)
        except BaseException as error:
            job.error = error
        self.core.generation(index)  # raises in a child that the hook has forked off

    def _after(self, job: _core.Job, index: int) -> bool:
        """A check without a borrower: the resource goes back to the others, or is closed; whether
        that."""
        closing, checkers = self.manager.closing, self.manager.checkers
        self.core.freshen(index)
        if self._failed(job):
            closing.on(checkers, index, "check")
        elif self.core.publish(index, used=False):
            self.manager.on_idle()
            self.manager.notify_changed()
            return False
        else:
            closing.on(checkers, index, self.manager.reject_reason(index))
        return True

    @staticmethod
    def _failed(job: _core.Job) -> bool:
        return job.error is not None or (job.result is not None and not job.result)

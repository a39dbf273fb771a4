"""The slow path of a return: the resource is reset and looked at, and then idle or closed."""

from __future__ import annotations

from _contextvars import copy_context

from .. import _reports
from .._runtime.threads import on_loop
from ..errors import WARNINGS_PAGE, with_page
from ._broken import are_exceptions, evidence, matches_any
from ._closing import Closing
from ._hook_deadlines import HookDeadlines
from ._lease_tracking import LeaseTracking
from ._listeners import notify_listeners
from ._maintenance import Maintenance
from ._state import PoolState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .._runtime.threads import ThreadGroup

__all__ = ["Returning"]


class Returning(PoolState):
    """The returns of a pool.  ``index``: the number of a slot, valid for whoever owns the slot."""

    deadlines: HookDeadlines
    tracking: LeaseTracking
    closing: Closing
    maintenance: Maintenance
    offload_threads: ThreadGroup  # what tasks have run off the loop

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

    def sweep(self, later: bool = False) -> None:
        """Closes everything idle, in this thread or on workers."""
        self.closing.sweep(later)

"""Closing resources: the hook, once and no more, and then the slot is free.

In the thread that gives a resource up, or on the pool's ``closers`` for what nobody gives up in
person: what expired, was lost, or belongs to a pool that was collected.
"""

from __future__ import annotations

from _contextvars import copy_context
from operator import methodcaller

from .. import _core
from .._runtime.threads import on_loop
from ._listeners import notify_listeners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._runtime.threads import ThreadGroup
    from ._manager import Manager

__all__ = ["Closing"]

_close = methodcaller("close")  # in C: no signal handler runs between the decision and the call


class Closing:
    """Keeps nothing of its own: the slot says how far its closing has come.  ``why``: a reason of
    ``PoolStats.closed``."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.core = manager.core
        self.hook = manager.hooks.close
        self.deadlines = manager.deadlines

    def here(self, index: int, why: str, workers: ThreadGroup | None = None) -> None:
        """Closes a CHECKING slot's resource in this thread, or on a worker if that is an event
        loop's; its slot is free when that is done.  ``workers``: whose thread this is, None for a
        caller's."""
        if workers is None and on_loop():
            self.soon(index, why)
        elif self.core.retire(index):
            self.finish(index, why, workers)

    def finish(
        self, index: int, why: str, workers: ThreadGroup | None = None, use: int | None = None
    ) -> None:
        """A CLOSING slot: the hook, unless an interrupted call has got to it already; then the
        slot.  ``use``: of the slot, when this was decided."""
        core, hook = self.core, self.hook
        if use is None:
            use = core.generation(index)
        elif not core.is_ending(index, use):  # for an interrupted caller, who was at it already
            return
        failure = None
        try:
            if hook is None and hasattr(core.item(index), "close"):
                hook = _close
            if hook is not None:
                self.deadlines.begin(index, workers)
                if not copy_context().run(_core.close_resource, core, index, hook, use):
                    return
        except Exception as error:
            failure = error
        finally:
            self.deadlines.end(index)  # before the slot is free: then the number is another's
        freed = core.free(index, why, use)
        if failure is not None:
            self.manager.log("close failed", failure)
        if freed:
            notify_listeners(self.manager, "closed", why)

    def on(self, workers: ThreadGroup, index: int, why: str) -> None:
        """In a thread of the pool: whatever the hook raises, the slot is free in the end."""
        try:
            self.here(index, why, workers)
        except BaseException as failure:  # from the hook; where a borrower closes, it is theirs
            self.finish(index, why, workers)
            self.manager.log("close failed", failure)

    def soon(self, index: int, why: str) -> None:
        """The same on a worker, for a caller: it has no threads to start."""
        closers = self.manager.closers
        closers.hand_over(self.on, closers, index, why)

    def later(self, index: int, why: str) -> None:
        """The same on a worker, for what nobody gives up in person.  In threads of the pool."""
        closers = self.manager.closers
        job = self.on, closers, index, why
        if self.manager.orphaned:  # the threads are those of all such pools, the context is its own
            closers.submit(self.manager.options.context.copy().run, *job)
        else:
            closers.submit(*job)

    def rescue(self, index: int, why: str, of: int | None = None) -> None:
        """On the scheduler's thread: a slot whose owner did not get to the end of what it was
        doing.  ``of``: in this use of the slot."""
        closers = self.manager.closers
        use = self.core.generation(index)
        if of is not None and of != use:  # it has been seen to
            return
        state = self.core.slot(index)[1]
        if state == "checking":
            self.manager.tracking.forget(index)
            self.later(index, why)
        elif state == "creating":  # of a borrower who called the factory
            self.core.free(index, None, use)
        elif state == "closing":
            closers.submit(self.finish, index, why, closers, use)

    def sweep(self, later: bool = False) -> None:
        """Closes everything idle of a pool that is closed, in this thread or on workers."""
        _core.end_idle([(self.core, self.later if later else self.here)], "closed")

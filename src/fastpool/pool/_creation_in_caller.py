"""Opening resources in the threads of borrowers: ``create_in="caller"``.

A borrower for whom nothing is idle calls the factory itself, in its own thread and context, if a
permit is free (``max_creating``) and nobody is before it in the queue.  Else it waits in the queue,
and gets what comes first: a resource that came back, or a permit.  A permit is delivered as a
failure is, to the head of the queue or to a caller on its way there.  A task, whose loop the
factory would stop, has a worker use it.  What nobody waits for is opened on workers, as ever.
"""

from __future__ import annotations

import time

from .. import _blocking, _core, _reports
from .._runtime import scheduler
from ._creation import Creator
from ._listeners import notify_listeners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._manager import Manager

__all__ = ["CallerCreator"]


class Token:
    """What a borrower has of a permit.  Dropped, by whoever's wait has ended by something else at
    that moment, it gives the permit back."""

    __slots__ = ("creator", "number")

    def __init__(self, creator: CallerCreator, number: int) -> None:
        self.creator, self.number = creator, number

    def __del__(self) -> None:
        if self.number in self.creator.granted:
            scheduler.call_soon(self.creator.take_back, self.number)


class CallerCreator(Creator):
    """A Creator whose borrowers call the factory; see the module."""

    in_caller = True

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager)
        self.granted: set[int] = set()  # permits on their way to a borrower, who begins at once
        self._number = 0

    def create_in_caller(self, guard: _core.SlotGuard, permit: Any = None) -> bool:
        """Open a resource in this thread, as the borrower's; False: no permit is free, or no slot.

        ``permit``: a Token; None: it has not been in the queue, and others who have go first.
        Raises what the factory raises.  A signal handler that raises loses nothing: what is guarded
        goes back when the guard is dropped.
        """
        number = None if permit is None else permit.number
        manager = self.manager
        if not manager.lock.run(_core.reserve_in_caller, manager.core, guard, self, number):
            return False
        self._create(guard)
        return True

    def _create(self, guard: _core.SlotGuard) -> None:
        """The slot is guarded."""
        manager, core = self.manager, self.manager.core
        start = time.monotonic()
        error: BaseException | None = None
        try:
            _blocking.before_wait(manager.name, _blocking.ACQUIRE)
            _core.create_in_caller(core, guard, manager.hooks.create, self.refuse, self.lifetime())
            took = time.monotonic() - start
            core.count_created(took)
        except BaseException as failure:
            error = failure
            # before others are looked for: they may have the slot
            _core.free_in_caller(core, guard)
            core.count("create_failures")
            raise
        finally:
            scheduler.call_soon(self._over, error)
            if error is not None:
                _reports.note(error, f"raised by the factory of fastpool {manager.name!r}")
                notify_listeners(manager, "create_failed", error)
                error = None  # or this frame and the exception refer to each other
        manager.notify_changed()
        manager.maintenance.opened(guard.index)
        notify_listeners(manager, "created", took)

    def _over(self, error: BaseException | None) -> None:
        """On the scheduler's thread: a borrower has called the factory, and its permit is free."""
        self.note(error)
        self.refill()

    def take_back(self, number: int) -> None:
        """On the scheduler's thread: a permit was not used."""
        with self.manager.lock.hold():
            self.granted.discard(number)
            self.start()

    def create_for_task(self, permit: Token) -> None:
        """On the scheduler's thread: a worker uses the permit of a task."""
        with self.manager.lock.hold():
            self.granted.discard(permit.number)
            if self._free() > 0:
                self.attempt()

    def permits(self) -> float:
        return self.most - _core.creating_in_caller(self.manager.core)

    def worker_goal(self, background_demand: int) -> int:
        return background_demand

    def start(self) -> None:
        """Start what workers are to open, and give the permits that are left to those who wait."""
        core = self.manager.core
        with self.manager.lock.hold():
            super().start()
            free = self._free()
            while free > 0 and self.has_capacity() and core.demand > core.in_flight:
                self._number += 1
                token = Token(self, self._number)
                self.granted.add(token.number)  # first: who gets it may be quick
                if not _core.fail_waiter(core, core.assign(), _core.Permit(token)):
                    self.granted.discard(token.number)
                    return  # the one caller on its way has one already
                free -= 1

    def _free(self) -> float:
        """Permits that nobody has."""
        return self.permits() - self.manager.core.in_flight - len(self.granted)

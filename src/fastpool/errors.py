"""What fastpool raises.  All of it pickles."""

from __future__ import annotations

import queue
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "EventLoopWarning",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolInterrupted",
    "PoolOverloaded",
    "PoolTimeout",
    "ShutDown",
]

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """A queue was shut down; ``queue.ShutDown`` from Python 3.13 on."""

        __module__ = "fastpool"


class EventLoopWarning(RuntimeWarning):
    """A plain call waits in a thread whose event loop is running, and stops it."""

    __module__ = "fastpool"


WARNINGS_PAGE = "docs/errors/warnings.md"


def with_page(text: str, page: str) -> str:
    """A message, ended by the page that explains it; on a line of its own where there are several.

    Called when a message is shown, not when an exception is made.
    """
    return f"{text}\n  see {page}" if "\n" in text else f"{text}; see {page}"


class PoolError(Exception):
    """Base of all errors of a pool; ``.pool`` is its name.

    ``.page`` is the file of the documentation that explains it; its text ends with that.
    """

    __module__ = "fastpool"

    page = "docs/errors/pool-error.md"

    def __init__(self, pool: str, text: str) -> None:
        super().__init__(pool, text)
        self.pool = pool
        self.text = text

    def __str__(self) -> str:
        return with_page(f"{self.pool}: {self.text}", self.page)


class PoolTimeout(PoolError, TimeoutError, queue.Empty):
    """No resource within the time allowed.

    ``.phase`` is "wait" (all were lent), "create" (one was being made, or could be), "check", or
    "budget" (one could have been made, had its budget had a permit: ``.budget`` says who has them);
    ``.waited`` seconds; ``.sizes`` maps idle, leased, creating, checking, closing, open, maxsize
    and waiting to their numbers when time ran out (of a semaphore: wanted, size, in_use and
    waiting), or, in a pool with more than 1,000 open, when they are first looked at;
    ``__cause__`` is the factory's last failure, if there was one.
    """

    __module__ = "fastpool"

    def __init__(
        self,
        pool: str,
        phase: str,
        waited: float,
        sizes: dict[str, int] | Callable[[], dict[str, int]],
        holders: tuple[object, ...] = (),
    ) -> None:
        Exception.__init__(self, pool, phase, waited)
        self.pool = pool
        self.phase = phase
        self.waited = waited
        self.budget: object = None  # a BudgetStats, with the phase of that name
        self._sizes = sizes  # a callable: to be counted on first look, which takes its time
        self.holders = holders

    def __reduce__(self) -> tuple[Any, ...]:
        args = (self.pool, self.phase, self.waited, self.sizes, self.holders)
        return type(self), args, self.__dict__

    @property
    def page(self) -> str:  # type: ignore[override]
        """The file of the documentation that explains it: one for each phase."""
        return f"docs/errors/pool-timeout-{self.phase}.md"

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers by name; see the class."""
        if callable(self._sizes):
            self._sizes = self._sizes()
        return self._sizes

    @property
    def text(self) -> str:  # type: ignore[override]
        """The message without the pool's name; made when it is shown."""
        n = self.sizes
        if "wanted" in n:
            return (
                f"no {n['wanted']} units within {self.waited:.3g} s; {n['in_use']} of {n['size']} "
                f"in use, {n['waiting']} waiting"
            )
        cap = n.get("maxsize") or "unbounded"
        beside = [] if self.budget is None else [str(self.budget)]
        beside += [f"held by {holder}" for holder in self.holders]
        if "slots" in n:
            return "\n  ".join([self._shared(n, cap), *beside])
        text = (
            f"no resource within {self.waited:.3g} s (phase: {self.phase}); "
            f"{n.get('idle', 0)} idle, {n.get('leased', 0)} leased, "
            f"{n.get('creating', 0)} creating of maxsize {cap}, {n.get('waiting', 0)} waiting"
        )
        return "\n  ".join([text, *beside])

    def _shared(self, n: dict[str, int], cap: object) -> str:
        return (
            f"no slot within {self.waited:.3g} s (phase: {self.phase}); {n['leases']} leases on "
            f"{n['open']} resources of at most {cap}, {n['slots']} slots each, "
            f"{n['creating']} creating, {n['waiting']} waiting"
        )


class PoolClosed(PoolError, ShutDown):
    """The pool is closed, or was closed while the caller waited."""

    __module__ = "fastpool"

    page = "docs/errors/pool-closed.md"


class PoolOverloaded(PoolError):
    """More than ``max_waiting`` callers would wait."""

    __module__ = "fastpool"

    page = "docs/errors/pool-overloaded.md"


class PoolInterrupted(PoolError):
    """The wait was ended by ``flush`` or ``suspend`` with ``fail_waiters=True``."""

    __module__ = "fastpool"

    page = "docs/errors/pool-interrupted.md"


class PoolDeadlock(PoolError):
    """The caller would wait while its own ``with`` blocks hold every resource of the pool."""

    __module__ = "fastpool"

    page = "docs/errors/pool-deadlock.md"

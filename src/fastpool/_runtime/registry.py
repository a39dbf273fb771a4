"""All pools of the process, for whoever looks at them: ``fastpool.pools()``.

Each is entered when it is made, by a weak reference, and never again touched: it costs its user
nothing.  What is done to the table is one step of a dict each, so finalisers, signal handlers and
other threads may do it at any moment.
"""

from __future__ import annotations

from _weakref import ref
from itertools import count

from .. import _core, _reports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["enter", "follow", "pools"]

_number = count().__next__
_entries: dict[int, Callable[[], Any]] = {}  # by age
_followers: dict[int, Callable[[Any], object]] = {}


def enter(pool: Any) -> None:
    """List a pool from here on, until it is collected."""
    number = _number()
    _entries[number] = ref(pool, lambda gone: _entries.pop(number, None))
    for call in list(_followers.values()):
        try:
            call(pool)
        except Exception as error:  # the pool is good, and its maker's
            _reports.warn("%s: a follower of pools raised", pool.name, error=error)


def follow(call: Callable[[Any], object]) -> Callable[[], None]:
    """Have ``call(pool)`` made with every pool, semaphore and worker pool that is made from now on,
    by the thread that makes it; returns what ends that.

    What it raises is logged.  Thread-safe; it is kept, and what it refers to, until it is ended.
    """
    number = _number()
    _followers[number] = call

    def end() -> None:
        _followers.pop(number, None)

    return end


def pools() -> list[Any]:
    """All pools, semaphores and worker pools of this process that are alive, in the order in which
    they were made: ``FastPool``, ``SharedPool``, ``KeyedPool``, ``WeightedSemaphore``,
    ``WorkerPool`` and ``TaskPool``; closed ones too.

    Thread-safe.  They are known by weak references: none lives any longer for being listed, but for
    those in a list that was returned.
    """
    found = [entry() for entry in list(_entries.values())]
    return [pool for pool in found if pool is not None]


_core.bind_registry(enter)

"""Telling others what goes on in a pool: ``add_listener``.

Listeners are called where it happens: in the thread or task of the borrower, or on a worker of the
pool.  Never under a lock, and never on the scheduler, which has a worker call them; and only when
all is done that others depend on.  A pool without listeners asks one attribute, where it is slow
anyway.
"""

from __future__ import annotations

import weakref

from .. import _core, _reports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["EVENTS", "Listeners", "add", "notify_in_worker", "notify_listeners", "remove"]

#: What may be told, and by which method of a listener.
EVENTS = ("created", "closed", "acquired_after_wait", "timed_out", "create_failed", "used")


class Listeners:
    """Of one pool, which it does not keep alive."""

    def __init__(self, pool: Any) -> None:
        self.pool = weakref.ref(pool)
        self.all: dict[int, Any] = {}  # by id; changed by `_core.listen_all`

    def call(self, event: str, args: tuple[Any, ...]) -> None:
        """Tell all of them; what they raise is logged."""
        pool = self.pool()
        if pool is None:
            return
        for listener in list(self.all.values()):
            method = getattr(listener, event, None)
            if method is None:
                continue
            try:
                method(pool, *args)
            except Exception as error:
                text = "%s: a listener raised in %s()"
                _reports.warn(text, pool.name, event, error=error)


def notify_listeners(manager: Any, event: str, *args: Any) -> None:
    """Call the listeners, in a thread that may run users' code and holds no lock."""
    listeners = manager.listeners
    if listeners is not None:
        listeners.call(event, args)


def notify_in_worker(manager: Any, event: str, *args: Any) -> None:
    """Have a worker call them: on the scheduler, or under a lock."""
    listeners = manager.listeners
    if listeners is not None and listeners.all:
        manager.offload_threads.submit(listeners.call, event, args)


def add(manager: Any, cores: dict[Any, _core.Core], pool: Any, listener: Any) -> None:
    """See ``FastPool.add_listener``.  ``cores``: of the parts of the pool, if it has any."""
    if not any(callable(getattr(listener, event, None)) for event in EVENTS):
        raise TypeError(
            f"{manager.name}: add_listener: a listener has some of the methods "
            f"{', '.join(EVENTS)}, and this one none: {_reports.shown(listener, 80)}"
        )
    known: Listeners = manager.__dict__.setdefault("listeners", Listeners(pool))
    # one step, which no signal handler splits, nor a part that is just made
    manager.lock.run(_core.listen_all, manager.core, cores, known.all, id(listener), listener)


def remove(manager: Any, cores: dict[Any, _core.Core], listener: Any) -> None:
    """See ``FastPool.remove_listener``."""
    known, change = manager.listeners, _core.listen_all
    if (
        known is None
        or manager.lock.run(change, manager.core, cores, known.all, id(listener), None) is None
    ):
        raise ValueError(
            f"{manager.name}: remove_listener: it is none of the pool's listeners: "
            f"{_reports.shown(listener, 80)}"
        )

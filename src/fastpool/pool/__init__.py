"""FastPool, configured: what stands between its options and the manager that keeps them.

The compiled type asks ``configure`` once, at construction.  Fork and interpreter exit, which
concern all pools of the process, are seen to here.
"""

from __future__ import annotations

import atexit
import os
import sys
from _weakrefset import WeakSet

from .. import _blocking, _core
from .._aio import methods
from .._core import FastPool, Lease
from .._runtime import scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._options import Options

__all__ = ["FastPool", "Lease"]

INF = float("inf")

_managers: WeakSet[Any] = WeakSet()


def configure(core: _core.Core, maxsize: Any, given: dict[str, Any]) -> tuple[int, str]:
    """What ``FastPool.__init__`` does, apart from allocating the core; the maxsize and the name."""
    from ._options import parse  # with the first one, as all of this: the import is to be quick

    o = parse(maxsize, UNSET, given)
    lifo, fair = o.order == "lifo", o.fairness == "fair"
    timeout = None if o.timeout == INF else o.timeout
    if not o.pool_use:
        core.set_queue(lifo, fair, o.maxsize or INF, timeout, o.max_waiting)
        return o.maxsize, o.name
    manager = _manager_of(core, o)
    _take_in(core, o)
    adopt(manager)
    if o.open:
        from ._opening import begin

        begin(manager)
    return o.maxsize, o.name


def adopt(manager: Any) -> None:
    """From here on fork, interpreter exit and a manual clock see to this pool."""
    clock = manager.options.clock
    if manager.options.open:
        scheduler.start()
    _managers.add(manager)
    if clock is not None and hasattr(clock, "managers"):
        clock.managers.add(manager)


def _manager_of(core: _core.Core, options: Options) -> Any:
    """Set up and bound to the core: one for the pool, or with an async factory one per loop."""
    if options.hooks.awaits:
        from ._per_loop import PerLoopManager

        return PerLoopManager(core, options)
    from ._manager import Manager

    manager = Manager(core, options)
    manager.set_core(options.maxsize or INF, options.max_waiting)
    return manager


def _take_in(core: _core.Core, options: Options) -> None:
    """The ready resources of ``items=``.  The core finds out about doubles by itself."""
    items, options.items = options.items, None  # what is discarded must not live on here
    for item in items or ():
        index = core.reserve()
        if not core.fill(index, item, INF):
            core.free(index)
            core.drop_manager()  # no pool comes of it, and the items are the caller's still
            from ._options import bad_items

            raise bad_items(options.name, items or [])
        core.publish(index, used=False)


UNSET = _core.bind(configure, scheduler.inbox_put())
_core.bind_waits(_blocking)
methods.install()


def _after_fork_in_child() -> None:
    scheduler.restart()
    _core.bind(configure, scheduler.inbox_put())
    managers = _core.after_fork_in_child()
    for manager in managers:
        manager.bind_to_process()
    if any(manager.options.open or not manager.unopened for manager in managers):
        scheduler.start()


def _at_exit() -> None:
    if _managers or "fastpool._runtime.shutdown" in sys.modules:  # a budget has something to do
        from .._runtime import shutdown

        shutdown.close_all(_managers)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

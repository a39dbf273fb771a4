"""Opening a pool: at once, or with ``open=False`` by ``open()`` or the first use.

Before that no thread is started and nothing is made.  Until then each get asks the manager, as it
does of a pool that dozes: see ``Maintenance.wake_up``.  Every step may be done twice, by two
threads at once or after a signal handler has raised in between; the mark is taken away last.
"""

from __future__ import annotations

from .._runtime import scheduler
from ..errors import PoolClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["begin", "open_now"]


def begin(manager: Any) -> None:
    """Start what the pool does by itself: its threads, and the resources that it keeps."""
    scheduler.start()
    if manager.to_keep():
        manager.demand_in_background(0)  # what is missing, and no more
    manager.unopened = False


def open_now(manager: Any, wait: bool, timeout: float | None) -> None:
    """See ``FastPool.open``."""
    manager.options.check_timeout("open", timeout)
    if manager.core.closed:
        raise PoolClosed(manager.name, "open: the pool is closed")
    try:
        if wait and manager.to_keep():  # first, so that it hears of what fails
            manager.warm(manager.to_keep(), timeout, False)
    finally:
        if manager.unopened:
            manager.maintenance.wake_up()

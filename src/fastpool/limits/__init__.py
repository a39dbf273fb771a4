"""Limits on what is done at once: a weighted semaphore, and pools of threads and of tasks that do
what a bounded queue holds."""

from __future__ import annotations

from .._core import SemaphoreHold, WeightedSemaphore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._task_pool import TaskPool
    from ._worker_pool import WorkerPool, WorkerStats
else:

    def __getattr__(name):  # these need concurrent.futures, or asyncio
        if name == "TaskPool":
            from ._task_pool import TaskPool

            return TaskPool
        if name in ("WorkerPool", "WorkerStats"):
            from . import _worker_pool

            return getattr(_worker_pool, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["SemaphoreHold", "TaskPool", "WeightedSemaphore", "WorkerPool", "WorkerStats"]

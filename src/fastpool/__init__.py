"""fastpool: one pool for what services share: connections, clients, buffers, work."""

from os import environ as _environ

from ._runtime.registry import pools
from .cache import ObjectCache
from .errors import (
    EventLoopWarning,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolInterrupted,
    PoolOverloaded,
    PoolTimeout,
)
from .keyed import KeyedLease, KeyedPool
from .limits import SemaphoreHold, WeightedSemaphore
from .pool import FastPool, Lease
from .shared import SharedLease, SharedPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._protocols import AsyncFactory, AsyncKeyedFactory, Factory, KeyedFactory
    from .debug import dump
    from .limits import TaskPool, WorkerPool
    from .pool._broken import is_broken
else:

    def __getattr__(name):  # the protocols need typing, which nothing else here does
        if name in ("AsyncFactory", "AsyncKeyedFactory", "Factory", "KeyedFactory"):
            from . import _protocols

            return getattr(_protocols, name)
        if name in ("TaskPool", "WorkerPool"):  # these need asyncio and concurrent.futures
            from . import limits

            return getattr(limits, name)
        if name == "dump":
            from .debug import dump

            return dump
        if name == "is_broken":  # the tables of all drivers
            from .pool._broken import is_broken

            return is_broken
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"
__all__ = [
    "AsyncFactory",
    "AsyncKeyedFactory",
    "EventLoopWarning",
    "Factory",
    "FastPool",
    "KeyedFactory",
    "KeyedLease",
    "KeyedPool",
    "Lease",
    "ObjectCache",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolInterrupted",
    "PoolOverloaded",
    "PoolTimeout",
    "SemaphoreHold",
    "SharedLease",
    "SharedPool",
    "TaskPool",
    "WeightedSemaphore",
    "WorkerPool",
    "dump",
    "is_broken",
    "pools",
]

if "FASTPOOL_DEBUG_SOCKET" in _environ:
    from .debug import serve_by_environment

    serve_by_environment()

"""fastpool: one pool for what services share: connections, clients, buffers, work."""

from .errors import PoolClosed, PoolDeadlock, PoolError, PoolOverloaded, PoolTimeout
from .pool import FastPool, Lease

__version__ = "0.1.0"
__all__ = [
    "FastPool",
    "Lease",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolOverloaded",
    "PoolTimeout",
]

"""FastPool as psycopg's connection pool: one import in the place of another.

    from fastpool.contrib.psycopg import AsyncConnectionPool, ConnectionPool

Both are drop-ins for the classes of ``psycopg_pool``, and subclasses of them: same options,
methods, statistics and log lines, and the exceptions are those of ``psycopg_pool``.  What is new:
who waits is told why it got nothing; ``pool.fastpool`` has ``stats()`` and ``leases()``; a block
that is dropped half-way loses no connection; a forked child begins with an empty pool; an
asynchronous pool may be used on several event loops, at once or one after the other.
"""

from __future__ import annotations

try:
    import psycopg_pool
except ImportError as error:
    raise ImportError(
        "fastpool.contrib.psycopg needs psycopg_pool 3.3 or newer: pip install 'fastpool[psycopg]'"
    ) from error

from ._tasks import AsyncConnectionPool
from ._threads import ConnectionPool

PoolClosed = psycopg_pool.PoolClosed
PoolTimeout = psycopg_pool.PoolTimeout
TooManyRequests = psycopg_pool.TooManyRequests

__all__ = [
    "AsyncConnectionPool",
    "ConnectionPool",
    "PoolClosed",
    "PoolTimeout",
    "TooManyRequests",
]

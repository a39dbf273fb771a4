"""FastPool as the connection pool of SQLAlchemy: one argument of ``create_engine``.

    create_engine(url, plugins=["fastpool"])        # or ?plugin=fastpool in the URL
    create_engine(url, poolclass=FastQueuePool)
    create_async_engine(url, poolclass=AsyncFastQueuePool)

Both are drop-ins for ``QueuePool`` and ``AsyncAdaptedQueuePool``: same options, methods, events,
exceptions and logging; reset, pre-ping, recycling and invalidation are SQLAlchemy's own.  What is
new: whoever waits is served in turn; ``pool.fastpool`` has ``stats()`` and ``leases()``; an
asynchronous engine may be used on several event loops, at once or one after the other; a forked
child begins with an empty pool.
"""

from __future__ import annotations

try:
    import sqlalchemy  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastpool.contrib.sqlalchemy needs SQLAlchemy 2.0.36 or newer: "
        "pip install 'fastpool[sqlalchemy]'"
    ) from error

from ._async_queue_pool import AsyncFastQueuePool
from ._plugin import Plugin
from ._queue_pool import FastQueuePool

__all__ = ["AsyncFastQueuePool", "FastQueuePool", "Plugin"]

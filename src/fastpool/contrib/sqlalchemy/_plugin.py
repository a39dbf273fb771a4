"""The entry point ``fastpool`` of SQLAlchemy's plugins."""

from __future__ import annotations

from sqlalchemy.engine import CreateEnginePlugin
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from ._async_queue_pool import AsyncFastQueuePool
from ._queue_pool import FastQueuePool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.engine import URL

__all__ = ["Plugin"]

#: The pools of SQLAlchemy that have a drop-in here.
OURS = {QueuePool: FastQueuePool, AsyncAdaptedQueuePool: AsyncFastQueuePool}


class Plugin(CreateEnginePlugin):
    """``create_engine(url, plugins=["fastpool"])``: an engine that would have had a ``QueuePool``
    or ``AsyncAdaptedQueuePool`` gets ours.  One with another kind of pool, as SQLite in memory,
    keeps that, as does one that was given ``pool=``."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        if kwargs.get("pool") is not None:
            return
        kind = kwargs.get("poolclass")
        if kind is None:
            kind = url.get_dialect(kwargs.get("_is_async", False)).get_pool_class(url)
        if kind in OURS:
            kwargs["poolclass"] = OURS[kind]

    def update_url(self, url: URL) -> URL:
        """The URL as it is: nothing in it is ours."""
        return url

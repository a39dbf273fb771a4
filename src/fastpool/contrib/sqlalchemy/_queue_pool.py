"""The pool for threads."""

from __future__ import annotations

from sqlalchemy.pool import QueuePool

from ...errors import PoolOverloaded, PoolTimeout
from ._records import RecordPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["FastQueuePool"]


class FastQueuePool(RecordPool, QueuePool):
    """A drop-in for ``sqlalchemy.pool.QueuePool``: ``create_engine(url, poolclass=FastQueuePool)``.

    Options as there, and ``fairness="fair"``, ``max_waiting=None``, ``leak_after=None``.  The
    creator and all events run in the thread that asked, in its context.  Thread-safe.
    """

    _sqla_logger_namespace = "sqlalchemy.pool.impl.FastQueuePool"
    _create_in = "caller"

    def _do_get(self) -> Any:
        try:
            lease = self._pool.acquire()
        except (PoolTimeout, PoolOverloaded) as error:
            raise self._refusal(error) from error
        record = lease.resource
        record.fastpool_lease = lease
        return record

    def _return_conn(self, record: Any) -> None:
        """``_do_return_conn``, without that call between: each is a hundredth of a checkout."""
        if self._pool_size and len(self._open) > self._pool_size:
            self._return_or_close(record)
        else:
            record.fastpool_lease.release()

    def _new_record(self) -> Any:
        record = self._create_connection()
        self._open.add(record)
        return record

    def _close_record(self, record: Any) -> None:
        self._open.discard(record)
        record.close()

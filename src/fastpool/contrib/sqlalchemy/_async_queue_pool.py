"""The pool for tasks."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop

from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.pool.base import _ConnectionRecord

from ...errors import PoolError, PoolOverloaded, PoolTimeout
from ._await import await_, begin, greenlet_spawn, in_greenlet
from ._records import RecordPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["AsyncFastQueuePool"]

# Seconds that a new record may take where the wait has a shorter timeout: nothing is connected yet.
NEW_RECORD = 5.0


class Discard(Exception):
    """Ends a lease whose record is not to be kept."""


class AsyncFastQueuePool(RecordPool, AsyncAdaptedQueuePool):
    """A drop-in for ``sqlalchemy.pool.AsyncAdaptedQueuePool``.

    Options as there, and ``fairness="fair"``, ``max_waiting=None``, ``leak_after=None``.  Tasks of
    several event loops, at once or one after the other, share its one limit; each connection stays
    with the loop that opened it.  It is opened, and events run, in the task that asked.
    """

    _sqla_logger_namespace = "sqlalchemy.pool.impl.AsyncFastQueuePool"

    _discard_on = (Discard,)

    def __init__(self, creator: Any, *args: Any, **kw: Any) -> None:
        self._disposals: dict[Any, asyncio.Future[None]] = {}  # who waits for a record to be closed
        super().__init__(creator, *args, **kw)

    def _do_get(self) -> Any:
        try:
            try:
                lease = begin(self._pool.aacquire())
            except PoolTimeout as error:
                if error.phase != "create":
                    raise
                lease = begin(self._pool.aacquire(NEW_RECORD))
        except (PoolTimeout, PoolOverloaded) as error:
            raise self._refusal(error) from error
        record = lease.resource
        record.fastpool_lease = lease
        if not record.starttime:  # a new one
            try:
                record.get_connection()
            except BaseException:
                self._discard(lease)
                raise
        return record

    def _sizes(self) -> tuple[int, int]:
        """Without new records: who asked for one may have been cancelled, and nothing is open."""
        stats = self._pool.stats()
        return stats.idle, stats.leased

    def _do_return_conn(self, record: Any) -> None:
        try:
            super()._do_return_conn(record)
        except PoolError:  # its event loop was closed meanwhile, and the pool has let go of it
            pass

    def _discard(self, lease: Any) -> None:
        if in_greenlet():
            await_(lease.__aexit__(Discard, Discard(), None))  # which waits until it is closed
        else:
            lease.discard()

    async def _new_record(self) -> Any:
        record = _ConnectionRecord(self, connect=False)
        record.fastpool_loop = _get_running_loop()
        self._open.add(record)
        return record

    def _close_record(self, record: Any) -> Any:
        """A coroutine, or None if the record's loop is closed: then its connection can only be
        dropped."""
        self._open.discard(record)
        return None if _get_running_loop() is None else self._close_connected(record)

    async def _close_connected(self, record: Any) -> None:
        try:
            await greenlet_spawn(record.close)
        finally:
            disposal = self._disposals.pop(record, None)
            if disposal is not None and not disposal.done():
                disposal.set_result(None)

    def _flush(self) -> None:
        """Waits for those of the running loop, as there may be no later for it; others' are closed
        by their own loops."""
        loop = _get_running_loop()
        if loop is None or not in_greenlet():
            self._pool.flush(idle_only=True)
            return
        # nobody of this loop can take one of them before they are flushed
        idle = [record for record in self._pool.queue if record.fastpool_loop is loop]
        closed = {record: loop.create_future() for record in idle}
        self._disposals.update(closed)
        self._pool.flush(idle_only=True)
        if closed:
            await_(asyncio.wait(closed.values()))

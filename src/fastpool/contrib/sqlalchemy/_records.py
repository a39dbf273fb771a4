"""What the two pools share: a FastPool of SQLAlchemy's connection records.

A record (``sqlalchemy.pool.base._ConnectionRecord``) is a place for a connection: it reconnects by
itself when its connection was invalidated or is too old.  So the FastPool under it closes nothing
by age, checks nothing and judges no exception; it lends, limits and keeps the queue of waiters.
"""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy.exc import TimeoutError as CheckoutTimeout
from sqlalchemy.pool import Pool

from ... import FastPool
from ...errors import PoolOverloaded, PoolTimeout

__all__ = ["RecordPool", "Records"]


class Records(FastPool[Any]):
    """A FastPool that says in the way of QueuePool's queue which record is next."""

    use_lifo: bool


class RecordPool(Pool):
    """The interface of ``QueuePool`` over Records; how they are made and closed is said below."""

    _pool: Records  # has of QueuePool's `_pool` what others have been seen to read

    def __init__(
        self,
        creator: Any,
        pool_size: int = 5,
        max_overflow: int = 10,
        timeout: float | None = 30.0,
        use_lifo: bool = False,
        fairness: str = "fair",
        max_waiting: int | None = None,
        leak_after: float | None = None,
        **kw: Any,
    ) -> None:
        """``creator`` to ``use_lifo``, and what is not named here: as ``QueuePool``.

        ``fairness``: "fair" serves who waits in turn, "throughput" lets newcomers in first for a
        millisecond.  ``max_waiting``: more callers than this are refused at once, with
        ``sqlalchemy.exc.TimeoutError``.  ``leak_after``: a connection held for longer, in seconds,
        is logged once with the stack that took it, and timeouts name who holds what; each checkout
        costs more then.  ValueError or TypeError for an option that cannot be.
        """
        if pool_size and max_overflow < -1:
            raise ValueError(f"max_overflow must be -1 (no limit) or more, not {max_overflow!r}")
        Pool.__init__(self, creator, **kw)  # not QueuePool's, whose queue and counters have no use
        self._pool_size = pool_size
        self._max_overflow = -1 if pool_size == 0 else max_overflow
        self._timeout = timeout
        self._more: dict[str, Any] = {
            "fairness": fairness,
            "max_waiting": max_waiting,
            "leak_after": leak_after,
        }
        self._open: set[Any] = set()  # records that are open, so that their number is had cheaply
        self._overflow_lock = threading.RLock()  # a finaliser may return one in the middle
        self._pool = Records(
            0 if self._max_overflow == -1 else pool_size + max_overflow,
            factory=self._new_record,
            close=self._close_record,
            timeout=timeout,
            order="lifo" if use_lifo else "fifo",
            create_in=self._create_in,
            max_creating=None,
            idle_timeout=None,
            max_lifetime=None,
            discard_on=self._discard_on,
            warn_unclosed=False,  # engines are dropped all the time
            name=self._orig_logging_name,
            **self._more,
        )
        self._pool.use_lifo = use_lifo

    _create_in: Any = "worker"
    _discard_on: Any = None

    def _new_record(self) -> Any:
        raise NotImplementedError

    def _close_record(self, record: Any) -> Any:
        raise NotImplementedError

    # ---- returning -----------------------------------------------------------------------------

    def _do_return_conn(self, record: Any) -> None:
        if self._pool_size and len(self._open) > self._pool_size:
            self._return_or_close(record)
        else:
            record.fastpool_lease.release()

    def _return_or_close(self, record: Any) -> None:
        """More are open than ``pool_size``."""
        with self._overflow_lock:  # of two that come back at once, one may be too many
            if self._pool.qsize() < self._pool_size:
                record.fastpool_lease.release()
                return
        try:
            record.close()  # here, as QueuePool does, and whatever that raises is the caller's
        finally:
            self._discard(record.fastpool_lease)

    def _discard(self, lease: Any) -> None:
        """Its record is closed already; when this returns the place is free, if that can be."""
        lease.discard()

    # ---- lifecycle -----------------------------------------------------------------------------

    def recreate(self) -> Any:
        """A new pool with the same options, and nothing open."""
        self.logger.info("Pool recreating")
        return self.__class__(
            self._creator,
            pool_size=self._pool_size,
            max_overflow=self._max_overflow,
            pre_ping=self._pre_ping,
            use_lifo=self._pool.use_lifo,
            timeout=self._timeout,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
            **self._more,
        )

    def dispose(self) -> None:
        """Closes what is idle now; what is checked out is left alone."""
        self._flush()
        self.logger.info("Pool disposed. %s", self.status())

    def _flush(self) -> None:
        self._pool.flush(idle_only=True)

    # ---- what goes on in it --------------------------------------------------------------------

    @property
    def fastpool(self) -> FastPool[Any]:
        """The FastPool of connection records, for ``stats()``, ``leases()`` and metrics.  Nothing
        is to be taken from it by other ways than this pool's."""
        return self._pool

    def _sizes(self) -> tuple[int, int]:
        """How many are idle, and how many are lent or being opened for somebody."""
        stats = self._pool.stats()
        return stats.idle, stats.leased + stats.creating

    def status(self) -> str:
        idle, lent = self._sizes()
        return (
            f"Pool size: {self.size()}  Connections in pool: {idle} "
            f"Current Overflow: {self._overflow_of(idle + lent)} Current Checked out connections: "
            f"{lent}"
        )

    def size(self) -> int:
        """``pool_size``."""
        return self._pool_size

    def timeout(self) -> float | None:
        """Seconds that a checkout waits; None: for ever."""
        return self._timeout

    def checkedin(self) -> int:
        """How many are idle."""
        return self._pool.qsize()

    def checkedout(self) -> int:
        """How many are lent."""
        return self._sizes()[1]

    def overflow(self) -> int:
        """How many more are open than ``pool_size``; below 0 while fewer are."""
        return self._overflow_of(sum(self._sizes()))

    @property
    def _overflow(self) -> int:
        """What others have been seen to read of QueuePool."""
        return sum(self._sizes()) - self._pool_size

    def _overflow_of(self, opened: int) -> int:
        return opened - self._pool_size if self._pool_size else 0

    def _refusal(self, error: PoolTimeout | PoolOverloaded) -> CheckoutTimeout:
        """SQLAlchemy's error for a caller who gets nothing; ``error`` becomes its cause."""
        if isinstance(error, PoolOverloaded):
            return CheckoutTimeout(f"QueuePool: {error}", code="3o7r")
        wait = "for ever" if self._timeout is None else f"{self._timeout:0.2f}"
        text = (
            f"QueuePool limit of size {self.size()} overflow {self.overflow()} reached, "
            f"connection timed out, timeout {wait}"
        )
        return CheckoutTimeout(text, code="3o7r")

"""The connections that calls of one kind go over, as threads and tasks alike keep them.

The pool lends slots of connections; here it is said which connections get fewer calls or none, and
which take their place.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import grpc

from .. import PoolClosed, SharedPool
from .._core import order_by_deadline
from ._addresses import Addresses
from ._channel_key import Key
from ._outliers import Outliers

CONNECT_TIMEOUT = 20.0  # seconds that one more connection has; grpc's own for one attempt
MOST_STREAMS = 2**30  # of a connection without a cap

UNAVAILABLE, EXPIRED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED
# What says that the connection or its backend is ill.
ILL = (UNAVAILABLE, EXPIRED, grpc.StatusCode.INTERNAL)


class NotConnected(Exception):
    """One more connection could not be made; those that there are go on."""


class Addressed(Protocol):
    address: str | None


C = TypeVar("C", bound=Addressed)


class ConnectionSet(Generic[C]):
    """Connections of one target, and the pool that lends them. From any thread."""

    key: Key
    addresses: Addresses
    outliers: Outliers
    silence: Any  # its `suspect` is told of connections that may be dead
    pool: SharedPool[C]
    most: int  # connections at once

    @abstractmethod
    def connected(self) -> list[C]:
        """Those of the main pool that are open."""

    @abstractmethod
    def make_at(self, address: str) -> C:
        """One more, to this address; not connected yet."""

    @abstractmethod
    def admit(self, connection: C) -> None:
        """It is one of those there are."""

    @abstractmethod
    def discard(self, connection: C) -> None:
        """Ends it, and what runs on it. Idempotent."""

    @abstractmethod
    def disconnect(self, connection: C) -> None:
        """Closes it, and cancels the calls that run on it."""

    def pool_of(self, connection: C) -> SharedPool[C]:
        return self.pool

    def make_pool(
        self,
        factory: Callable[[], C],
        kind: str,
        most: int,
        max_waiting: int | None = None,
    ) -> SharedPool[C]:
        o = self.key.parameters
        pool = SharedPool(
            factory,
            name=f"grpc {self.key.target}{kind}",
            items=(0, most),
            slots=o.streams or MOST_STREAMS,
            timeout=None,
            max_waiting=max_waiting,
            shrink_after=o.shrink_after,
            max_lifetime=o.max_age,
            idle_timeout=None,
            drain_timeout=o.drain_timeout,
            abort=None if o.drain_timeout is None else self.abort,
            close=self.discard,
            discard_on=None,
            penalize_on=None,
        )
        if o.queue_order == "deadline":
            order_by_deadline(pool)
        return pool

    def take_in(self, connection: C) -> None:
        """A connection that no factory made; discarded if the pool is full or closed."""
        self.admit(connection)
        if not self.pool.add(connection):
            self.discard(connection)

    def elsewhere(self, ill: C) -> None:
        """All that there are say that they cannot serve: one more to a server that was not asked
        yet, if there is one; at the cap it replaces this one."""
        free = self.addresses.free(each.address for each in self.connected())
        if free is None or self.pool.closed:
            return
        more = self.make_at(free)
        if self.pool.stats().open >= self.most:
            self.drain(ill)
        self.take_in(more)

    def abort(self, connection: C) -> None:
        """Its calls have had their time to drain."""
        logging.getLogger("fastpool").warning(
            "grpc %s: calls still run on a connection that was to drain within %g s; they are"
            " cancelled",
            self.key.target,
            self.key.parameters.drain_timeout,
        )
        self.disconnect(connection)

    def note_outcome(self, connection: C, code: Any) -> None:
        """A call ends with this status. A connection that fails fast must not attract calls, nor
        one that may be dead."""
        if code in ILL:
            self.outliers.failed(connection)
        if code is UNAVAILABLE:
            self.penalize(connection)
        elif code is EXPIRED:
            self.silence.suspect(connection)

    # Each of these does nothing where the connection, or the pool, is gone.

    def penalize(self, connection: C) -> None:
        try:
            self.pool_of(connection).penalize(connection)
        except (ValueError, PoolClosed):
            pass

    def drain(self, connection: C) -> bool:
        """No new calls on it; it is closed when the last one has ended."""
        try:
            self.pool_of(connection).drain(connection)
        except (ValueError, PoolClosed):
            return False
        return True

    def avoid(self, connection: C, on: bool) -> bool:
        """Whether it gets calls only where there is no other."""
        try:
            self.pool.avoid(connection, on)
        except (ValueError, PoolClosed):
            return False
        return True

    def calls_ended(self, connection: C) -> int | None:
        """How many calls have ended on it."""
        try:
            return self.pool_of(connection).ended(connection)
        except (ValueError, PoolClosed):
            return None

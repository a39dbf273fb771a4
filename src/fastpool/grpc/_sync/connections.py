"""The connections of one shared channel, for threads: two pools of them, and what they count."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable
from functools import partial
from math import inf
from typing import Any

import grpc

from ... import PoolClosed, PoolOverloaded, PoolTimeout, SharedLease, SharedPool
from ..._core import Lock, acquire_of, close_nowait
from ..._runtime import scheduler
from ..._runtime.launch import launch
from .._addresses import Addresses
from .._affinity import ranked, value_of
from .._channel_key import Key, warn_of_fork_support
from .._connection_set import CONNECT_TIMEOUT, ConnectionSet, NotConnected
from .._connectivity import READY, state_of, wait_connected
from .._health import Verdicts
from .._hedging import HedgeBudget
from .._open_streams import OpenStreams
from .._options import say_if_unprotected
from .._outliers import Outliers
from .._registry import Usage
from .._warm_up import warm_up
from .callbacks import close
from .connection import Connection, Method, Methods, Number
from .errors import LocalError, closed_error, refusal
from .health_watch import Watch
from .liveness import Liveness
from .methods import Bound
from .subscriptions import Subscription, Subscriptions


class Connections(ConnectionSet[Connection]):
    """Opened by the pools on their own threads, used by `methods.py`, shared by the handles."""

    def __init__(self, key: Key) -> None:
        self.key, self.most = key, key.parameters.most
        self.target = key.target
        if key.credentials is None:
            say_if_unprotected(key.target)
        self.methods = Methods()
        self.live: set[Connection] = set()  # added to by the pool's threads; see `opened`
        self._lock = Lock()
        self.subscriptions = Subscriptions()
        slots = key.parameters.streams or inf
        self.open_streams = OpenStreams(self.target, self.most * slots)
        self.verdicts = Verdicts(self.connected, self.avoid, self.elsewhere)
        self.silence = Liveness(self)
        self.hedges = HedgeBudget()
        self.outliers = Outliers(self.connected, self.calls_ended, self._eject)
        self._watches: dict[Connection, Watch] = {}
        self._bound: weakref.WeakValueDictionary[Method, Bound] = weakref.WeakValueDictionary()
        self.addresses = Addresses(key.target, key.parameters.load_balancing == "pick_first")
        # The first ones are made here: bad arguments are this caller's to see, no thread is needed,
        # and nothing is connected before the first call.
        o = key.parameters
        first: list[Connection] = []
        for _ in range(max(1, o.least)):
            first.append(self._made(first))
        self.pool = self.make_pool(self.open, "", self.most, o.max_queue)
        for connection in first:
            self.take_in(connection)
        if o.least:
            self.pool.resize((o.least, self.most))
        self.bulk = self.pool
        if o.bulk:
            self.bulk = self.make_pool(partial(self.open, bulk=True), ", bulk", 1, o.max_queue)

    def pool_for(self, path: str) -> SharedPool[Connection]:
        """The pool whose connections carry calls of this method."""
        return self.bulk if path in self.key.parameters.bulk else self.pool

    def _made(
        self, others: list[Connection], key: Key | None = None, *, bulk: bool = False
    ) -> Connection:
        """One more, not connected yet, beside those others."""
        first = self.addresses.pick(each.address for each in others)
        target = None if first is None else self.addresses.target(first)
        channel = (key or self.key).beside(bool(others), target).dial()
        return Connection(channel, self.methods, bulk, first)

    def make_at(self, address: str) -> Connection:
        key = self.key.beside(True, self.addresses.target(address))
        return Connection(key.dial(), self.methods, address=address)

    def pool_of(self, connection: Connection) -> SharedPool[Connection]:
        return self.bulk if connection.bulk else self.pool

    # -- hooks of the pools ------------------------------------------------------------------------

    def open(self, bulk: bool = False) -> Connection:
        """A connection to be used from now on. The first ones connect with their first call, as
        channels do; one that is to take load off others, or their place, is connected before."""
        with self._lock.hold():
            others = [each for each in self.live if each.bulk is bulk]
        connection = self._made(others, bulk=bulk)
        if any(state_of(each.channel) is READY for each in others):
            if not wait_connected(connection.channel, CONNECT_TIMEOUT, lambda: self.pool.closed):
                close(connection.channel)
                raise NotConnected(self.target)
            self.warm_up(connection)
        self.admit(connection)
        return connection

    def warm_up(self, connection: Connection) -> None:
        """What the user does with a connection before it takes calls."""
        warm_up(self.target, self.key.parameters.warm_up, connection.channel)

    def admit(self, connection: Connection) -> None:
        """It is one of those there are."""
        o = self.key.parameters
        with self._lock.hold():
            self.live.add(connection)
        if o.health is not None and o.load_balancing == "pick_first" and not connection.bulk:
            self._watches[connection] = Watch(connection, o.health, self.verdicts)
            self.verdicts.apply()

    def disconnect(self, connection: Connection) -> None:
        close(connection.channel)

    def discard(self, connection: Connection) -> None:
        """Ends it, and what runs on it. Idempotent."""
        with self._lock.hold():
            self.live.discard(connection)
        watch = self._watches.pop(connection, None)
        if watch is not None:
            watch.end()
        self.verdicts.forget(connection)
        moving = self.subscriptions.of(connection)
        close(connection.channel)
        for subscription in moving:
            try:
                self.subscribe(subscription)
            except (ValueError, LocalError):
                pass  # there is no other: the channel is being closed

    def subscribe(self, subscription: Subscription) -> None:
        """Waits for no slot: to be told is no call."""
        while True:
            connection = next(iter(self.connected()), None)
            if connection is None:
                lease = self.enter(self.pool, CONNECT_TIMEOUT)
                connection = lease.resource
                lease.release()
            self.subscriptions.begin(subscription, connection)
            if connection in self.live or not self.subscriptions.of(connection):
                return

    # -- slots -------------------------------------------------------------------------------------

    def enter(self, pool: SharedPool[Connection], timeout: float | None) -> SharedLease[Connection]:
        """A slot for a call with this timeout, waiting in the queue at most so long."""
        deadline, own = self._patience(pool, timeout)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return pool.acquire(left)
            except NotConnected:
                continue  # others may have room in time
            except (PoolTimeout, PoolOverloaded) as error:
                raise self.refused(error, own) from None
            except PoolClosed:
                raise closed_error() from None

    def of_key(
        self, pool: SharedPool[Connection], metadata: Iterable[Any] | None
    ) -> SharedLease[Connection] | None:
        """A slot at once of the connection to which such calls go, or of the next one that has
        room; None: it is no such call, or somebody waits."""
        key = self.key.parameters.affinity
        value = None if key is None or pool is not self.pool else value_of(metadata, key)
        if value is None:
            return None
        for connection in ranked(value, self.connected()):
            lease = acquire_of(pool, connection)
            if lease is not None:
                return lease
        return None

    async def aenter(
        self, pool: SharedPool[Connection], timeout: float | None
    ) -> SharedLease[Connection]:
        """The same for the dispatcher."""
        deadline, own = self._patience(pool, timeout)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return await pool.aacquire(left)
            except NotConnected:
                continue
            except (PoolTimeout, PoolOverloaded) as error:
                raise self.refused(error, own) from None
            except PoolClosed:
                raise closed_error() from None

    def _patience(
        self, pool: SharedPool[Connection], timeout: float | None
    ) -> tuple[float | None, bool]:
        """Until when a call may wait in the queue, and whether that is its own deadline."""
        limit = self.key.parameters.queue_timeout
        own = timeout is not None and (limit is None or timeout <= limit)
        most = timeout if own else limit
        if not self.live and pool is self.pool:  # in a forked child; no thread is needed for it
            warn_of_fork_support()
            self.take_in(self._made([]))
        return None if most is None else time.monotonic() + max(0.0, most), own

    def refused(self, error: PoolTimeout | PoolOverloaded, own: bool) -> LocalError:
        return LocalError(*refusal(self.target, error, own, self.key.parameters.max_queue))

    def failed(self, connection: Connection, error: BaseException) -> None:
        """A call ended so."""
        if isinstance(error, grpc.RpcError) and not isinstance(error, LocalError):
            code = getattr(error, "code", None)
            if code is not None:
                self.note_outcome(connection, code())

    def _eject(self, connection: Connection, seconds: float) -> None:
        if connection.bulk:
            return
        self.verdicts.put_out(connection, True)
        scheduler.call_at(time.monotonic() + seconds, self._readmit, connection)

    def _readmit(self, connection: Connection) -> None:
        """On the scheduler's thread: its time is over."""
        try:
            launch("fastpool-grpc-outlier", self.verdicts.put_out, connection, False)
        except RuntimeError:
            pass  # there is no thread to be had: the interpreter is about to end

    def fresh(self, timeout: float) -> Connection | None:
        """A connection that is not lent yet; None: it could not be had in so many seconds."""
        connection = self._made(self.connected(), self.key.apart())
        if wait_connected(connection.channel, timeout, lambda: self.pool.closed):
            return connection
        close(connection.channel)
        return None

    def give_up(self, dead: Iterable[Connection], fresh: Connection | None) -> None:
        """Those take no more calls, and are closed when the last one on them has ended; the fresh
        one takes the place of the first."""
        for connection in dead:
            if self.drain(connection) and fresh is not None and not connection.bulk:
                self.take_in(fresh)
                fresh = None
        if fresh is not None:
            close(fresh.channel)

    def number(self, method: Method) -> Number:
        with self._lock.hold():
            known = [*self.live]
        return self.methods.enter(method, known)

    def bound(self, method: Method) -> Bound:
        """The one for all stubs that are alike."""
        try:
            found = self._bound.get(method)
        except TypeError:  # a serializer that cannot be hashed
            return Bound(self, method)
        if found is None:
            found = self._bound.setdefault(method, Bound(self, method))
        return found

    # -- the whole ---------------------------------------------------------------------------------

    def connected(self) -> list[Connection]:
        """Those of the main pool that are open."""
        with self._lock.hold():
            return [each for each in self.live if not each.bulk]

    @property
    def opened(self) -> bool:
        return bool(self.live)

    def usage(self) -> Usage:
        counted = [pool.stats() for pool in {self.pool, self.bulk}]
        return Usage(
            len(self.live),
            sum(each.leases for each in counted),
            sum(each.waiting for each in counted),
            len(self.open_streams.open),
            self.open_streams.long(),
            self.hedges.sent,
        )

    def close(self, grace: float | None) -> None:
        """No new calls; those that run have so many seconds and are cancelled then."""
        end = None if grace is None else time.monotonic() + grace
        for pool in dict.fromkeys((self.pool, self.bulk)):  # one, unless there is a bulk
            pool.close(0 if end is None else max(0.0, end - time.monotonic()))
        with self._lock.hold():
            left = [*self.live]
        for connection in left:
            self.discard(connection)

    def close_nowait(self) -> None:
        """No new calls; each connection is closed when its last call ends. For finalisers."""
        for pool in {self.pool, self.bulk}:
            close_nowait(pool)

    def forked(self) -> list[Any]:
        """In a forked child: nothing of the parent's is used or finalised here; what to keep."""
        inherited = [self.live]
        self._lock = Lock()
        self.methods.renew_lock()
        self.subscriptions = Subscriptions()
        self.live = set()
        self.open_streams.open = {}
        self.verdicts = Verdicts(self.connected, self.avoid, self.elsewhere)
        self.silence = Liveness(self)
        self.hedges = HedgeBudget()
        self._watches = {}
        return inherited

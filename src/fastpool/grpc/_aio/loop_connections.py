"""The connections that one event loop uses for some methods, and the queue of calls before them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from ..._core import AioDispatcher, CallSlot, close_nowait
from .._addresses import Addresses
from .._affinity import ranked, value_of
from .._channel_key import Key
from .._connection_set import CONNECT_TIMEOUT, ILL, MOST_STREAMS, ConnectionSet, NotConnected
from .._health import Verdicts
from .._hedging import HedgeBudget
from .._open_streams import OpenStreams
from .._outliers import Outliers
from .._warm_up import awarm_up
from .calls import at_once
from .connection import AioConnection
from .health_watch import watch
from .liveness import AioLiveness
from .wait_queue import WaitQueue

if TYPE_CHECKING:
    from .._sync.connection import Methods

LOOK = 0.1  # seconds after which one who waits for it looks whether it is wanted still
CODES = {code.value[0]: code for code in ILL}


class _Stream:
    """What `OpenStreams` has to release at its end, which is nothing: the core does that."""

    @staticmethod
    def release() -> None:
        pass


class LoopConnections(  # pyright: ignore[reportIncompatibleVariableOverride]
    ConnectionSet[AioConnection],
    AioDispatcher,  # whose pool is set by `lead`
):
    """See the module. All of it is for the thread of the loop, but what says otherwise."""

    def __init__(
        self,
        key: Key,
        methods: Methods,
        hedges: HedgeBudget,
        loop: asyncio.AbstractEventLoop,
        bulk: bool,
    ) -> None:
        o = key.parameters
        self.key = key
        self.addresses = Addresses(key.target, o.load_balancing == "pick_first")
        self.methods = methods
        self.hedges = hedges  # of all loops of the channel
        self.live: set[AioConnection] = set()  # added to by the pool's threads
        self.wait_queue = WaitQueue(self)
        self.opening: set[asyncio.Task[None]] = set()
        most = 1 if bulk else o.most
        self.open_streams = OpenStreams(key.target, most * (o.streams or inf))
        self.most = most
        self.there_are = 0  # connections, as counted last; 0 = to be counted
        self.ending = False
        self.on_return: Callable[[], object] | None = None
        pool = self.make_pool(self.open, ", bulk" if bulk else "", most)
        self.lead(pool, loop)
        self.verdicts = Verdicts(self.connected, self.avoid, self.elsewhere)
        self.silence = AioLiveness(self)
        self.outliers = Outliers(self.connected, self.calls_ended, self._eject)
        self.watches: dict[AioConnection, asyncio.Task[None]] = {}
        watched = o.health is not None and o.load_balancing == "pick_first" and not bulk
        self.watched = o.health if watched else None
        # Made here, since neither a thread nor a server is needed for it.
        for _ in range(1 if bulk else max(1, o.least)):
            self.connection(another=True)
        if o.least and not bulk:
            pool.resize((o.least, o.most))

    def connection(self, another: bool = False) -> AioConnection:
        """Any that there is, or else one more. Not for calls."""
        there = [] if another else [each for each in self.connected() if not each.ended]
        connection = there[0] if there else None
        if connection is None:
            connection = AioConnection(self)
            self.take_in(connection)
        return connection

    def dial(self, connection: AioConnection) -> Any:
        """Its inner channel: to the address where fewest others begin."""
        others = [each for each in self.connected() if each is not connection]
        if connection.address is None:
            connection.address = self.addresses.pick(each.address for each in others)
        first = connection.address
        target = None if first is None else self.addresses.target(first)
        return self.key.beside(bool(others), target).dial()

    def make_at(self, address: str) -> AioConnection:
        connection = AioConnection(self)
        connection.address = address
        return connection

    def connected(self) -> list[AioConnection]:
        return list(self.live)

    def disconnect(self, connection: AioConnection) -> None:
        connection.end()

    # -- hooks of the pool, on its threads ---------------------------------------------------------

    def open(self) -> AioConnection:
        """A connection to be used from now on. The first ones connect with their first call, as
        channels do; one that is to take load off others, or their place, is connected before."""
        connection = AioConnection(self)
        if any(each.ready for each in self.connected()) and not self._connected(connection):
            connection.end()
            raise NotConnected(self.key.target)
        self.admit(connection)
        return connection

    async def _connect(self, connection: AioConnection) -> None:
        await connection.connect()
        await self.warm_up(connection)

    async def warm_up(self, connection: AioConnection) -> None:
        """What the user does with a connection before it takes calls."""
        await awarm_up(self.key.target, self.key.parameters.warm_up, connection.dial())

    def _connected(self, connection: AioConnection) -> bool:
        deadline = time.monotonic() + CONNECT_TIMEOUT
        coroutine = self._connect(connection)
        try:
            connecting = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:  # the loop is closed
            coroutine.close()
            return False
        while not self.pool.closed and not self.loop.is_closed() and time.monotonic() < deadline:
            try:
                connecting.result(LOOK)
            except TimeoutError:
                continue
            except BaseException:
                return False
            return True
        connecting.cancel()
        return False

    def admit(self, connection: AioConnection) -> None:
        """It is one of those there are. From any thread."""
        self.live.add(connection)
        if self.watched is not None:
            self.soon(partial(self._watch, connection))
            self.verdicts.apply()

    def _watch(self, connection: AioConnection) -> None:
        if connection in self.live and self.watched is not None and not self.ending:
            watching = watch(connection, self.watched, self.verdicts)
            self.watches[connection] = self.loop.create_task(watching)

    def discard(self, connection: AioConnection) -> None:
        """Ends it, and what runs on it. Idempotent. From any thread."""
        self.live.discard(connection)
        watching = self.watches.pop(connection, None)
        if watching is not None:
            self.soon(watching.cancel)
        self.verdicts.forget(connection)
        connection.end()

    # -- hooks of the core -------------------------------------------------------------------------

    def look_up(self, connection: AioConnection, number: int) -> Callable[..., Any]:
        return connection.look_up(number)

    def slot_of_key(self, metadata: Iterable[Any] | None) -> CallSlot | None:
        """A slot of the connection to which such calls go, or of the next one that has room; None:
        it is no such call, or somebody waits."""
        key = self.key.parameters.affinity
        value = None if key is None or self.queued else value_of(metadata, key)
        if value is None:
            return None
        for connection in ranked(value, self.connected()):
            slot = self.take_of(connection)
            if slot is not None:
                return slot
        return None

    def failed(self, connection: AioConnection, status: Any) -> None:
        ended = at_once(status.status())
        if ended is not None:
            self.note_outcome(connection, CODES.get(ended.code()))

    def _eject(self, connection: AioConnection, seconds: float) -> None:
        self.verdicts.put_out(connection, True)
        self.loop.call_later(seconds, self.verdicts.put_out, connection, False)

    def give_up(self, dead: Iterable[AioConnection], fresh: AioConnection) -> None:
        """Those take no more calls, and are closed when the last one on them has ended; the fresh
        one takes the place of the first."""
        for connection in dead:
            self.drain(connection)
        self.take_in(fresh)
        self.wait_queue.serve_soon()

    def hook(self, call: Any, call_slot: CallSlot) -> None:
        """Of a call with interceptors, which may end without there ever being one of grpc's."""
        call.add_done_callback(partial(self._ended, call_slot))
        task = getattr(call, "_interceptors_task", None)
        if task is not None:
            task.add_done_callback(partial(_intercepted, call_slot))

    def _ended(self, call_slot: CallSlot, call: Any) -> None:
        connection = call_slot.connection
        if connection is not None:
            self.note_outcome(connection, at_once(call.code()))
        call_slot()

    def on_call_ended(self) -> None:
        if self.queued:
            self.wait_queue.serve_soon()
        elif self.on_return is None:
            self.notify_on_end = False
        elif not self.busy:
            self.on_return()

    # -- growth ------------------------------------------------------------------------------------

    def grow(self) -> None:
        """Opens more connections if calls wait for which those being opened are not enough."""
        streams = self.key.parameters.streams or MOST_STREAMS
        while len(self.wait_queue.calls) > len(self.opening) * streams and self._has_capacity():
            task = self.loop.create_task(self._open_one())
            self.opening.add(task)
            task.add_done_callback(self.opening.discard)

    def _has_capacity(self) -> bool:
        if self.ending or len(self.opening) + self.there_are >= self.most:
            return False
        n = self.pool.stats()
        self.there_are = n.open - n.draining - n.closing
        return len(self.opening) + self.there_are < self.most

    def slots_pending(self) -> float:
        """Of the connections that may still be opened."""
        n = self.pool.stats()
        there = n.open - n.draining - n.closing
        return max(0, self.most - there) * (self.key.parameters.streams or inf)

    async def _open_one(self) -> None:
        connection = AioConnection(self)
        try:
            if any(each.ready for each in self.connected()):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._connect(connection)
            self.take_in(connection)
        except Exception:  # it does not connect; while calls wait, one more is tried in time
            connection.shut()
        except BaseException:
            connection.shut()
            raise
        self.wait_queue.serve_soon()

    # -- streams -----------------------------------------------------------------------------------

    def note_stream(self, call_slot: CallSlot) -> None:
        call_slot.then(self.open_streams.begin(_Stream))
        begins = getattr(call_slot.call, "_preparation", None) or getattr(
            call_slot.call, "_invocation_task", None
        )
        if begins is not None:
            begins.add_done_callback(partial(_unsent, call_slot.call))

    def sweep(self) -> None:
        """Ends calls whose request could not be sent: grpc gives them no status, so they would hold
        their slots for as long as somebody keeps what they raised."""
        for call_slot in list(self.active):
            call = call_slot.call
            if call is not None and _failed(call) and not call.done():
                call.cancel()

    # -- the whole ---------------------------------------------------------------------------------

    def soon(self, call: Callable[[], object]) -> None:
        """On the loop, if there is one. From any thread."""
        loop = self.loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(call)
            except RuntimeError:  # closed just now
                pass

    @property
    def busy(self) -> bool:
        """Whether calls run on it or wait. From any thread."""
        return self.queued or self.pool.stats().leases > 0

    def end(self) -> None:
        """Cancels all calls and closes all connections."""
        self.ending = True
        self.wait_queue.end()
        self.silence.end()
        for task in [*self.opening, *self.watches.values()]:
            task.cancel()
        for connection in self.connected():
            connection.shut()
        self.pool.close(0)

    def on_loop_closed(self) -> None:
        """The loop is closed: nothing is awaited or cancelled. From any thread."""
        self.leave()
        self.pool.close(0)
        for connection in self.connected():
            connection.end()
        self.live.clear()
        self.watches.clear()
        self.wait_queue.forget()
        self.active.clear()

    def close_nowait(self) -> None:
        """No new calls; each connection is closed when its last call ends. For finalisers."""
        close_nowait(self.pool)


def _unsent(call: Any, begins: asyncio.Task[Any]) -> None:
    """A stream that could not be sent: grpc gives it no status unless it is cancelled."""
    if not begins.cancelled() and begins.exception() is not None and not call.done():
        call.cancel()


def _failed(call: Any) -> bool:
    """Whether the task that begins it has ended by an exception."""
    for name in ("_invocation_task", "_preparation"):
        task = getattr(call, name, None)
        if task is not None and task.done():
            return bool(task.cancelled() or task.exception() is not None)
    return False


def _intercepted(call_slot: CallSlot, task: asyncio.Task[Any]) -> None:
    """An interceptor that raised something of its own; grpc tells nobody."""
    if task.cancelled() or task.exception() is not None:
        call_slot()

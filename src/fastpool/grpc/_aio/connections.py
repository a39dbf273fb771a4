"""The connections of one shared channel, for tasks: a dispatcher for every event loop."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, NamedTuple

from ..._aio import loop as aio_loop  # noqa: F401  tells the core of event loops
from ..._core import Lock
from .. import _channel_args
from .._channel_key import Key
from .._hedging import HedgeBudget
from .._options import say_if_unprotected
from .._registry import Usage
from .._sync.connection import Method, Methods, Number
from .errors import closed_error
from .loop_connections import LoopConnections
from .methods import AioBound

LOOK = 0.05  # seconds between looks whether calls of another loop run still
END_TIMEOUT = 1.0  # seconds that another loop has to end its calls


class LoopEntry(NamedTuple):
    """Of one loop."""

    plain: LoopConnections
    bulk: LoopConnections  # the same unless there are methods in bulk


class AioConnections:
    """What the handles share. Thread-safe."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.target = key.target
        if key.credentials is None:
            say_if_unprotected(key.target)
        self.methods = Methods()
        self.hedges = HedgeBudget()
        self.closed = False
        self.entries: dict[asyncio.AbstractEventLoop, LoopEntry] = {}
        self._lock = Lock()  # a loop that is collected may come by
        self._bound: weakref.WeakValueDictionary[Method, AioBound] = weakref.WeakValueDictionary()
        # Nothing is made before a loop runs, but bad arguments are this caller's to see.
        _channel_args.arguments(f"aio_shared({key.target!r})", key.parameters, key.options)
        # Loops share no connection, though their channels may be equal.
        self.dialled = key.apart()

    def dispatcher(self, path: str = "") -> LoopConnections:
        """That of the running loop, for calls of this method."""
        loop = working_loop()
        entry = self.entries.get(loop) or self._entry_of(loop)
        return entry.bulk if path in self.key.parameters.bulk else entry.plain

    def _entry_of(self, loop: asyncio.AbstractEventLoop) -> LoopEntry:
        self._forget_closed()  # a new loop often follows one that was closed
        with self._lock.hold():
            if self.closed:
                raise closed_error()
            entry = self.entries.get(loop)
            if entry is None:
                made_with = (self.dialled, self.methods, self.hedges, loop)
                plain = LoopConnections(*made_with, bulk=False)
                bulk = plain
                if self.key.parameters.bulk:
                    bulk = LoopConnections(*made_with, bulk=True)
                entry = self.entries[loop] = LoopEntry(plain, bulk)
        return entry

    def dispatchers(self) -> list[LoopConnections]:
        with self._lock.hold():
            return [
                dispatcher for entry in self.entries.values() for dispatcher in dict.fromkeys(entry)
            ]

    def _forget_closed(self) -> None:
        with self._lock.hold():
            entries = [self.entries.pop(loop) for loop in [*self.entries] if loop.is_closed()]
        for entry in entries:
            for dispatcher in dict.fromkeys(entry):
                dispatcher.on_loop_closed()

    # -- of the registry ---------------------------------------------------------------------------

    @property
    def opened(self) -> bool:
        return any(dispatcher.live for dispatcher in self.dispatchers())

    def usage(self) -> Usage:
        dispatchers = self.dispatchers()
        counted = [dispatcher.pool.stats() for dispatcher in dispatchers]
        return Usage(
            sum(len(dispatcher.live) for dispatcher in dispatchers),
            sum(each.leases for each in counted),
            sum(len(dispatcher.wait_queue.calls) for dispatcher in dispatchers),
            sum(len(dispatcher.open_streams.open) for dispatcher in dispatchers),
            sum(dispatcher.open_streams.long() for dispatcher in dispatchers),
            self.hedges.sent,
        )

    def number(self, method: Method) -> Number:
        there: list[Any] = [
            each for dispatcher in self.dispatchers() for each in [*dispatcher.live]
        ]
        return self.methods.enter(method, there)

    def bound(self, method: Method) -> AioBound:
        """The one for all stubs that are alike."""
        try:
            found = self._bound.get(method)
        except TypeError:  # a serializer that cannot be hashed
            return AioBound(self, method)
        if found is None:
            found = self._bound.setdefault(method, AioBound(self, method))
        return found

    def close(self, grace: float | None) -> None:
        """At once, and without waiting, of one that was never used."""
        for dispatcher in self._shut():
            dispatcher.end()

    async def aclose(self, grace: float | None) -> None:
        """No new calls; those that run or wait in the queue have so many seconds, whatever their
        loop, and are cancelled then."""
        dispatchers = self._shut()
        try:
            if grace:
                await self._drained(dispatchers, grace)
        finally:  # also for one who is cancelled meanwhile
            await asyncio.gather(*map(_end, dispatchers))

    def _shut(self) -> list[LoopConnections]:
        self._forget_closed()
        with self._lock.hold():
            self.closed = True
        dispatchers = self.dispatchers()
        for dispatcher in dispatchers:
            dispatcher.notify_on_end = True
        return dispatchers

    async def _drained(self, dispatchers: list[LoopConnections], grace: float) -> None:
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def on_return() -> None:
            try:
                loop.call_soon_threadsafe(news.set)
            except RuntimeError:  # closed meanwhile
                pass

        for dispatcher in dispatchers:
            dispatcher.on_return = on_return
            dispatcher.soon(dispatcher.sweep)
        end = loop.time() + grace
        while (
            any(dispatcher.busy for dispatcher in dispatchers) and (left := end - loop.time()) > 0
        ):
            for dispatcher in dispatchers:
                dispatcher.notify_on_end = (
                    True  # its loop may just have said that there was no need to
                )
            try:
                async with asyncio.timeout(min(left, LOOK)):
                    await news.wait()
            except TimeoutError:
                continue
            news.clear()

    def close_nowait(self) -> None:
        """No new calls; each connection is closed when its last call ends. For finalisers."""
        self.closed = True
        for entry in [*self.entries.values()]:
            for dispatcher in dict.fromkeys(entry):
                dispatcher.close_nowait()

    def forked(self) -> list[Any]:
        """In a forked child: nothing of the parent's is used or finalised here; what to keep."""
        inherited = [self.entries]
        for entry in self.entries.values():
            for dispatcher in entry:
                dispatcher.leave()
        self._lock = Lock()
        self.hedges = HedgeBudget()
        self.methods.renew_lock()
        self.entries = {}
        return inherited


async def _end(dispatcher: LoopConnections) -> None:
    loop = dispatcher.loop
    if loop is None or loop.is_closed():
        dispatcher.on_loop_closed()
    elif loop is asyncio.get_running_loop() or not loop.is_running():
        dispatcher.end()
    else:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        here = asyncio.get_running_loop()

        def end() -> None:
            dispatcher.end()
            here.call_soon_threadsafe(_set, done)

        try:
            loop.call_soon_threadsafe(end)
            async with asyncio.timeout(END_TIMEOUT):
                await done
        except (
            RuntimeError,
            TimeoutError,
        ):  # closed just now; or busy, and does it later
            pass


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def working_loop() -> asyncio.AbstractEventLoop:
    """The running loop; where none runs that of this thread, as grpc's own channels take it."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.get_event_loop()

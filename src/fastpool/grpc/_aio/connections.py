"""The connections of one shared channel, for tasks: lanes of their own for every event loop."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, NamedTuple

from ..._aio import loop as aio_loop  # noqa: F401  tells the core of event loops
from ..._core import Lock
from .. import _channel_args
from .._channel_key import Key
from .._options import say_if_unprotected
from .._registry import Usage
from .._sync.connection import Method, Methods, Number
from .errors import closed_error
from .loop_connections import LoopConnections
from .methods import AioBound

LOOK = 0.05  # seconds between looks whether calls of another loop run still
END_TIMEOUT = 1.0  # seconds that another loop has to end its calls


class Home(NamedTuple):
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
        self.closed = False
        self.homes: dict[asyncio.AbstractEventLoop, Home] = {}
        self._lock = Lock()  # a loop that is collected may come by
        self._bound: weakref.WeakValueDictionary[Method, AioBound] = weakref.WeakValueDictionary()
        # Nothing is made before a loop runs, but bad arguments are this caller's to see.
        _channel_args.arguments(f"aio_shared({key.target!r})", key.parameters, key.options)
        # Loops share no connection, though their channels may be equal.
        self.dialled = key.apart()

    def lane(self, path: str = "") -> LoopConnections:
        """That of the running loop, for calls of this method."""
        loop = working_loop()
        home = self.homes.get(loop) or self._home(loop)
        return home.bulk if path in self.key.parameters.bulk else home.plain

    def _home(self, loop: asyncio.AbstractEventLoop) -> Home:
        self._forget_closed()  # a new loop often follows one that was closed
        with self._lock.hold():
            if self.closed:
                raise closed_error()
            home = self.homes.get(loop)
            if home is None:
                plain = LoopConnections(self.dialled, self.methods, loop, bulk=False)
                bulk = plain
                if self.key.parameters.bulk:
                    bulk = LoopConnections(self.dialled, self.methods, loop, bulk=True)
                home = self.homes[loop] = Home(plain, bulk)
        return home

    def lanes(self) -> list[LoopConnections]:
        with self._lock.hold():
            return [lane for home in self.homes.values() for lane in dict.fromkeys(home)]

    def _forget_closed(self) -> None:
        with self._lock.hold():
            homes = [self.homes.pop(loop) for loop in [*self.homes] if loop.is_closed()]
        for home in homes:
            for lane in dict.fromkeys(home):
                lane.forsake()

    # -- of the registry ---------------------------------------------------------------------------

    @property
    def opened(self) -> bool:
        return any(lane.live for lane in self.lanes())

    def usage(self) -> Usage:
        lanes = self.lanes()
        counted = [lane.pool.stats() for lane in lanes]
        return Usage(
            sum(len(lane.live) for lane in lanes),
            sum(each.leases for each in counted),
            sum(len(lane.line.calls) for lane in lanes),
            sum(len(lane.holds.open) for lane in lanes),
            sum(lane.holds.long() for lane in lanes),
        )

    def number(self, method: Method) -> Number:
        there: list[Any] = [each for lane in self.lanes() for each in [*lane.live]]
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
        for lane in self._shut():
            lane.end()

    async def aclose(self, grace: float | None) -> None:
        """No new calls; those that run or wait in line have so many seconds, whatever their loop,
        and are cancelled then."""
        lanes = self._shut()
        try:
            if grace:
                await self._drained(lanes, grace)
        finally:  # also for one who is cancelled meanwhile
            await asyncio.gather(*map(_end, lanes))

    def _shut(self) -> list[LoopConnections]:
        self._forget_closed()
        with self._lock.hold():
            self.closed = True
        lanes = self.lanes()
        for lane in lanes:
            lane.told = True
        return lanes

    async def _drained(self, lanes: list[LoopConnections], grace: float) -> None:
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            try:
                loop.call_soon_threadsafe(news.set)
            except RuntimeError:  # closed meanwhile
                pass

        for lane in lanes:
            lane.on_return = tell
            lane.soon(lane.sweep)
        end = loop.time() + grace
        while any(lane.busy for lane in lanes) and (left := end - loop.time()) > 0:
            for lane in lanes:
                lane.told = True  # its loop may just have said that there was no need to
            try:
                async with asyncio.timeout(min(left, LOOK)):
                    await news.wait()
            except TimeoutError:
                continue
            news.clear()

    def let_go(self) -> None:
        """No new calls; each connection is closed when its last call ends. For finalisers."""
        self.closed = True
        for home in [*self.homes.values()]:
            for lane in dict.fromkeys(home):
                lane.let_go()

    def forked(self) -> list[Any]:
        """In a forked child: nothing of the parent's is used or finalised here; what to keep."""
        inherited = [self.homes]
        for home in self.homes.values():
            for lane in home:
                lane.leave()
        self._lock = Lock()
        self.methods.renew_lock()
        self.homes = {}
        return inherited


async def _end(lane: LoopConnections) -> None:
    loop = lane.loop
    if loop is None or loop.is_closed():
        lane.forsake()
    elif loop is asyncio.get_running_loop() or not loop.is_running():
        lane.end()
    else:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        here = asyncio.get_running_loop()

        def end() -> None:
            lane.end()
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

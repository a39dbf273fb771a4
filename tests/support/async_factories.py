"""What the tests of async factories share: a factory that keeps accounts, and loops in threads."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fastpool import FastPool, SharedPool
from support.helpers import PATIENCE, eventually
from support.loops import new_loop

PAUSE = 0.0005


class Thing:
    """A resource: it knows its number, the loop that made it, and who holds it."""

    __slots__ = ("__weakref__", "closed", "holder", "loop", "number")

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number, self.loop = number, loop
        self.closed = False
        self.holder: object = None

    def __repr__(self) -> str:
        return f"<thing {self.number}{' closed' if self.closed else ''}>"


class Hang:
    """In a script: the hook hangs until ``let_go()``, or for as long as it is not cancelled.

    ``stubborn``: it swallows its first cancellation and goes on hanging.  ``then``: its outcome."""

    def __init__(self, then: Any = None, stubborn: bool = False) -> None:
        self.then, self.stubborn = then, stubborn
        self.begun = threading.Event()
        self.cancelled = 0
        self._over = False

    def let_go(self) -> None:
        self._over = True

    async def pass_through(self) -> Any:
        self.begun.set()
        while not self._over:
            try:
                await asyncio.sleep(PAUSE)
            except asyncio.CancelledError:
                self.cancelled += 1
                if not self.stubborn or self.cancelled > 1:
                    raise
        return self.then


class AsyncMaker:
    """A factory object with coroutine hooks.  Each asserts that it runs on the resource's loop.

    ``script[hook]`` holds what the next calls do: an exception is raised, a ``Hang`` hangs,
    anything but None is the outcome.  ``steps``: how often a hook gives way before it goes on.
    """

    def __init__(self, cap: float = float("inf"), steps: int = 1) -> None:
        self.cap, self.steps = cap, steps
        self.all: list[Thing] = []
        self.closings: list[Thing] = []
        self.checks: list[Thing] = []
        self.resets: list[Thing] = []
        self.script: dict[str, deque[Any]] = {
            name: deque() for name in ("create", "check", "reset", "close")
        }
        self.faults: list[str] = []
        self.calls = 0
        self._creating: list[asyncio.AbstractEventLoop] = []  # where creations are under way
        # reentrant: a collection may end the hooks of a closed loop in the midst of another hook
        self._lock = threading.RLock()

    # ---- the hooks ----

    async def create(self) -> Any:
        loop = asyncio.get_running_loop()
        with self._lock:
            self.calls += 1
            self._creating.append(loop)
            if self.running + self.open > self.cap:
                self.faults.append(f"{self.running} + {self.open} exceed the cap {self.cap}")
        try:
            told = await self._act("create")
        finally:
            with self._lock:
                self._creating.remove(loop)
        if told is not None:
            return told
        with self._lock:
            thing = Thing(len(self.all), loop)
            self.all.append(thing)
        return thing

    async def check(self, thing: Thing) -> Any:
        self._on_own_loop("check", thing)
        self.checks.append(thing)
        return await self._act("check")

    async def reset(self, thing: Thing) -> None:
        self._on_own_loop("reset", thing)
        if thing.holder is not None:
            self.faults.append(f"{thing} reset while {thing.holder} holds it")
        self.resets.append(thing)
        await self._act("reset")

    async def close(self, thing: Thing) -> None:
        self._on_own_loop("close", thing)
        if thing.holder is not None:
            self.faults.append(f"{thing} closed while {thing.holder} holds it")
        try:
            await self._act("close")
        finally:
            with self._lock:
                if thing.closed:
                    self.faults.append(f"{thing} closed twice")
                thing.closed = True
                self.closings.append(thing)

    def _on_own_loop(self, hook: str, thing: Thing) -> None:
        if asyncio.get_running_loop() is not thing.loop:
            self.faults.append(f"{hook} of {thing} on another loop")

    async def _act(self, hook: str) -> Any:
        for _ in range(self.steps):
            await asyncio.sleep(0)
        script = self.script[hook]
        told = script.popleft() if script else None
        if isinstance(told, Hang):
            told = await told.pass_through()
        if isinstance(told, BaseException):
            raise told
        return told

    # ---- the books ----

    @property
    def made(self) -> int:
        return len(self.all)

    @property
    def running(self) -> int:
        """Creations under way, on loops that may go on."""
        return sum(not loop.is_closed() for loop in list(self._creating))

    @property
    def open(self) -> int:
        """Made and neither closed nor gone with its loop."""
        return sum(not (thing.closed or thing.loop.is_closed()) for thing in list(self.all))

    def hold(self, thing: Thing, holder: object) -> None:
        """To be called by who has got it; and with None before it is given back."""
        if holder is not None:
            if thing.holder is not None:
                self.faults.append(f"{thing} lent to {holder} while {thing.holder} holds it")
            if thing.closed:
                self.faults.append(f"{thing} lent when it was closed")
            if thing.loop is not asyncio.get_running_loop():
                self.faults.append(f"{thing} lent to a task of another loop")
        thing.holder = holder

    def check_accounts(self) -> None:
        """At the end: what was made is closed, or its loop is."""
        assert self.open == 0, [t for t in self.all if not t.closed and not t.loop.is_closed()]
        assert self.running == 0
        assert not self.faults, self.faults[:5]


class LoopThread:
    """An event loop that runs in a thread of its own until ``end()``."""

    def __init__(self, kind: str) -> None:
        self.loop = new_loop(kind)
        self.noise: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.noise.append(context))
        self.go_on()

    def go_on(self) -> None:
        """Runs it, again if it was stopped."""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """A concurrent future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.start(coroutine).result(PATIENCE)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        async def called() -> Any:
            return function(*args)

        return self.run(called())

    def pause(self) -> Callable[[], None]:
        """Keeps the loop from running until what is returned is called."""
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            go_on.wait(2 * PATIENCE)

        self.loop.call_soon_threadsafe(hold)
        assert held.wait(PATIENCE)
        return go_on.set

    def stop(self) -> None:
        """The thread ends; the loop is not closed."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(2 * PATIENCE)
            assert not self.thread.is_alive()

    def end(self) -> None:
        """As ``asyncio.run`` ends, but nothing is cancelled: tasks are left where they stand, and
        asyncio says so when they are collected, which may be now or much later."""
        self.stop()
        self.loop.set_exception_handler(self._note_unless_left)
        self.loop.close()

    def _note_unless_left(self, _: Any, context: dict[str, Any]) -> None:
        if context["message"] != "Task was destroyed but it is pending!":
            self.noise.append(context)


def watched(pool: Any, until: threading.Event) -> list[str]:
    """Looks at ``stats()`` for as long as it takes; what is wrong with the snapshots."""
    faults = []
    last = None
    while not until.is_set():
        now = pool.stats()
        parts = now.idle + now.leased + now.creating + now.checking + now.closing
        if parts != now.open or (now.maxsize and now.open > now.maxsize):
            faults.append(f"inconsistent: {now}")
        if last is not None:
            for name in ("uses", "created", "create_failures", "timeouts", "overloads"):
                if getattr(now, name) < getattr(last, name):
                    faults.append(f"{name} went back: {last} -> {now}")
            for why, n in last.closed.items():
                if now.closed.get(why, 0) < n:
                    faults.append(f"closed for {why} went back: {last} -> {now}")
            if now.wait_time.count < last.wait_time.count:
                faults.append("wait_time went back")
        last = now
        time.sleep(0.0005)
    return faults


@contextmanager
def accounted(
    maxsize: int | None = None, maker: AsyncMaker | None = None, **options: Any
) -> Iterator[tuple[Any, AsyncMaker]]:
    """A pool and its factory.  At the end the pool is closed, and must agree with the factory: what
    was made was closed or went with its loop.  Nothing was said on the way by asyncio or by what
    was collected."""
    maker = maker or AsyncMaker()
    if maxsize is not None:
        options["maxsize"] = maxsize
        maker.cap = maxsize or float("inf")
    options.setdefault("factory", maker)
    pool: Any = FastPool(**options)
    with agreeing(pool, maker):
        yield pool, maker


@contextmanager
def agreeing(pool: Any, maker: AsyncMaker) -> Iterator[None]:
    """At the end of the block the pool is closed, and agrees with its factory."""
    with quiet():
        yield
        pool.close(timeout=0)
        eventually(lambda: pool.stats().open == 0)
        stats = pool.stats()
        maker.check_accounts()
        assert stats.closed_total == stats.created == maker.made, (stats, maker.made)


async def cancelled_at_random(tasks: list[asyncio.Task[Any]], luck: random.Random) -> list[str]:
    """Waits for them, and cancels one now and then; what others have raised."""
    left = set(tasks)
    while left:
        _, left = await asyncio.wait(left, timeout=luck.random() * 0.002)
        if left and luck.random() < 0.3:
            luck.choice(sorted(left, key=tasks.index)).cancel()
    ended = [task for task in tasks if not task.cancelled()]
    return [repr(task.exception()) for task in ended if task.exception() is not None]


@contextmanager
def accounted_shared(
    items: Any, maker: AsyncMaker | None = None, **options: Any
) -> Iterator[tuple[Any, AsyncMaker]]:
    """As ``accounted``, of a SharedPool, which may have twice its most open while resources drain;
    at the end no lease is under way."""
    maker = maker or AsyncMaker()
    hooks = {"close": maker.close, "check": maker.check}
    pool: Any = SharedPool(maker.create, items=items, **hooks, **options)
    maker.cap = 2 * pool.items[1]
    with agreeing(pool, maker):
        yield pool, maker
    assert pool.stats().leases == pool.stats().draining == 0, pool.stats()


@contextmanager
def quiet() -> Iterator[None]:
    """Fails if asyncio logs anything (a task destroyed pending, an exception never retrieved), or
    anything is raised where nobody can catch it."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(self.format(record))

    listener, log, before = (
        Listener(logging.WARNING),
        logging.getLogger("asyncio"),
        sys.unraisablehook,
    )
    log.addHandler(listener)
    sys.unraisablehook = lambda unraisable: said.append(f"{unraisable.exc_value!r} ignored")
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = before
        log.removeHandler(listener)
    assert not said, said


@contextmanager
def threads(kind: str, n: int) -> Iterator[list[LoopThread]]:
    """``n`` event loops, each in a thread of its own; closed at the end."""
    loops = [LoopThread(kind) for _ in range(n)]
    try:
        yield loops
    finally:
        for one in loops:
            one.stop()
            one.loop.close()
    assert not any(one.noise for one in loops), [one.noise for one in loops]


async def use(pool: Any, **options: Any) -> Any:
    """One lease; the resource."""
    async with pool.lease(**options) as thing:
        return thing


async def borrowed(pool: Any, maker: AsyncMaker, until: Callable[[], Any], **options: Any) -> Thing:
    """A lease that is held until a condition holds; the resource."""
    async with pool.lease(**options) as thing:
        maker.hold(thing, "borrowed")
        while not until():
            await asyncio.sleep(PAUSE)
        maker.hold(thing, None)
        found: Thing = thing
        return found

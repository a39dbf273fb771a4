"""The faces of a pool: the same test, its calls made by threads, by tasks, or by both.

A test of the contract is written for threads.  Through a face of tasks it runs unchanged, on a
stand-in for its pool: there each thread of the test has a task of its own, on an event loop that
runs in one thread more, and what the thread calls is awaited by its task.  So several threads of a
test become several tasks, and whoever calls twice is the same task twice, as the guard against
nested blocks and ``close`` want it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import fastpool
from support import helpers
from support.helpers import PATIENCE
from support.loops import new_loop

UNSET: Any = object()  # an argument that was not given: the default is the pool's


@dataclass(frozen=True)
class CallerKind:
    """Who makes the calls of a test.  Its main thread is caller 0."""

    name: str
    loop: str | None  # the make of the event loop, see loops.KINDS; None: there is none
    tasks: Callable[[int], bool]  # whether the n-th caller is a task

    def __str__(self) -> str:
        return self.name


THREADS = CallerKind("threads", None, lambda n: False)
TASKS = [
    CallerKind("tasks", "asyncio", lambda n: True),
    CallerKind("tasks-uvloop", "uvloop", lambda n: True),
]
#: Every second caller is a task, which makes a difference if there is more than one.
MIXED = [
    CallerKind("mixed", "asyncio", lambda n: n % 2 == 1),
    CallerKind("mixed-swapped", "asyncio", lambda n: n % 2 == 0),
    CallerKind("mixed-uvloop", "uvloop", lambda n: n % 2 == 1),
]


def FastPool(*args: Any, **options: Any) -> Any:
    """A ``fastpool.FastPool``, or its stand-in where the test runs through a face of tasks."""
    is_queue = not {"factory", "items"} & options.keys()
    return stand_in(fastpool.FastPool(*args, **options), is_queue)


def SharedPool(*args: Any, **options: Any) -> Any:
    """The same of a ``fastpool.SharedPool``."""
    pool = fastpool.SharedPool(*args, **options)
    return pool if _stage is None else Shared(_stage, pool)


def KeyedPool(*args: Any, **options: Any) -> Any:
    """The same of a ``fastpool.KeyedPool``."""
    return stand_in(fastpool.KeyedPool(*args, **options))


def WeightedSemaphore(*args: Any, **options: Any) -> Any:
    """The same of a ``fastpool.WeightedSemaphore``."""
    semaphore = fastpool.WeightedSemaphore(*args, **options)
    return semaphore if _stage is None else Semaphore(_stage, semaphore)


def stand_in(pool: Any, is_queue: bool = False) -> Any:
    """The pool itself for a test that runs through threads."""
    return pool if _stage is None else Pool(_stage, pool, is_queue)


# ---- Who makes the calls -------------------------------------------------------------------------


class Reply:
    """What comes of one call: a value or an error, once ``done`` can be acquired."""

    __slots__ = ("done", "error", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()


class Caller:
    """A task that awaits, one after the other, what one thread of the test calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.calls: asyncio.Queue[tuple[Callable[[], Awaitable[Any]], Reply] | None]
        self.calls = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None
        loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self.task = self.loop.create_task(self._serve())

    async def _serve(self) -> None:
        while (call := await self.calls.get()) is not None:
            work, reply = call
            try:
                reply.value = await work()
            except BaseException as error:
                reply.error = error
            done = reply.done
            del call, work, reply  # the result must be the calling thread's alone
            done.release()

    def send(self, call: tuple[Callable[[], Awaitable[Any]], Reply] | None) -> None:
        self.loop.call_soon_threadsafe(self.calls.put_nowait, call)


class Stage:
    """The event loop of one test, with the callers that are tasks on it."""

    def __init__(self, caller_kind: CallerKind) -> None:
        self.caller_kind = caller_kind
        self.loop = new_loop(caller_kind.loop or "asyncio")
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self.faults: list[dict[str, Any]] = []
        self.callers: list[Caller] = []
        self._mine = threading.local()
        self._main = threading.get_ident()
        self._count = 0  # of the callers, without the main thread
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)
        self.thread.start()
        helpers.helpers.add(self.thread)

    def caller(self) -> Caller | None:
        """The task of this thread; None if the thread makes its calls itself."""
        mine = self._mine
        try:
            found: Caller | None = mine.caller
        except AttributeError:
            found = mine.caller = self._new_caller()
        return found

    def _new_caller(self) -> Caller | None:
        if threading.current_thread() is self.thread:  # a hook or a finaliser
            return None
        with self._lock:
            if threading.get_ident() == self._main:
                number = 0
            else:
                number = self._count = self._count + 1
            if not self.caller_kind.tasks(number):
                return None
            caller = Caller(self.loop)
            self.callers.append(caller)
            return caller

    def call(self, caller: Caller, work: Callable[[], Awaitable[Any]]) -> Any:
        """Have the task await ``work()``; its result, or its exception."""
        reply = Reply()
        caller.send((work, reply))
        assert reply.done.acquire(timeout=3 * PATIENCE), f"no end of {work}"
        if reply.error is None:
            return reply.value
        try:
            raise reply.error
        finally:
            del reply  # its error's traceback has this frame

    def end(self) -> None:
        """Every caller goes, and nobody else may be left."""
        for caller in self.callers:
            caller.send(None)
        asyncio.run_coroutine_threadsafe(self._ended(), self.loop).result(2 * PATIENCE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        helpers.helpers.discard(self.thread)
        assert not self.thread.is_alive(), "the event loop does not stop"
        self.loop.close()
        assert not self.faults, self.faults

    async def _ended(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=PATIENCE)
            assert not left, left


_stage: Stage | None = None


def begin(caller_kind: CallerKind) -> Stage | None:
    """From here on pools are used through this face; ``end`` the stage if there is one."""
    global _stage
    _stage = None if caller_kind is THREADS else Stage(caller_kind)
    return _stage


# ---- Stand-ins -----------------------------------------------------------------------------------


async def _here(function: Callable[..., Any], *args: Any) -> Any:
    """What a task calls as a thread does: nothing in it waits."""
    return function(*args)


def _given(timeout: Any) -> tuple[Any, ...]:
    return () if timeout is UNSET else (timeout,)


class StandIn:
    """Has what it stands for called by the task of the calling thread, if that has one."""

    def __init__(self, stage: Stage, real: Any) -> None:
        self._stage, self._real = stage, real

    def _call(
        self, for_threads: Callable[..., Any], for_tasks: Callable[..., Any], *args: Any
    ) -> Any:
        """One for threads, or its twin, which is awaited by the task."""
        caller = self._stage.caller()
        if caller is None:
            return for_threads(*args)
        return self._stage.call(caller, partial(for_tasks, *args))

    def _give(self, function: Callable[..., Any], *args: Any) -> Any:
        """What has no twin for tasks, since it does not wait."""
        return self._call(function, partial(_here, function), *args)

    def __exit__(self, *error: Any) -> Any:
        return self._call(self._real.__exit__, self._real.__aexit__, *error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Lease(StandIn):
    """The lease of a stand-in pool."""

    __class__ = property(lambda self: fastpool.Lease)  # type: ignore[assignment] # isinstance

    def __enter__(self) -> Any:
        return self._call(self._real.__enter__, self._real.__aenter__)

    def release(self) -> None:
        self._give(self._real.release)

    def discard(self) -> None:
        self._give(self._real.discard)


class Pool(StandIn):
    """A FastPool: what waits, takes or gives back is done by tasks, all else by the caller."""

    def __init__(self, stage: Stage, real: Any, is_queue: bool) -> None:
        super().__init__(stage, real)
        self._is_queue = is_queue

    def get(self, block: bool = True, timeout: Any = UNSET) -> Any:
        real, given = self._real, _given(timeout)
        return self._call(
            lambda: real.get(block, *given), lambda: real.aget(*given if block else (0,))
        )

    def get_nowait(self) -> Any:
        return self.get(False)

    def acquire(self, *timeout: Any, **named: Any) -> Lease:
        real = self._real
        taken = self._call(
            partial(real.acquire, **named), partial(real.aacquire, **named), *timeout
        )
        return Lease(self._stage, taken)

    def lease(self, *timeout: Any, **named: Any) -> Lease:
        return Lease(self._stage, self._real.lease(*timeout, **named))

    def put(self, item: Any, block: bool = True, timeout: Any = UNSET) -> None:
        real, given = self._real, _given(timeout)
        if self._is_queue:
            self._call(
                lambda: real.put(item, block, *given),
                lambda: real.aput(item, *given if block else (0,)),
            )
        else:
            self._give(real.put, item, block, *given)

    def discard(self, resource: Any) -> None:
        self._give(self._real.discard, resource)

    def warm(self, *args: Any, **named: Any) -> Any:
        real = self._real
        return self._call(partial(real.warm, **named), partial(real.awarm, **named), *args)

    def check_idle(self) -> Any:
        return self._call(self._real.check_idle, self._real.acheck_idle)

    def close(self, *args: Any, **named: Any) -> Any:
        real = self._real
        return self._call(partial(real.close, **named), partial(real.aclose, **named), *args)

    def __enter__(self) -> Pool:
        same = self._call(self._real.__enter__, self._real.__aenter__)
        assert same is self._real
        return self

    @property
    def maxsize(self) -> Any:
        return self._real.maxsize

    @maxsize.setter
    def maxsize(self, value: Any) -> None:
        self._real.maxsize = value


class SharedLease(Lease):
    """The lease of a stand-in for a shared pool."""

    __class__ = property(lambda self: fastpool.SharedLease)  # type: ignore[assignment]

    def penalize(self) -> None:
        self._give(self._real.penalize)


class Shared(Pool):
    """A SharedPool, likewise."""

    def __init__(self, stage: Stage, real: Any) -> None:
        super().__init__(stage, real, is_queue=False)

    def get(self, *timeout: Any, **named: Any) -> Any:  # type: ignore[override]
        real = self._real
        return self._call(partial(real.get, **named), partial(real.aget, **named), *timeout)

    def acquire(self, *timeout: Any, **named: Any) -> SharedLease:
        taken = super().acquire(*timeout, **named)
        return SharedLease(self._stage, taken._real)

    def lease(self, *timeout: Any, **named: Any) -> SharedLease:
        return SharedLease(self._stage, self._real.lease(*timeout, **named))

    def put(self, resource: Any) -> None:  # type: ignore[override]
        self._give(self._real.put, resource)

    def drain(self, resource: Any) -> None:
        self._give(self._real.drain, resource)


class Hold(Lease):
    """The hold of a stand-in for a semaphore."""

    __class__ = property(lambda self: fastpool.SemaphoreHold)  # type: ignore[assignment]


class Semaphore(StandIn):
    """A WeightedSemaphore, likewise."""

    def acquire(self, *args: Any, **named: Any) -> None:
        real = self._real
        self._call(partial(real.acquire, **named), partial(real.aacquire, **named), *args)

    def try_acquire(self, *args: Any) -> Any:
        return self._call(self._real.try_acquire, partial(_here, self._real.try_acquire), *args)

    def release(self, *args: Any) -> None:
        self._give(self._real.release, *args)

    def hold(self, *args: Any, **named: Any) -> Hold:
        return Hold(self._stage, self._real.hold(*args, **named))

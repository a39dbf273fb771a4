"""WorkerPool: threads behind a bounded queue, as an Executor of the standard library.

A task holds a permit from its submission until its function has ended; there are ``workers +
max_queue`` permits, units of a WeightedSemaphore.  So submitters, threads and tasks alike, wait in
one fair wait queue, and the task queue behind it, which never fills up, needs no second one.  A
permit is a hold: wherever a call ends early, by a signal handler too, it goes back by itself.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from .._core import SemaphoreHold, units_hit, units_quiet
from .._runtime import registry
from ..errors import PoolClosed, PoolOverloaded
from ._options import WhenFull, look_ahead, seconds, waits, whole
from ._threads import WorkerThreads

if TYPE_CHECKING:
    import asyncio

__all__ = ["WorkerPool", "WorkerStats"]

P = ParamSpec("P")
T = TypeVar("T")

_number = itertools.count().__next__


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """A WorkerPool at one moment: threads that are there, tasks that they do, tasks in the queue,
    submitters that wait for a permit."""

    threads: int
    running: int
    queued: int
    waiting: int


class WorkerPool(Executor):
    """Up to ``workers`` threads, and a queue in which at most ``max_queue`` tasks wait for them.

    An Executor like ThreadPoolExecutor, whose queue has no bound: there a producer that is faster
    than the workers fills the memory.  Here ``submit`` waits for a permit once ``workers +
    max_queue`` tasks are under way.  ``max_queue=0``: until a worker is free.

    ``when_full``: what ``submit`` does then. "wait": waits, first come, first served, for
    ``submit_timeout`` seconds at most (PoolTimeout; None: for ever).  "refuse": PoolOverloaded at
    once.  ``try_submit``, ``submit_within`` and ``asubmit`` choose for one call.
    ``idle_timeout``: a thread that had nothing to do for so many seconds ends; None: never.
    ``initializer(*initargs)`` is called by each thread first; if it fails, the pool is broken.
    ``thread_name_prefix``: of the threads' names, and the pool's name in errors.

    Thread-safe.  Collected, or at interpreter exit, it finishes what was submitted.  In a forked
    child it has no threads and nothing to do, and works.
    """

    def __init__(
        self,
        workers: int,
        max_queue: int,
        *,
        when_full: WhenFull = "wait",
        submit_timeout: float | None = None,
        idle_timeout: float | None = 60.0,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        thread_name_prefix: str = "",
    ) -> None:
        whole("workers", workers, 1)
        whole("max_queue", max_queue, 0)
        self._timeout = waits(when_full, submit_timeout)
        seconds("idle_timeout", idle_timeout)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._max_workers = workers
        self._max_queue = max_queue
        name = thread_name_prefix or f"{type(self).__name__}-{_number()}"
        self._group = WorkerThreads(
            name, name, workers, max_queue, idle_timeout, initializer, tuple(initargs)
        )
        registry.enter(self)

    def __reduce__(self) -> NoReturn:
        from .._misuse import uncopied

        raise uncopied(self, self._group.name)

    @property
    def name(self) -> str:
        """``thread_name_prefix``, or one that was chosen."""
        return self._group.name

    def __repr__(self) -> str:
        now = self.stats()
        return (
            f"<WorkerPool {self._group.name!r}: {now.running} of {self._max_workers} workers busy, "
            f"{now.queued} of {self._max_queue} tasks queued, {now.waiting} waiting"
            f"{', shut down' if self._group.over else ''}>"
        )

    # ---- submitting ------------------------------------------------------------------------------

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Has ``fn(*args, **kwargs)`` called by a worker; its Future.

        Waits for a permit, or not, as ``when_full`` and ``submit_timeout`` say.  A worker of this
        pool that would wait when all of them do gets PoolDeadlock; a thread that runs an event loop
        is not kept waiting, but gets PoolOverloaded: it has ``asubmit``.  RuntimeError after
        ``shutdown``.
        """
        return self._begin(self._permit(self._timeout), fn, args, kwargs)

    def try_submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """``submit`` that never waits: PoolOverloaded at once if the pool is full."""
        return self._begin(self._permit(0), fn, args, kwargs)

    def submit_within(
        self, timeout: float | None, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """``submit`` that waits for ``timeout`` seconds at most (PoolTimeout); None: for ever."""
        return self._begin(self._permit(seconds("timeout", timeout)), fn, args, kwargs)

    async def asubmit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """``submit`` for a task, in the same wait queue; does not block the event loop.  Await what
        it returns for the result.  Cancelled, it has submitted nothing."""
        from asyncio import wrap_future

        permit = units_quiet(self._group.permits, self._timeout)
        if not units_hit(permit):
            if self._group.over:
                raise self._group.refusal()
            if self._timeout == 0:
                raise self._full()
            try:
                await permit.__aenter__()
            except PoolClosed:
                raise self._group.refusal() from None
        return wrap_future(self._begin(permit, fn, args, kwargs))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """The results of ``fn`` for the items of the iterables, in their order.

        Begins at once.  At most ``buffersize`` tasks are submitted and not yet taken from the
        iterator, by default ``workers + max_queue``: so the iterables may be endless.  It waits for
        permits, whatever ``when_full`` says.  ``timeout``: seconds from this call to the last
        result, TimeoutError.  ``chunksize`` is that of other executors and does nothing.
        """
        most = look_ahead(buffersize, self._group.permits.size)
        timeout = seconds("timeout", timeout)
        end = None if timeout is None else time.monotonic() + timeout
        ahead = Ahead(self, fn, zip(*iterables), most, end)
        ahead.fill()
        return ahead.results()

    def _permit(self, timeout: float | None) -> SemaphoreHold:
        """A permit, entered."""
        permit = units_quiet(self._group.permits, timeout)
        if units_hit(permit):
            return permit
        group = self._group
        if group.over:
            raise group.refusal()
        if timeout == 0:
            raise self._full()
        modules = sys.modules  # no `get`: see _blocking.loop_here
        if "asyncio" in modules and modules["asyncio"]._get_running_loop() is not None:
            raise PoolOverloaded(
                group.name,
                "it is full, and this thread runs an event loop, which must not wait here: "
                "`await pool.asubmit(...)`, or try_submit()",
            )
        try:
            return group.wait_for_permit(partial(units_quiet, group.permits), timeout)
        except PoolClosed:
            raise group.refusal() from None

    def _full(self) -> PoolOverloaded:
        return PoolOverloaded(
            self._group.name,
            f"full: {self._group.permits.in_use} tasks are under way, for {self._max_workers} "
            f"workers and a queue of {self._max_queue}",
        )

    def _begin(
        self, permit: SemaphoreHold, fn: Callable[..., T], args: Any, kwargs: Any
    ) -> Future[T]:
        future: Future[T] = Future()
        try:
            self._group.add((future, copy_context(), fn, args, kwargs, permit))
        except BaseException:  # or the traceback would keep it
            permit.__exit__(None, None, None)
            raise
        return future

    # ---- the rest --------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuses new tasks, and wakes those who wait for a permit with RuntimeError.  What is
        queued is done first, or with ``cancel_futures`` cancelled.  ``wait``: until the threads
        have ended, but for a calling one.  Idempotent, from any thread."""
        group = self._group
        group.end()
        if cancel_futures:
            for future in group.left():
                if future.cancel():  # and no worker will tell futures.wait() and as_completed()
                    future.set_running_or_notify_cancel()
        if wait:
            group.join()

    def stats(self) -> WorkerStats:
        """An immutable snapshot."""
        group = self._group
        queued = group.tasks.qsize()
        running = max(0, group.permits.in_use - queued)
        return WorkerStats(len(group.threads), running, queued, group.permits.waiting)

    @property
    def _threads(self) -> set[threading.Thread]:
        return self._group.threads

    @property
    def _broken(self) -> bool:
        return self._group.broken

    def __del__(self) -> None:
        group = getattr(self, "_group", None)
        if group is not None:
            group.end()


class Ahead:
    """The tasks of one ``map`` that were submitted and not yet asked for."""

    def __init__(
        self,
        pool: WorkerPool,
        fn: Callable[..., Any],
        items: Iterator[tuple[Any, ...]],
        most: int,
        end: float | None,
    ) -> None:
        self.pool: WorkerPool | None = pool  # None: all has been submitted
        self.fn, self.items, self.most, self.end = fn, items, most, end
        self.item: tuple[Any, ...] | None = None  # taken from the iterables and not yet submitted
        self.futures: deque[Future[Any]] = deque()

    def left(self) -> float | None:
        return None if self.end is None else max(0.0, self.end - time.monotonic())

    def fill(self) -> None:
        """As many as there are permits for; waits for the first if none is under way.  Holds no
        permit while it takes an item: another map of the same pool may have to make that."""
        pool, futures = self.pool, self.futures
        permit: SemaphoreHold | None = None
        try:
            while True:  # not by a condition: see tests/project/test_loops_in_try.py
                if pool is None or len(futures) >= self.most:
                    return
                if self.item is None:
                    self.item = next(self.items, None)
                if self.item is None:
                    self.pool = None
                    return
                permit = units_quiet(pool._group.permits, 0)
                if not units_hit(permit):
                    if futures:
                        return
                    left = self.left()
                    if left == 0:
                        raise TimeoutError
                    permit = pool._permit(left)
                args, self.item = self.item, None
                futures.append(pool._begin(permit, self.fn, args, {}))
                permit = None
        except BaseException:
            if permit is not None:  # a signal handler's, before it was used
                permit.__exit__(None, None, None)
            self.cancel()
            raise

    def results(self) -> Iterator[Any]:
        try:
            while True:  # as above
                if not self.futures:
                    return
                yield self.next()
        finally:  # an error, too, ends it
            self.cancel()

    def next(self) -> Any:
        """The result of the first, in whose stead another is submitted."""
        result = self.futures[0].result(self.left())
        self.futures.popleft()
        if self.pool is not None:
            self.fill()
        return result

    def cancel(self) -> None:
        while self.futures:
            self.futures.pop().cancel()

"""TaskPool: what WorkerPool is for threads, for the coroutines of one event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Self, TypeVar

from .._core import SemaphoreHold, part_semaphore, units_hit, units_quiet
from .._runtime import registry
from ..errors import PoolClosed, PoolOverloaded
from ._options import WhenFull, look_ahead, waits, whole

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["TaskPool"]

P = ParamSpec("P")
T = TypeVar("T")

_number = itertools.count().__next__


class TaskPool:
    """At most ``workers`` coroutines at once, and at most ``max_queue`` tasks that wait for them.

    ``async with TaskPool(10, 100) as pool: task = await pool.submit(fetch, url)``.  A task that was
    submitted holds a permit until it has ended; with all permits taken ``submit`` waits, as
    ``when_full`` and ``submit_timeout`` say (see WorkerPool).  What a coroutine raises is its
    task's; leaving the block waits for all tasks, and cancels them if an exception passes.

    ``group``: an asyncio.TaskGroup in which the tasks are made: then it treats their errors as its
    own.  Without one the pool keeps the tasks alive.  For the tasks of one event loop; a bound for
    the tasks and threads of several is a WeightedSemaphore.
    """

    def __init__(
        self,
        workers: int,
        max_queue: int = 0,
        *,
        when_full: WhenFull = "wait",
        submit_timeout: float | None = None,
        group: asyncio.TaskGroup | None = None,
        name: str | None = None,
    ) -> None:
        self._workers = whole("workers", workers, 1)
        self._max_queue = whole("max_queue", max_queue, 0)
        self._timeout = waits(when_full, submit_timeout)
        self._group = group
        self.name = f"TaskPool-{_number()}" if name is None else str(name)
        self._permits = part_semaphore(workers + max_queue, name=self.name)
        self._runners = part_semaphore(workers, name=self.name)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        registry.enter(self)

    def __reduce__(self) -> NoReturn:
        from .._misuse import uncopied

        raise uncopied(self, self.name)

    def __repr__(self) -> str:
        return (
            f"<TaskPool {self.name!r}: {self.running} of {self._workers} running, {self.queued} of "
            f"{self._max_queue} queued, {self.waiting} waiting"
            f"{', shut down' if self._permits.closed else ''}>"
        )

    @property
    def running(self) -> int:
        """Coroutines under way."""
        return self._runners.in_use

    @property
    def queued(self) -> int:
        """Tasks that wait for their turn."""
        return max(0, self._permits.in_use - self._runners.in_use)

    @property
    def waiting(self) -> int:
        """Submitters that wait for a permit."""
        return self._permits.waiting

    # ---- submitting ------------------------------------------------------------------------------

    async def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[T]:
        """A task that awaits ``fn(*args, **kwargs)`` when its turn comes, first come, first served.

        Waits for a permit, or not, as ``when_full`` and ``submit_timeout`` say: PoolTimeout,
        PoolOverloaded; RuntimeError after ``shutdown``.  Cancelled, it has submitted nothing.
        """
        return self._begin(await self._permit(self._timeout), fn, args, kwargs)

    def try_submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[T]:
        """``submit`` that never waits: PoolOverloaded at once if the pool is full."""
        permit = units_quiet(self._permits, 0)
        if not units_hit(permit):
            raise self._refusal()
        return self._begin(permit, fn, args, kwargs)

    async def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
    ) -> AsyncIterator[T]:
        """The results of ``fn`` for the items of the iterables, in their order.

        At most ``buffersize`` tasks are under way or done and not yet taken, by default as many as
        there are permits: so the iterables may be endless.  Waits for permits, whatever
        ``when_full`` says.  What is under way when the iteration ends early is cancelled.
        """
        most = look_ahead(buffersize, self._permits.size)
        items, tasks = zip(*iterables), deque[asyncio.Task[T]]()
        permit: SemaphoreHold | None = None
        try:
            more = True
            while True:
                while True:  # not by a condition: see tests/project/test_loops_in_try.py
                    if not more or len(tasks) >= most:
                        break
                    permit = units_quiet(self._permits, 0)
                    if not units_hit(permit):
                        if tasks:
                            break
                        permit = await self._permit(None)
                    for args in items:
                        tasks.append(self._begin(permit, fn, args, {}))
                        permit = None
                        break
                    else:
                        more = False
                        permit.release()
                if not tasks:
                    return
                await asyncio.wait({tasks[0]})
                yield tasks.popleft().result()
        finally:
            if permit is not None:  # an iterable failed
                permit.__exit__(None, None, None)
            for task in tasks:
                task.cancel()

    async def _permit(self, timeout: float | None) -> SemaphoreHold:
        permit = units_quiet(self._permits, timeout)
        if units_hit(permit):
            return permit
        if timeout == 0 or self._permits.closed:
            raise self._refusal()
        try:
            return await permit.__aenter__()
        except PoolClosed:
            raise self._refusal() from None

    def _refusal(self) -> Exception:
        if self._permits.closed:
            return RuntimeError(f"{self.name}: cannot submit new tasks after shutdown")
        return PoolOverloaded(
            self.name,
            f"full: {self._permits.in_use} tasks are under way, for {self._workers} workers and a "
            f"queue of {self._max_queue}",
        )

    def _begin(
        self,
        permit: SemaphoreHold,
        fn: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> asyncio.Task[T]:
        run = self._run_one(permit, fn, args, kwargs)
        try:
            task = (self._group or self._own_loop()).create_task(run)
        except BaseException:
            run.close()
            permit.release()
            raise
        self._tasks.add(task)

        def done(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            permit.__exit__(None, None, None)  # of one that was cancelled before its first step

        task.add_done_callback(done)
        return task

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError(
                f"{self.name}: it belongs to the event loop that used it first; make one for each, "
                "and bound them together by a WeightedSemaphore"
            )
        return loop

    async def _run_one(
        self, permit: SemaphoreHold, fn: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """What a task does.  Its permit is free before its result is there."""
        try:
            async with self._runners.hold():
                return await fn(*args, **kwargs)
        finally:
            permit.__exit__(None, None, None)

    # ---- the end ---------------------------------------------------------------------------------

    async def shutdown(self, *, cancel: bool = False) -> None:
        """Refuses new tasks, wakes those who wait for a permit with RuntimeError, and waits for the
        tasks that there are; ``cancel``: cancels them first.  Idempotent."""
        self._permits.close()
        me = asyncio.current_task()
        tasks = {task for task in self._tasks if task is not me}
        if cancel:
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.shutdown(cancel=error is not None)
        except asyncio.CancelledError:  # while it waited for them
            await self.shutdown(cancel=True)
            raise

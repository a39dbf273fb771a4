"""A reset that is awaited: a task of the pool's, begun in the step that gives the resource back."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastpool import FastPool
from support.async_factories import AsyncMaker, Hang, accounted, use
from support.helpers import states
from support.loops import KINDS, new_loop, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)


class Iterations:
    """Counts those of the running loop, from here on."""

    def __init__(self) -> None:
        self.n = 0
        self._loop = asyncio.get_running_loop()
        self._next()

    def _next(self) -> None:
        self.n += 1
        self._handle = self._loop.call_soon(self._next)

    async def of(self, act: Callable[[], Awaitable[Any]]) -> int:
        """How many ``act`` takes; the fewest of some, since an answer may come in late."""
        found = []
        for _ in range(10):
            before = self.n
            await act()
            found.append(self.n - before)
        return min(found)

    def end(self) -> None:
        self._handle.cancel()


async def answer(_: object = None) -> None:
    """As that of a server that has answered when the loop looks for the first time."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


class Pool:
    """One resource with this hook, on the loop that runs."""

    def __init__(self, reset: Callable[[Any], Awaitable[None]]) -> None:
        async def make() -> object:
            return object()

        self.pool: Any = FastPool(1, factory=make, reset=reset)

    async def turn(self) -> None:
        async with self.pool.lease():
            pass

    async def iterations(self, act: Callable[[], Awaitable[Any]] | None = None) -> int:
        await self.turn()
        count = Iterations()
        try:
            return await count.of(act or self.turn)
        finally:
            count.end()


class TestIterationsOfTheLoop:
    @kinds
    @pytest.mark.parametrize("eager", [False, True])
    def test_a_reset_costs_one_beside_what_it_waits_for(self, kind: str, eager: bool) -> None:
        """That in which the pool's task ends, whatever makes the tasks of the loop."""
        if eager and sys.version_info < (3, 12):
            pytest.skip("eager tasks are new in 3.12")

        async def main() -> None:
            loop = asyncio.get_running_loop()
            if eager:
                loop.set_task_factory(asyncio.eager_task_factory)
                nothing = asyncio.sleep(0)
                try:
                    await loop.create_task(nothing)
                except TypeError as error:
                    nothing.close()
                    loop.set_task_factory(None)
                    pytest.skip(f"this loop and this factory do not fit each other: {error}")
            its = Pool(answer)
            alone = await its.iterations(answer)
            assert await its.iterations() <= alone + 1
            await its.pool.aclose()

        run_in(kind, main())

    @kinds
    def test_a_reset_that_does_not_wait_costs_none(self, kind: str) -> None:
        async def at_once(_: object) -> None:
            pass

        async def main() -> None:
            its = Pool(at_once)
            assert await its.iterations() == 0
            await its.pool.aclose()

        run_in(kind, main())

    @kinds
    def test_a_reset_gives_way_as_often_as_it_says(self, kind: str) -> None:
        """``asyncio.sleep(0)`` is one iteration, in the first step of a hook too."""

        async def give_way(_: object = None) -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        async def main() -> None:
            its = Pool(give_way)
            assert await its.iterations(give_way) == 2
            assert await its.iterations() == 3
            await its.pool.aclose()

        run_in(kind, main())


class TestItsTask:
    @kinds
    def test_the_hook_runs_in_one_task_and_one_context(self, kind: str) -> None:
        """From its first step to its last; the borrower's task and variables are what they were."""
        var: contextvars.ContextVar[str] = contextvars.ContextVar("var")
        tasks: list[Any] = []

        async def reset(_: object) -> None:
            assert var.get() == "borrower's"
            token = var.set("hook's")
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())
            assert var.get() == "hook's"
            await answer()
            assert var.get() == "hook's"
            var.reset(token)
            tasks.append(asyncio.current_task())

        async def main() -> None:
            me = asyncio.current_task()
            var.set("borrower's")
            its = Pool(reset)
            async with its.pool.lease():
                pass
            assert asyncio.current_task() is me and var.get() == "borrower's"
            assert len(tasks) == 3 and len(set(tasks)) == 1 and me not in tasks
            assert its.pool.stats().closed == {}
            await its.pool.aclose()

        run_in(kind, main())

    @kinds
    def test_a_timeout_inside_the_hook_is_the_hooks(self, kind: str) -> None:
        """Set in its first step, it cancels the hook and not the borrower."""
        seen: list[str] = []

        async def reset(_: object) -> None:
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            except TimeoutError:
                seen.append("hook")

        async def main() -> None:
            its = Pool(reset)
            await its.turn()
            current = asyncio.current_task()
            assert current is not None and not current.cancelling()
            assert seen == ["hook"] and states(its.pool) == {"idle": 1}
            await its.pool.aclose()

        run_in(kind, main())

    @kinds
    def test_a_borrower_without_a_task(self, kind: str) -> None:
        """A coroutine that a callback of the loop runs by hand, step by step."""
        its: Any = None

        async def reset(_: object) -> None:
            seen.append(asyncio.current_task())

        def by_hand() -> None:
            assert asyncio.current_task() is None
            with pytest.raises(StopIteration):
                its.turn().send(None)
            seen.append(asyncio.current_task())

        async def main() -> None:
            nonlocal its
            its = Pool(reset)
            await its.turn()
            asyncio.get_running_loop().call_soon(by_hand)
            await aeventually(lambda: len(seen) == 3)
            assert isinstance(seen[1], asyncio.Task) and seen[2] is None
            await its.pool.aclose()

        seen: list[Any] = []
        run_in(kind, main())

    @kinds
    @pytest.mark.parametrize("waits", [False, True])
    def test_an_interrupt_in_the_hook_closes_the_resource(self, kind: str, waits: bool) -> None:
        """KeyboardInterrupt, as of a signal handler, ends the run; the next one is served."""

        async def reset(_: object) -> None:
            if waits:
                await answer()
            if not seen:
                seen.append(1)
                raise KeyboardInterrupt

        async def make() -> object:
            return object()

        seen: list[int] = []
        pool: Any = FastPool(1, factory=make, reset=reset)
        loop = new_loop(kind)
        # The pool's task has it as well, which nobody asks: the loop says so when it is collected.
        loop.set_exception_handler(lambda *_: None)
        asyncio.set_event_loop(loop)
        try:
            turn = loop.create_task(use(pool))
            while not turn.done():  # it ends the run of the hook's task, then of the borrower's
                with pytest.raises(KeyboardInterrupt):
                    loop.run_until_complete(turn)
            assert isinstance(turn.exception(), KeyboardInterrupt)
            loop.run_until_complete(use(pool))
            assert pool.stats().closed == {"interrupted": 1}
            loop.run_until_complete(pool.aclose())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    @kinds
    def test_cancelled_before_its_second_step(self, kind: str) -> None:
        """With all tasks of the loop, in the very step in which it was begun: what it awaits is
        cancelled too, and the resource is closed."""
        awaited: list[asyncio.Future[None]] = []

        async def reset(_: object) -> None:
            awaited.append(asyncio.get_running_loop().create_future())
            await awaited[0]

        async def main() -> None:
            its = Pool(reset)
            lease = await its.pool.aacquire()
            before = asyncio.all_tasks()
            ended = lease.__aexit__(None, None, None)
            [task] = asyncio.all_tasks() - before
            task.cancel()
            await ended
            assert awaited[0].cancelled()
            await aeventually(lambda: states(its.pool) == {})
            assert its.pool.stats().closed == {"reset": 1}
            await its.pool.aclose()

        run_in(kind, main())

    @kinds
    def test_a_borrower_that_goes_leaves_the_reset_to_the_pool(self, kind: str) -> None:
        """Cancelled in the first iteration, when the hook's task has not begun."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            maker.steps = 0
            hang = Hang()
            maker.script["reset"].append(hang)
            task = asyncio.ensure_future(use(pool))
            await aeventually(hang.begun.is_set)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled() and states(pool) == {"checking": 1} and not hang.cancelled
            hang.let_go()
            await aeventually(lambda: states(pool) == {"idle": 1})

        with accounted(1) as (pool, maker):
            run_in(kind, main(pool, maker))

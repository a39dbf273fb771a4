"""fastpool.contrib.anyio, on both backends of anyio; and what trio is told without it."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from fastpool import EventLoopWarning, FastPool, PoolClosed, PoolTimeout
from fastpool.testing import ManualClock
from support.helpers import PATIENCE, ThreadRunner, states, told, works
from support.helpers import eventually as soon

anyio = pytest.importorskip("anyio", reason="anyio is not installed")
trio = pytest.importorskip("trio", reason="trio is not installed")

from fastpool.contrib import anyio as contrib  # noqa: E402
from fastpool.contrib.anyio import close, lease  # noqa: E402

Run = Callable[..., Any]
TRIO_ONLY = pytest.mark.parametrize("run", ["trio"], indirect=True)


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """``anyio.run`` with a deadline, on each backend."""

    def run(main: Callable[..., Any], *args: Any) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(PATIENCE):
                return await main(*args)

        return anyio.run(bounded, backend=request.param)

    return run


async def eventually(condition: Callable[[], Any]) -> None:
    """Lets the loop run until it is true; the deadline is that of ``run``."""
    while not condition():
        await anyio.sleep(0.0005)


class TestLeases:
    def test_tasks_share(self, run: Run, accounted: Any) -> None:
        """Twenty tasks over two resources: each resource has one holder at a time."""
        pool, maker = accounted(2)

        async def borrow() -> None:
            async with lease(pool, timeout=PATIENCE) as resource:
                assert resource.holder is None
                resource.holder = anyio.get_current_task().id
                await anyio.sleep(0.001)
                resource.holder = None

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(borrow)

        run(main)
        assert pool.stats().uses == 20 and maker.made <= 2
        works(pool, 2)

    def test_a_hit_is_served_in_slot(
        self, run: Run, accounted: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is idle needs no other loop."""
        pool, maker = accounted(1)
        works(pool, 1)
        monkeypatch.setattr(contrib, "_helper", lambda: pytest.fail("it went to the helper"))

        async def main() -> None:
            for _ in range(3):
                async with lease(pool) as resource:
                    assert resource is maker.all[0]
                    assert states(pool) == {"leased": 1}
                assert states(pool) == {"idle": 1}

        run(main)

    def test_an_exception_decides_as_ever(self, run: Run, accounted: Any) -> None:
        """What discard_on names closes the resource, another exception does not."""
        pool, _ = accounted(1)

        async def main() -> None:
            with pytest.raises(KeyError):
                async with lease(pool):
                    raise KeyError
            await eventually(lambda: states(pool) == {"idle": 1})
            with pytest.raises(ConnectionError):
                async with lease(pool) as resource:
                    raise ConnectionError
            await eventually(lambda: resource.closed and pool.stats().closed == {"error": 1})

        run(main)

    def test_time_outs(self, run: Run, accounted: Any) -> None:
        """The pool's own, one for this call, none at all, and a bad one."""
        pool, _ = accounted(1, timeout=0.01)
        held = pool.acquire(timeout=PATIENCE)

        async def main() -> None:
            for how in ((), (0.01,), (0,)):
                with pytest.raises(PoolTimeout) as caught:
                    async with lease(pool, *how):
                        pass
                assert caught.value.phase == "wait"
            with pytest.raises(ValueError, match="timeout"):
                async with lease(pool, -1):
                    pass
            threading.Timer(0.02, held.release).start()
            async with lease(pool, None):
                pass

        run(main)

    @pytest.mark.parametrize("error", [LookupError, SystemExit])
    def test_a_factory_that_fails(
        self, run: Run, accounted: Any, error: type[BaseException]
    ) -> None:
        """Its very exception arrives, and the next one is served."""
        pool, maker = accounted(1)
        maker.script.append(error("no such thing"))

        async def main() -> None:
            with pytest.raises((error, PoolTimeout)) as caught:
                async with lease(pool, 1):
                    pass
            assert "no such thing" in told(caught.value) + repr(caught.value.__cause__)
            async with lease(pool, PATIENCE):
                pass

        run(main)

    def test_one_queue_with_threads(self, run: Run, accounted: Any, runner: ThreadRunner) -> None:
        """Thread, task, thread: first come, first served."""
        pool, _ = accounted(1)
        order: list[str] = []

        def thread(name: str) -> None:
            with pool.lease(timeout=PATIENCE):
                order.append(name)

        async def task() -> None:
            async with lease(pool, PATIENCE):
                order.append("task")

        held = pool.acquire(timeout=PATIENCE)

        async def main() -> None:
            async with anyio.create_task_group() as group:
                runner.start(thread, "first")
                await eventually(lambda: pool.stats().waiting == 1)
                group.start_soon(task)
                await eventually(lambda: pool.stats().waiting == 2)
                runner.start(thread, "last")
                await eventually(lambda: pool.stats().waiting == 3)
                held.release()

        run(main)
        runner.finish()
        assert order == ["first", "task", "last"]

    def test_the_loop_runs_while_hooks_do(self, run: Run, accounted: Any) -> None:
        """The check at the loan and the reset at the end run on other threads."""
        clock, gate = ManualClock(), threading.Event()
        threads: dict[str, int] = {}

        def hook(name: str) -> Callable[[Any], None]:
            def call(resource: Any) -> None:
                threads[name] = threading.get_ident()
                assert gate.wait(PATIENCE), "the loop stood still"

            return call

        pool, _ = accounted(1, clock=clock, check_after=10, check=hook("check"))
        gate.set()
        works(pool, 1)
        clock.advance(11)
        gate.clear()
        resetting, _ = accounted(1, reset=hook("reset"))

        async def borrow(pool: Any) -> None:
            async with lease(pool, PATIENCE):
                pass

        async def main() -> None:
            for name, other in (("check", pool), ("reset", resetting)):
                gate.clear()
                async with anyio.create_task_group() as group:
                    group.start_soon(borrow, other)
                    await eventually(lambda name=name: name in threads)
                    gate.set()
            await eventually(lambda: states(resetting) == {"idle": 1})

        run(main)
        assert len(threads) == 2 and threading.get_ident() not in threads.values()


def test_a_plain_call_that_waits_on_trio_is_told() -> None:
    """It stops trio as it stops asyncio."""

    async def main() -> None:
        with pytest.warns(EventLoopWarning, match=r"fastpool\.contrib\.anyio"):
            with pytest.raises(PoolTimeout) as caught:
                pool.get(timeout=0.01)
        assert "event loop of trio" in told(caught.value)

    with FastPool(items=["one"]) as pool:
        held = pool.get()
        trio.run(main)
        pool.put(held)


class TestCancellation:
    def test_a_wait(self, run: Run, accounted: Any) -> None:
        """It leaves the queue, and what comes free goes to the next."""
        pool, _ = accounted(1)
        served = threading.Event()

        async def late() -> None:
            async with lease(pool, PATIENCE):
                served.set()

        held = pool.acquire(timeout=PATIENCE)

        async def main() -> None:
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as inner:
                        inner.start_soon(late)
                        await eventually(lambda: pool.stats().waiting == 1)
                        scope.cancel()
                await eventually(lambda: pool.stats().waiting == 0)
                group.start_soon(late)
                await eventually(lambda: pool.stats().waiting == 1)
                held.release()

        run(main)
        assert served.is_set()
        works(pool, 1)

    def test_before_it_waits(self, run: Run, accounted: Any) -> None:
        """In a scope that is cancelled already nothing is asked of the factory on trio, and nothing
        is lost anywhere."""
        pool, _ = accounted(1)

        async def main() -> None:
            with anyio.CancelScope() as scope:
                scope.cancel()
                async with lease(pool, PATIENCE):
                    await anyio.lowlevel.checkpoint()
                pytest.fail("not cancelled")

        run(main)
        works(pool, 1)

    def test_while_it_is_made(self, run: Run, accounted: Any) -> None:
        """The pool keeps what arrives late."""
        pool, maker = accounted(1)
        maker.gate.clear()

        async def borrow() -> None:
            async with lease(pool, PATIENCE):
                pytest.fail("it got one")

        async def main() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(borrow)
                await eventually(lambda: maker.running == 1)
                group.cancel_scope.cancel()
            await eventually(lambda: pool.stats().waiting == 0)
            maker.gate.set()
            await eventually(lambda: states(pool) == {"idle": 1})

        run(main)
        assert maker.made == 1

    def test_in_the_block(self, run: Run, accounted: Any) -> None:
        """The resource was in use: it is closed, as with any exception that is no Exception."""
        pool, maker = accounted(1)

        async def main() -> None:
            with anyio.CancelScope() as scope:
                async with lease(pool, PATIENCE):
                    scope.cancel()
                    await anyio.sleep(PATIENCE)
            await eventually(lambda: maker.closed == 1)

        run(main)
        works(pool, 1)

    @TRIO_ONLY
    @pytest.mark.parametrize("reset", [None, lambda resource: None], ids=["plain", "reset"])
    def test_when_it_was_granted_at_that_moment(
        self, run: Run, accounted: Any, monkeypatch: pytest.MonkeyPatch, reset: Any
    ) -> None:
        """The grant has arrived, but the task is cancelled before it hears of it."""
        told = threading.Event()

        class Deaf:
            set = staticmethod(told.set)
            wait = staticmethod(anyio.sleep_forever)

        pool, maker = accounted(1, reset=reset)
        monkeypatch.setattr(contrib, "Event", Deaf)

        async def borrow() -> None:
            async with lease(pool, PATIENCE):
                pytest.fail("it got one")

        async def main() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(borrow)
                await eventually(told.is_set)
                assert states(pool) == {"leased": 1}
                group.cancel_scope.cancel()

        run(main)
        soon(lambda: states(pool) == {"idle": 1})
        assert maker.closed == 0

    @TRIO_ONLY
    def test_when_trio_has_ended(self, run: Run, accounted: Any) -> None:
        """Nobody is left to take what was granted: it goes back."""
        pool, maker = accounted(1)

        async def main() -> Any:
            return contrib._OffloadedCall(pool.aacquire, contrib._give_back)

        offloaded = run(main)
        offloaded.loop.call_soon_threadsafe(offloaded.begin)
        soon(lambda: maker.made and states(pool) == {"idle": 1})
        assert maker.closed == 0

    @TRIO_ONLY
    def test_a_result_that_is_given_up_twice_is_undone_once(self, run: Run) -> None:
        """By the cancelled task and by the end of trio's run: neither stops the other's undoing."""
        undone = []

        async def undo(result: str) -> None:
            await asyncio.sleep(0)
            undone.append(result)

        async def call() -> str:
            asyncio.get_running_loop().call_soon(offloaded.give_up)
            return "lease"

        async def main() -> Any:
            return contrib._OffloadedCall(call, undo)

        offloaded = run(main)
        offloaded.loop.call_soon_threadsafe(offloaded.begin)
        soon(lambda: undone)
        done = threading.Event()
        offloaded.loop.call_soon_threadsafe(done.set)
        assert done.wait(PATIENCE) and undone == ["lease"]

    def test_many(self, run: Run, accounted: Any, runner: ThreadRunner) -> None:
        """Cancelled at random, beside threads: nothing is lost, doubled or stuck."""
        pool, maker = accounted(3)
        chance, over = random.Random(5), threading.Event()

        def thread(_: int) -> None:
            while not over.is_set():
                with pool.lease(timeout=PATIENCE) as resource:
                    assert resource.holder is None
                    resource.holder = threading.get_ident()
                    resource.holder = None

        async def task() -> None:
            for _ in range(15):
                with anyio.move_on_after(chance.random() * 0.003):
                    async with lease(pool, PATIENCE) as resource:
                        assert resource.holder is None
                        resource.holder = "task"
                        try:
                            await anyio.sleep(chance.random() * 0.002)
                        finally:
                            resource.holder = None

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(task)

        runner.together(2, thread)
        run(main)
        over.set()
        runner.finish()
        soon(lambda: pool.stats().waiting == 0 and not pool.stats().leased)
        works(pool, 3)


class TestClosing:
    def test_it_waits_for_borrowers(self, run: Run, accounted: Any) -> None:
        """Waiters get PoolClosed, the block goes on, and then all is closed."""
        pool, maker = accounted(1)

        async def holder(held: Any, end: Any) -> None:
            async with lease(pool, PATIENCE):
                held.set()
                await end.wait()

        async def waiter() -> None:
            with pytest.raises(PoolClosed):
                async with lease(pool, PATIENCE):
                    pass

        async def main() -> None:
            held, end = anyio.Event(), anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(holder, held, end)
                await held.wait()
                group.start_soon(waiter)
                await eventually(lambda: pool.stats().waiting == 1)
                assert await close(pool, 0) is False
                end.set()
                assert await close(pool, PATIENCE) is True

        run(main)
        assert maker.made == maker.closed == 1

    def test_cancelled(self, run: Run, accounted: Any) -> None:
        """The pool is closed all the same."""
        pool, _ = accounted(1)
        held = pool.acquire(timeout=PATIENCE)

        async def main() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(close, pool, None)
                await eventually(lambda: pool.is_shutdown)
                group.cancel_scope.cancel()

        run(main)
        held.release()
        assert pool.close(PATIENCE)


class TestWithoutIt:
    @pytest.mark.parametrize("act", ["lease", "aget", "aacquire", "aclose", "awarm"])
    def test_trio_is_told_what_to_use(self, accounted: Any, act: str) -> None:
        """The pool's own face on trio: a clear error where it would have to wait."""
        pool, _ = accounted(1)
        held = pool.acquire(timeout=PATIENCE)

        async def main() -> None:
            async with AsyncExitStack() as stack:
                if act == "lease":
                    await stack.enter_async_context(pool.lease())
                else:
                    await getattr(pool, act)(*[1] * (act == "awarm"))

        with pytest.raises(RuntimeError, match=r"on trio use fastpool\.contrib\.anyio"):
            trio.run(main)
        held.release()
        works(pool, 1)

    @pytest.mark.parametrize("act", ["aget", "aput"])
    def test_queues_tell_it_too(self, act: str) -> None:
        queue: FastPool[str] = FastPool(1)
        if act == "aput":
            queue.put("full")

        async def main() -> None:
            await getattr(queue, act)(*["one more"] * (act == "aput"))

        with pytest.raises(RuntimeError, match="asyncio only"):
            trio.run(main)
        assert queue.qsize() == (act == "aput")


class TestAsyncFactories:
    def test_they_are_for_asyncio(self, run: Run, request: pytest.FixtureRequest) -> None:
        """Their resources belong to the loop that made them, and trio has none."""

        class Connection:
            loop: Any = None
            open = True

            async def aclose(self) -> None:
                self.open = False

        async def connect() -> Connection:
            connection = Connection()
            connection.loop = anyio.lowlevel.current_token()
            return connection

        pool = FastPool(1, factory=connect)

        async def main() -> Connection:
            async with lease(pool) as connection:
                assert connection.loop == anyio.lowlevel.current_token()
            assert await close(pool)
            return connection

        if request.node.callspec.params["run"] == "asyncio":
            assert not run(main).open
        else:
            with pytest.raises(TypeError, match="asyncio; none of its event loops"):
                run(main)
            assert states(pool) == {} and pool.stats().created == 0
            assert trio.run(close, pool)


class TestProcesses:
    def test_a_forked_child_has_a_helper_of_its_own(self) -> None:
        """Parent and child wait on trio, and both end without a word."""
        if not hasattr(__import__("os"), "fork"):
            pytest.skip("this system has no fork")
        program = """
import os, threading, trio, warnings
from fastpool import FastPool
from fastpool.contrib.anyio import close, lease
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

async def main():
    pool = FastPool(1, factory=object)
    async with lease(pool, 5):
        pass
    assert await close(pool)

trio.run(main)
child = os.fork()
trio.run(main)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_without_anyio_it_says_what_to_install(self) -> None:
        program = "import sys; sys.modules['anyio'] = None; import fastpool.contrib.anyio"
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].endswith("pip install 'fastpool[anyio]'")

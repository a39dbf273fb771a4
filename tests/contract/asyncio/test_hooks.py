"""Where hooks run when a task calls, and how a task is named as holder."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from fastpool import FastPool, PoolClosed, PoolTimeout
from support.helpers import PATIENCE, Maker, Resource, states, works
from support.helpers import eventually as soon
from support.loops import Run, eventually, queued


class Gate:
    """A hook that stays inside until it is let through, and knows the threads that ran it."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.threads: list[int] = []

    def __call__(self, resource: Any) -> None:
        self.threads.append(threading.get_ident())
        self.entered.set()
        assert self.open.wait(PATIENCE), "the loop stood still, or nobody opened the gate"

    async def pass_through(self) -> None:
        """Lets it through once it is inside; the loop must run for that."""
        await eventually(self.entered.is_set)
        assert threading.get_ident() not in self.threads, "a hook ran on the loop"
        self.open.set()


class TestHooks:
    @pytest.mark.parametrize(
        ("hook", "how"),
        [("reset", "put"), ("reset", "release")]
        + [("close", how) for how in ("put", "discard", "release", "lease.discard", "flush")],
    )
    def test_plain_calls_of_a_task_run_no_hook_on_its_loop(
        self, run: Run, accounted: Any, how: str, hook: str
    ) -> None:
        """They return at once; a worker runs the hook."""
        gate = Gate()

        def close(resource: Any) -> None:
            gate(resource)
            resource.close()

        pool, _ = accounted(1, **({"reset": gate} if hook == "reset" else {"close": close}))

        async def main() -> None:
            lease = await pool.aacquire()
            resource = lease.resource
            if hook == "close" and how in ("put", "release"):
                pool.flush()  # so that the return closes it
            {
                "put": lambda: pool.put(resource),
                "discard": lambda: pool.discard(resource),
                "release": lease.release,
                "lease.discard": lease.discard,
                "flush": lambda: (lease.release(), pool.flush()),
            }[how]()
            await gate.pass_through()
            await eventually(lambda: states(pool) == ({"idle": 1} if hook == "reset" else {}))

        run(main())

    def test_creation_is_off_the_loop(self, run: Run, accounted: Any) -> None:
        """The factory blocks; the loop runs, and lets it go on."""
        pool, maker = accounted(1)
        maker.gate.clear()

        async def main() -> None:
            task = await queued(pool, 1, pool.aacquire())
            await eventually(lambda: maker.running == 1)
            maker.gate.set()
            (await task).release()

        run(main())

    def test_a_check_is_off_the_loop(self, run: Run, accounted: Any, clock: Any) -> None:
        """The check blocks; the loop runs, and lets it go on."""
        gate = Gate()
        pool, maker = accounted(1, check=gate, check_after=0, clock=clock)
        pool.put(pool.get())  # a new one is not checked

        async def main() -> None:
            task = asyncio.create_task(pool.aacquire())
            await gate.pass_through()
            (await task).release()

        run(main())
        assert maker.made == 1

    def test_a_check_takes_its_time_from_that_of_the_call(
        self, run: Run, accounted: Any, monkeypatch: pytest.MonkeyPatch, clock: Any
    ) -> None:
        """Who waits for a new resource after a failed check has what is left of the timeout."""
        later = 0.0
        ahead = SimpleNamespace(monotonic=lambda: time.monotonic() + later)

        def check(resource: Any) -> bool:
            nonlocal later
            later = 299.99
            return False

        pool, maker = accounted(1, check=check, check_after=0, clock=clock)

        async def main() -> None:
            pool.put(await pool.aget())
            monkeypatch.setattr(
                "fastpool._aio.slow_paths.time", ahead
            )  # the loop has its own by now
            maker.gate.clear()  # of the new one
            with pytest.raises(PoolTimeout):
                await pool.aget(timeout=300)
            maker.gate.set()

        run(main())

    @pytest.mark.parametrize("take", ["aget", "aacquire", "lease"])
    def test_a_failed_check_closes_and_the_next_is_tried(
        self, run: Run, accounted: Any, take: str
    ) -> None:
        """The task gets a healthy one, made for it."""

        def check(resource: Resource) -> None:
            assert resource.healthy

        pool, maker = accounted(1, check=check, check_after=0)
        pool.put(pool.get())  # a new one is not checked
        maker.all[0].healthy = False

        async def main() -> None:
            if take == "aget":
                resource = await pool.aget()
                pool.put(resource)
            elif take == "aacquire":
                lease = await pool.aacquire()
                resource = lease.resource
                lease.release()
            else:
                async with pool.lease() as resource:
                    pass
            assert resource.number == 1

        run(main())
        assert maker.all[0].closed

    def test_a_reset_is_off_the_loop(self, run: Run, accounted: Any) -> None:
        """The end of the block waits for it, and the loop runs."""
        gate = Gate()
        pool, _ = accounted(1, reset=gate)

        async def main() -> None:
            async def work() -> None:
                async with pool.lease():
                    pass
                assert states(pool) == {"idle": 1}

            task = asyncio.create_task(work())
            await gate.pass_through()
            await task

        run(main())

    def test_a_reset_that_raises_what_is_no_exception_costs_no_slot(
        self, run: Run, accounted: Any
    ) -> None:
        """The task that gave back gets it; the resource is closed."""

        class Blow(BaseException):
            pass

        def reset(resource: Any) -> None:
            if resource.number == 0:
                raise Blow

        pool, maker = accounted(1, reset=reset)

        async def main() -> None:
            with pytest.raises(Blow):
                async with pool.lease():
                    pass
            await eventually(lambda: states(pool) == {} and maker.closed == 1)
            async with pool.lease() as resource:
                assert resource.number == 1

        run(main())
        works(pool, 1)

    def test_many_slow_resets_at_once(self, run: Run, accounted: Any) -> None:
        """Each ends; those who wait are served by what comes out of them."""
        pool, _ = accounted(3, reset=lambda resource: time.sleep(0.001))

        async def work() -> None:
            for _ in range(5):
                async with pool.lease(timeout=PATIENCE):
                    await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(*(work() for _ in range(12)))

        run(main())
        works(pool, 3)

    def test_close_hooks_run_off_the_loop(self, run: Run) -> None:
        """Those of aclose, of a block left by an exception, of a lease ended on a closed pool."""
        for how in ("aclose", "error", "closed"):
            gate = Gate()
            pool: Any = FastPool(1, factory=lambda: Resource(Maker(), 0), close=gate)

            async def main(how: str = how, gate: Gate = gate, pool: Any = pool) -> None:
                async def act() -> None:
                    if how == "error":
                        async with pool.lease():
                            raise OSError
                    if how == "closed":
                        async with pool.lease():
                            pool.shutdown()
                    async with pool.lease():
                        pass
                    await pool.aclose()

                task = asyncio.create_task(act())
                await gate.pass_through()
                await asyncio.wait([task], timeout=PATIENCE)
                error = task.exception()
                expected = {"error": OSError, "closed": PoolClosed}.get(how, type(None))
                assert type(error) is expected, error

            run(main())
            pool.close(timeout=0)

    def test_awarm(self, run: Run, accounted: Any) -> None:
        """Opens off the loop; says how many are open; raises what the factory raises."""
        pool, maker = accounted(3)

        async def main() -> None:
            maker.gate.clear()
            task = asyncio.create_task(pool.awarm(2))
            await eventually(lambda: maker.running == 2)
            maker.gate.set()
            assert await task == 2
            maker.script.append(LookupError("no server"))
            with pytest.raises(LookupError):
                await pool.awarm(3)

        run(main())

    def test_awarm_in_time(self, run: Run, accounted: Any) -> None:
        pool, maker = accounted(3)
        maker.gate.clear()

        async def main() -> None:
            with pytest.raises(PoolTimeout):
                await pool.awarm(3, timeout=0.02)

        run(main())


class TestHolders:
    def test_a_task_is_named_by_its_own_stack(
        self, run: Run, clock: Any, accounted: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """leases(), a timeout, the report of a leak and the warning for a lost lease: all know
        the coroutine that took it, though the event loop runs it."""
        pool, maker = accounted(1, leak_after=60, clock=clock)

        async def borrower() -> Any:
            return await pool.aacquire()

        async def main() -> Any:
            lease = await asyncio.create_task(borrower())
            with pytest.raises(PoolTimeout, match="test_hooks"):
                await pool.aget(timeout=0)
            return lease

        lease = run(main())
        (holder,) = pool.leases()
        assert holder.resource is lease.resource and "in borrower" in str(holder.stack)
        del holder
        with caplog.at_level(logging.WARNING, logger="fastpool"):
            clock.advance(61)
            soon(lambda: "in borrower" in caplog.text)
        with pytest.warns(ResourceWarning, match="test_hooks"):
            del lease
            gc.collect()
            soon(lambda: maker.closed == 1)

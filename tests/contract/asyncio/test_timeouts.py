"""Timeouts of tasks: one timer a loop, very many at one instant, clocks of their own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from fastpool import PoolTimeout
from fastpool._aio.timeouts import AT_ONCE, Timeouts
from support.helpers import PATIENCE, ThreadRunner
from support.loops import Run, queued


def pass_by(until: float) -> None:
    """Keeps the loop, and the thread, busy."""
    while time.monotonic() < until:
        pass


class TestManyAtOneInstant:
    def test_the_loop_goes_on_in_between(self, run: Run, accounted: Any) -> None:
        """What is ready beside a thousand timeouts has its turn after a few of them."""
        pool, _ = accounted(1)
        ended = 0

        async def late() -> None:
            nonlocal ended
            with pytest.raises(PoolTimeout):
                await pool.aget(timeout=0.05)
            ended += 1

        async def main() -> None:
            held = await pool.aacquire()
            tasks = [asyncio.ensure_future(late()) for _ in range(1000)]
            await asyncio.sleep(0)
            pass_by(time.monotonic() + 0.06)  # all of them are over
            most = 0
            while ended < len(tasks):
                before = ended
                await asyncio.sleep(0)
                most = max(most, ended - before)
            held.release()
            assert most <= AT_ONCE
            await asyncio.gather(*tasks)

        run(main())

    def test_who_is_late_by_a_hair_is_passed_over(
        self, run: Run, accounted: Any, runner: ThreadRunner
    ) -> None:
        """The loop has not yet found out: a thread behind its task is served at once."""
        pool, _ = accounted(1)

        def thread() -> None:
            with pool.lease(timeout=PATIENCE):
                pass

        async def main() -> None:
            rounds, span = 0, 0.02
            while rounds < 10:
                held = await pool.aacquire()
                task = await queued(pool, 1, pool.aacquire(timeout=span))
                until = time.monotonic() + span  # at the latest
                served = runner.start(thread)
                while pool.stats().waiting < 2 and time.monotonic() < until:
                    time.sleep(0)
                in_time = time.monotonic() < until  # else its own timer may have been faster
                rounds, span = rounds + in_time, span if in_time else 2 * span
                pass_by(until)
                held.release()
                served.result()
                with pytest.raises(PoolTimeout):
                    await task

        run(main())


def test_a_loop_whose_time_stands_still(accounted: Any) -> None:
    """Its waits are over by its own clock alone: none is passed over by the core's."""
    pool, _ = accounted(1)

    class Standing(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return 1000.0

    async def main() -> None:
        held = await pool.aacquire()
        task = asyncio.ensure_future(pool.aacquire(timeout=0.001))
        await asyncio.sleep(0)
        pass_by(time.monotonic() + 0.005)
        held.release()
        for _ in range(10):
            await asyncio.sleep(0)
        assert task.done()
        task.result().release()

    with asyncio.Runner(loop_factory=Standing) as asyncio_runner:
        asyncio_runner.run(main())


# ---- The timer by itself ----


class Late:
    """In the place of a wait."""

    pending = True

    def __init__(self, told: list[Any], error: BaseException | None = None) -> None:
        self.told, self.error = told, error

    def expire(self) -> None:
        self.pending = False
        self.told.append(self)
        if self.error is not None:
            raise self.error


class TestTimer:
    def test_a_signal_among_time_outs_stops_no_other(self) -> None:
        """KeyboardInterrupt raised in the midst: the rest is told when the loop goes on."""
        told: list[Any] = []
        loop = asyncio.new_event_loop()
        expiry: Any = Timeouts(loop, time.monotonic)
        for n in range(10):
            expiry.add(Late(told, KeyboardInterrupt() if n == 3 else None), 0.0)
        try:
            with pytest.raises(KeyboardInterrupt):
                loop.run_forever()
            assert len(told) == 4
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
            assert len(told) == 10
        finally:
            loop.close()

    def test_they_are_told_in_the_order_of_their_times(self) -> None:
        """Whatever the order in which they began, and an earlier one after the timer was set."""
        told: list[Any] = []
        loop = asyncio.new_event_loop()
        expiry: Any = Timeouts(loop, time.monotonic)
        waits = {span: Late(told) for span in (0.03, 0.01, 0.02, 0.0)}
        for span, wait in waits.items():
            expiry.add(wait, span)
        loop.call_later(0.06, loop.stop)
        loop.run_forever()
        loop.close()
        assert told == [waits[span] for span in sorted(waits)]

    def test_those_that_have_ended_are_dropped(self) -> None:
        """Deadlines of which no two are equal, each met long before: no memory for them."""
        loop = asyncio.new_event_loop()
        expiry: Any = Timeouts(loop, time.monotonic)
        for n in range(10_000):
            wait = Late([])
            expiry.add(wait, 30 + n / 1000)
            wait.pending = False
        loop.close()
        assert len(expiry._entries) <= 65

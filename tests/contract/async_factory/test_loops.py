"""One pool of coroutines over several event loops: whose slot it is, and who gives up which."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fastpool import PoolTimeout, _core
from fastpool._runtime import scheduler
from fastpool.pool._loop_capacity import SPARE_AFTER
from support.async_factories import AsyncMaker, Hang, accounted, borrowed, threads, use
from support.helpers import PATIENCE, ThreadRunner, eventually, states
from support.loops import KINDS, queued, run_in

kinds = pytest.mark.parametrize("kind", KINDS)


class TestEviction:
    """What one loop has is closed there for another, when the cap is reached."""

    @kinds
    def test_a_slot_moves_between_loops(self, kind: str) -> None:
        """Cap 1 over two loops: to and fro, each time closed by the loop that made it."""
        with accounted(1) as (pool, maker), threads(kind, 2) as loops:
            for turn in range(6):
                assert loops[turn % 2].run(use(pool)).number == turn
            assert pool.stats().closed == {"evicted": 5}
            assert [thing.number for thing in maker.closings] == [0, 1, 2, 3, 4]

    @kinds
    def test_the_idle_longest_goes_first(self, kind: str, clock: Any) -> None:
        """Over all loops, whatever order they were made in."""
        with accounted(3, clock=clock) as (pool, maker), threads(kind, 3) as (one, two, three):
            a, b = one.run(pool.aget()), one.run(pool.aget())
            c = two.run(pool.aget())
            for loop, thing in ((one, b), (two, c), (one, a)):
                clock.advance(1)
                loop.call(pool.put, thing)
                eventually(lambda: "checking" not in states(pool))
            for expected in (b, c, a):
                assert three.run(pool.aget()) not in (a, b, c)
                assert maker.closings[-1] is expected
            for thing in maker.all[3:]:
                pool.put(thing)

    @kinds
    def test_not_while_there_is_capacity(self, kind: str) -> None:
        """Nor for a loop that has something idle itself."""
        with accounted(3) as (pool, _), threads(kind, 2) as (one, other):
            one.run(use(pool))
            other.run(use(pool))
            other.run(use(pool))
            assert pool.stats().created == 2
            lease = other.run(pool.aacquire())
            other.run(use(pool))
            other.call(lease.release)
            eventually(lambda: states(pool) == {"idle": 3})
            assert pool.stats().closed == {}

    @kinds
    @pytest.mark.parametrize("back", ["put", "release", "block"])
    def test_what_comes_back_later(self, kind: str, back: str) -> None:
        """All is lent when the other loop begins to wait."""
        with accounted(1) as (pool, maker), threads(kind, 2) as (one, other):
            over = threading.Event()
            if back == "block":
                held = one.start(borrowed(pool, maker, over.is_set))
                eventually(lambda: states(pool) == {"leased": 1})
            else:
                lease = one.run(pool.aacquire())
            waits = other.start(use(pool))
            eventually(lambda: pool.stats().waiting == 1)
            if back == "block":
                over.set()
                held.result(PATIENCE)
            elif back == "put":
                pool.put(lease.resource)
            else:
                one.call(lease.release)
            assert waits.result(PATIENCE).number == 1

    @kinds
    def test_a_loop_with_nothing_is_not_starved(self, kind: str) -> None:
        """Others that are always busy give up what comes back next, be it only one of many: here
        the first is never given back."""
        maker = AsyncMaker()
        with (
            accounted(2, maker, factory=maker.create, close=maker.close) as (pool, _),
            threads(kind, 2) as (one, other),
        ):
            over = threading.Event()

            async def busy() -> None:
                while not over.is_set():
                    async with pool.lease() as thing:
                        maker.hold(thing, asyncio.current_task())
                        await asyncio.sleep(0)
                        maker.hold(thing, None)

            held = one.run(pool.aacquire())
            work = [one.start(busy()) for _ in range(4)]
            eventually(lambda: pool.stats().waiting >= 2)
            for _ in range(3):
                thing = other.run(use(pool))
                assert thing.loop is other.loop
            over.set()
            for each in work:
                each.result(PATIENCE)
            assert not held.resource.closed
            one.call(held.release)

    @kinds
    def test_who_waited_longer_goes_first(self, kind: str) -> None:
        """A loop with nothing does not take what callers of another wait for longer; and nothing
        is closed but for it."""
        maker = AsyncMaker()
        with (
            accounted(1, maker, factory=maker.create, close=maker.close) as (pool, _),
            threads(kind, 2) as (one, other),
        ):
            order: list[str] = []

            async def taking(name: str) -> None:
                async with pool.lease():
                    order.append(name)

            lease = one.run(pool.aacquire())
            waits = []
            for number, (loop, name) in enumerate(
                [(one, "a"), (one, "b"), (other, "c"), (one, "d"), (other, "e")]
            ):
                waits.append(loop.start(taking(name)))
                eventually(lambda n=number: pool.stats().waiting == n + 1)
            time.sleep(1.2 * SPARE_AFTER)  # for loops with nothing to be entitled to a slot
            one.call(lease.release)
            for wait in waits:
                wait.result(PATIENCE)
            assert order == ["a", "b", "c", "d", "e"]
            assert maker.made == 4  # for a and b, c, d, e

    @kinds
    def test_a_loop_that_does_not_run(self, kind: str) -> None:
        """Its resource cannot be closed: the waiter's timeout applies; what others give back is
        taken in its stead."""
        with accounted(2) as (pool, maker), threads(kind, 3) as (still, one, other):
            still.run(use(pool))
            lease = one.run(pool.aacquire())
            go_on = still.pause()
            for timeout in (0.05, 0.5, 5):  # until its slot is asked for within that time
                with pytest.raises(PoolTimeout):
                    other.run(use(pool, timeout=timeout))
                if states(pool) == {"leased": 1, "closing": 1}:
                    break
            else:
                raise AssertionError("nobody asked for its slot")
            go_on()
            assert other.run(use(pool)).loop is other.loop  # it went on: its slot came free
            still.stop()
            one.call(lease.release)
            assert {thing.loop for thing in maker.all} == {t.loop for t in (still, one, other)}

    @kinds
    def test_a_slot_of_a_stopped_loop_is_not_counted_on(self, kind: str) -> None:
        """A loop that was stopped with a resource keeps its slot; others do not wait for it, but
        for what runs."""
        with accounted(2) as (pool, maker), threads(kind, 3) as (still, one, other):
            still.run(use(pool))
            lease = one.run(pool.aacquire())
            still.stop()
            waits = other.start(use(pool))
            eventually(lambda: states(pool) == {"leased": 1, "closing": 1})
            one.call(lease.release)
            assert waits.result(PATIENCE).loop is other.loop
            assert maker.closings[-1].loop is one.loop

    @kinds
    def test_tries_of_a_stopped_loop_stop_no_other(self, kind: str) -> None:
        """Creations that were begun on a loop that does not go on do not use up max_creating."""
        with (
            accounted(4, max_creating=1) as (pool, maker),
            threads(kind, 2) as (still, other),
        ):
            hang = Hang()
            maker.script["create"].append(hang)
            still.start(use(pool))
            assert hang.begun.wait(PATIENCE)
            still.stop()
            assert other.run(use(pool, timeout=PATIENCE)).loop is other.loop

    @kinds
    def test_a_closed_loop(self, kind: str) -> None:
        """Its slots are free at once, for who waits too; nothing is awaited."""
        with accounted(2) as (pool, maker), threads(kind, 2) as (one, other):
            held, _ = one.run(pool.aget()), one.run(pool.aget())
            one.call(pool.put, maker.all[1])
            one.stop()
            waits = [other.start(borrowed(pool, maker, lambda: maker.made == 4)) for _ in "ab"]
            one.end()
            for wait in waits:
                wait.result(PATIENCE)
            assert not held.closed and not maker.all[1].closed
            assert pool.stats().closed.get("loop") == 2 - len(maker.closings)
            with pytest.raises(ValueError, match="has closed"):
                pool.put(held)

    @kinds
    def test_one_run_after_another(self, kind: str) -> None:
        """A second asyncio.run on the same pool; what the first has left is dropped."""
        with accounted(1, min_idle=1) as (pool, maker):
            made = 0
            for _ in range(4):
                assert run_in(kind, use(pool)).number == made
                made = maker.made
                assert states(pool) == {} and pool.stats().closed == {"loop": made}
            assert not maker.closings


class TestOrder:
    """Who is served when, and with what."""

    @kinds
    def test_first_come_first_served_within_a_loop(self, kind: str) -> None:
        async def main() -> None:
            order: list[int] = []

            async def taking(number: int) -> None:
                async with pool.lease():
                    order.append(number)
                    await asyncio.sleep(0)

            lease = await pool.aacquire()
            tasks = [await queued(pool, n + 1, taking(n)) for n in range(8)]
            lease.release()
            await asyncio.gather(*tasks)
            assert order == list(range(8))

        with accounted(1) as (pool, _):
            run_in(kind, main())

    def test_no_lock_is_waited_for_with_that_of_another_pool(self, runner: ThreadRunner) -> None:
        """A new loop finds that an old one has been closed, which other pools have to know."""
        with accounted(2) as (a, _), accounted(2) as (b, _):

            async def both() -> None:
                await use(a)
                await use(b)

            run_in("asyncio", both())
            locks = [_core.manager(pool, "test").lock for pool in (a, b)]
            with locks[0].hold():
                waits = runner.start(lambda: run_in("asyncio", use(b))).parked()
                with locks[1].try_hold() as free:
                    assert free
            assert waits.result().number == 1


def test_turns_on_one_loop_leave_the_scheduler_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers wait and are served on their own loop: nobody else may want what they get, and the
    scheduler's thread would take the loop's time for each of them."""
    asked: list[str] = []
    call_soon = scheduler.call_soon

    def spy(call: Callable[..., object], *args: Any) -> None:
        asked.append(call.__name__)
        call_soon(call, *args)

    async def main(pool: Any, maker: AsyncMaker) -> None:
        held = await pool.aacquire()
        waiting = [await queued(pool, n, use(pool)) for n in range(1, 9)]
        monkeypatch.setattr(scheduler, "call_soon", spy)
        held.release()
        await asyncio.wait(waiting)
        monkeypatch.undo()
        assert "start" not in asked
        assert len(maker.resets) == 9

    with accounted(1) as (pool, maker):
        run_in("asyncio", main(pool, maker))

"""Hooks of a pool of coroutines that raise, hang, or outlive who asked for them."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from fastpool import PoolError, PoolTimeout
from fastpool.pool._creation import Creator
from support.async_factories import AsyncMaker, Hang, accounted, threads, use
from support.helpers import PATIENCE, eventually, states, told
from support.loops import KINDS, queued, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)


class TestCreationFails:
    """The factory raises, hangs, or does not let itself be cancelled."""

    @kinds
    def test_the_very_exception_for_the_one_it_was_tried_for(self, kind: str) -> None:
        """With a note that names the pool; the others are served by the tries that follow."""
        error = OSError("no route")

        async def main(pool: Any, maker: AsyncMaker) -> None:
            hang = Hang(then=error)
            maker.script["create"] += [hang]
            first = await queued(pool, 1, use(pool))
            second = await queued(pool, 2, use(pool))
            hang.let_go()
            assert await second is not None
            with pytest.raises(OSError) as caught:
                await first
            assert caught.value is error and "fastpool 'calls'" in told(error)
            stats = pool.stats()
            assert stats.create_failures == 1 and stats.created == 1

        with accounted(1, name="calls") as (pool, maker):
            run_in(kind, main(pool, maker))

    @pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
    def test_what_a_factory_should_not_raise(self, error: BaseException) -> None:
        """It ends no loop and cancels nobody: the one waiter gets it, or is told."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            maker.script["create"].append(error)
            cancelled = isinstance(error, asyncio.CancelledError)
            with pytest.raises(PoolError if cancelled else type(error)) as caught:
                await pool.aget()
            assert (caught.value.__cause__ if cancelled else caught.value) is error
            assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]
            await use(pool)

        with accounted(1) as (pool, maker):
            run_in("asyncio", main(pool, maker))

    @kinds
    def test_create_timeout(self, kind: str) -> None:
        """The borrower gets PoolTimeout of phase "create", the hook is cancelled, and its slot is
        free for the next."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            hang = Hang()
            maker.script["create"].append(hang)
            with pytest.raises(PoolTimeout) as caught:
                await pool.aget()
            assert caught.value.phase == "create"
            await aeventually(lambda: hang.cancelled == 1 and states(pool) == {})
            await use(pool)
            stats = pool.stats()
            assert stats.overdue == 0 and stats.timeouts == 1 and maker.calls == 2

        with accounted(1, create_timeout=0.03) as (pool, maker):
            run_in(kind, main(pool, maker))

    @kinds
    def test_a_late_try_is_no_other_ones_gain(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The loop comes to run before the borrower has been told: the try that follows must not
        serve them."""
        tell = Creator._fail_late

        def after_some_turns(creator: Any, attempt: Any) -> None:
            for _ in range(20):
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), creator.manager.loop).result()
            tell(creator, attempt)

        monkeypatch.setattr(Creator, "_fail_late", after_some_turns)

        async def main(pool: Any, maker: AsyncMaker) -> None:
            maker.script["create"].append(Hang())
            with pytest.raises(PoolTimeout) as caught:
                await pool.aget()
            assert caught.value.phase == "create"

        with accounted(1, create_timeout=0.03) as (pool, maker):
            run_in(kind, main(pool, maker))

    @kinds
    @pytest.mark.parametrize("wanted", [True, False])
    def test_a_hook_that_swallows_its_cancellation(self, kind: str, wanted: bool) -> None:
        """It is overdue and keeps its slot; its resource is kept if it is wanted by then, else
        closed."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            hang = Hang(stubborn=True)
            maker.script["create"].append(hang)
            with pytest.raises(PoolTimeout):
                await pool.aget()
            await aeventually(lambda: hang.cancelled and pool.stats().overdue == 1)
            assert states(pool) == {"creating": 1}
            other = None
            if wanted:
                other = await queued(pool, 1, use(pool))
            else:
                pool.resize(2)
                await use(pool)
                assert states(pool) == {"creating": 1, "idle": 1}
            hang.let_go()
            await aeventually(lambda: not pool.stats().overdue)
            if other is not None:
                assert (await other).number == 0 and states(pool) == {"idle": 1}
            else:
                await aeventually(
                    lambda: pool.stats().closed == {"overdue": 1} and states(pool) == {"idle": 1}
                )

        with accounted(1, create_timeout=0.03) as (pool, maker):
            maker.cap = 2
            run_in(kind, main(pool, maker))

    def test_background_tries_are_repeated(self) -> None:
        """min_idle is opened in the end, though the first tries fail."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            maker.script["create"] += [OSError("first"), OSError("second")]
            with pytest.raises(OSError, match="first"):
                await use(pool)
            await aeventually(lambda: pool.stats().idle == 2)
            assert pool.stats().create_failures == 2

        with accounted(2, min_idle=2, max_creating=1) as (pool, maker):
            run_in("asyncio", main(pool, maker))


class TestHooksFail:
    """Hooks that raise close the resource; hooks that hang are cancelled."""

    @kinds
    @pytest.mark.parametrize("answer", [False, OSError("gone"), asyncio.CancelledError()])
    def test_a_check_that_fails(self, kind: str, answer: Any) -> None:
        """The resource is closed and the next one is tried, or made."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            first = await use(pool)
            maker.script["check"].append(answer)
            assert await use(pool) is not first and first.closed
            assert pool.stats().closed == {"check": 1}

        with accounted(1, check_after=0) as (pool, maker):
            run_in(kind, main(pool, maker))

    @kinds
    def test_a_check_that_hangs(self, kind: str) -> None:
        """Past hook_timeout: PoolTimeout of phase "check"; cancelled, and the resource closed."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            first, hang = await use(pool), Hang()
            maker.script["check"].append(hang)
            with pytest.raises(PoolTimeout) as caught:
                await pool.aget()
            assert caught.value.phase == "check"
            await aeventually(lambda: first.closed and states(pool) == {})
            assert hang.cancelled == 1 and pool.stats().closed == {"check": 1}

        with accounted(1, check_after=0, hook_timeout=0.03) as (pool, maker):
            run_in(kind, main(pool, maker))

    @kinds
    def test_a_check_that_outlives_its_borrower(self, kind: str) -> None:
        """The borrower's time is over first: the check goes on, and a good resource goes back."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            first, hang = await use(pool), Hang(then=True)
            maker.script["check"].append(hang)
            with pytest.raises(PoolTimeout) as caught:
                await pool.aget(timeout=0.02)
            assert caught.value.phase == "check" and states(pool) == {"checking": 1}
            second = await queued(pool, 1, use(pool))
            hang.let_go()
            assert await second is first

        with accounted(1, check_after=0) as (pool, maker):
            run_in(kind, main(pool, maker))

    @kinds
    @pytest.mark.parametrize("end", ["used", "closed"])
    def test_a_good_check_counts_though_its_borrower_has_gone(
        self, kind: str, clock: Any, end: str
    ) -> None:
        """It is not checked again so soon; and of a closed pool it goes for that reason."""
        options: dict[str, Any] = {"check_after": 10.0, "idle_timeout": None, "clock": clock}
        with accounted(1, **options) as (pool, maker), threads(kind, 1) as [one]:
            one.run(use(pool))
            clock.advance(11)
            hang = Hang(then=True)
            maker.script["check"].append(hang)
            with pytest.raises(PoolTimeout):
                one.run(use(pool, timeout=0.02))
            assert hang.begun.wait(PATIENCE)
            if end == "closed":
                pool.close(timeout=0)
            hang.let_go()
            if end == "closed":
                eventually(lambda: pool.stats().closed == {"closed": 1})
            else:
                eventually(lambda: states(pool) == {"idle": 1})
                one.run(use(pool))
            assert len(maker.checks) == 1

    @kinds
    @pytest.mark.parametrize("outcome", [OSError("dirty"), asyncio.CancelledError(), Hang()])
    def test_a_reset_that_fails_or_hangs(
        self, kind: str, outcome: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged and the resource is closed; the block has ended well."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            maker.script["reset"].append(outcome)
            first = await use(pool)
            assert first.closed and pool.stats().closed == {"reset": 1}
            second = await pool.aget()
            pool.put(second)  # not awaited: the loop does it soon
            await aeventually(lambda: states(pool) == {"idle": 1})
            assert maker.resets == [first, second]

        with accounted(1, hook_timeout=0.03) as (pool, maker):
            run_in(kind, main(pool, maker))
        assert [r.message for r in caplog.records if "reset failed" in r.message]

    @kinds
    @pytest.mark.parametrize("outcome", [OSError("lost"), asyncio.CancelledError(), Hang()])
    def test_a_close_that_fails_or_hangs(
        self, kind: str, outcome: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged, and the slot is free."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            maker.script["close"].append(outcome)
            lease = await pool.aacquire()
            lease.discard()
            await use(pool)
            assert pool.stats().closed == {"discarded": 1}

        with accounted(1, hook_timeout=0.03) as (pool, maker):
            run_in(kind, main(pool, maker))
        assert [r for r in caplog.records if "close" in r.message]

    @kinds
    def test_an_overdue_hook_is_counted(self, kind: str) -> None:
        """A close that swallows its cancellation keeps its slot until it returns."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            hang = Hang(stubborn=True)
            maker.script["close"].append(hang)
            pool.discard(await pool.aget())
            await aeventually(lambda: hang.cancelled and pool.stats().overdue == 1)
            assert states(pool) == {"closing": 1}
            hang.let_go()
            await aeventually(lambda: states(pool) == {} and pool.stats().overdue == 0)

        with accounted(1, hook_timeout=0.02) as (pool, maker):
            run_in(kind, main(pool, maker))

    def test_no_lock_is_held_while_a_hook_runs(self) -> None:
        """A hook may ask the pool whatever it likes, from another thread as well."""
        pools: list[Any] = []
        seen: list[str] = []

        def ask() -> None:
            pool = pools[-1]
            asked = threading.Thread(target=lambda: (pool.stats(), pool.leases(), pool.resize(2)))
            asked.start()
            asked.join(PATIENCE)
            assert not asked.is_alive()
            pool.stats()

        class Maker(AsyncMaker):
            async def _act(self, hook: str) -> Any:
                ask()  # at once: an eager task runs where it was made
                seen.append(hook)
                return await super()._act(hook)

        async def main(pool: Any, eager: bool) -> None:
            if eager:
                asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            for _ in range(2):
                await use(pool)
            pool.put(await pool.aget())
            pool.discard(await pool.aget())
            await aeventually(lambda: "close" in seen)
            await pool.awarm(2)
            assert await pool.aclose()

        for eager in [False, True][: 1 + (sys.version_info >= (3, 12))]:
            seen.clear()
            with accounted(2, Maker(), check_after=0) as (pool, _):
                pools.append(pool)
                run_in("asyncio", main(pool, eager))
            assert set(seen) == {"create", "check", "reset", "close"}

    def test_a_task_factory_of_the_old_kind(self) -> None:
        """One that takes the loop and the coroutine alone."""

        async def main(pool: Any) -> None:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))  # type: ignore
            await use(pool)

        with accounted(1) as (pool, _):
            run_in("asyncio", main(pool))

"""A factory that is a coroutine function: its forms, its hooks, and what they may do wrong."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
from typing import Any

import pytest

from async_maker import PAUSE, AsyncMaker, Hang, LoopThread, Thing, accounted, threads
from fastpool import FastPool, PoolClosed, PoolError, PoolTimeout
from loops import KINDS, queued, run_in
from loops import eventually as aeventually
from support import PATIENCE, consistent, states, told

kinds = pytest.mark.parametrize("kind", KINDS)


async def use(pool: Any, **options: Any) -> Any:
    """One lease; the resource."""
    async with pool.lease(**options) as thing:
        return thing


class TestForms:
    """What may be given as a factory."""

    @pytest.mark.parametrize("form", ["function", "partial", "method", "callable", "object"])
    def test_forms_of_a_factory(self, form: str) -> None:
        """A coroutine function in any disguise, or an object with one named ``create``."""
        maker = AsyncMaker()

        async def create(_: str = "") -> Any:
            return await maker.create()

        class Callable:
            async def __call__(self) -> Any:
                return await maker.create()

        factory = {
            "function": create,
            "partial": functools.partial(create, "x"),
            "method": maker.create,
            "callable": Callable(),
            "object": maker,
        }[form]
        hooks = {} if form == "object" else {"close": maker.close}
        with accounted(2, maker, factory=factory, **hooks) as (pool, _):
            assert run_in("asyncio", use(pool)).number == 0

    def test_plain_hooks_beside_coroutines(self) -> None:
        """Each hook may be a plain function; it runs on the loop like the others."""
        seen: list[tuple[str, Any]] = []

        def note(name: str, answer: Any = None) -> Any:
            def hook(resource: Any) -> Any:
                seen.append((name, asyncio.get_running_loop()))
                return answer

            return hook

        async def main() -> None:
            async def create() -> object:
                return object()

            hooks = {name: note(name, True) for name in ("check", "reset", "close")}
            async with FastPool(1, factory=create, check_after=0, **hooks) as pool:
                for _ in range(2):
                    async with pool.lease():
                        pass
            assert [name for name, _ in seen] == ["reset", "check", "reset", "close"]
            assert {loop for _, loop in seen} == {asyncio.get_running_loop()}

        run_in("asyncio", main())

    @pytest.mark.parametrize("name", ["aclose", "close", "plain close", "both", "neither"])
    def test_the_resource_closes_itself(self, name: str) -> None:
        """Without a close hook: its own aclose(), else close(), awaited if there is something to
        await."""
        calls: list[str] = []

        class WithAclose:
            async def aclose(self) -> None:
                await asyncio.sleep(0)
                calls.append("aclose")

        class WithClose:
            async def close(self) -> None:
                await asyncio.sleep(0)
                calls.append("close")

        class WithPlainClose:
            def close(self) -> None:
                calls.append("close")

        class WithBoth(WithAclose, WithClose):
            pass

        kind, expected = {
            "aclose": (WithAclose, ["aclose"]),
            "close": (WithClose, ["close"]),
            "plain close": (WithPlainClose, ["close"]),
            "both": (WithBoth, ["aclose"]),
            "neither": (type("Thing", (), {}), []),
        }[name]

        async def create() -> Any:
            return kind()

        async def main() -> None:
            async with FastPool(1, factory=create) as pool:
                await use(pool)
            assert calls == expected and pool.stats().closed == {"closed": 1}

        run_in("asyncio", main())

    def test_async_hooks_need_an_async_factory(self) -> None:
        """With a plain factory they are a TypeError of the constructor."""
        with pytest.raises(
            TypeError, match="close is a coroutine function, but the factory is not"
        ):
            FastPool(1, factory=object, close=AsyncMaker().close)

    def test_a_plain_function_that_returns_an_awaitable(self) -> None:
        """It cannot be told from outside that it is asynchronous: the error says what to write."""
        maker = AsyncMaker()

        async def main() -> None:
            pool: Any = FastPool(1, factory=lambda: maker.create())
            with pytest.raises(TypeError, match="async def"):
                await pool.aget()
            assert await pool.aclose()

        run_in("asyncio", main())

    @kinds
    def test_none_and_doubles(self, kind: str) -> None:
        """None and an object that the pool holds already are errors, on every loop."""
        thing = object()

        async def main(pool: Any, maker: AsyncMaker) -> None:
            maker.script["create"] += [Plain(None), Plain(thing), Plain(thing)]
            with pytest.raises(TypeError, match="returned None"):
                await pool.aget()
            assert await pool.aget() is thing
            with pytest.raises(ValueError, match="already holds"):
                await pool.aget()
            assert states(pool) == {"leased": 1}
            pool.put(thing)
            await pool.aclose()

        class Plain(Hang):
            """An outcome that the script would not take as one."""

            def __init__(self, outcome: Any) -> None:
                super().__init__(outcome)
                self.let_go()

        class Maker(AsyncMaker):
            async def create(self) -> Any:
                return await self._act("create")

            async def close(self, thing: Any) -> None:
                pass

        maker = Maker()
        pool: Any = FastPool(3, factory=maker)
        run_in(kind, main(pool, maker))


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
        """The borrower gets PoolTimeout of phase "create", the hook is cancelled, and its place is
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
    @pytest.mark.parametrize("wanted", [True, False])
    def test_a_hook_that_swallows_its_cancellation(self, kind: str, wanted: bool) -> None:
        """It is overdue and keeps its place; its resource is kept if it is wanted by then, else
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
                await aeventually(lambda: pool.stats().closed == {"overdue": 1})
                assert states(pool) == {"idle": 1}

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
        """It is logged, and the place is free."""

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
        """A close that swallows its cancellation keeps its place until it returns."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            hang = Hang(stubborn=True)
            maker.script["close"].append(hang)
            pool.discard(await pool.aget())
            await aeventually(lambda: hang.cancelled and pool.stats().overdue == 1)
            assert states(pool) == {"closing": 1}
            hang.let_go()
            await aeventually(lambda: states(pool) == {})
            assert pool.stats().overdue == 0

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


class TestThreads:
    """What a thread may do with a pool of coroutines, and what it is told."""

    def test_threads_cannot_borrow(self) -> None:
        """TypeError at once, which says what to do; also inside a task."""

        def all_refused(pool: Any) -> None:
            for borrow in (
                pool.get,
                pool.get_nowait,
                lambda: pool.get(timeout=1),
                pool.acquire,
                lambda: pool.lease().__enter__(),
            ):
                with pytest.raises(TypeError, match=r"coroutine function.*use `async with"):
                    borrow()
            with pytest.raises(TypeError, match=r"await pool\.awarm"):
                pool.warm(1)

        async def main(pool: Any) -> None:
            await use(pool)  # something is idle
            all_refused(pool)
            await asyncio.to_thread(all_refused, pool)
            assert states(pool) == {"idle": 1}

        with accounted(1) as (pool, _):
            all_refused(pool)
            run_in("asyncio", main(pool))
            pool.close()
            with pytest.raises(PoolClosed):
                pool.get()

    def test_no_running_loop(self) -> None:
        """A coroutine of the pool that is driven by hand is told what it lacks."""
        with accounted(1) as (pool, _):
            with pytest.raises(TypeError, match="none of its event loops runs"):
                pool.aget().send(None)

    @kinds
    @pytest.mark.parametrize("hooks", [True, False])
    def test_a_thread_gives_back(self, kind: str, hooks: bool) -> None:
        """put, discard, release and the end of a held lease, from a thread: hooks run on the
        loop."""
        maker = AsyncMaker()

        async def main(pool: Any) -> None:
            for give_back in (pool.put, pool.discard):
                thing = await pool.aget()
                await asyncio.to_thread(give_back, thing)
                await aeventually(lambda: not pool.stats().leased + pool.stats().checking)
            for name in ("release", "discard"):
                lease = await pool.aacquire()
                await asyncio.to_thread(getattr(lease, name))
            lease = await pool.aacquire()

            def held() -> None:
                with lease as thing:
                    assert isinstance(thing, Thing)

            await asyncio.to_thread(held)
            await aeventually(lambda: states(pool) == {"idle": 1})
            assert maker.made == 3 and len(maker.resets) == (3 if hooks else 0)

        given = {} if hooks else {"factory": maker.create, "close": maker.close}
        with accounted(1, maker, **given) as (pool, _):
            run_in(kind, main(pool))

    def test_what_is_not_the_pools(self) -> None:
        """put and discard of a strange object, or twice, are ValueErrors."""

        async def main(pool: Any) -> None:
            thing = await pool.aget()
            pool.put(thing)
            await aeventually(lambda: states(pool) == {"idle": 1})
            for give_back in (pool.put, pool.discard):
                with pytest.raises(ValueError, match="did not make"):
                    give_back(object())
                with pytest.raises(ValueError, match="not lent out"):
                    give_back(thing)

        with accounted(1) as (pool, _):
            run_in("asyncio", main(pool))
            with pytest.raises(ValueError, match="did not make, or has closed"):
                pool.put(object())

    @kinds
    def test_close_from_a_thread(self, kind: str) -> None:
        """It waits for the loop to close what is idle and for borrowers, within its time-out."""
        with accounted(3) as (pool, maker), threads(kind, 1) as [one]:
            leases = [one.run(pool.aacquire()) for _ in range(3)]
            one.call(leases.pop().release)
            assert not pool.close(timeout=0.02) and states(pool) == {"leased": 2}
            assert maker.all[-1].closed
            for lease in leases:
                one.call(lease.release)
            assert pool.close(timeout=PATIENCE) and states(pool) == {}
            with pytest.raises(PoolClosed):
                one.run(pool.aget())

    @kinds
    def test_close_inside_the_running_loop(self, kind: str) -> None:
        """It does not block the loop: what is idle is closed as soon as the loop goes on."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            await use(pool)
            begun = time.monotonic()
            assert pool.close(timeout=PATIENCE) is False
            assert time.monotonic() - begun < PATIENCE / 2
            await aeventually(lambda: states(pool) == {})
            assert pool.close() and maker.all[0].closed

        with accounted(1) as (pool, maker):
            run_in(kind, main(pool, maker))

    @kinds
    def test_close_after_the_loop(self, kind: str) -> None:
        """Nothing can be awaited: what is there is dropped, at once."""
        with accounted(1) as (pool, maker):
            run_in(kind, use(pool))
            assert pool.close(timeout=PATIENCE)
            assert not maker.all[0].closed and pool.stats().closed == {"loop": 1}

    def test_what_can_be_closed_without_a_loop_is(self) -> None:
        """A plain close hook, or a plain ``close`` of the resource, runs on a worker."""
        closed: list[Any] = []

        class Plain:
            def close(self) -> None:
                closed.append(self)

        async def create() -> Plain:
            return Plain()

        for hooks in ({}, {"close": closed.append}):
            pool: Any = FastPool(1, factory=create, **hooks)
            thing = run_in("asyncio", use(pool))
            assert pool.close()
            eventually_closed(closed, thing)

    @kinds
    def test_close_wakes_who_waits(self, kind: str) -> None:
        """On every loop, with PoolClosed."""
        with accounted(1) as (pool, _), threads(kind, 2) as (one, other):
            lease = one.run(pool.aacquire())
            waits = [one.start(use(pool)), other.start(use(pool))]
            one.run(aeventually(lambda: pool.stats().waiting == 2))
            pool.close(timeout=0)
            for wait in waits:
                with pytest.raises(PoolClosed):
                    wait.result(PATIENCE)
            one.call(lease.release)

    @kinds
    def test_aclose(self, kind: str) -> None:
        """It waits for other borrowers, not for the caller, and for what is being closed."""

        async def main(pool: Any, maker: AsyncMaker) -> None:
            closing, held = Hang(), asyncio.Event()

            async def hold() -> None:
                async with pool.lease():
                    await held.wait()

            other = asyncio.ensure_future(hold())
            await aeventually(lambda: states(pool) == {"leased": 1})
            async with pool.lease():
                assert not await pool.aclose(timeout=0.01)
                maker.script["close"].append(closing)
                held.set()
                await aeventually(lambda: states(pool) == {"leased": 1, "closing": 1})
                assert not await pool.aclose(timeout=0.01)
                closing.let_go()
                assert not await pool.aclose(PATIENCE)  # its own is open still
                assert states(pool) == {"leased": 1}
            await other
            assert await pool.aclose() and states(pool) == {}

        with accounted(2) as (pool, maker):
            run_in(kind, main(pool, maker))


def eventually_closed(closed: list[Any], thing: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while thing not in closed:
        assert time.monotonic() < deadline
        time.sleep(PAUSE)


class TestSnapshots:
    """stats() holds its identity on every loop together."""

    @kinds
    def test_one_of_each_state(self, kind: str) -> None:
        """Over two loops: each resource is counted once."""

        def one_more(loop: LoopThread) -> Any:
            return loop.run(pool.aacquire())

        with accounted(6, check_after=0) as (pool, maker), threads(kind, 2) as (one, other):
            hangs = {name: Hang() for name in maker.script}
            idle, leased, checked, closed = (one_more(loop) for loop in (one, other, one, other))
            one.call(checked.release)
            one.run(aeventually(lambda: pool.stats().idle == 1))
            maker.script["check"].append(hangs["check"])
            checking = one.start(pool.aget())
            maker.script["close"].append(hangs["close"])
            other.call(closed.discard)
            one.call(idle.release)
            maker.script["create"].append(hangs["create"])
            creating = other.start(pool.aget())
            one.run(
                aeventually(
                    lambda: (
                        states(pool)
                        == dict.fromkeys(("idle", "leased", "creating", "checking", "closing"), 1)
                    )
                )
            )
            assert consistent(pool.stats())
            for hang in hangs.values():
                hang.let_go()
            one.call(pool.put, checking.result(PATIENCE))
            other.call(pool.put, creating.result(PATIENCE))
            other.call(leased.release)
            assert pool.close(PATIENCE)

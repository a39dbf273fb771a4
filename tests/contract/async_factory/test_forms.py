"""A factory that is a coroutine function: its forms and its hooks."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from fastpool import FastPool
from support.async_factories import AsyncMaker, Hang, LoopThread, accounted, threads, use
from support.helpers import PATIENCE, consistent, states
from support.loops import KINDS, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)


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

    def test_plain_hooks_beside_coroutines(self, clock: Any) -> None:
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
            async with FastPool(1, factory=create, check_after=0, clock=clock, **hooks) as pool:
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

    def test_a_resource_that_can_be_awaited(self) -> None:
        """The clients of redis.asyncio can: what the coroutine has returned is the resource."""

        class Client:
            def __await__(self) -> Any:
                raise AssertionError("it is made already")

        async def create() -> Client:
            return Client()

        async def forgetful() -> Any:
            return create()

        async def main() -> None:
            async with FastPool(1, factory=create) as pool:
                async with pool.lease() as client:
                    assert type(client) is Client
            async with FastPool(1, factory=forgetful) as pool:
                with pytest.raises(TypeError, match="return await"):
                    await pool.aget()

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

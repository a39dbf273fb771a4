"""A KeyedPool whose factory is a coroutine function: a pool for each key on each event loop."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from fastpool import KeyedPool, PoolClosed, PoolDeadlock, PoolOverloaded, PoolTimeout, _core
from fastpool.keyed import _capacity
from fastpool.pool import _loop_capacity
from fastpool.testing import ManualClock
from support.async_factories import Hang, threads
from support.async_keyed import AsyncKeyedMaker, accounted_keys, use
from support.helpers import PATIENCE, eventually, states, wait_for_scheduler
from support.loops import KINDS, run_in

HOUR = 3600.0
kinds = pytest.mark.parametrize("kind", KINDS)


class TestOneLoop:
    """As with a plain factory, with hooks that are awaited on the loop."""

    @kinds
    def test_a_lease_is_of_its_key_and_comes_back(self, kind: str) -> None:
        async def main() -> None:
            async with pool.lease("a") as first:
                assert first.key == "a" and maker.made == 1
            lease = await pool.aacquire("a")
            assert lease.resource is first and lease.key == "a"
            lease.release()
            other = await use(pool, "b")
            assert other is not first
            assert pool.stats().keys["a"].idle == pool.stats().keys["b"].idle == 1
            assert await pool.aclose()
            assert maker.open == 0
            with pytest.raises(PoolClosed):
                await use(pool, "a")

        with accounted_keys() as (pool, maker):
            run_in(kind, main())

    @kinds
    def test_check_and_reset_are_awaited(self, kind: str) -> None:
        async def main() -> None:
            first = await use(pool, "a")
            assert await use(pool, "a") is first
            # on a slow machine it is checked before its first use as well: it is not new any more
            assert maker.checks in ([first], [first] * 2) and len(maker.resets) == 2
            maker.script["check"].append(False)
            second = await use(pool, "a")
            assert second is not first
            maker.script["reset"].append(OSError("gone"))
            assert await use(pool, "a") is second
            await asyncio.to_thread(eventually, lambda: maker.open == 0)
            assert pool.stats().closed == {"check": 1, "reset": 1}

        with accounted_keys(check_after=0) as (pool, maker):
            run_in(kind, main())

    @kinds
    def test_a_hook_that_hangs_is_cancelled(self, kind: str) -> None:
        async def main() -> None:
            for hook in ("create", "reset", "close"):
                hang = Hang()
                maker.script[hook].append(hang)
                try:
                    async with pool.lease("a") as thing:
                        pass
                except PoolTimeout as error:
                    assert hook == "create" and error.phase == "create"
                else:
                    if hook == "close":
                        async with pool.lease("a") as thing:
                            pool.flush()
                            assert thing.key == "a"
                while not hang.cancelled:
                    await asyncio.sleep(0.001)

        with accounted_keys(create_timeout=0.05, hook_timeout=0.05) as (pool, maker):
            run_in(kind, main())

    @kinds
    def test_a_failure_is_the_callers_and_of_its_key(self, kind: str) -> None:
        async def main() -> None:
            maker.script["create"].append(OSError("refused"))
            with pytest.raises(OSError, match="refused") as caught:
                await use(pool, "a")
            assert "pool-of-keys['a']" in "".join(caught.value.__notes__)
            assert (await use(pool, "b")).key == "b"

        with accounted_keys(name="pool-of-keys") as (pool, maker):
            run_in(kind, main())

    @kinds
    def test_the_oldest_idle_of_another_key_gives_way(self, kind: str) -> None:
        async def main() -> None:
            first = await use(pool, "a")
            await use(pool, "b")
            await use(pool, "c")
            assert first.closed and maker.open == 2
            assert set(pool.stats().keys) == {"b", "c"}
            assert pool.stats().closed == {"evicted": 1}

        with accounted_keys(max_total=2, max_per_key=2) as (pool, maker):
            run_in(kind, main())

    @kinds
    def test_a_key_that_has_nothing_gets_what_comes_back(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_capacity, "SPARE_AFTER", 0.0)

        async def main() -> None:
            leases = [await pool.aacquire("a") for _ in range(2)]
            starved = asyncio.ensure_future(use(pool, "b"))
            while not pool.stats().waiting:
                await asyncio.sleep(0)
            own = asyncio.ensure_future(use(pool, "a"))
            while pool.stats().waiting < 2:
                await asyncio.sleep(0)
            await asyncio.to_thread(wait_for_scheduler)
            leases[0].release()
            assert (await starved).key == "b"
            leases[1].release()
            assert (await own).key == "a"

        with accounted_keys(max_total=2, max_per_key=2) as (pool, _):
            run_in(kind, main())

    @kinds
    def test_idle_limits(self, kind: str) -> None:
        async def main() -> None:
            for lease in [await pool.aacquire("a") for _ in range(3)]:
                lease.release()
            await asyncio.to_thread(eventually, lambda: pool.stats().idle == 1 == maker.open)
            for lease in [await pool.aacquire(key) for key in "bc"]:
                lease.release()
            await asyncio.to_thread(eventually, lambda: pool.stats().idle == 2 == maker.open)

        with accounted_keys(max_idle_per_key=1, max_idle_total=2) as (pool, maker):
            run_in(kind, main())

    @kinds
    def test_who_holds_everything_is_told(self, kind: str) -> None:
        async def main() -> None:
            async with pool.lease("a"), pool.lease("b"):
                with pytest.raises(PoolDeadlock):
                    await pool.aacquire("c")
                with pytest.raises(PoolDeadlock):
                    await pool.aacquire("a")

        with accounted_keys(max_total=2, max_per_key=1) as (pool, _):
            run_in(kind, main())

    @kinds
    def test_a_cancelled_caller_takes_nothing(self, kind: str) -> None:
        """Neither while it waits nor while one is opened for it, which is kept."""

        async def main() -> None:
            hang = Hang()
            maker.script["create"].append(hang)
            task = asyncio.ensure_future(use(pool, "a"))
            while not hang.begun.is_set():
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            hang.let_go()
            async with pool.lease("a"):
                assert maker.made == 1
                task = asyncio.ensure_future(use(pool, "a"))
                while not pool.stats().waiting:
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert not pool.stats().waiting
            assert states(pool) == {"idle": 1}

        with accounted_keys(max_per_key=1) as (pool, maker):
            run_in(kind, main())

    @kinds
    def test_checks_and_keepalive(self, kind: str) -> None:
        async def main() -> None:
            for key in "ab":
                await use(pool, key)
            maker.script["check"].append(False)
            assert await pool.acheck_idle() == 1
            await asyncio.to_thread(clock.advance, 11)
            await asyncio.to_thread(eventually, kept_alive)
            await asyncio.to_thread(eventually, lambda: states(pool) == {"idle": 1})
            await asyncio.to_thread(clock.advance, 91)
            await asyncio.to_thread(eventually, lambda: maker.open == 0)
            assert pool.stats().closed == {"check": 1, "idle": 1}

        def kept_alive() -> bool:
            clock.advance(0)  # a visit may come before it is idle again after the check
            return len(maker.checks) >= 3

        clock = ManualClock()
        with accounted_keys(keepalive=10, clock=clock) as (pool, maker):
            run_in(kind, main())

    @kinds
    def test_listeners_hear_of_it(self, kind: str) -> None:
        heard = []

        class Listener:
            def created(self, pool: Any, seconds: float) -> None:
                heard.append(("created", pool.name))

            def closed(self, pool: Any, reason: str) -> None:
                heard.append(("closed", reason))

        async def main() -> None:
            await use(pool, "a")
            await pool.aclose()

        with accounted_keys(name="heard") as (pool, _):
            pool.add_listener(Listener())
            run_in(kind, main())
            eventually(lambda: len(heard) == 2)
            assert set(heard) == {("created", "heard"), ("closed", "closed")}


class TestThreads:
    """Are refused, with the cure: resources belong to event loops."""

    def test_of_every_call(self) -> None:
        with accounted_keys() as (pool, _):
            for call in (
                lambda: pool.acquire("a"),
                lambda: pool.lease("a").__enter__(),
                lambda: pool.warm("a", 1),
                lambda: pool.check_idle(),
            ):
                with pytest.raises(TypeError, match=r"coroutine function.*use"):
                    call()

    def test_also_where_a_loop_runs(self) -> None:
        async def main() -> None:
            lease = await pool.aacquire("a")
            lease.release()
            with pytest.raises(TypeError, match="use `async with"):
                pool.acquire("a")
            with pytest.raises(TypeError, match="use `async with"):
                pool.lease((asyncio.get_running_loop(), "a")).__enter__()
            assert not pool.close()

        with accounted_keys() as (pool, _):
            asyncio.run(main())

    def test_hooks_may_be_plain(self) -> None:
        closed: list[Any] = []

        async def connect(key: str) -> Any:
            return object()

        async def main() -> None:
            async with KeyedPool(connect, close=closed.append) as pool, pool.lease("a") as one:
                pass
            assert closed == [one]

        asyncio.run(main())

    def test_async_hooks_need_an_async_factory(self) -> None:
        async def close(one: Any) -> None: ...

        with pytest.raises(TypeError, match="close is a coroutine function, but the factory is"):
            KeyedPool(lambda key: object(), close=close)


class TestLoops:
    """Come and go; what they made is lent to nobody else."""

    @kinds
    def test_one_after_the_other(self, kind: str) -> None:
        """What a closed loop held is gone, and its slots are free at once."""
        with accounted_keys(max_total=2, max_per_key=2) as (pool, maker):
            for n in range(5):
                run_in(kind, use(pool, "a"))
                run_in(kind, use(pool, "b", timeout=PATIENCE))
                assert maker.made == 2 * n + 2
            assert pool.stats().open == 0
            assert pool.stats().closed == {"loop": 10}
            manager = _core.manager(pool, "this test")
            assert not manager.cores and not manager.loops
            eventually(lambda: not manager.arbiter.of_key and not manager.arbiter.opened)

    @kinds
    def test_a_closed_loop_is_not_kept(self, kind: str) -> None:
        seen: list[Any] = []

        async def main() -> None:
            await use(pool, "a")
            seen.append(weakref.ref(asyncio.get_running_loop()))

        async def factory(key: str) -> Any:
            return type("Resource", (), {"key": key, "close": lambda self: None})()

        with KeyedPool(factory) as pool:
            run_in(kind, main())
            run_in(kind, main())
            pool.stats()

            def gone() -> bool:
                gc.collect()
                return all(loop() is None for loop in seen)

            eventually(gone)

    @kinds
    def test_at_once(self, kind: str) -> None:
        with accounted_keys() as (pool, maker), threads(kind, 2) as (one, other):
            first, second = one.run(use(pool, "a")), other.run(use(pool, "a"))
            assert first.loop is one.loop and second.loop is other.loop
            assert one.run(use(pool, "a")) is first
            assert pool.stats().keys["a"].idle == 2
            pool.flush("a")
            eventually(lambda: maker.open == 0)
            eventually(lambda: not pool.stats().keys)  # what is closed still has its slot

    @kinds
    def test_a_full_key_gives_way_to_another_loop(self, kind: str) -> None:
        """What is idle of the key on one loop is closed for a caller on the other, and what is
        leased when it comes back."""
        with (
            accounted_keys(max_per_key=1) as (pool, maker),
            threads(kind, 2) as (one, other),
        ):
            one.run(use(pool, "b"))
            first = one.run(use(pool, "a"))
            assert other.run(use(pool, "a")).loop is other.loop
            assert first.closed and pool.stats().closed == {"evicted": 1}
            lease = one.run(pool.aacquire("a"))
            wait = other.start(use(pool, "a"))
            eventually(lambda: pool.stats().waiting == 1)
            one.call(lease.release)
            assert wait.result(PATIENCE).loop is other.loop
            assert pool.stats().keys["b"].idle == 1

    @kinds
    def test_a_loop_without_any_gets_what_a_busy_one_gives_back(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a full key, though callers wait there as well."""
        monkeypatch.setattr(_loop_capacity, "SPARE_AFTER", 0.0)
        with (
            accounted_keys(max_per_key=2) as (pool, _),
            threads(kind, 2) as (one, other),
        ):
            leases = [one.run(pool.aacquire("a")) for _ in range(2)]
            starved = other.start(use(pool, "a"))
            eventually(lambda: pool.stats().waiting == 1)
            own = one.start(use(pool, "a"))
            eventually(lambda: pool.stats().waiting == 2)
            wait_for_scheduler()
            one.call(leases[0].release)
            assert starved.result(PATIENCE).loop is other.loop
            one.call(leases[1].release)
            assert own.result(PATIENCE).loop is one.loop

    @kinds
    def test_max_total_is_of_all_loops(self, kind: str) -> None:
        with (
            accounted_keys(max_total=2, max_per_key=2) as (pool, maker),
            threads(kind, 2) as (one, other),
        ):
            first = one.run(use(pool, "a"))
            one.run(use(pool, "b"))
            assert other.run(use(pool, "c")).key == "c"
            assert first.closed
            leases = [other.run(pool.aacquire(key)) for key in "cd"]
            with pytest.raises(PoolTimeout, match="max_total"):
                one.run(use(pool, "a", timeout=0.01))
            for lease in leases:
                other.call(lease.release)
            one.run(use(pool, "a"))

    @kinds
    def test_max_waiting_is_of_a_key(self, kind: str) -> None:
        with (
            accounted_keys(max_per_key=1, max_waiting=1) as (pool, _),
            threads(kind, 2) as (one, other),
        ):
            other.run(use(pool, "b"))
            lease = one.run(pool.aacquire("a"))
            wait = other.start(use(pool, "a"))
            eventually(lambda: pool.stats().waiting == 1)
            with pytest.raises(PoolOverloaded):
                other.run(use(pool, "a"))
            one.call(lease.release)
            wait.result(PATIENCE)

    @kinds
    def test_a_loop_that_ends_in_the_midst(self, kind: str) -> None:
        """With a creation, a check, a close and a lease under way: all slots are free."""
        with (
            accounted_keys(max_total=4, max_per_key=4, check_after=0) as (pool, maker),
            threads(kind, 2) as (one, other),
        ):
            gone = one.run(pool.aacquire("leased"))
            one.run(use(pool, "checked"))
            one.run(use(pool, "closed"))
            hangs = {name: Hang() for name in ("create", "check", "close")}
            for name, hang in hangs.items():
                maker.script[name].append(hang)
            one.start(use(pool, "created"))
            assert hangs["create"].begun.wait(PATIENCE)
            one.start(use(pool, "checked"))
            assert hangs["check"].begun.wait(PATIENCE)
            pool.flush("closed")
            assert hangs["close"].begun.wait(PATIENCE)
            assert pool.stats().open == 4
            waits = [other.start(use(pool, key)) for key in "abcd"]
            one.end()
            for wait in waits:
                assert wait.result(PATIENCE).loop is other.loop
            assert pool.stats().closed["loop"] == 3
            leases = [other.run(pool.aacquire(key, timeout=PATIENCE)) for key in "abcd"]
            assert states(pool) == {"leased": 4} and gone.key == "leased"
            for lease in leases:
                other.call(lease.release)

    @kinds
    def test_what_a_stopped_loop_has_is_closed_last(self, kind: str) -> None:
        with (
            accounted_keys(max_total=2, max_per_key=2, hook_timeout=HOUR) as (pool, maker),
            threads(kind, 3) as (still, one, other),
        ):
            first = still.run(use(pool, "a"))
            second = one.run(use(pool, "b"))
            still.stop()
            other.run(use(pool, "c"))
            assert second.closed and not first.closed

    @kinds
    def test_of_a_pool_that_is_dropped(self, kind: str) -> None:
        maker = AsyncKeyedMaker()

        async def main() -> None:
            pool: Any = KeyedPool(maker, warn_unclosed=False)
            await use(pool, "a")
            del pool
            gc.collect()
            await asyncio.to_thread(eventually, lambda: maker.open == 0)

        run_in(kind, main())


class TestLimits:
    """Changed while the pool is in use."""

    @kinds
    def test_fewer_of_a_key_on_two_loops(self, kind: str) -> None:
        with accounted_keys(max_per_key=4) as (pool, maker), threads(kind, 2) as (one, other):
            leases = []
            for loop in (one, other):
                found = [loop.run(pool.aacquire("a")) for _ in range(2)]
                loop.call(found[0].release)
                leases.append((loop, found[1]))
            maker.per_key = 4
            pool.configure(max_per_key=1)
            eventually(lambda: pool.stats().open == 2)
            assert states(pool) == {"leased": 2}
            for loop, lease in leases:
                loop.call(lease.release)
            eventually(lambda: pool.stats().open == 1)
            assert pool.stats().closed == {"surplus": 3}

"""KeyedPool: what is collected, cancelled or left behind, and what is wrong with its options."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

import fastpool
from fastpool import KeyedPool, PoolDeadlock, PoolTimeout, _core
from support.helpers import PATIENCE, ThreadRunner, eventually, states, wait_for_scheduler
from support.keyed_factories import KeyedMaker


class TestCollected:
    def test_an_unclosed_pool_warns_and_closes_what_is_idle(self, collect: Any) -> None:
        maker = KeyedMaker()
        pool: Any = KeyedPool(maker, name="forgotten")
        for key in "abc":
            with pool.lease(key):
                pass
        gone = weakref.ref(pool)
        with pytest.warns(ResourceWarning, match="'forgotten' with 3 open"):
            del pool
            collect()
        assert gone() is None
        eventually(lambda: maker.closed == 3)

    def test_what_is_lent_is_closed_when_it_comes_back(self, collect: Any) -> None:
        """The lease keeps the pool's memory, and not the pool."""
        maker = KeyedMaker()
        pool: Any = KeyedPool(maker)
        lease = pool.acquire("a")
        gone = weakref.ref(pool)
        with pytest.warns(ResourceWarning):
            del pool
            collect()
        assert gone() is None and not maker.closed
        lease.release()
        eventually(lambda: maker.closed == 1)

    def test_a_lease_keeps_the_pool_until_it_is_entered(self, collect: Any) -> None:
        pool: Any = KeyedPool(KeyedMaker())
        lease = pool.lease("a")
        gone = weakref.ref(pool)
        del pool
        collect()
        assert gone() is not None
        with pytest.warns(ResourceWarning), lease:
            collect()
        assert gone() is None

    def test_a_lost_lease_closes_its_resource_and_warns(self, collect: Any) -> None:
        maker = KeyedMaker()
        with KeyedPool(maker, name="pages") as pool:
            lease: Any = pool.acquire("a")
            with pytest.warns(ResourceWarning, match=r"pages\['a'\].*collected unreleased"):
                del lease
                collect()
            eventually(lambda: maker.closed == 1)
            eventually(lambda: pool.stats().closed == {"lost": 1})

    def test_a_forgotten_key_is_kept_by_nothing(self, collect: Any) -> None:
        class Key:
            pass

        with KeyedPool(lambda key: [], max_total=1) as pool:
            key: Any = Key()
            with pool.lease(key):
                pass
            gone = weakref.ref(key)
            del key
            with pool.lease("other"):
                pass

            def is_gone() -> bool:
                wait_for_scheduler()
                gc.collect()
                return gone() is None

            eventually(is_gone)

    def test_a_pool_with_nothing_open_goes_silently(self, collect: Any, recwarn: Any) -> None:
        maker = KeyedMaker()
        pool: Any = KeyedPool(maker)
        with pool.lease("a"):
            pass
        pool.flush()
        eventually(lambda: maker.closed == 1)
        wait_for_scheduler()
        gone = weakref.ref(pool)
        del pool
        collect()
        assert gone() is None and not recwarn.list

    def test_a_key_without_resources_is_kept_by_nothing(self, collect: Any) -> None:
        """Where no other key has waited for a slot."""

        class Key:
            pass

        with KeyedPool(lambda key: []) as pool:
            key: Any = Key()
            with pool.lease(key):
                pass
            pool.flush(key)
            gone = weakref.ref(key)
            del key
            eventually(lambda: (wait_for_scheduler(), collect(), gone() is None)[-1])


class TestForgetting:
    """Step by step: who is on the way to a key, and who forgets it."""

    def test_a_key_is_kept_for_one_on_the_way_to_its_queue(self, keyed: Any) -> None:
        pool, _ = keyed()
        manager = _core.manager(pool, "test")
        on_the_way = manager.pin("a")
        manager.left(on_the_way)  # as if the last resource had gone at that moment
        assert manager.everyone() == [on_the_way]
        on_the_way.unpin()
        wait_for_scheduler()
        assert not manager.cores and on_the_way.core.closed

    def test_who_has_found_it_just_before_comes_to_a_new_one(
        self, keyed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The hit finds the old core, closed; pinning it is too late."""
        pool, maker = keyed()
        manager = _core.manager(pool, "test")
        old = manager.pin("a")
        old.unpin()
        wait_for_scheduler()
        manager.cores["a"] = old.core  # what the caller has found
        pinned = manager._pinned

        def too_late(core: Any) -> Any:
            if core is old.core:
                manager.cores.pop("a", None)
            return pinned(core)

        monkeypatch.setattr(manager, "_pinned", too_late)
        with pool.lease("a") as resource:
            assert resource.key == "a" and maker.made == 1
        assert manager.key_pool("a") is not old

    def test_two_who_make_it_at_once_share_one(
        self, keyed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One of the two is thrown away."""
        from fastpool.keyed import _manager

        pool, maker = keyed(None, 1)
        manager = _core.manager(pool, "test")
        real = _manager.KeyPool
        first: list[Any] = []

        def slowly(keyed: Any, key: Any) -> Any:
            made = real(keyed, key)
            if not first:
                first.append(made)
                with pool.lease(key):  # another caller, in the meantime
                    pass
            return made

        monkeypatch.setattr(_manager, "KeyPool", slowly)
        with pool.lease("a"):
            assert maker.made == 1 and manager.key_pool("a") is not first[0]


class TestTasks:
    def test_a_cancelled_wait_for_a_slot_takes_nothing(self, keyed: Any) -> None:
        pool, _ = keyed(1, 1)

        async def main() -> None:
            lease = await pool.aacquire("a")
            waiting = asyncio.create_task(pool.aacquire("b"))
            while not pool.stats().waiting:
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            lease.release()
            async with pool.lease("c"):
                pass

        asyncio.run(main())
        eventually(lambda: list(pool.stats().keys) == ["c"])

    def test_a_wait_whose_loop_is_closed_is_in_nobodys_way(self, keyed: Any) -> None:
        pool, _ = keyed(1, 1)
        lease = pool.acquire("a")
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(pool.aacquire("b"))

        async def until_it_waits() -> None:
            while not pool.stats().waiting:
                await asyncio.sleep(0)

        loop.run_until_complete(until_it_waits())
        loop.close()
        lease.release()
        with pool.lease("c", timeout=PATIENCE):
            pass
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]
        del waiting
        gc.collect()
        manager = _core.manager(pool, "test")
        eventually(lambda: "b" not in manager.cores)

    def test_what_one_task_holds_is_no_deadlock_of_another(self, keyed: Any) -> None:
        """Not even if it holds it by the plain `with`, as a thread does."""
        pool, _ = keyed(1, 1)
        with pool.lease("a"):
            pass

        async def main() -> None:
            with pool.lease("a"):
                waiting = asyncio.create_task(pool.aacquire("b"))
                while not pool.stats().waiting and not waiting.done():
                    await asyncio.sleep(0)
            (await waiting).release()

            async with pool.lease("a"):
                waiting = asyncio.create_task(pool.aacquire("b"))
                while not pool.stats().waiting and not waiting.done():
                    await asyncio.sleep(0)
                with pytest.raises(PoolDeadlock):
                    await pool.aacquire("b")
            (await waiting).release()

        asyncio.run(main())

    def test_tasks_of_two_loops_and_threads_share_it(
        self, keyed: Any, runner: ThreadRunner
    ) -> None:
        pool, maker = keyed(2, 1)

        async def use(key: Any) -> None:
            for _ in range(20):
                async with pool.lease(key):
                    await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(*(use(key) for key in "abcd"))

        def threads() -> None:
            for n in range(20):
                with pool.lease("abcd"[n % 4]):
                    pass

        for _ in range(2):
            runner.start(asyncio.run, main())
            runner.start(threads)
        runner.finish()
        assert maker.made >= 4

    def test_close_of_a_task_is_awaited(self) -> None:
        maker = KeyedMaker()

        async def main() -> None:
            async with KeyedPool(maker) as pool:
                async with pool.lease("a"), pool.lease("b"):
                    pass
            assert pool.closed

        asyncio.run(main())
        assert maker.made == maker.closed == 2


class TestFactory:
    def test_an_object_with_create(self, clock: Any) -> None:
        seen: list[Any] = []

        class Maker:
            def create(self, key: str) -> list[str]:
                return [key]

            def close(self, resource: list[str]) -> None:
                seen.append(("close", *resource))

            def check(self, resource: list[str]) -> None:
                seen.append(("check", *resource))

            def reset(self, resource: list[str]) -> None:
                seen.append(("reset", *resource))

        with KeyedPool(Maker(), check_after=0, clock=clock) as pool:
            for _ in range(2):
                with pool.lease("a") as resource:
                    assert resource == ["a"]
        eventually(lambda: len(seen) == 4)
        acts = ["reset", "check", "reset", "close"]
        assert seen == [(act, "a") for act in acts]

    @pytest.mark.parametrize("result", [None, "twice"])
    def test_what_is_no_resource_is_an_error(self, result: Any) -> None:
        known: list[Any] = []

        def factory(key: str) -> Any:
            if result is None:
                return None
            known.append(known[0] if known else object())
            return known[-1]

        with KeyedPool(factory, timeout=PATIENCE, name="pages") as pool:
            if result is None:
                with pytest.raises(TypeError, match="returned None"):
                    pool.acquire("a")
            else:
                with pool.lease("a"), pytest.raises(ValueError, match="already holds"):
                    pool.acquire("a")

    def test_a_late_resource_is_kept_for_the_next(self, keyed: Any) -> None:
        """Its borrower has gone; the creation is the pool's."""
        maker = KeyedMaker(1, 1)
        maker.gates["a"] = threading.Event()
        pool, _ = keyed(1, 1, maker=maker)
        for timeout in (0.02, 0.2, 2, 20):  # until the factory is entered within that time
            with pytest.raises(PoolTimeout, match="phase: create"):
                pool.acquire("a", timeout)
            if maker.calls:
                break
        maker.gates["a"].set()
        eventually(lambda: states(pool) == {"idle": 1})
        with pool.lease("a", timeout=0):
            assert maker.made == 1 and maker.calls == ["a"]

    def test_a_creation_past_its_deadline_keeps_its_slot(self, keyed: Any) -> None:
        """It cannot be killed: other keys get no more than the rest."""
        maker = KeyedMaker(2, 2)
        maker.gates["dead"] = threading.Event()
        pool, _ = keyed(2, 2, maker=maker, create_timeout=0.02)
        with pytest.raises(PoolTimeout):
            pool.acquire("dead")
        _core.manager(pool, "test").options.create_timeout = PATIENCE  # for those that answer
        for key in "abc":
            with pool.lease(key):
                assert pool.stats().open == 2


LIMITS = ("max_total", "max_per_key", "max_idle_total", "max_idle_per_key")


class TestOptions:
    def refused(self, error: type[Exception], *words: str, **options: Any) -> None:
        with pytest.raises(error) as caught:
            KeyedPool(options.pop("factory", list), name="pages", **options)
        for word in ("pages: ", *words):
            assert word in str(caught.value), caught.value

    @pytest.mark.parametrize("name", LIMITS)
    @pytest.mark.parametrize("value", [1.5, "3", True, [4]], ids=repr)
    def test_a_limit_is_an_int_or_none(self, name: str, value: Any) -> None:
        self.refused(TypeError, name, repr(value), "an int or None", **{name: value})

    @pytest.mark.parametrize("name", LIMITS)
    def test_a_limit_is_not_negative(self, name: str) -> None:
        self.refused(ValueError, name, "-1", **{name: -1})

    @pytest.mark.parametrize("name", LIMITS[:2])
    def test_nothing_at_all_is_no_pool(self, name: str) -> None:
        """0 is not "no limit", as it is in Go: None is."""
        self.refused(ValueError, name, "1 or more, or None, not 0", **{name: 0})

    @pytest.mark.parametrize(
        "part, whole",
        [(LIMITS[1], LIMITS[0]), (LIMITS[2], LIMITS[0]), LIMITS[3:0:-2], LIMITS[3:1:-1]],
    )
    def test_a_part_is_no_larger_than_the_whole(self, part: str, whole: str) -> None:
        self.refused(ValueError, f"{part} is 4, more than {whole} allows: 3", **{part: 4, whole: 3})

    def test_defaults_give_way(self) -> None:
        """To the limit that was given."""
        for options in ({"max_total": 3}, {"max_per_key": 200}, {"max_idle_per_key": 20}):
            KeyedPool(list, **options).close()
        with KeyedPool(list, max_total=3) as pool:
            leases = [pool.acquire("a") for _ in range(3)]
            assert pool.stats().open == pool.stats().maxsize == 3
            for lease in leases:
                lease.release()

    def test_defaults(self) -> None:
        """As docs/reference/keyed.md has them: 100 in all, 10 of a key, and all are kept."""
        with KeyedPool(lambda key: [key]) as pool:
            leases = [pool.acquire(0) for _ in range(10)]
            with pytest.raises(PoolTimeout):
                pool.acquire(0, timeout=0)
            wait_for_scheduler()  # by then one more would be under way, if there could be one
            assert pool.stats().open == 10 and pool.stats().maxsize == 100
            leases += [pool.acquire(n // 10) for n in range(10, 100)]
            for lease in leases:
                lease.release()
            assert pool.stats().idle == 100

    @pytest.mark.parametrize("name", ["maxsize", "max_idle", "min_idle", "items", "fairness"])
    def test_options_that_mean_nothing_here_say_why(self, name: str) -> None:
        self.refused(TypeError, name, "KeyedPool has no option", **{name: 1})

    def test_a_misspelt_option_is_named(self) -> None:
        self.refused(TypeError, "did you mean 'max_per_key'?", max_per_keys=3)

    def test_a_factory_is_needed(self) -> None:
        self.refused(TypeError, "needs a factory", factory=None)
        self.refused(TypeError, "callable", factory=3)

    @pytest.mark.parametrize("timeout", ["1", -1, float("nan")], ids=repr)
    def test_a_bad_timeout_is_refused_at_once(self, timeout: Any) -> None:
        with KeyedPool(list, name="pages") as pool, pytest.raises((TypeError, ValueError)):
            pool.lease("a", timeout=timeout)

    def test_a_pool_is_made_once(self) -> None:
        with KeyedPool(list) as pool, pytest.raises(RuntimeError):
            pool.__init__(list)  # type: ignore[misc]

    def test_it_subscripts(self) -> None:
        assert fastpool.KeyedPool[str, int] is not None

    def test_leases_are_made_by_the_pool(self) -> None:
        with pytest.raises(TypeError, match="made by KeyedPool"):
            fastpool.KeyedLease()

"""``configure``: options that change while the pool is in use; ``options``: what they are now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import fastpool
from fastpool import FastPool, KeyedPool, PoolOverloaded, PoolTimeout, SharedPool, is_broken
from fastpool.keyed._options import LIMITS
from fastpool.pool._options import CHANGEABLE, OF_FASTPOOL, Options
from fastpool.shared._options import SharedOptions
from fastpool.testing import ManualClock
from support import loops
from support.helpers import (
    PATIENCE,
    Maker,
    ThreadRunner,
    eventually,
    settled,
    states,
    wait_for_scheduler,
    works,
)


def fast(maker: Maker, **options: Any) -> Any:
    return FastPool(4, factory=maker, **options)


def shared(maker: Maker, **options: Any) -> Any:
    return SharedPool(maker, items=(0, 4), slots=1, **options)


def keyed(maker: Maker, **options: Any) -> Any:
    return KeyedPool(lambda key: maker(), max_per_key=4, **options)


KINDS: dict[str, Callable[..., Any]] = {"fast": fast, "shared": shared, "keyed": keyed}

#: Option: another value than its default.
OTHER: dict[str, Any] = {
    "timeout": 0.5, "create_timeout": 0.5, "hook_timeout": 0.5, "check_after": 0.25,
    "keepalive": 7.0, "idle_timeout": 70.0, "max_lifetime": 100.0, "max_waiting": 3,
    "discard_on": ("broken", LookupError), "on_create_error": "wait", "warn_unclosed": False,
    "min_idle": 1, "min_size": 2, "max_idle": 3, "max_uses": 5, "shrink_after": 3.0,
    "penalty_time": 1.0, "penalize_on": KeyError, "max_total": 50, "max_per_key": 5,
    "max_idle_total": 40, "max_idle_per_key": 4,
}  # fmt: skip


def acquire(pool: Any, *timeout: float) -> Any:
    return pool.acquire("key", *timeout) if type(pool) is KeyedPool else pool.acquire(*timeout)


class TestReadable:
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_option_has_a_value_that_its_constructor_takes(self, kind: str) -> None:
        maker = Maker()
        pool = KINDS[kind](maker, timeout=2, idle_timeout=None)
        options = pool.options
        assert options["timeout"] == 2 and options["idle_timeout"] is None
        assert options["discard_on"] == "broken"
        given = {name: options[name] for name in options if kind == "shared" or name != "items"}
        twin = type(pool)(**given)
        assert twin.options == options
        pool.close()
        twin.close()

    @pytest.mark.parametrize("kind", KINDS)
    def test_they_are_a_copy(self, kind: str) -> None:
        pool = KINDS[kind](Maker())
        pool.options["timeout"] = 1
        assert pool.options["timeout"] == 30
        pool.close()

    def test_what_was_resized_is_told(self) -> None:
        pool: Any = fast(Maker())
        pool.resize(7)
        assert pool.options["maxsize"] == 7
        pool.close()
        pool = shared(Maker())
        pool.resize((1, 9))
        assert pool.options["items"] == (1, 9)
        pool.close()

    def test_of_a_queue(self) -> None:
        queue: Any = FastPool(3, timeout=1, max_waiting=2, order="fifo", name="jobs")
        assert queue.options == {
            "maxsize": 3, "order": "fifo", "fairness": "throughput", "timeout": 1.0,
            "max_waiting": 2, "name": "jobs",
        }  # fmt: skip
        assert FastPool().options["max_waiting"] is None  # type: ignore[var-annotated]

    def test_of_ready_items(self) -> None:
        """They are not kept by it."""
        pool: Any = FastPool(items=[[1], [2]], timeout=5)
        assert pool.options["items"] is None and pool.options["maxsize"] == 2
        pool.configure(timeout=6)
        assert pool.options["timeout"] == 6 and states(pool) == {"idle": 2}
        pool.close()


class TestChanged:
    @pytest.mark.parametrize("name", [*CHANGEABLE, *OF_FASTPOOL])
    def test_every_option_of_a_fastpool(self, name: str) -> None:
        self.changed(fast(Maker(), check=bool), name)

    @pytest.mark.parametrize("name", SharedOptions.changeable)
    def test_every_option_of_a_shared_pool(self, name: str) -> None:
        self.changed(shared(Maker(), check=bool), name)

    @pytest.mark.parametrize("name", [*CHANGEABLE, "max_uses", *LIMITS])
    def test_every_option_of_a_keyed_pool(self, name: str) -> None:
        self.changed(keyed(Maker(), check=bool), name)

    @staticmethod
    def changed(pool: Any, name: str) -> None:
        before = pool.options
        pool.configure(**{name: OTHER[name]})
        assert pool.options == {**before, name: OTHER[name]} != before
        pool.close()

    def test_the_tables_have_every_name(self) -> None:
        """Of every option that may be changed, and of no other."""
        assert {*OTHER} == {*Options.changeable, *SharedOptions.changeable, *LIMITS}

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_was_not_given_is_as_it_was(self, kind: str) -> None:
        pool = KINDS[kind](Maker())
        before = pool.options
        pool.configure()
        pool.configure(timeout=...)
        assert pool.options == before
        pool.close()

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_wrong_changes_nothing(self, kind: str) -> None:
        pool = KINDS[kind](Maker(), name="shop")
        before = pool.options
        for given, kind_of, text in [
            ({"timeout": 1, "idle_timeout": -1}, ValueError, "shop: idle_timeout must be"),
            ({"timeout": "1"}, TypeError, "shop: timeout must be a number"),
            ({"timeout": 1, "keepalive": 1}, TypeError, "keepalive needs a check hook"),
            ({"name": "x"}, TypeError, "shop: configure: name is fixed when the pool is made"),
            ({"timeuot": 1}, TypeError, "shop: configure: there is no option 'timeuot'"),
            ({"maxsize": 1}, TypeError, r"maxsize is changed by another call: resize\(n\)"),
        ]:
            with pytest.raises(kind_of, match=text):
                pool.configure(**given)
        assert pool.options == before
        pool.close()

    def test_options_are_checked_together(self) -> None:
        pool: Any = fast(Maker(), max_idle=2)
        with pytest.raises(ValueError, match="max_idle is 2, less than min_idle 3"):
            pool.configure(min_idle=3)
        pool.configure(min_idle=3, max_idle=3)
        eventually(lambda: states(pool) == {"idle": 3})
        pool.close()

    def test_a_queue_has_none(self) -> None:
        with pytest.raises(TypeError, match="needs a resource pool"):
            FastPool().configure(timeout=1)  # type: ignore[var-annotated]


class TestEffect:
    @pytest.mark.parametrize("kind", KINDS)
    def test_timeout(self, kind: str) -> None:
        pool = KINDS[kind](Maker())
        leases = [acquire(pool) for _ in range(4)]
        pool.configure(timeout=0.01)
        with pytest.raises(PoolTimeout):
            acquire(pool)
        for lease in leases:
            lease.release()
        pool.close()

    @pytest.mark.parametrize("kind", KINDS)
    def test_max_waiting(self, kind: str) -> None:
        pool = KINDS[kind](Maker())
        leases = [acquire(pool) for _ in range(4)]
        settled(pool)  # until then a creation counts as one that somebody may wait for
        pool.configure(max_waiting=0)
        with pytest.raises(PoolOverloaded):
            acquire(pool)
        for lease in leases:
            lease.release()
        pool.close()

    @pytest.mark.parametrize("option", ["min_idle", "min_size"])
    def test_least(self, option: str) -> None:
        maker = Maker()
        pool: Any = fast(maker)
        pool.configure(**{option: 3})
        eventually(lambda: states(pool) == {"idle": 3})
        pool.configure(**{option: 0})
        pool.flush()
        settled(pool)
        assert maker.made == maker.closed == 3
        pool.close()

    def test_max_idle(self) -> None:
        maker = Maker()
        pool: Any = fast(maker)
        pool.warm(4)
        pool.configure(max_idle=1)
        eventually(lambda: states(pool) == {"idle": 1})
        leases = [pool.acquire() for _ in range(3)]
        for lease in leases:
            lease.release()
        eventually(lambda: states(pool) == {"idle": 1})
        pool.configure(max_idle=None)
        leases = [pool.acquire() for _ in range(3)]
        for lease in leases:
            lease.release()
        assert states(pool) == {"idle": 3}
        pool.close()

    def test_max_uses(self) -> None:
        maker = Maker()
        pool: Any = fast(maker)
        pool.acquire().release()
        pool.configure(max_uses=2)
        pool.acquire().release()
        assert maker.closed == 1 and pool.stats().closed == {"uses": 1}
        pool.configure(max_uses=None)
        for _ in range(3):
            pool.acquire().release()
        assert maker.made == 2 and maker.closed == 1
        pool.close()

    @pytest.mark.parametrize("kind", KINDS)
    def test_idle_timeout(self, kind: str) -> None:
        clock, maker = ManualClock(), Maker()
        pool = KINDS[kind](maker, clock=clock, idle_timeout=None)
        acquire(pool).release()
        clock.advance(1000)
        assert maker.closed == 0
        pool.configure(idle_timeout=10)
        clock.advance(11)
        eventually(lambda: pool.stats().closed == {"idle": 1})
        pool.close()

    def test_check_after(self) -> None:
        checked: list[Any] = []
        pool: Any = fast(Maker(), check=checked.append, check_after=None)
        for _ in range(3):
            pool.acquire().release()
        pool.configure(check_after=0)
        pool.acquire().release()  # what came back before is fresh still
        before = len(checked)
        pool.acquire().release()
        assert len(checked) == before + 1
        pool.close()

    @pytest.mark.parametrize("kind", KINDS)
    def test_discard_on(self, kind: str) -> None:
        maker = Maker()
        pool = KINDS[kind](maker)
        pool.configure(discard_on=LookupError)
        with pytest.raises(KeyError), pool.lease(*["key"] * (kind == "keyed")):
            raise KeyError
        eventually(lambda: maker.closed == 1)
        pool.close()

    def test_on_create_error(self) -> None:
        maker = Maker()
        maker.script.extend([OSError(), OSError()])
        pool: Any = fast(maker)
        with pytest.raises(OSError):
            pool.acquire()
        pool.configure(on_create_error="wait")
        pool.acquire(PATIENCE).release()
        pool.close()

    def test_create_timeout_and_hook_timeout(self) -> None:
        maker = Maker()
        maker.gate.clear()
        pool: Any = fast(maker)
        pool.configure(create_timeout=0.01)
        with pytest.raises(PoolTimeout) as caught:
            pool.acquire(PATIENCE)
        assert caught.value.phase == "create" and caught.value.waited < PATIENCE
        maker.gate.set()
        eventually(lambda: pool.stats().creating == 0)
        pool.close()


class TestLimitsOfKeys:
    def test_a_smaller_total_closes_what_is_idle_and_then_what_comes_back(self) -> None:
        maker = Maker()
        pool: Any = KeyedPool(lambda key: maker(), max_total=6, max_per_key=2)
        leases = [pool.acquire(key) for key in range(6)]
        for lease in leases[:2]:
            lease.release()
        pool.configure(max_total=3)
        eventually(lambda: pool.stats().open == 4 and maker.closed == 2)
        wait_for_scheduler()
        for lease in leases[2:]:
            lease.release()
        eventually(lambda: pool.stats().open == 3)
        assert pool.stats().closed == {"evicted": 2, "surplus": 1}
        pool.close()
        eventually(lambda: maker.made == maker.closed)

    def test_a_larger_total_serves_those_who_wait(self, runner: ThreadRunner) -> None:
        pool: Any = KeyedPool(lambda key: [key], max_total=1, max_per_key=1)
        lease = pool.acquire("a")
        waiter = runner.start(pool.acquire, "b", PATIENCE)
        eventually(lambda: pool.stats().waiting == 1)
        pool.configure(max_total=2)
        waiter.result().release()
        lease.release()
        pool.close()

    def test_of_one_key(self, runner: ThreadRunner) -> None:
        maker = Maker()
        pool: Any = KeyedPool(lambda key: maker(), max_total=9, max_per_key=1)
        lease = pool.acquire("a")
        waiters = [runner.start(pool.acquire, "a", PATIENCE) for _ in range(2)]
        eventually(lambda: pool.stats().waiting == 2)
        pool.configure(max_per_key=3)
        for one in [lease, *(waiter.result() for waiter in waiters)]:
            one.release()
        assert states(pool) == {"idle": 3}
        pool.configure(max_per_key=2)
        eventually(lambda: states(pool) == {"idle": 2})
        pool.close()

    @pytest.mark.parametrize("option", ["max_idle_total", "max_idle_per_key"])
    def test_of_what_is_idle(self, option: str) -> None:
        maker = Maker()
        pool: Any = KeyedPool(lambda key: maker(), max_total=9, max_per_key=4)
        leases = [pool.acquire("a") for _ in range(4)]
        for lease in leases:
            lease.release()
        pool.configure(**{option: 1})
        eventually(lambda: states(pool) == {"idle": 1})
        leases = [pool.acquire("a") for _ in range(4)]
        for lease in leases:
            lease.release()
        eventually(lambda: states(pool) == {"idle": 1})
        pool.close()
        eventually(lambda: maker.made == maker.closed)


def test_of_an_async_factory() -> None:
    maker = Maker()

    async def create() -> Any:
        return maker()

    async def main() -> None:
        pool: Any = FastPool(4, factory=create)
        lease = await pool.aacquire()
        pool.configure(min_size=3, timeout=0.01, max_idle=3)
        await loops.eventually(lambda: states(pool) == {"idle": 2, "leased": 1})
        pool.resize(3)
        leases = [await pool.aacquire() for _ in range(2)]
        with pytest.raises(PoolTimeout):
            await pool.aacquire()
        for one in [lease, *leases]:
            one.release()
        assert pool.options["min_size"] == 3
        pool.configure(min_size=0, max_idle=1)
        await loops.eventually(lambda: states(pool) == {"idle": 1})
        assert await pool.aclose()

    asyncio.run(main())
    assert maker.made == maker.closed


def test_the_rule_itself_is_told_as_it_was_given() -> None:
    pool: Any = FastPool(1, factory=object, discard_on=is_broken)
    assert pool.options["discard_on"] is is_broken
    pool.close()


def test_it_may_be_changed_while_others_use_the_pool(runner: ThreadRunner) -> None:
    maker = Maker()
    pool: Any = fast(maker)
    busy = [True]

    def use(_: int) -> None:
        while busy:
            pool.acquire(PATIENCE).release()

    runner.together(3, use)
    for turn in range(200):
        pool.configure(
            max_idle=turn % 4 + 1, min_size=turn % 2, timeout=turn + 1, max_uses=turn + 1
        )
    busy.clear()
    runner.finish()
    pool.configure(min_size=0, max_idle=None, max_uses=None, timeout=30)
    settled(pool)
    works(pool, 4)
    pool.close()
    eventually(lambda: maker.made == maker.closed)
    assert not maker.faults


class TestSemaphore:
    def test_growing_serves_those_who_wait(self, runner: ThreadRunner) -> None:
        semaphore = fastpool.WeightedSemaphore(2)
        semaphore.acquire(2)
        waiter = runner.start(semaphore.acquire, 2, PATIENCE)
        eventually(lambda: semaphore.waiting == 1)
        semaphore.resize(3)
        assert semaphore.waiting == 1
        semaphore.resize(4)
        waiter.result()
        assert (semaphore.size, semaphore.in_use) == (4, 4)

    def test_a_smaller_one_gives_nothing_until_enough_is_back(self) -> None:
        semaphore = fastpool.WeightedSemaphore(4)
        semaphore.acquire(4)
        semaphore.resize(2)
        assert semaphore.size == 2 and semaphore.in_use == 4
        semaphore.release(2)
        assert not semaphore.try_acquire()
        semaphore.release()
        assert semaphore.try_acquire() and not semaphore.try_acquire()
        with pytest.raises(ValueError, match="only 2 units in all"):
            semaphore.acquire(3)

    def test_nobody_is_left_to_wait_for_more_than_there_is(self, runner: ThreadRunner) -> None:
        semaphore = fastpool.WeightedSemaphore(4, name="bytes")
        semaphore.acquire()
        waiter = runner.start(semaphore.acquire, 4, PATIENCE)
        eventually(lambda: semaphore.waiting == 1)
        with pytest.raises(ValueError, match=r"bytes: resize\(3\): somebody waits for 4 units"):
            semaphore.resize(3)
        semaphore.release()
        waiter.result()
        assert semaphore.size == 4

    @pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
    def test_a_bad_size(self, size: Any) -> None:
        semaphore = fastpool.WeightedSemaphore(4)
        with pytest.raises((TypeError, ValueError), match="size must be a whole number"):
            semaphore.resize(size)
        assert semaphore.size == 4

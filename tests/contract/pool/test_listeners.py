"""``add_listener``: objects that are told what goes on in a pool, and cost it nothing else."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import fastpool
from fastpool import PoolTimeout
from fastpool._runtime import scheduler
from fastpool.keyed._manager import KeyedManager
from support import callers, loops
from support.callers import FastPool
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, settled, states, works

pytestmark = pytest.mark.usefixtures("caller_kind")

EVENTS = ("created", "closed", "acquired_after_wait", "timed_out", "create_failed", "used")


class Told:
    """A listener that writes down what it is told, and in which thread."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.threads: set[str] = set()
        self.pools: list[Any] = []
        for event in EVENTS:
            setattr(self, event, lambda pool, *args, event=event: self.note(pool, event, args))

    def note(self, pool: Any, event: str, args: tuple[Any, ...]) -> None:
        self.events.append((event, *args))
        self.threads.add(threading.current_thread().name)
        self.pools.append(pool)

    def of(self, event: str) -> list[tuple[Any, ...]]:
        return [args for name, *args in self.events if name == event]  # type: ignore[misc]


def fast(maker: Maker, **options: Any) -> Any:
    return FastPool(2, factory=maker, **options)


def in_caller(maker: Maker, **options: Any) -> Any:
    return FastPool(2, factory=maker, create_in="caller", **options)


def shared(maker: Maker, **options: Any) -> Any:
    return callers.SharedPool(maker, items=(0, 2), slots=1, shrink_after=None, **options)


class OneKey:
    """A KeyedPool as a pool of one key."""

    def __init__(self, maker: Maker, **options: Any) -> None:
        self.pool = callers.KeyedPool(lambda key: maker(), max_per_key=2, max_total=2, **options)
        self._real = getattr(self.pool, "_real", self.pool)
        for name in ("stats", "close", "add_listener", "remove_listener", "flush"):
            setattr(self, name, getattr(self.pool, name))

    def acquire(self, timeout: float = PATIENCE) -> Any:
        return self.pool.acquire("key", timeout)


KINDS: dict[str, Callable[..., Any]] = {
    "fast": fast, "in caller": in_caller, "shared": shared, "keyed": OneKey,
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return KINDS[request.param]


def listened(pool: Any) -> Told:
    told = Told()
    pool.add_listener(told)
    return told


class TestEvents:
    def test_a_resource_from_its_creation_to_its_end(self, kind: Any) -> None:
        maker = Maker()
        pool = kind(maker)
        told = listened(pool)
        lease = pool.acquire()
        eventually(lambda: len(told.of("created")) == 1)
        (seconds,) = told.of("created")[0]
        assert 0 <= seconds < PATIENCE
        eventually(lambda: len(told.of("acquired_after_wait")) == 1)
        lease.release()
        pool.flush()
        eventually(lambda: told.of("closed") == [["flushed"]])
        pool.close()
        assert {id(each) for each in told.pools} == {id(getattr(pool, "_real", pool))}

    def test_a_hit_tells_nobody(self, kind: Any) -> None:
        pool = kind(Maker())
        pool.acquire().release()
        settled(pool)
        told = listened(pool)
        for _ in range(10):
            pool.acquire().release()
        assert told.events == []
        pool.close()

    def test_a_wait_in_queue(self, kind: Any, runner: ThreadRunner) -> None:
        pool = kind(Maker())
        leases = [pool.acquire() for _ in range(2)]
        settled(pool)
        told = listened(pool)
        waiter = runner.start(pool.acquire, PATIENCE)
        eventually(lambda: pool.stats().waiting == 1)
        leases.pop().release()
        leases.append(waiter.result())
        ((seconds,),) = told.of("acquired_after_wait")
        assert 0 < seconds < PATIENCE
        for lease in leases:
            lease.release()
        pool.close()

    def test_a_timeout(self, kind: Any) -> None:
        pool = kind(Maker())
        leases = [pool.acquire() for _ in range(2)]
        told = listened(pool)
        with pytest.raises(PoolTimeout):
            pool.acquire(0.01)
        ((phase, seconds),) = told.of("timed_out")
        assert phase == "wait" and seconds >= 0.01
        for lease in leases:
            lease.release()
        pool.close()

    def test_a_failure(self, kind: Any) -> None:
        maker = Maker()
        pool = kind(maker)
        told = listened(pool)
        failure = ConnectionRefusedError()
        maker.script.append(failure)
        with pytest.raises(ConnectionRefusedError):
            pool.acquire()
        eventually(lambda: told.of("create_failed") == [[failure]])
        assert told.of("created") == []
        pool.close()

    @pytest.mark.parametrize("tracked", [False, True])
    def test_uses(self, kind: Any, tracked: bool) -> None:
        """A sample, or all of them where they are measured anyway."""
        pool = kind(Maker(), leak_after=1000 if tracked else None)
        told = listened(pool)
        turns = 10 if tracked else 3000
        for _ in range(turns):
            pool.acquire().release()
        eventually(lambda: len(told.of("used")) >= (turns if tracked else 2))
        assert tracked or len(told.of("used")) < 6
        assert all(0 <= seconds < PATIENCE for (seconds,) in told.of("used"))
        pool.close()

    def test_a_creation_that_takes_too_long(self) -> None:
        """The scheduler finds out, and has a worker tell it."""
        maker = Maker()
        maker.gate.clear()
        pool = fast(maker, create_timeout=0.01)
        told = listened(pool)
        with pytest.raises(PoolTimeout):
            pool.acquire()
        eventually(lambda: [phase for phase, _ in told.of("timed_out")] == ["create"])
        maker.gate.set()
        settled(pool)
        pool.close()
        name = scheduler._schedulers["scheduler"].name
        assert name not in told.threads


class TestListeners:
    def test_it_has_as_many_methods_as_it_likes(self) -> None:
        class Opened:
            count = 0

            def created(self, pool: Any, seconds: float) -> None:
                self.count += 1

        pool, opened = fast(Maker()), Opened()
        pool.add_listener(opened)
        works(pool, 2)
        eventually(lambda: opened.count == 2)
        pool.close()

    def test_what_is_none_is_refused(self) -> None:
        pool = fast(Maker(), name="shop")
        with pytest.raises(TypeError, match="shop: add_listener: a listener has some of"):
            pool.add_listener(object())
        with pytest.raises(ValueError, match="shop: remove_listener: it is none of"):
            pool.remove_listener(Told())
        pool.close()

    def test_it_is_told_until_it_is_removed(self, kind: Any) -> None:
        pool = kind(Maker())
        told, other = listened(pool), listened(pool)
        pool.add_listener(told)  # once more changes nothing
        pool.acquire().release()
        eventually(lambda: told.of("created") and other.of("created"))
        settled(pool)
        assert len(told.of("created")) == 1
        pool.remove_listener(told)
        known = list(told.events)
        pool.flush()
        eventually(lambda: other.of("closed"))
        assert told.events == known
        pool.close()

    def test_what_it_raises_is_logged_and_harms_nobody(
        self, kind: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Bad:
            def created(self, pool: Any, seconds: float) -> None:
                raise RuntimeError("bad listener")

            closed = acquired_after_wait = created

        maker = Maker()
        pool = kind(maker)
        pool.add_listener(Bad())
        told = listened(pool)
        with caplog.at_level(logging.WARNING, "fastpool"):
            pool.acquire().release()
            pool.flush()
            eventually(lambda: told.of("created") and told.of("closed"))
        assert "a listener raised in created()" in caplog.text
        works(pool, 2)
        pool.close()
        eventually(lambda: maker.made == maker.closed)

    def test_it_may_use_the_pool(self) -> None:
        """No lock is held, and what others wait for is done."""
        maker = Maker()

        class Nosy:
            def __init__(self) -> None:
                self.seen: list[Any] = []

            def created(self, pool: Any, seconds: float) -> None:
                self.seen.append((pool.stats().open, len(pool.leases())))

            def closed(self, pool: Any, reason: str) -> None:
                self.seen.append(pool.stats().open)

        pool, nosy = fast(maker), Nosy()
        pool.add_listener(nosy)
        pool.acquire().release()
        eventually(lambda: len(nosy.seen) == 1)
        pool.flush()
        eventually(lambda: len(nosy.seen) == 2)
        pool.close()

    @pytest.mark.threads_only("there is no call in it")
    def test_neither_keeps_the_other_alive(self, collect: Any) -> None:
        pool: Any = fastpool.FastPool(1, factory=object)
        told = listened(pool)
        gone = weakref.ref(pool)
        del pool
        collect()
        assert gone() is None
        pool = fastpool.FastPool(1, factory=object)
        pool.add_listener(told)
        heard = weakref.ref(told)
        del told
        assert heard() is not None  # the pool has it
        del pool
        collect()
        assert heard() is None

    @pytest.mark.threads_only("of a queue")
    def test_a_queue_has_none(self) -> None:
        with pytest.raises(TypeError, match="needs a resource pool"):
            fastpool.FastPool().add_listener(Told())  # type: ignore[var-annotated]


@pytest.mark.threads_only("its pool is for tasks")
@pytest.mark.threads_only("no call of it waits")
def test_a_key_that_is_just_made_tells_too(
    monkeypatch: pytest.MonkeyPatch, runner: ThreadRunner
) -> None:
    """It has asked whether there are listeners, and is not among the keys yet."""
    pool: Any = fastpool.KeyedPool(lambda key: object(), max_per_key=1)
    told = Told()
    make = KeyedManager.new_pool

    def new_pool(manager: Any, key: Any) -> Any:
        made = make(manager, key)
        pool.add_listener(told)
        return made

    monkeypatch.setattr(KeyedManager, "new_pool", new_pool)
    lease = pool.acquire("key")
    waiter = runner.start(pool.acquire, "key", PATIENCE)
    eventually(lambda: pool.stats().waiting == 1)
    lease.release()
    waiter.result().release()
    eventually(lambda: len(told.of("acquired_after_wait")) == 2)  # of the creation, of the return
    pool.close()


def test_of_an_async_factory() -> None:
    maker = Maker()

    async def create() -> Any:
        return maker()

    async def main() -> None:
        pool: Any = fastpool.FastPool(1, factory=create)
        told = listened(pool)
        lease = await pool.aacquire()
        waiter = asyncio.ensure_future(pool.aacquire())
        await loops.eventually(lambda: pool.stats().waiting == 1)
        with pytest.raises(PoolTimeout):
            await pool.aacquire(timeout=0.01)
        lease.release()
        (await waiter).release()
        assert len(told.of("acquired_after_wait")) == 2
        assert [phase for phase, _ in told.of("timed_out")] == ["wait"]
        pool.flush()
        await loops.eventually(lambda: told.of("closed") == [["flushed"]])
        failure = ConnectionRefusedError()
        maker.script.append(failure)
        with pytest.raises(ConnectionRefusedError):
            await pool.aacquire()
        await loops.eventually(lambda: told.of("create_failed") == [[failure]])
        for _ in range(2000):
            async with pool.lease():
                pass
        assert told.of("used")
        await pool.aclose()
        assert len(told.of("created")) == 2

    asyncio.run(main())


@pytest.mark.threads_only("its pool is for tasks")
def test_what_a_closed_loop_leaves_is_told() -> None:
    async def create() -> Any:
        return object()

    pool: Any = fastpool.FastPool(2, factory=create)
    told = listened(pool)

    async def leave() -> None:
        (await pool.aacquire()).release()

    asyncio.run(leave())

    async def main() -> None:
        (await pool.aacquire()).release()
        await loops.eventually(lambda: told.of("closed") == [["loop"]])
        assert states(pool) == {"idle": 1}
        await pool.aclose()

    asyncio.run(main())

"""``on_create_error="wait"``: a caller whose creation failed waits for the next try."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import fastpool
from fastpool import PoolClosed, PoolTimeout
from fastpool.pool import _policy
from support import callers
from support.callers import FastPool
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, states, works

pytestmark = pytest.mark.usefixtures("caller_kind")

WAIT: dict[str, Any] = {"on_create_error": "wait"}


def fast(maker: Maker, **options: Any) -> Any:
    return FastPool(4, factory=maker, **WAIT, **options)


def shared(maker: Maker, **options: Any) -> Any:
    return callers.SharedPool(maker, items=(0, 4), slots=1, **WAIT, **options)


class OneKey:
    """A KeyedPool as a pool of one key."""

    def __init__(self, maker: Maker, **options: Any) -> None:
        self.pool = callers.KeyedPool(
            lambda key: maker(), max_per_key=4, max_total=4, **WAIT, **options
        )
        self.stats, self.close = self.pool.stats, self.pool.close

    def acquire(self, timeout: float = PATIENCE) -> Any:
        return self.pool.acquire("key", timeout)


KINDS: dict[str, Callable[..., Any]] = {"fast": fast, "shared": shared, "keyed": OneKey}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return KINDS[request.param]


@pytest.mark.option("on_create_error")
def test_it_is_tried_again_for_one_who_waits(kind: Any) -> None:
    maker = Maker()
    maker.script.extend([OSError("no server"), TypeError("not yet")])
    pool = kind(maker)
    lease = pool.acquire(PATIENCE)
    assert maker.calls == 3 and pool.stats().create_failures == 2
    lease.release()
    pool.close()
    eventually(lambda: maker.made == maker.closed == 1)


def cause(call: Callable[[], Any]) -> BaseException | None:
    """Of the timeout that ends the call, which is a short one."""
    with pytest.raises(PoolTimeout) as caught:
        call()
    assert caught.value.phase == "create"
    return caught.value.__cause__


def test_its_timeout_has_the_last_failure_as_its_cause(kind: Any, runner: ThreadRunner) -> None:
    maker = Maker()
    maker.broken = ConnectionRefusedError
    pool = kind(maker)
    waiter = runner.start(pool.acquire, PATIENCE)
    eventually(lambda: pool.stats().waiting == 1)
    failure = eventually(lambda: cause(lambda: pool.acquire(0.01)))
    assert isinstance(failure, ConnectionRefusedError)
    maker.broken = None
    waiter.result().release()
    works(pool, 4)
    pool.close()


def test_all_who_wait_are_served_once_it_goes_well(kind: Any, runner: ThreadRunner) -> None:
    maker = Maker()
    maker.broken = ConnectionRefusedError
    pool = kind(maker, max_creating=2)
    tasks = [runner.start(lambda: pool.acquire(PATIENCE).release()) for _ in range(6)]
    eventually(lambda: pool.stats().waiting == 6 and maker.calls >= 2)
    maker.broken = None
    for task in tasks:
        task.result()
    assert 1 <= maker.made <= 4
    pool.close()
    eventually(lambda: maker.made == maker.closed)


def test_what_comes_back_ends_the_wait_too(runner: ThreadRunner) -> None:
    """The resource of another caller is as good as a new one."""
    maker = Maker()
    pool = fast(maker)
    lease = pool.acquire()
    maker.broken = ConnectionRefusedError
    waiter = runner.start(pool.acquire, PATIENCE)
    eventually(lambda: pool.stats().waiting == 1 and maker.calls == 2)
    lease.release()
    waiter.result().release()
    assert maker.made == 1
    pool.close()


def test_a_factory_that_hangs_is_tried_again(kind: Any, runner: ThreadRunner) -> None:
    maker = Maker()
    maker.gate.clear()
    pool = kind(maker, create_timeout=0.02)
    waiter = runner.start(pool.acquire, PATIENCE)
    eventually(lambda: maker.running >= 2)  # the second in the stead of the first; soon all four
    failure = eventually(lambda: cause(lambda: pool.acquire(0.01)))
    assert isinstance(failure, PoolTimeout) and failure.phase == "create"
    maker.gate.set()
    waiter.result().release()
    pool.close()
    eventually(lambda: maker.made == maker.closed)


def test_warm_waits_too() -> None:
    maker = Maker()
    maker.script.extend([OSError(), OSError(), OSError()])
    pool = fast(maker)
    assert pool.warm(2, timeout=PATIENCE) == 2
    maker.broken = OSError
    failure = eventually(lambda: cause(lambda: pool.warm(3, timeout=0.01)))
    assert isinstance(failure, OSError)
    pool.close()


def test_a_close_ends_the_wait(kind: Any, runner: ThreadRunner) -> None:
    maker = Maker()
    maker.broken = OSError
    pool = kind(maker)
    waiter = runner.start(pool.acquire, PATIENCE)
    eventually(lambda: pool.stats().waiting == 1 and maker.calls)
    pool.close()
    with pytest.raises(PoolClosed):
        waiter.result()


def test_timeout_zero_does_not_wait() -> None:
    maker = Maker()
    maker.broken = OSError
    pool = fast(maker)
    with pytest.raises(PoolTimeout):
        pool.get(timeout=0)
    pool.close()


def test_min_idle_is_kept_as_ever() -> None:
    maker = Maker()
    maker.script.extend([OSError(), OSError(), OSError()])
    pool = fast(maker, min_idle=2)
    eventually(lambda: states(pool) == {"idle": 2})
    pool.close()


@pytest.mark.threads_only("there is no call in it")
def test_where_it_means_nothing() -> None:
    make: Any = fastpool.FastPool
    with pytest.raises(ValueError, match="the borrower's own"):
        make(factory=object, create_in="caller", on_create_error="wait")
    with pytest.raises(TypeError, match="on_create_error needs a factory"):
        make(items=[1], on_create_error="wait")
    with pytest.raises(ValueError, match="on_create_error must be one of raise, wait"):
        make(factory=object, on_create_error="retry")
    make(factory=object, create_in="caller", on_create_error="raise").close()


def pauses(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> list[float]:
    """Have creators pause for so long, one after the other; the last one again and again.  The
    pauses that have begun: under the lock under which others end them."""
    left, begun = list(seconds), list[float]()

    def backoff(failures: int) -> float:
        begun.append(left.pop(0) if left[1:] else left[0])
        return begun[-1]

    monkeypatch.setattr(_policy, "backoff", backoff)
    monkeypatch.setattr(_policy, "backoff_waited_for", lambda pause: pause)
    return begun


@pytest.fixture
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """As after a long outage; but while somebody waits."""
    begun = pauses(monkeypatch, 4 * PATIENCE)
    monkeypatch.setattr(_policy, "backoff_waited_for", lambda pause: 0.001)
    return begun


def test_while_somebody_waits_pauses_are_short(
    kind: Any, long_pauses: list[float], runner: ThreadRunner
) -> None:
    maker = Maker()
    maker.broken = OSError
    pool = kind(maker)
    waiter = runner.start(pool.acquire, PATIENCE)
    eventually(lambda: maker.calls > 2)
    maker.broken = None
    waiter.result().release()
    pool.close()


def test_a_caller_ends_the_long_pause_of_those_in_the_background(long_pauses: list[float]) -> None:
    maker = Maker()
    maker.broken = OSError
    pool = fast(maker, min_idle=1)
    eventually(lambda: long_pauses)
    assert maker.calls == 1
    maker.broken = None
    pool.acquire(PATIENCE).release()
    pool.close()


@pytest.mark.threads_only("there is no call in it")
def test_pauses_while_somebody_waits_are_a_second_at_most() -> None:
    """And not all of the same length: a thousand processes may wait."""
    assert _policy.backoff_waited_for(0.1) == 0.1
    found = {_policy.backoff_waited_for(10.0) for _ in range(100)}
    assert 0.5 <= min(found) < max(found) <= 1.0


@pytest.mark.threads_only("the pauses are those of the pool")
def test_recovery_of_one_key_ends_the_pause_of_another(
    monkeypatch: pytest.MonkeyPatch, runner: ThreadRunner
) -> None:
    """It may be the same server's outage that is over."""
    begun = pauses(monkeypatch, 4 * PATIENCE, 0.001)
    broken: set[str] = {"a", "b"}
    calls: list[str] = []

    def create(key: str) -> object:
        calls.append(key)
        if key in broken:
            raise OSError(key)
        return object()

    with fastpool.KeyedPool(create, **WAIT) as pool:
        waiting = runner.start(pool.acquire, "b", 3 * PATIENCE)
        eventually(lambda: begun)
        other = runner.start(pool.acquire, "a", PATIENCE)
        eventually(lambda: calls.count("a") > 1)
        broken.clear()
        other.result().release()
        waiting.result(PATIENCE).release()


@pytest.mark.threads_only("the pauses are those of the pool")
def test_creation_of_one_key_leaves_the_pause_of_another(
    monkeypatch: pytest.MonkeyPatch, runner: ThreadRunner
) -> None:
    """A server that is down is not tried as often as others are well."""
    begun = pauses(monkeypatch, 4 * PATIENCE)

    def create(key: str) -> object:
        if key == "b":
            raise OSError(key)
        return object()

    with fastpool.KeyedPool(create, **WAIT) as pool:
        waiting = runner.start(pool.acquire, "b", 3 * PATIENCE)
        eventually(lambda: begun)
        for key in "cdef":
            pool.acquire(key).release()
        assert pool.stats().create_failures == 1
        pool.close()
        with pytest.raises(PoolClosed):
            waiting.result()


@pytest.mark.threads_only("its pool is for tasks")
def test_creation_on_one_loop_ends_the_pause_of_another(
    monkeypatch: pytest.MonkeyPatch, runner: ThreadRunner
) -> None:
    """It is the same factory, and works again."""
    begun = pauses(monkeypatch, 4 * PATIENCE)
    maker = Maker()
    maker.script.append(OSError("no server"))

    async def create() -> Any:
        return maker()

    pool: Any = fastpool.FastPool(2, factory=create, close=lambda resource: None, **WAIT)

    async def use(timeout: float) -> None:
        async with pool.lease(timeout):
            pass

    waiting = runner.start(asyncio.run, use(3 * PATIENCE))
    eventually(lambda: begun)
    asyncio.run(use(PATIENCE))
    waiting.result(PATIENCE)
    pool.close()


@pytest.mark.threads_only("its pool is for tasks")
def test_of_an_async_factory() -> None:
    maker = Maker()
    maker.script.extend([OSError("no server"), asyncio.CancelledError()])

    async def create() -> Any:
        return maker()

    async def main() -> None:
        pool: Any = fastpool.FastPool(2, factory=create, **WAIT)
        async with pool.lease(PATIENCE):
            assert maker.calls == 3
            maker.broken = OSError
            failure = None
            while failure is None:
                with pytest.raises(PoolTimeout) as caught:
                    await pool.aget(timeout=0.02)
                failure = caught.value.__cause__
            assert isinstance(failure, OSError)
        assert await pool.aclose()

    asyncio.run(main())
    assert maker.made == maker.closed == 1

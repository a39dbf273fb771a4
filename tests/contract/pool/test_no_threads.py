"""No thread to be had for a while: nothing is lost, nothing asks in a hurry, then all goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, PoolTimeout, SharedPool
from fastpool._runtime import launch
from support.helpers import (
    PATIENCE,
    Maker,
    ThreadRunner,
    eventually,
    states,
    wait_for_scheduler,
    works,
)


class Shortage:
    """While it lasts no thread of a pool can be started; ``asked``: how often one was asked for."""

    def __init__(self) -> None:
        self.lasts = False
        self.asked = 0


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shortage]:
    found = Shortage()
    start = launch.start_new_thread

    def asked(call: Callable[..., object], args: tuple[threading.Thread]) -> None:
        if found.lasts:
            found.asked += 1
            raise RuntimeError("can't start new thread")
        start(call, args)

    monkeypatch.setattr(launch, "start_new_thread", asked)
    wait_for_scheduler()  # the scheduler has its thread
    yield found
    found.lasts = False


def plain(maker: Maker) -> tuple[Any, Callable[[float], Any]]:
    pool: Any = FastPool(2, factory=maker)
    return pool, lambda timeout: pool.acquire(timeout=timeout)


def keyed(maker: Maker) -> tuple[Any, Callable[[float], Any]]:
    pool: Any = KeyedPool(lambda key: maker(), max_total=2)
    return pool, lambda timeout: pool.acquire("key", timeout=timeout)


def shared(maker: Maker) -> tuple[Any, Callable[[float], Any]]:
    pool: Any = SharedPool(maker, items=(0, 2), slots=1)
    return pool, lambda timeout: pool.acquire(timeout=timeout)


@pytest.mark.parametrize("kind", [plain, keyed, shared])
def test_a_thread_is_asked_for_at_intervals(
    kind: Any, runner: ThreadRunner, shortage: Shortage
) -> None:
    """Not as fast as the scheduler can; whoever waits is served as soon as there is one."""
    pool, acquire = kind(Maker())
    shortage.lasts = True
    begun = time.monotonic()
    with pytest.raises(PoolTimeout) as caught:
        acquire(0.3)
    assert caught.value.phase == "create"
    assert shortage.asked <= 3 + (time.monotonic() - begun) / 0.05
    waiters = [runner.start(acquire, PATIENCE) for _ in range(2)]
    eventually(lambda: pool.stats().waiting == 2)
    shortage.lasts = False
    for waiter in waiters:
        waiter.result().release()
    assert pool.close()


def test_a_check_waits_for_a_thread(
    accounted: Any, clock: Any, runner: ThreadRunner, shortage: Shortage
) -> None:
    """Its borrower's time runs out meanwhile; the resource comes back when it has been checked."""
    pool, maker = accounted(1, check=lambda resource: None, check_after=10, clock=clock)
    pool.put(pool.get())
    clock.advance(20)
    eventually(lambda: no_worker_is_idle(pool))
    shortage.lasts = True
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=0.05)
    assert caught.value.phase == "check" and states(pool) == {"checking": 1}
    shortage.lasts = False
    works(pool, 1)
    assert maker.made == 1


def no_worker_is_idle(pool: Any) -> bool:
    return not any(
        thread.name.startswith(f"fastpool-{pool.name}") for thread in threading.enumerate()
    )


def test_keepalive_leaves_what_it_cannot_check(
    accounted: Any, clock: Any, shortage: Shortage
) -> None:
    """It stays idle, for whoever needs no check, and its turn comes later."""
    seen: list[Any] = []
    pool, _ = accounted(1, keepalive=60, check=seen.append, check_after=1e6, clock=clock)
    pool.put(pool.get())
    shortage.lasts = True
    clock.advance(61)
    assert states(pool) == {"idle": 1} and not seen
    pool.put(pool.get(timeout=0))
    shortage.lasts = False
    clock.advance(61)
    eventually(lambda: clock.advance(0) or seen)
    assert states(pool) == {"idle": 1}


def test_what_expires_is_closed_by_the_first_thread(
    accounted: Any, clock: Any, shortage: Shortage
) -> None:
    """And by no other than one of the pool: a close hook that hangs must not hold the others up."""
    threads: list[str] = []
    closing = threading.Event()

    def close(resource: Any) -> None:
        resource.close()
        threads.append(threading.current_thread().name)
        closing.set()

    pool, maker = accounted(1, idle_timeout=100, close=close, clock=clock)
    pool.put(pool.get())
    shortage.lasts = True
    clock.advance(100, settle=0.01)
    assert states(pool) == {"checking": 1} and maker.closed == 0
    shortage.lasts = False
    assert closing.wait(PATIENCE)
    assert threads == [f"fastpool-{pool.name}-close"]
    eventually(lambda: states(pool) == {})
    works(pool, 1)

"""What a PoolTimeout says its caller has waited for: a slot, or a creation."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, PoolTimeout, SharedPool
from fastpool._runtime import scheduler
from support.async_factories import AsyncMaker
from support.helpers import PATIENCE, Maker, eventually, wait_for_scheduler


def phase(acquire: Any, *args: Any) -> str:
    with pytest.raises(PoolTimeout) as caught:
        acquire(*args, timeout=0)
    return caught.value.phase


@pytest.fixture
def maker() -> Any:
    """Its factory hangs until the test is over."""
    maker = Maker()
    maker.gate.clear()
    yield maker
    maker.gate.set()


def test_with_nothing_lent_it_is_the_creation(maker: Maker) -> None:
    """Also for whoever tries and does not wait, and before any creation has begun."""
    pools: list[tuple[Any, list[Any]]] = [
        (FastPool(2, factory=maker), []),
        (SharedPool(maker, items=(0, 2)), []),
        (KeyedPool(lambda key: maker(), max_total=2), ["key"]),
    ]
    for pool, args in pools:
        begun = threading.Event()
        scheduler.call_soon(begun.wait, PATIENCE)  # no creation begins before
        assert phase(pool.acquire, *args) == "create"
        begun.set()
        wait_for_scheduler()
        assert phase(pool.acquire, *args) == "create"
    maker.gate.set()
    for pool, _ in pools:
        pool.close()


def test_between_two_tries_it_is_the_creation(maker: Maker) -> None:
    """The factory fails, and the pool waits before it calls it again for nobody in particular."""
    maker.broken = OSError
    maker.gate.set()
    pool: Any = FastPool(1, factory=maker)
    phase(pool.acquire)
    eventually(lambda: pool.stats().create_failures == 1)
    wait_for_scheduler()
    for _ in range(3):
        assert phase(pool.acquire) == "create"
    pool.close()


def test_with_capacity_it_is_the_creation(maker: Maker) -> None:
    """Something is lent, but one more could be opened."""
    maker.gate.set()
    pool: Any = FastPool(2, factory=maker)
    lease = pool.acquire()
    maker.gate.clear()
    assert phase(pool.acquire) == "create"
    maker.gate.set()
    lease.release()
    pool.close()


def test_without_capacity_it_is_the_wait(maker: Maker) -> None:
    """All slots are taken, here or by other keys."""
    maker.gate.set()
    pools: list[tuple[Any, list[Any], list[Any]]] = [
        (FastPool(1, factory=maker), [], []),
        (SharedPool(maker, items=(0, 1), slots=1), [], []),
        (KeyedPool(lambda key: maker(), max_total=1), ["key"], ["other"]),
    ]
    for pool, args, others in pools:
        lease = pool.acquire(*args)
        wait_for_scheduler()  # the creation is over for the pool, too
        assert phase(pool.acquire, *others) == "wait"
        lease.release()
        pool.close()


def test_while_suspended_it_is_the_wait(maker: Maker) -> None:
    """For ``resume``: nothing is opened before."""
    pool: Any = FastPool(1, factory=maker)
    pool.suspend()
    assert phase(pool.acquire) == "wait"
    pool.close()


def test_with_ready_resources_it_is_the_wait() -> None:
    """None is ever made, even if all were discarded."""
    pool: Any = FastPool(items=[object()])
    pool.discard(pool.get())
    wait_for_scheduler()
    assert phase(pool.acquire) == "wait"
    pool.close()


def test_of_an_async_factory_it_is_the_same() -> None:
    async def main() -> None:
        pool: Any = FastPool(1, factory=AsyncMaker())
        for expected in ("create", "wait"):
            with pytest.raises(PoolTimeout) as caught:
                await pool.aacquire(timeout=0)
            assert caught.value.phase == expected
            if expected == "create":
                lease = await pool.aacquire()
        lease.release()
        await pool.aclose()

    asyncio.run(main())

"""AsyncFastQueuePool does what AsyncAdaptedQueuePool does, and goes on where loops come and go."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from support.helpers import PATIENCE, ThreadRunner

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

from sqlalchemy import exc
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util.concurrency import greenlet_spawn

from fastpool.contrib.sqlalchemy import AsyncFastQueuePool
from integration.sqlalchemy.recorded import Driver, log_of

BOTH = pytest.mark.parametrize("kind", [AsyncAdaptedQueuePool, AsyncFastQueuePool])


def run(function: Callable[..., Any], *args: Any) -> Any:
    """Calls it as SQLAlchemy calls a pool: in a greenlet of a task; with a deadline."""

    async def main() -> Any:
        return await asyncio.wait_for(greenlet_spawn(function, *args), PATIENCE)

    return asyncio.run(main())


def numbers(pool: Any) -> tuple[Any, ...]:
    return pool.size(), pool.checkedin(), pool.checkedout(), pool.overflow(), pool.status()


def story(kind: Any) -> list[Any]:
    """What one pool says and does on one loop."""
    driver = Driver()
    pool = kind(driver.connect, pool_size=2, max_overflow=1, timeout=0)
    log: list[Any] = log_of(pool)

    def play() -> None:
        held = [pool.connect() for _ in range(3)]
        log.append(numbers(pool))
        with pytest.raises(exc.TimeoutError) as caught:
            pool.connect()
        log.append(str(caught.value))
        for connection in held:
            connection.close()
            log.append((numbers(pool), driver.open()))
        again = pool.connect()
        again.invalidate()
        again.close()
        again = pool.connect()
        again.detach()
        again.close()
        again, other = pool.connect(), pool.connect()
        driver.fails.append(RuntimeError("refused"))
        with pytest.raises(RuntimeError, match="refused"):
            pool.connect()
        log.append((numbers(pool), driver.open()))
        again.close()
        pool.dispose()
        log.append((pool.checkedin(), driver.open()))
        told[:] = log
        other.close()

    told: list[Any] = []
    run(play)
    return told


def test_the_same_story() -> None:
    """Events in their order, sizes, texts, and what is opened and closed when."""
    assert story(AsyncFastQueuePool) == story(AsyncAdaptedQueuePool)


@BOTH
def test_a_full_pool_times_out_in_sqlalchemys_words(kind: Any) -> None:
    pool = kind(Driver().connect, pool_size=1, max_overflow=0, timeout=0.5)

    def play() -> None:
        held = pool.connect()
        with pytest.raises(exc.TimeoutError, match=r"size 1 overflow 0 .* timeout 0\.50"):
            pool.connect()
        held.close()
        pool.connect().close()

    run(play)


@BOTH
def test_the_creator_runs_in_the_callers_context(kind: Any) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen, driver = [], Driver()

    def creator() -> Any:
        seen.append(request.get())
        return driver.connect()

    pool = kind(creator, pool_size=1, max_overflow=0)

    async def main() -> None:
        request.set("mine")
        (await greenlet_spawn(pool.connect)).close()

    asyncio.run(main())
    assert seen == ["mine"]


def test_tasks_keep_to_the_limits_and_all_get_turns() -> None:
    driver, turns = Driver(), [0] * 12
    pool = AsyncFastQueuePool(driver.connect, pool_size=2, max_overflow=2, timeout=PATIENCE)
    most = []

    async def borrow(index: int) -> None:
        while max(turns) < 40:
            connection = await greenlet_spawn(pool.connect)
            most.append(len(driver.open()))
            await asyncio.sleep(0)
            await greenlet_spawn(connection.close)
            turns[index] += 1

    async def main() -> None:
        await asyncio.gather(*(borrow(index) for index in range(12)))
        assert len(driver.open()) == 2 == pool.checkedin()
        await greenlet_spawn(pool.dispose)
        assert driver.open() == [], "when dispose returns"

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert max(most) <= 4
    assert min(turns) >= 30, turns


def test_one_loop_after_the_other() -> None:
    """SQLAlchemy's own raises RuntimeError where a task has to wait on the second loop."""
    driver = Driver()
    pool = AsyncFastQueuePool(driver.connect, pool_size=2, max_overflow=0, timeout=PATIENCE)

    async def borrow(both: asyncio.Barrier) -> None:
        connection = await greenlet_spawn(pool.connect)
        await both.wait()  # else one that comes back early enough serves all
        connection.close()

    async def main() -> None:
        both = asyncio.Barrier(2)
        await asyncio.wait_for(asyncio.gather(*(borrow(both) for _ in range(10))), PATIENCE)

    for turn in range(3):
        asyncio.run(main())
        assert len(driver.made) == 2 * (turn + 1), "connections stay with their loop"
        assert pool.checkedout() == 0


def test_a_connection_is_lent_on_its_own_loop_alone(runner: ThreadRunner) -> None:
    """Three loops at once, under one limit."""
    driver = Driver()
    pool = AsyncFastQueuePool(driver.connect, pool_size=3, max_overflow=0, timeout=PATIENCE)

    async def borrow() -> None:
        for _ in range(10):
            connection = await greenlet_spawn(pool.connect)
            assert connection.dbapi_connection.thread == threading.get_ident()
            await asyncio.sleep(0)
            connection.close()

    async def main() -> None:
        await asyncio.wait_for(asyncio.gather(*(borrow() for _ in range(4))), PATIENCE)
        await greenlet_spawn(pool.dispose)

    runner.together(3, lambda index: asyncio.run(main()))
    runner.finish()
    assert pool.checkedout() == 0


def test_a_cancelled_task_takes_nothing_along() -> None:
    driver = Driver()
    pool = AsyncFastQueuePool(driver.connect, pool_size=1, max_overflow=0, timeout=PATIENCE)

    async def main() -> None:
        held = await greenlet_spawn(pool.connect)
        waiting = asyncio.create_task(greenlet_spawn(pool.connect))
        while not pool.fastpool.stats().waiting:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        held.close()
        (await greenlet_spawn(pool.connect)).close()
        assert pool.checkedin() == 1

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_given_back_after_its_loop_was_closed() -> None:
    """By a finaliser, say: nothing is raised, and the place is free."""
    driver = Driver()
    pool = AsyncFastQueuePool(driver.connect, pool_size=1, max_overflow=0, timeout=PATIENCE)
    held = run(pool.connect)
    run(lambda: pool.connect().close())
    held._connection_record.checkin()
    run(lambda: pool.connect().close())
    assert pool.checkedout() == 0

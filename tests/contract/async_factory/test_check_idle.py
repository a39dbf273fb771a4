"""``acheck_idle`` of pools with an async factory: their hooks are tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, SharedPool
from support.helpers import PATIENCE

KINDS: dict[str, Callable[..., Any]] = {
    "fast": lambda create, **options: FastPool(2, factory=create, **options),
    "keyed": lambda create, **options: KeyedPool(create, **options),
    "shared": lambda create, **options: SharedPool(create, items=(0, 2), slots=1, **options),
}


async def create(*key: str) -> object:
    return object()


async def check(resource: object) -> bool:
    return False


async def two_idle(pool: Any) -> None:
    key = ("key",) if isinstance(pool, KeyedPool) else ()
    async with pool.lease(*key), pool.lease(*key):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_closes_is_closed_when_it_returns(kind: str) -> None:
    """By a close hook that takes its time."""
    closed: list[object] = []

    async def close(resource: object) -> None:
        await asyncio.sleep(0.01)
        closed.append(resource)

    async def main() -> None:
        pool = KINDS[kind](create, check=check, check_after=None, close=close)
        await two_idle(pool)
        assert await pool.acheck_idle() == 2
        assert len(closed) == 2 and pool.stats().closed == {"check": 2}
        assert await pool.aclose()

    asyncio.run(main())


def test_a_close_that_hangs_is_waited_for_as_long_as_a_hook_may_take() -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def close(resource: object) -> None:
            await go_on.wait()

        pool = FastPool(
            2, factory=create, check=check, check_after=None, close=close, hook_timeout=0.05
        )
        await two_idle(pool)
        async with asyncio.timeout(PATIENCE):
            assert await pool.acheck_idle() == 2
        go_on.set()
        assert await pool.aclose()

    asyncio.run(main())

"""``min_idle``: a pool that nobody uses is left alone, and one that is used has its visits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from fastpool import FastPool, pool
from support import loops
from support.helpers import Maker, eventually


def maintenance(fast: Any) -> Any:
    return next(each for each in pool._managers if each.name == fast.name).maintenance


@pytest.mark.parametrize("leak_after", [None, 1000])
def test_nobody_visits_a_pool_in_which_nothing_is_in_use(leak_after: float | None) -> None:
    """Not every second; a loan has it visited again, and what is lacking is made."""
    maker = Maker()
    fast: Any = FastPool(3, factory=maker, min_idle=1, leak_after=leak_after)
    visits = maintenance(fast)
    for _ in range(2):
        eventually(lambda: visits.dozing and visits.next_at > time.monotonic() + 10)
        made = maker.made
        with fast.lease():
            eventually(lambda: fast.stats().idle == 1)
        assert maker.made <= made + 1 <= 3
    fast.close()


def test_a_task_wakes_it_up_too() -> None:
    async def main() -> None:
        fast: Any = FastPool(2, factory=Maker(), min_idle=1)
        visits = maintenance(fast)
        await loops.eventually(lambda: visits.dozing)
        async with fast.lease():
            await loops.eventually(lambda: fast.stats().idle == 1)
        await fast.aclose()

    asyncio.run(main())

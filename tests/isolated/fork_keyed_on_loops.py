"""After fork a keyed pool of coroutines knows no key and no loop in the child."""

import asyncio
import os
import warnings

from fastpool import KeyedPool
from support.forked import fork_on_loop

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads


class Resource:
    closed = 0

    def __init__(self, key: str) -> None:
        self.key, self.made_in = key, os.getpid()

    async def close(self) -> None:
        Resource.closed += 1
        assert self.made_in == os.getpid(), "closed by another process"


async def connect(key: str) -> Resource:
    return Resource(key)


pool = KeyedPool(connect, max_total=2, max_per_key=2)


async def in_child() -> None:
    mine = [await pool.aacquire(key, timeout=10) for key in "ac"]  # all slots are there
    assert {one.resource.made_in for one in mine} == {os.getpid()}
    for one in mine:
        one.release()
    assert await pool.aclose(timeout=10) is True
    assert Resource.closed == 2


def act_in_child() -> None:
    stats = pool.stats()
    assert (stats.open, stats.waiting, stats.keys, pool.leases()) == (0, 0, {}, [])
    asyncio.run(in_child())


async def in_parent() -> None:
    lease = await pool.aacquire("a")
    async with pool.lease("b"):
        pass
    child = fork_on_loop(act_in_child)
    code = os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1])
    assert code == 0
    assert pool.stats().leased == 1 and not Resource.closed
    lease.release()
    assert await pool.aclose(timeout=10) is True
    assert Resource.closed == 2


asyncio.run(in_parent())

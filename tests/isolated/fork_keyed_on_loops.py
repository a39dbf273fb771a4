"""After fork a keyed pool of coroutines knows no key and no loop in the child."""

import asyncio
import os
import sys
import warnings

from fastpool import KeyedPool

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


async def in_parent() -> None:
    lease = await pool.aacquire("a")
    async with pool.lease("b"):
        pass
    child = os.fork()
    if not child:
        try:
            asyncio._set_running_loop(None)  # the parent's: it is not this process's
            stats = pool.stats()
            assert (stats.open, stats.waiting, stats.keys, pool.leases()) == (0, 0, {}, [])
            asyncio.run(in_child())
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1])
    assert code == 0
    assert pool.stats().leased == 1 and not Resource.closed
    lease.release()
    assert await pool.aclose(timeout=10) is True
    assert Resource.closed == 2


asyncio.run(in_parent())

"""After fork a shared pool of coroutines knows no loop and no lease in the child."""

import asyncio
import os
import warnings

from fastpool import SharedPool
from support.forked import fork_on_loop

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads


class Resource:
    closed = 0

    def __init__(self) -> None:
        self.made_in = os.getpid()

    async def close(self) -> None:
        Resource.closed += 1
        assert self.made_in == os.getpid(), "closed by another process"


async def connect() -> Resource:
    return Resource()


pool = SharedPool(connect, items=(0, 2), slots=2)


async def in_child(lent: Resource) -> None:
    mine = [await pool.aacquire(timeout=10) for _ in range(4)]  # all slots are there
    assert {one.resource.made_in for one in mine} == {os.getpid()}
    assert lent not in [one.resource for one in mine]
    for one in mine:
        one.release()
    assert await pool.aclose(timeout=10) is True
    assert Resource.closed == 2


def act_in_child(lent: Resource) -> None:
    stats = pool.stats()
    assert (stats.open, stats.waiting, stats.leases, pool.leases()) == (0, 0, 0, [])
    asyncio.run(in_child(lent))


async def in_parent() -> None:
    leases = [await pool.aacquire() for _ in range(4)]
    lent = leases[0].resource
    late = asyncio.create_task(pool.aacquire())
    while not pool.stats().waiting:
        await asyncio.sleep(0)
    child = fork_on_loop(lambda: act_in_child(lent))
    code = os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1])
    assert code == 0
    assert pool.stats().leases == 4 and not Resource.closed
    for lease in leases:
        lease.release()
    (await late).release()
    assert await pool.aclose(timeout=10) is True
    assert Resource.closed == 2


asyncio.run(in_parent())

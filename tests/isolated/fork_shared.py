"""After fork a shared pool is empty in the child: the parent's slots and resources are not its."""

import gc
import os
import sys
import warnings

from fastpool import PoolError, SharedPool
from support.helpers import eventually, states

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads


class Resource:
    closed = 0

    def __init__(self) -> None:
        self.made_in = os.getpid()

    def close(self) -> None:
        Resource.closed += 1
        assert self.made_in == os.getpid(), "closed by another process"


pool = SharedPool(Resource, items=(1, 2), slots=2, max_uses=100, leak_after=60)
lease, taken, block = pool.acquire(), pool.get(), pool.acquire()
draining = lease.resource
pool.replace()
eventually(lambda: pool.stats().draining and states(pool).get("idle", 0))

child = os.fork()
if not child:
    try:
        assert (pool.stats().open, pool.stats().leases, pool.leases()) == (0, 0, [])
        mine = [pool.acquire(timeout=10) for _ in range(4)]
        assert {one.resource.made_in for one in mine} == {os.getpid()}
        assert pool.stats().leases == 4 and pool.stats().open == 2
        # What the parent's hold was is nothing here: no effect on slots with the same number.
        lease.release()
    except PoolError:
        pass
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    try:
        with block:
            raise AssertionError("the parent's resource was lent in the child")
    except PoolError:
        pass
    try:
        del lease, block
        gc.collect()
        assert pool.stats().leases == 4
        try:
            pool.put(taken)
            raise AssertionError("the parent's resource was taken back in the child")
        except ValueError:
            pass
        for one in mine:
            one.release()
        pool.replace()  # the scheduler and the workers are back
        eventually(lambda: Resource.closed)
        assert pool.close(timeout=10) is True
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)

assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert pool.stats().leases == 3 and not Resource.closed
lease.release()
pool.put(taken)
with block:
    pass
assert pool.close(timeout=10) is True
assert Resource.closed >= 2

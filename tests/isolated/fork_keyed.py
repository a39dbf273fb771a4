"""After fork a keyed pool knows no key in the child: slots, lines, resources are the parent's."""

import gc
import os
import sys
import threading
import warnings

from fastpool import KeyedPool, PoolError
from support.helpers import eventually

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads


class Resource:
    closed = 0

    def __init__(self, key: str) -> None:
        self.key, self.made_in = key, os.getpid()

    def close(self) -> None:
        Resource.closed += 1
        assert self.made_in == os.getpid(), "closed by another process"


pool = KeyedPool(Resource, max_total=3, max_per_key=2, max_idle_total=2, leak_after=60)
lease, block = pool.acquire("a"), pool.acquire("a")
with pool.lease("b"):
    pass
waiting = threading.Thread(target=lambda: pool.acquire("a").release())
waiting.start()
eventually(lambda: pool.stats().waiting == 1)

child = os.fork()
if not child:
    try:
        stats = pool.stats()
        assert (stats.open, stats.waiting, stats.keys, pool.leases()) == (0, 0, {}, [])
        mine = [pool.acquire(key, timeout=10) for key in ("a", "a", "c")]  # all slots are there
        assert {one.resource.made_in for one in mine} == {os.getpid()}
        for act in (lease.release, block.discard):  # the parent's hold has no effect here
            try:
                act()
            except PoolError:
                pass
        assert pool.stats().leased == 3
        del lease, block
        gc.collect()
        assert pool.stats().leased == 3
        for one in mine:
            one.release()
        with pool.lease("d", timeout=10):  # the scheduler and the workers are back
            pass
        eventually(lambda: pool.stats().idle == pool.stats().open == 2)
        assert pool.close(timeout=10) is True
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)

assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert pool.stats().leased == 2 and not Resource.closed
lease.release()
waiting.join(10)
block.release()
eventually(lambda: pool.stats().idle == 2)
assert pool.close(timeout=10) is True
assert Resource.closed == 3

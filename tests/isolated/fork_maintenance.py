"""In a forked child the background work goes on: lost leases, forgotten pools, refill, expiry."""

import gc
import os
import sys
import warnings

from fastpool import FastPool
from support.helpers import Maker, eventually, states

warnings.simplefilter("ignore")  # ResourceWarning is what is provoked here; fork with threads


def look(pool, maker):
    """Each kind of background work does something."""
    eventually(lambda: states(pool).get("idle"))  # min_idle
    lost, closed = pool.acquire(), maker.closed
    del lost
    gc.collect()
    eventually(lambda: maker.closed == closed + 1)
    eventually(lambda: states(pool).get("idle"))
    maker_of_forgotten = Maker()
    forgotten = FastPool(1, factory=maker_of_forgotten)
    forgotten.put(forgotten.get())
    del forgotten
    gc.collect()
    eventually(lambda: maker_of_forgotten.closed == 1)
    with FastPool(1, factory=Maker(), idle_timeout=0.05) as expiring:
        expiring.put(expiring.get())
        eventually(lambda: states(expiring) == {})


maker = Maker()
pool = FastPool(3, factory=maker, min_idle=1)
eventually(lambda: states(pool).get("idle"))

child = os.fork()
if not child:
    try:
        maker.__init__()  # the child's own books
        assert states(pool) == {}  # min_idle too is for those who use the pool
        pool.warm(1)
        pool.put(pool.get())  # the first need, with which everything starts anew
        look(pool, maker)
        assert pool.close() is True
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
look(pool, maker)
assert pool.close() is True

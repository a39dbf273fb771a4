"""A wait that a fork has cut off from its queue ends in the child, for good and without an item."""

import asyncio
import os
import sys
import warnings

from fastpool import FastPool, PoolClosed
from fastpool.queue import ShutDown

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

pool = FastPool(1, factory=object)
held = pool.get()
items = FastPool(1)
full = FastPool(1)
full.put("first")


async def main():
    # Their coroutines are driven by hand: the child does not go back to its parent's event loop.
    waits = [(pool.aget(), PoolClosed), (items.aget(), ShutDown), (full.aput("second"), ShutDown)]
    for wait, _ in waits:
        wait.send(None)
    child = os.fork()
    if not child:
        code = 1
        try:
            for wait, expected in waits:
                try:
                    wait.send(None)
                except expected:
                    pass
                except StopIteration as end:
                    raise AssertionError(f"returned {end.value!r}") from None
            assert full.get_nowait() == "first" and full.empty()
            items.put(1)
            assert items.get_nowait() == 1
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for wait, _ in waits:
        wait.close()


asyncio.run(main())
pool.put(held)
assert pool.close() is True and full.qsize() == 1 and items.empty()

"""An event loop is collected while the next one runs in its thread: what its end sets off asks for
the mailbox of the loop that runs now, not for the one that is being taken apart."""

import asyncio
import gc

from fastpool import FastPool

seen = []


class LastWord:
    """Goes with the record of a loop, and waits in a line of its own then."""

    def __del__(self):
        wait = FastPool().aget(timeout=10)
        wait.send(None)
        wait.close()
        seen.append(asyncio.get_running_loop())


async def first(pool):
    try:
        await pool.aget(timeout=0.001)
    except Exception:
        pass
    asyncio.get_running_loop()._fastpool.last_word = LastWord()


async def second(loops):
    loops.clear()
    gc.collect()
    assert seen == [asyncio.get_running_loop()], seen


gc.collect()
for _ in range(10):
    loops = [asyncio.SelectorEventLoop()]
    loops[0].run_until_complete(first(FastPool()))
    loops[0].close()
    other = asyncio.SelectorEventLoop()
    other.run_until_complete(second(loops))
    other.close()
    seen.clear()

"""The mailbox of a closed loop goes while the next loop runs in its thread: what its end sets off
waits on the loop that runs now, and comes upon nothing of the one that is being taken apart."""

import asyncio

from fastpool import FastPool

seen = []


class LastWord:
    """Goes with the mailbox of a loop, and waits in a queue of its own then."""

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


async def second(closed):
    del closed._fastpool
    assert seen == [asyncio.get_running_loop()], seen


for _ in range(10):
    loop, other = asyncio.SelectorEventLoop(), asyncio.SelectorEventLoop()
    loop.run_until_complete(first(FastPool()))
    loop.close()
    other.run_until_complete(second(loop))
    other.close()
    seen.clear()

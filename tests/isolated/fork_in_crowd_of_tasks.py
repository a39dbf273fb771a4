"""Forks while threads fight for the mailbox of an event loop: no child waits for ever for it.

With a GIL there is no lock to fight for, and little to see.
"""

import asyncio
import os
import threading
import warnings

import fastpool
from fastpool.queue import ShutDown
from support.helpers import GIL, ThreadRunner

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

stop = threading.Event()
runner = ThreadRunner()


def fork():
    for _ in range(20 if GIL else 200):
        child = os.fork()
        if not child:
            os._exit(0)  # what fastpool does in a child is done by now
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()


def busy(items):
    try:
        while True:
            items.put(1)
    except ShutDown:
        pass


async def main():
    queues = [fastpool.FastPool(1) for _ in range(6)]
    for items in queues:
        runner.start(busy, items)

    async def drain(items):
        while not stop.is_set():
            await items.aget()

    forks = runner.start(fork)
    await asyncio.gather(*(drain(items) for items in queues))
    forks.result()
    for items in queues:
        items.close()


try:
    asyncio.run(main())
finally:
    stop.set()
runner.settle()

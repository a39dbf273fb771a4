"""Close hooks that hang, or raise SystemExit, hold up neither the exit nor the other pools."""

import asyncio
import atexit
import logging
import os
import sys
import threading
import time

closed = []
said = []


def look():
    """Registered before fastpool is imported, so it runs after all that fastpool does at exit."""
    took = time.monotonic() - begun
    told = sorted(line.split(":")[0] for line in said if "left unclosed" in line)
    # A hook has 0.2 seconds, and one more is given; a machine that is busy takes its own time.
    if sorted(closed) != FINE or took > 30 or told != ["hangs", "hangs-keyed", "hangs-shared"]:
        print(took, closed, *said, sep="\n", file=sys.stderr, flush=True)
        os._exit(1)


atexit.register(look)

import fastpool  # noqa: E402
from support.helpers import eventually  # noqa: E402

FINE = ["fine"] * 5 + ["raises"] * 4 + ["without a loop"]
NEVER = threading.Event()


class Resource:
    def __init__(self, name):
        self.name = name


def close(resource):
    if resource.name.startswith("hangs"):
        NEVER.wait()
    closed.append(resource.name)
    if resource.name == "raises":
        raise SystemExit


class Handler(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())


logging.getLogger("fastpool").addHandler(Handler())
logging.getLogger("fastpool").propagate = False


def filled(name, n, kind=fastpool.FastPool, **options):
    """A pool with ``n`` idle resources."""
    keys = kind is fastpool.KeyedPool
    options |= {"factory": lambda *key: Resource(name), "close": close}
    pool = kind(name=name, hook_timeout=0.2, **options)
    leases = [pool.acquire(key) if keys else pool.acquire() for key in range(n)]
    for lease in leases:
        lease.release()
    return pool


pools = [
    filled("raises", 2),
    filled("hangs", 6),
    filled("fine", 5),
    filled("raises", 2),
    filled("hangs-keyed", 3, fastpool.KeyedPool),
    filled("hangs-shared", 2, fastpool.SharedPool, items=(0, 2), slots=1),
]


async def create():
    return Resource("without a loop")


async def use():
    pool = fastpool.FastPool(1, factory=create, close=close)
    async with pool.lease():
        pass
    return pool


pools.append(asyncio.run(use()))
eventually(lambda: all(pool.stats().idle for pool in pools[:-1]))
begun = time.monotonic()

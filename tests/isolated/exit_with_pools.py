"""At exit unclosed pools close what is idle, within a bound, whatever hangs, and say nothing."""

import atexit
import os
import sys
import threading
import time

closed = []


def look():
    """Registered before fastpool is imported, so it runs after all that fastpool does at exit."""
    if closed != ["idle", "idle"]:
        print("closed at exit:", closed, file=sys.stderr, flush=True)
        os._exit(1)


atexit.register(look)

import fastpool  # noqa: E402
from support.helpers import eventually  # noqa: E402


class Resource:
    def __init__(self, name="idle"):
        self.name = name

    def close(self):
        closed.append(self.name)


never = threading.Event()
warm = fastpool.FastPool(3, factory=Resource, min_idle=2, keepalive=3600, check=lambda r: None)
eventually(lambda: warm.stats().idle == 2)
lent = fastpool.FastPool(1, factory=lambda: Resource("lent"))
lease = lent.acquire()
hanging = fastpool.FastPool(1, factory=never.wait)
try:
    hanging.get(timeout=0.01)
except fastpool.PoolTimeout:
    pass
hangs = []  # the check, from the second use on: on a slow machine it is asked before the first
checking = fastpool.FastPool(
    1, factory=object, check=lambda r: hangs and never.wait(), check_after=0.001
)
checking.put(checking.get())
hangs.append(True)
time.sleep(0.01)
try:
    checking.get(timeout=0.01)
except fastpool.PoolTimeout:
    pass
cycle = [fastpool.FastPool(1, factory=object)]
cycle.append(cycle)
cycle[0].put(cycle[0].get())

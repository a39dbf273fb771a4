"""A signal that comes while a thread spins before its sleep is handled at once, not after the wait.

On one CPU nobody spins. What is left there, between the last look for signals and the sleep, is the
window of a microsecond that the interpreter's own locks have as well.
"""

import os
import queue
import random
import signal
import time

import fastpool

ROUND_TRIPS = 400
FOREVER = 3.0  # seconds; a handler that runs only now was missed


class Interrupted(Exception):
    pass


def handler(number, frame):
    raise Interrupted


if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) == 1:
    ROUND_TRIPS = 0
signal.signal(signal.SIGALRM, handler)
pool = fastpool.FastPool(1)
chance = random.Random(2)
slowest = 0.0
for _ in range(ROUND_TRIPS):
    start = time.monotonic()
    try:
        # from before the call to well after the thread has gone to sleep
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 60e-6))
        pool.get(timeout=FOREVER)
    except (Interrupted, queue.Empty):
        slowest = max(slowest, time.monotonic() - start)
    else:
        raise AssertionError("a get of an empty queue returned")
    assert slowest < FOREVER / 2, f"a signal waited {slowest:.3f} s for its handler"

pool.put("all is well")
assert pool.get_nowait() == "all is well"
print(f"slowest {slowest * 1e3:.2f} ms")

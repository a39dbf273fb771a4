"""A finaliser may use the very KeyedPool in whose call it runs, and so may a key that is hashed.

Either adds keys while the pool looks at all of them: that look is not the worse for it.
"""

import gc
import sys

from fastpool import KeyedPool, PoolTimeout

pool = KeyedPool(lambda key: object(), max_total=None, max_per_key=2)
leases = []
used = 0
busy = False


def use():
    """Adds a key, unless that is what is going on; waits for nothing."""
    global busy, used
    if not busy:
        busy = True
        used += 1
        try:
            leases.append(pool.acquire(used, timeout=0))
        except PoolTimeout:
            pass
        busy = False


class Key:
    armed = False

    def __hash__(self):
        if Key.armed:
            use()
        return 1

    def __eq__(self, other):
        return self is other


class Garbage:
    """In a cycle, so that only the collector finds it."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        use()


failed = []
sys.unraisablehook = lambda what: failed.append(what.exc_value)
for _ in range(5):
    leases.append(pool.acquire(Key(), timeout=60))

CALLS = [pool.stats, pool.leases, lambda: repr(pool), pool.flush]
for call in CALLS:
    Key.armed = True
    call()
    Key.armed = False

for point in range(60):  # the collector comes at each allocation in turn
    for call in CALLS:
        gc.collect()
        Garbage()
        gc.set_threshold(point + 1)
        call()
        gc.set_threshold(700)
gc.collect()
assert used > 60 and not failed, (used, failed)
for lease in leases:
    lease.release()
leases.clear()
assert pool.close(timeout=60) is True

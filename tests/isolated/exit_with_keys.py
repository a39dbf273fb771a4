"""At exit an unclosed keyed pool closes what is idle, of every key, and leaves what is lent."""

import atexit
import os
import sys
import threading

closed = []


def look():
    """Registered before fastpool is imported, so it runs after all that fastpool does at exit."""
    if sorted(closed) != ["a", "b", "b"]:
        print("closed at exit:", closed, file=sys.stderr, flush=True)
        os._exit(1)


atexit.register(look)

import fastpool  # noqa: E402
from support.helpers import eventually  # noqa: E402


class Resource:
    def __init__(self, key):
        self.key = key

    def close(self):
        closed.append(self.key)


pool = fastpool.KeyedPool(Resource, max_total=5)
leases = [pool.acquire(key) for key in ("a", "b", "b", "lent", "lent")]
for lease in leases[:3]:
    lease.release()
del lease
never = threading.Event()
hanging = fastpool.KeyedPool(lambda key: never.wait(), max_total=1)
threading.Thread(target=hanging.acquire, args=("dead",), daemon=True).start()
eventually(lambda: hanging.stats().creating == 1)

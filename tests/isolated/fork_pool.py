"""After fork a pool is empty in the child, which neither uses nor closes the parent's resources."""

import gc
import os
import sys
import warnings

from fastpool import FastPool
from support.helpers import eventually, states

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

reader, writer = os.pipe()


class Resource:
    """Tells the pipe whatever happens to it, and in which process."""

    def __init__(self) -> None:
        self.made_in = os.getpid()

    def close(self) -> None:
        os.write(writer, f"close {self.made_in} {os.getpid()}\n".encode())

    def __del__(self) -> None:
        os.write(writer, f"del {self.made_in} {os.getpid()}\n".encode())


pool = FastPool(3, factory=Resource, min_idle=1, idle_timeout=60)
idle = [pool.get(), pool.get()]
for resource in idle:
    pool.put(resource)
del idle, resource
lease, taken = pool.acquire(), pool.get()
eventually(lambda: states(pool).get("idle", 0) >= 1)

parent = os.getpid()
child = os.fork()
if not child:
    try:
        stats = pool.stats()
        assert (stats.idle, stats.leased, stats.open) == (0, 0, 0), stats
        # What the parent's hold was is nothing here: no error, no effect.
        lease.release()
        del lease
        assert pool.stats().open == 0
        # The pool works, up to its cap, with resources of its own.
        mine = [pool.get(timeout=10) for _ in range(3)]
        assert all(resource.made_in == os.getpid() for resource in mine)
        assert pool.stats().leased == 3
        for resource in mine:
            pool.put(resource)
        pool.flush()
        eventually(lambda: states(pool).get("idle", 0) >= 1)  # the scheduler is back
        del mine, resource, taken
        gc.collect()
        assert pool.close() is True
        del pool
        gc.collect()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)

assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
os.set_blocking(reader, False)
try:
    events = os.read(reader, 65536).decode().splitlines()
except BlockingIOError:
    events = []
for event in events:
    what, made_in, where = event.split()
    assert int(made_in) == child == int(where), f"in the child: {event}"
assert sum(event.startswith("close") for event in events) >= 3, events

# The parent's holds are untouched.
assert pool.stats().leased == 2
lease.release()
pool.put(taken)
assert pool.close() is True
del taken, pool, lease
gc.collect()
events = os.read(reader, 65536).decode().splitlines()
assert all(event.split()[1:] == [str(parent)] * 2 for event in events), events

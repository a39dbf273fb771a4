"""One lease entered, released, read and shown by several threads at once: each step is done once.

Whoever comes too late gets PoolError, nothing is lent or counted twice, and what is read is the
resource or an error. ``maxsize`` and ``items`` are read while they are assigned, too. On builds
without the GIL the threads really are in it at once.
"""

import os
import sys
import threading
from collections import Counter

from fastpool import FastPool, KeyedPool, PoolError, SharedPool, WeightedSemaphore
from support.helpers import eventually

FREE = not getattr(sys, "_is_gil_enabled", lambda: True)()
ROUNDS = 50 if FREE else 40
THREADS = max(4, min(8, os.cpu_count() or 4))
sys.setswitchinterval(1e-5)


class Resource:
    def __init__(self, key=None):
        self.mark = "resource"


def at_once(*acts):
    """Each in its own thread, all at once; how often each got through, not with PoolError."""
    start = threading.Barrier(len(acts))
    through, faults = Counter(), []

    def run(act):
        start.wait()
        try:
            act()
            through[act] += 1
        except PoolError:
            pass
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), acts
    assert not faults, faults
    return through


def read(lease):
    def look():
        for _ in range(5):
            assert lease.resource.mark == "resource"
            repr(lease)

    return look


def rounds(pool, take, idle):
    for i in range(ROUNDS):
        lease = take()
        acts = [lease.__enter__ for _ in range(THREADS - 2)]
        enter = acts[0]
        through = at_once(*acts, read(lease), lambda: repr(lease))  # noqa: B023
        assert through[enter] == 1, through  # bound methods of one lease are equal
        assert pool.stats().leased == 1 if hasattr(pool.stats(), "leased") else True
        ends = [(lambda: lease.release()) for _ in range(THREADS - 2)]  # noqa: B023
        if i % 2:
            ends[0] = lambda: lease.discard()  # noqa: B023
        through = at_once(*ends, read(lease), lambda: lease.__exit__(None, None, None))  # noqa: B023
        assert sum(through[end] for end in ends) <= 1, through
        del lease, acts, ends, enter, through
        eventually(idle)


def acquired_and_entered(pool, acquire, idle):
    """One block, and one only, of a lease that was acquired."""
    for _ in range(ROUNDS):
        lease = acquire()
        entered = at_once(*[lease.__enter__ for _ in range(THREADS)])
        assert sum(entered.values()) == 1, entered
        lease.__exit__(None, None, None)
        del lease, entered
        eventually(idle)


pool = FastPool(4, factory=Resource)
rounds(pool, pool.lease, lambda: pool.stats().leased == 0)
acquired_and_entered(pool, pool.acquire, lambda: pool.stats().leased == 0)
assert pool.close(timeout=60) is True

pool = SharedPool(Resource, items=(1, 4), slots=8)
rounds(pool, pool.lease, lambda: pool.stats().leases == 0)
acquired_and_entered(pool, pool.acquire, lambda: pool.stats().leases == 0)
assert pool.close(timeout=60) is True

pool = KeyedPool(Resource, max_total=4)
rounds(pool, lambda: pool.lease("key"), lambda: pool.stats().leased == 0)
acquired_and_entered(pool, lambda: pool.acquire("key"), lambda: pool.stats().leased == 0)
assert pool.close(timeout=60) is True

semaphore = WeightedSemaphore(4)
for _ in range(ROUNDS):
    hold = semaphore.hold()
    entered = at_once(*[hold.__enter__ for _ in range(THREADS)])
    assert sum(entered.values()) == 1 and semaphore.in_use == 1, entered
    ended = at_once(*[lambda: hold.release() for _ in range(THREADS)])  # noqa: B023
    assert sum(ended.values()) == 1 and semaphore.in_use == 0, ended


def assigned_and_read(read_it, assign):
    stop = threading.Event()

    def assigns():
        for i in range(20 * ROUNDS):
            assign(10_000 + i)  # no small int: each is made and dropped
        stop.set()

    def reads():
        while not stop.is_set():
            assert 10_000 <= read_it() < 10_000 + 20 * ROUNDS

    assign(10_000)
    at_once(assigns, *[reads for _ in range(3)])


queue = FastPool(10_000)
assigned_and_read(lambda: queue.maxsize, lambda n: setattr(queue, "maxsize", n))
pool = FastPool(10_000, factory=Resource)
assigned_and_read(lambda: pool.maxsize, pool.resize)
shared = SharedPool(Resource, items=(0, 10_000))
assigned_and_read(lambda: shared.items[1], lambda n: shared.resize((0, n)))
for each in (queue, pool, shared):
    each.close()

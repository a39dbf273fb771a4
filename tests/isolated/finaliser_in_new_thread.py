"""A finaliser may use any pool in a thread that has only just been started for that pool.

``Thread.start`` waits for what the new thread says after it: nobody may wait there with a lock.
"""

import threading
import weakref

from fastpool import FastPool, KeyedPool, PoolClosed, PoolTimeout, SharedPool, WorkerPool

pools = weakref.WeakSet()
seen = set()
bootstrap = threading.Thread._bootstrap_inner


def use(pool):
    """What a finaliser may do; waits for nothing but locks."""
    try:
        if isinstance(pool, KeyedPool):
            pool.acquire(threading.get_ident(), timeout=0).release()
        elif isinstance(pool, WorkerPool):
            pool.submit(int)
        else:
            pool.acquire(timeout=0).release()
    except (PoolTimeout, PoolClosed):  # a thread may begin after the end of its pool
        pass


def bootstrap_with_finaliser(thread):
    """Runs in the new thread, before it says that it is there."""
    for pool in list(pools):
        use(pool)
    seen.add(thread.name.rstrip("0123456789"))
    bootstrap(thread)


threading.Thread._bootstrap_inner = bootstrap_with_finaliser
for kind in (
    lambda: FastPool(factory=object, maxsize=8, min_idle=2, name="plain"),
    lambda: KeyedPool(lambda key: object(), max_total=8, name="keyed"),
    lambda: SharedPool(object, slots=2, name="shared"),
    lambda: WorkerPool(4, max_queue=100, thread_name_prefix="workers"),
):
    pool = kind()
    pools.add(pool)
    for turn in range(4):
        if isinstance(pool, WorkerPool):
            pool.submit(int).result(60)
        elif isinstance(pool, KeyedPool):
            pool.acquire(turn, timeout=60).release()
        else:
            pool.acquire(timeout=60).release()
    pools.discard(pool)
    pool.shutdown() if isinstance(pool, WorkerPool) else pool.close(timeout=60)

assert {"fastpool-plain-create", "fastpool-keyed-create", "workers_"} <= seen, seen

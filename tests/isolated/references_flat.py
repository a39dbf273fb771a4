"""Reference counts and memory are flat over a million leases and ten thousand pools, or a third of
them where a push tries another Python."""

import gc
import os
import sys
import threading

import fastpool
import fastpool.queue
from support.helpers import QUICK, eventually

SHARE = 3 if QUICK else 1
PAGE = os.sysconf("SC_PAGE_SIZE")


def memory():
    """Bytes in use by this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


def objects():
    gc.collect()
    return len(gc.get_objects())


def flat(name, act, times, most=1 << 20, strays=100):
    """After a warm-up, acting so many times leaves threads, objects and memory where they were.

    Workers end when they have been idle for a while, so threads and objects get some time.
    """
    times //= SHARE
    act(times // 10)
    threads = threading.active_count()
    before, count = memory(), objects()
    act(times)
    try:
        eventually(lambda: threading.active_count() <= threads + 1)
        eventually(lambda: objects() < count + strays)
    finally:
        grown, more = memory() - before, objects() - count
        print(f"{name}: {grown / 1024:.0f} KiB, {more} objects more after {times}", flush=True)
    assert grown < most, name


resource = object()
alone = sys.getrefcount(resource)
pool = fastpool.FastPool(2, items=[resource, object()], leak_after=None)
q = fastpool.FastPool()


def leases(n):
    for _ in range(n):
        with pool.lease():
            pass


def pairs(n):
    for _ in range(n):
        pool.put(pool.get())
        q.put(resource)
        q.get()


def errors(n):
    for _ in range(n):
        try:
            q.get_nowait()
        except Exception:
            pass
        try:
            pool.put(None)
        except ValueError:
            pass


def pools(n):
    for _ in range(n):
        one = fastpool.FastPool(2, factory=object)
        with one.lease():
            pass
        one.close()
        fastpool.queue.Queue().put(one)


def discards(n):
    with fastpool.FastPool(2, factory=object) as one:
        for _ in range(n):
            one.discard(one.get())


count = sys.getrefcount(resource)
flat("leases", leases, 1_000_000)
flat("pairs", pairs, 300_000)
flat("errors", errors, 30_000)
assert sys.getrefcount(resource) == count, (count, sys.getrefcount(resource))
pool.close()
del pool
gc.collect()
assert sys.getrefcount(resource) == alone, "the pool kept a reference"
flat("discards", discards, 10_000)
# The scheduler forgets the deadlines of pools that are gone by and by: some hundreds stay.
flat("pools", pools, 10_000, most=4 << 20, strays=2500)

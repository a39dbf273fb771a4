"""A lease whose resource was given back by another way, and whose pool is gone, is an error to use.

It holds the pool's block no longer, so it must neither look at memory that is gone nor lend what
another pool keeps in the same place.
"""

import gc
import weakref

from fastpool import FastPool, KeyedPool, PoolError, SharedPool
from support.helpers import eventually


class Resource:
    def __init__(self, key=None):
        pass


def put_fast(pool, lease):
    pool.put(lease.resource)


def put_shared(pool, lease):
    pool.put(lease.resource)
    pool.flush()


def discarded(pool, lease):
    pool.discard(lease.resource)


CASES = [
    (lambda: FastPool(2, factory=Resource), (), put_fast),
    (lambda: FastPool(2, factory=Resource), (), discarded),
    (lambda: SharedPool(Resource, items=(1, 2), slots=2), (), put_shared),
]


def refused(act):
    try:
        found = act()
    except PoolError:
        return
    raise AssertionError(f"lent by a pool that is gone: {found!r}")


def misuse(lease):
    refused(lambda: lease.resource)
    refused(lease.__enter__)
    assert "Resource" not in repr(lease), repr(lease)


for make, args, give_back in CASES:
    for reused in (False, True):
        pool = make()
        lease = pool.acquire(*args)
        fresh = pool.lease(*args)
        resource = weakref.ref(lease.resource)
        give_back(pool, lease)
        misuse(lease)
        assert pool.close(timeout=30) is True
        misuse(lease)
        gone = weakref.ref(pool)
        del pool
        gc.collect()
        assert gone() is None
        eventually(lambda: resource() is None)  # noqa: B023
        # their resources lie where those of the other pool lay
        others = [make() for _ in range(8)] if reused else []
        held = [other.acquire(*args) for other in others for _ in range(2)]
        misuse(lease)
        refused(fresh.__enter__)
        try:
            lease.release()
        except PoolError:
            pass
        del lease, fresh
        gc.collect()
        assert all(other.stats().open for other in others)
        for one in held:
            assert isinstance(one.resource, Resource)
            one.release()
        for other in others:
            assert other.close(timeout=30) is True

pool = KeyedPool(Resource, max_per_key=1)
lease, fresh = pool.acquire("key"), pool.lease("key")
lease.discard()
assert pool.close(timeout=30) is True
del pool
gc.collect()
misuse(lease)
refused(fresh.__enter__)

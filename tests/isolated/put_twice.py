"""A resource that is given back twice, while it is being lent to somebody else the second time.

Who borrows gets another one instead: it was granted in the queue, or found idle and is being looked
at, and is closed or lent anew before its borrower knows of it.
"""

import asyncio
import sys
import threading

from fastpool import FastPool
from support.helpers import eventually


class Resource:
    pass


def twice(pool, resource, act):
    """Gives it back, and once more before the thread or task to whom it was granted can run."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        pool.put(resource)
        try:
            act(resource)
        except ValueError:  # as it should be; the pool cannot know whose mistake it is
            pass
    finally:
        sys.setswitchinterval(before)


def discard_put(pool):
    """Closed, and its slot is taken by another resource."""

    def act(resource):
        pool.discard(resource)

    return act


def put_again(pool):
    return pool.put


def by_thread(pool, misuse, method):
    resource = pool.get()
    got = []

    def borrow():
        if method == "get":
            got.append(pool.get(timeout=30))
        else:
            with pool.lease(timeout=30) as lent:
                got.append(lent)

    thread = threading.Thread(target=borrow)
    thread.start()
    eventually(lambda: pool.stats().waiting)
    twice(pool, resource, misuse(pool))
    del resource
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(got[0], Resource)
    if method == "get":
        pool.put(got[0])


async def by_task(pool, misuse, method):
    resource = await pool.aget()
    got = []

    async def borrow():
        if method == "get":
            got.append(await pool.aget(timeout=30))
        else:
            async with pool.lease(timeout=30) as lent:
                got.append(lent)

    task = asyncio.ensure_future(borrow())
    while not pool.stats().waiting:
        await asyncio.sleep(0)
    twice(pool, resource, misuse(pool))
    del resource
    await task
    assert isinstance(got[0], Resource)
    if method == "get":
        pool.put(got[0])


async def cancelled(pool, misuse):
    """Granted, given back wrongly, and then cancelled: nothing is given back for it."""
    resource = await pool.aget()
    task = asyncio.ensure_future(pool.aget(timeout=30))
    while not pool.stats().waiting:
        await asyncio.sleep(0)
    twice(pool, resource, misuse(pool))
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        pool.put(task.result())


def checked(pool):
    """Found idle, and given back once more by the check of the new borrower's own call."""
    first = pool.get()
    pool.put(first)
    pool.suspects.append(first)
    second = pool.get(timeout=30)
    assert isinstance(second, Resource)
    pool.put(second)


def sound(pool):
    for _ in range(3):
        with pool.lease(timeout=30) as one:
            assert isinstance(one, Resource)
    eventually(lambda: pool.stats().leased == 0)
    assert pool.close(timeout=30) is True


for misuse in (discard_put, put_again):
    for fairness in ("fair", "throughput"):
        for method in ("get", "lease"):
            pool = FastPool(1, factory=Resource, fairness=fairness)
            by_thread(pool, misuse, method)
            sound(pool)
            pool = FastPool(1, factory=Resource, fairness=fairness)
            asyncio.run(by_task(pool, misuse, method))
            sound(pool)
        pool = FastPool(1, factory=Resource, fairness=fairness)
        asyncio.run(cancelled(pool, misuse))
        sound(pool)


class Checked(FastPool):
    def __init__(self):
        self.suspects = []
        super().__init__(2, factory=Resource, check=self.check, check_after=0)

    def check(self, resource):
        if resource in self.suspects:
            self.suspects.remove(resource)
            try:
                self.discard(resource)
            except ValueError:
                pass
        return True


pool = Checked()
checked(pool)
sound(pool)

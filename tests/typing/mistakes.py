"""Mistakes that the checkers must find: each line marked with `# error`, and no other."""

from __future__ import annotations

import fastpool.queue as queue
from fastpool import (
    FastPool,
    KeyedPool,
    ObjectCache,
    SharedPool,
    TaskPool,
    WeightedSemaphore,
    WorkerPool,
)
from fastpool.calls import CallPolicy, CircuitBreaker, Limit, Retry
from fastpool.grpc import aio_shared, shared
from fastpool.rpc import jsonrpc, sockets, xmlrpc


class Connection:
    def close(self) -> None: ...


items: FastPool[int] = FastPool(10)
items.put("text")  # error
items.get(timeout="soon")  # error
FastPool("10")  # error
FastPool(factory=Connection, ordr="fifo")  # error
FastPool(factory=Connection, order="random")  # error
FastPool(factory=Connection, fairness="unfair")  # error
FastPool(factory=3)  # error
FastPool(min_idle=3)  # error
FastPool(factory=Connection, items=[Connection()])  # error
FastPool(items=[Connection()], min_idle=1)  # error
FastPool(factory=Connection, check=len)  # error
SharedPool(Connection, units="leases")  # error
pool = FastPool(factory=Connection)
pool.put(3)  # error
pool.get().missing()  # error
pool.acquire().resource.missing()  # error
with pool.lease() as connection:
    connection.missing()  # error
pool.stats().idle = 3  # error
letters: queue.Queue[str] = queue.Queue()
letters.put(1)  # error


def connect_to(address: str) -> Connection:
    return Connection()


shards = KeyedPool(connect_to)
shards.lease()  # error
shards.lease(3)  # error
shards.acquire("db").resource.missing()  # error
KeyedPool(connect_to, maxsize=3)  # error
KeyedPool(Connection)  # error
shards.stats().keys["db"].idle = 3  # error


@CallPolicy(timeout=1)
def look_up(key: str) -> int:
    return len(key)


@CallPolicy()(idempotent=True)
async def fetch(url: str) -> bytes:
    return url.encode()


look_up(3)  # error
look_up("key").missing()  # error
fetch(key="url")  # error
CallPolicy(retry=3)  # error
CallPolicy(limit=50)  # error
CallPolicy(breaker=Limit)  # error
CallPolicy(5)  # error
CallPolicy()(idempotent="yes")  # error
Retry(throttle="none")  # error
CircuitBreaker(failures="OSError")  # error
Limit(1).stats().in_use = 3  # error

cache = ObjectCache(Connection)
cache.put("text")  # error
cache.get().missing()  # error
cache.get(timeout=3)  # error
ObjectCache()  # error
ObjectCache(3)  # error
ObjectCache(Connection, Connection.close)  # error
ObjectCache(Connection, reset=Connection)  # error
ObjectCache(Connection, size=3)  # error
semaphore = WeightedSemaphore(1.5)  # error
semaphore.acquire("1")  # error
semaphore.hold(timeout="1")  # error
semaphore.size = 3  # error
WorkerPool(1)  # error
workers = WorkerPool(1, 1, when_full="block")  # error
workers.submit(look_up, 3)  # error
workers.submit_within("1", look_up, "key")  # error
TaskPool(1, group=workers)  # error


xmlrpc("http://localhost", 4)  # error
xmlrpc("http://localhost", timeout="1")  # error
jsonrpc("http://localhost", headers=["X-Team"])  # error
jsonrpc("http://localhost").cal("add")  # error
sockets("localhost", 80)  # error
shared("localhost:1", conections=2)  # error
aio_shared("localhost:1", keepalive="5 min")  # error

"""Typed examples of the public interface: mypy and pyright accept them and infer these types.

Checked, never run; `test_typing.py` calls the checkers.
"""

from __future__ import annotations

import contextlib
import queue as stdlib_queue
from asyncio import Future as AsyncFuture
from asyncio import Task, TaskGroup
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, assert_type
from xmlrpc.client import ServerProxy

import fastpool
import fastpool.queue as queue
from fastpool import (
    AsyncKeyedFactory,
    Factory,
    FastPool,
    KeyedFactory,
    KeyedLease,
    KeyedPool,
    Lease,
    ObjectCache,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolOverloaded,
    PoolTimeout,
    SemaphoreHold,
    SharedLease,
    SharedPool,
    TaskPool,
    WeightedSemaphore,
    WorkerPool,
)
from fastpool.calls import (
    BreakerStats,
    CallError,
    CallPolicy,
    CallStats,
    CircuitBreaker,
    CircuitOpen,
    DeadlineExceeded,
    Limit,
    LimitStats,
    Overloaded,
    Retry,
    RetryThrottle,
    budget,
    remaining,
)
from fastpool.fleet import LocalBudget
from fastpool.rpc import (
    AioBatch,
    AioJsonRpc,
    Batch,
    JsonRpc,
    RemoteError,
    Reply,
    SocketPool,
    Wire,
    aio_jsonrpc,
    jsonrpc,
    sockets,
    xmlrpc,
)
from fastpool.stats import Histogram, Holder, KeyedStats, KeySizes, SharedStats
from fastpool.testing import ManualClock


class Connection:
    def send(self, text: str) -> int:
        return len(text)

    def close(self) -> None: ...


def connect() -> Connection:
    return Connection()


class Connector:
    """A factory object with all its hooks."""

    def create(self) -> Connection:
        return Connection()

    def close(self, resource: Connection) -> None: ...

    def check(self, resource: Connection) -> None: ...

    def reset(self, resource: Connection) -> None: ...


def healthy(resource: Connection) -> bool:
    return resource.send("ping") == 4


def broken(error: BaseException, resource: Connection) -> bool:
    return isinstance(error, OSError) and resource.send("") == 0


# Queue use: the type of the items is given.

items: FastPool[int] = FastPool(10)
items.put(1)
items.put(2, block=False)
items.put(3, timeout=1.5)
items.put_nowait(4)
assert_type(items.get(), int)
assert_type(items.get(block=True, timeout=None), int)
assert_type(items.get_nowait(), int)
assert_type(items.qsize(), int)
assert_type(items.empty(), bool)
assert_type(items.full(), bool)
assert_type(items.maxsize, int)
items.maxsize = 5
assert_type(list(items.queue), list[int])
items.task_done()
items.join()
assert_type(items.unfinished_tasks, int)
items.shutdown(immediate=True)
assert_type(items.is_shutdown, bool)
fifo: FastPool[str] = FastPool(order="fifo", fairness="fair", name="letters")
subscripted = FastPool[bytes](3)
assert_type(subscripted.get(), bytes)

# Pool use: the type of the resources is inferred from the factory, its object, or the items.

pool = FastPool(4, factory=connect)
assert_type(pool, FastPool[Connection])
assert_type(pool.get(), Connection)
assert_type(pool.get(timeout=5), Connection)
assert_type(pool.get_nowait(), Connection)
pool.put(pool.get())
pool.discard(pool.get())

connector: Factory[Connection] = Connector()
from_protocol = FastPool(factory=connector)
assert_type(from_protocol.get(), Connection)
from_object = FastPool(factory=Connector())
assert_type(from_object.get(), Connection)
from_class = FastPool(factory=Connection)
assert_type(from_class.get(), Connection)
from_items = FastPool(items=[Connection(), Connection()], close=Connection.close, max_uses=100)
assert_type(from_items.get(), Connection)

every_option = FastPool(
    20,
    factory=connect,
    close=Connection.close,
    check=healthy,
    reset=lambda resource: resource.close(),
    min_idle=1,
    max_idle=10,
    order="fifo",
    timeout=None,
    create_timeout=10,
    hook_timeout=2.5,
    max_creating=2,
    check_after=0.1,
    keepalive=60,
    idle_timeout=None,
    max_lifetime=3600,
    max_uses=1000,
    max_waiting=50,
    fairness="throughput",
    leak_after=30,
    discard_on=broken,
    name="connections",
)
assert_type(every_option.get(), Connection)
tested = FastPool(factory=connect, check=healthy, clock=ManualClock())
by_class = FastPool(factory=connect, discard_on=OSError)
by_classes = FastPool(factory=connect, discard_on=(OSError, EOFError))
by_rule = FastPool(factory=connect, discard_on="broken")
by_both = FastPool(factory=connect, discard_on=("broken", LookupError))

# Leases.

with pool.lease() as connection:
    assert_type(connection, Connection)
with pool.lease(timeout=0) as connection:
    connection.send("hello")
lease = pool.acquire(timeout=1.0)
assert_type(lease, Lease[Connection])
assert_type(lease.resource, Connection)
lease.release()
pool.acquire().discard()
manager: contextlib.AbstractContextManager[Connection] = pool.lease()


async def as_a_task() -> None:
    async with pool.lease(timeout=1) as taken:
        assert_type(taken, Connection)
    assert_type(await pool.aget(), Connection)
    assert_type(await pool.aacquire(timeout=None), Lease[Connection])
    assert_type(await pool.awarm(2), int)
    assert_type(await pool.aclose(timeout=None), bool)
    async with pool as same:
        await same.aput(Connection(), timeout=0)


# Lifecycle.

with FastPool(factory=connect) as entered:
    assert_type(entered, FastPool[Connection])
pool.resize(8)
pool.flush()
pool.suspend()
pool.resume()
pool.warm(2)
assert_type(pool.close(), bool)
assert_type(pool.close(timeout=0), bool)
assert_type(pool.close(None), bool)
assert_type(pool.name, str)
assert_type(pool.closed, bool)
assert_type(pool.leases(), list[Holder[Connection]])
for holder in pool.leases():
    assert_type(holder.resource, Connection)
    assert_type(holder.age, float)

stats = pool.stats()
total: int = stats.idle + stats.leased + stats.creating + stats.checking + stats.closing
assert_type(stats.open, int)
assert_type(stats.waiting, int)
reasons: Mapping[str, int] = stats.closed
assert_type(stats.wait_time, Histogram)
assert_type(stats.wait_time.quantile(0.99), float)

# Errors.


def describe(error: PoolTimeout) -> str:
    base: PoolError = error
    timeout: TimeoutError = error
    empty: stdlib_queue.Empty = error
    sizes: Mapping[str, int] = error.sizes
    waited: float = error.waited
    return f"{base} {timeout} {empty} {error.phase} {waited} {sizes} {error.pool}"


kinds: list[type[PoolError]] = [PoolTimeout, PoolClosed, PoolOverloaded, PoolDeadlock]
shut: type[Exception] = queue.ShutDown

# fastpool.queue in place of queue.

fifo_queue: queue.Queue[int] = queue.Queue(maxsize=3)
lifo_queue: queue.LifoQueue[str] = queue.LifoQueue()
assert_type(fifo_queue.get(), int)
assert_type(lifo_queue.get(timeout=1), str)
fifo_queue.put(1, True, None)
priority: queue.PriorityQueue[int] = queue.PriorityQueue()
simple: queue.SimpleQueue[int] = queue.SimpleQueue()
with contextlib.suppress(queue.Empty, queue.Full):
    fifo_queue.put_nowait(2)
    assert_type(fifo_queue.get_nowait(), int)


def generic(shared: FastPool[Any]) -> None:
    shared.put(shared.get())


generic(pool)


def shared_use() -> None:
    pool = SharedPool(connect, items=(1, None), slots=10, discard_on=broken, check=healthy)
    assert_type(pool, SharedPool[Connection])
    with pool, pool.lease(timeout=1) as connection:
        assert_type(connection, Connection)
    lease = pool.acquire()
    assert_type(lease, SharedLease[Connection])
    assert_type(lease.resource, Connection)
    pool.put(pool.get())
    pool.replace()
    assert_type(pool.items, tuple[int, int | None])
    assert_type(pool.stats(), SharedStats)
    assert_type(pool.leases(), list[Holder[Connection]])
    SharedPool(Connector(), items=4)
    SharedPool(connect, budget=LocalBudget("/run/app/search.budget", 500), units="slots")


def shared_async_factories() -> None:
    async def dial() -> Connection:
        return Connection()

    async def end(connection: Connection) -> None:
        pass

    pool = SharedPool(dial, items=(1, 4), close=end, drain_timeout=5, abort=end)
    assert_type(pool, SharedPool[Connection])


async def shared_use_by_tasks(pool: SharedPool[Connection]) -> None:
    async with pool, pool.lease() as connection:
        assert_type(connection, Connection)
    assert_type(await pool.aacquire(), SharedLease[Connection])
    assert_type(await pool.aget(), Connection)
    assert_type(await pool.aclose(), bool)


# fastpool.calls: a decorated function has the type that it had.

policy = CallPolicy(
    timeout=2.0,
    retry=Retry(3, backoff=0.1, on=(OSError, EOFError), codes=["UNAVAILABLE"], throttle=None),
    breaker=CircuitBreaker("db", failures=lambda error: "gone" in str(error), codes=()),
    limit=Limit(10, max_waiting=20),
    name="db",
    clock=ManualClock(),
)
each = CallPolicy(breaker=CircuitBreaker, retry=Retry(throttle=RetryThrottle(20, 0.2)))
made = CallPolicy(breaker=partial(CircuitBreaker, open_for=1.0))


@policy
def look_up(key: str, *, default: int = 0) -> int:
    return len(key) or default


@policy(idempotent=True, timeout_arg="timeout", name="fetch")
async def fetch(url: str, timeout: float | None = None) -> bytes:
    return url.encode()


class Service:
    @policy
    def method(self, n: int) -> str:
        return str(n)


def guess_nothing(key: str) -> int:
    return 0


@policy(fallback=guess_nothing)
def guess(key: str) -> int:
    return len(key)


assert_type(guess("key"), int)
plain: Callable[[str], int] = look_up
assert_type(look_up("key", default=3), int)
fetched: Callable[[str], Coroutine[Any, Any, bytes]] = fetch
assert_type(Service().method(3), str)
assert_type(policy(connect)(), Connection)


async def awaited() -> None:
    assert_type(await fetch("url", timeout=1.0), bytes)


with budget(2.0), budget(None):
    assert_type(remaining(), float | None)
assert_type(policy.stats(), CallStats)
assert_type(policy.stats().breakers["db"], BreakerStats)
assert_type(policy.stats().limit, LimitStats | None)
refusals: list[type[CallError]] = [CircuitOpen, DeadlineExceeded, Overloaded]
expired: type[TimeoutError] = DeadlineExceeded


def told(breaker: CircuitBreaker, before: str, after: str) -> None:
    breaker.reset()


CircuitBreaker(on_change=told, window=10).trip()

# An object cache: the type of the objects is inferred from what makes them.

buffers = ObjectCache(lambda: bytearray(10))
assert_type(buffers, ObjectCache[bytearray])
assert_type(buffers.get(), bytearray)
buffers.put(buffers.get())
buffers.put(None)
letters: ObjectCache[list[str]] = ObjectCache(list, reset=lambda used: used.clear())
letters.get().append("a")
connections = ObjectCache(Connection, reset=Connection.close)
assert_type(connections.get(), Connection)
subscripted_cache = ObjectCache[bytes](bytes)
assert_type(subscripted_cache.get(), bytes)


class KeyedConnector:
    def create(self, key: tuple[str, int]) -> Connection:
        return Connection()


def keyed_use() -> None:
    def connect_to(address: tuple[str, int]) -> Connection:
        return Connection()

    pool = KeyedPool(
        connect_to, max_total=None, max_idle_total=20, discard_on=broken, check=healthy
    )
    assert_type(pool, KeyedPool[tuple[str, int], Connection])
    with pool, pool.lease(("db", 5432), timeout=1) as connection:
        assert_type(connection, Connection)
    lease = pool.acquire(("db", 5432))
    assert_type(lease, KeyedLease[tuple[str, int], Connection])
    assert_type(lease.resource, Connection)
    assert_type(lease.key, tuple[str, int])
    a_lease: Lease[Connection] = lease
    a_lease.release()
    pool.flush(("db", 5432))
    stats = pool.stats()
    assert_type(stats, KeyedStats)
    sizes: KeySizes = stats.keys["db", 5432]
    assert_type(sizes.idle, int)
    assert_type(pool.leases(), list[Holder[Connection]])
    made: KeyedFactory[tuple[str, int], Connection] = KeyedConnector()
    KeyedPool(made)


class AsyncKeyedConnector:
    async def create(self, key: str) -> Connection:
        return Connection()


async def connect_later(key: str) -> Connection:
    return Connection()


def keyed_async_factories() -> None:
    assert_type(KeyedPool(connect_later, max_per_key=3), KeyedPool[str, Connection])
    made: AsyncKeyedFactory[str, Connection] = AsyncKeyedConnector()
    assert_type(KeyedPool(made), KeyedPool[str, Connection])


async def keyed_use_by_tasks(pool: KeyedPool[str, Connection]) -> None:
    async with pool, pool.lease("db") as connection:
        assert_type(connection, Connection)
    assert_type(await pool.aacquire("db"), KeyedLease[str, Connection])
    assert_type(await pool.aclose(), bool)


# ---- Limits --------------------------------------------------------------------------------------

assert_type(fastpool.pools(), list[Any])
semaphore = WeightedSemaphore(100, max_waiting=10, name="bytes")
semaphore.acquire(3, timeout=1.0)
assert_type(semaphore.try_acquire(), bool)
semaphore.release(3)
with semaphore.hold(2, timeout=None) as units:
    assert_type(units, SemaphoreHold)
    assert_type(units.n, int)
    units.release()
assert_type(semaphore.in_use + semaphore.size + semaphore.waiting, int)
assert_type(semaphore.max_waiting, int | None)


async def hold_as_task() -> None:
    async with semaphore.hold(2) as units:
        assert_type(units, SemaphoreHold)
    await semaphore.aacquire(1, 0.5)


def length(text: str, more: int = 0) -> int:
    return len(text) + more


with WorkerPool(4, 100, when_full="wait", submit_timeout=2.0, idle_timeout=None) as workers:
    executor: Executor = workers
    assert_type(workers.submit(length, "text", more=1), Future[int])
    assert_type(workers.try_submit(length, "text"), Future[int])
    assert_type(workers.submit_within(0.1, length, "text"), Future[int])
    assert_type(workers.map(length, ["a", "b"], timeout=1.0, buffersize=3), Iterator[int])
    assert_type(workers.stats().queued, int)
    workers.shutdown(wait=False, cancel_futures=True)


async def submit_as_task() -> None:
    assert_type(await workers.asubmit(length, "text"), AsyncFuture[int])
    async with TaskPool(4, when_full="refuse") as pool, TaskGroup() as group:
        assert_type(await pool.submit(fetch, "url", timeout=1.0), Task[bytes])
        assert_type(pool.try_submit(fetch, "url"), Task[bytes])
        assert_type(pool.map(fetch, ["url"]), AsyncIterator[bytes])
        await TaskPool(1, 2, group=group, name="jobs").shutdown(cancel=True)


def remote_calls() -> None:
    with xmlrpc("http://localhost", size=4, headers=[("X-Team", "blue")], idle_timeout=5) as proxy:
        assert_type(proxy, ServerProxy)
        proxy.system.listMethods()
    with jsonrpc("http://localhost", timeout=None, headers={"X-Team": "blue"}) as client:
        assert_type(client, JsonRpc)
        assert_type(client.call("add", 1, b=2), Any)
        assert_type(client.notify("say", "hello"), None)
        assert_type(client.at("/other"), JsonRpc)
        with client.batch() as batch:
            assert_type(batch, Batch)
            assert_type(batch.call("add", 1, 2), Reply)
        try:
            client.call("divide", 1, 0)
        except RemoteError as error:
            assert_type((error.code, error.message), tuple[int, str])
    with sockets(("localhost", 80), tls=True, setup=greet) as pool:
        assert_type(pool, SocketPool)
        with pool.lease(timeout=1) as connection:
            assert_type(connection, Wire)
            assert_type(connection.recv(10), bytes)


def greet(connection: Wire) -> None:
    connection.sendall(b"hello")


async def remote_calls_by_tasks() -> None:
    async with aio_jsonrpc("http://localhost", retry=False) as client:
        assert_type(client, AioJsonRpc)
        assert_type(await client.call("add", 1, 2), Any)
        async with client.batch() as batch:
            assert_type(batch, AioBatch)
            assert_type(batch.call("add", 1, 2).result(), Any)
        assert_type(await client.aclose(), bool)

"""`fastpool.contrib.redis.asyncio` and `.valkey.asyncio`, on a real server that is killed."""

from __future__ import annotations

import asyncio
import gc
import importlib
import threading
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from integration.drivers import killed_servers
from support.helpers import PATIENCE, ThreadRunner
from support.loops import Run, eventually, run_in

pytestmark = [pytest.mark.servers, pytest.mark.once]  # an adapter: the pool is tried on each


@pytest.fixture(params=["redis", "valkey"])
def host(request: pytest.FixtureRequest, killed_redis: killed_servers.Server) -> Any:
    """The package, its client class, our pools and the server's address."""
    pytest.importorskip(request.param)
    package = importlib.import_module(f"{request.param}.asyncio")
    return SimpleNamespace(
        name=request.param,
        package=package,
        client=getattr(package, request.param.capitalize()),
        pools=importlib.import_module(f"fastpool.contrib.{request.param}.asyncio"),
        url=f"{request.param}://127.0.0.1:{killed_redis.port}",
    )


@pytest.fixture(params=["ConnectionPool", "BlockingConnectionPool"])
def kind(request: pytest.FixtureRequest, host: Any) -> Any:
    """Our class and what it is of."""
    return SimpleNamespace(ours=getattr(host.pools, request.param), **vars(host))


async def ended(pool: Any) -> None:
    """All are back, and this loop's are closed."""
    await pool.aclose()
    assert pool.fastpool.stats().leased == 0


def test_it_is_what_the_client_expects(kind: Any, on_loop: Run) -> None:
    """A subclass of the host's; WATCH, MULTI, messages and a client of one connection."""

    async def main() -> None:
        mine = kind.ours.from_url(kind.url, max_connections=4, decode_responses=True)
        assert isinstance(mine, getattr(kind.package, type(mine).__name__))
        assert mine.get_encoder().decode_responses is True
        client = kind.client(connection_pool=mine)
        assert await client.set("n", 1) and await client.get("n") == "1"
        async with client.pipeline() as transaction:
            await transaction.watch("n")
            await client.set("n", 2)
            transaction.multi()
            transaction.incr("n")
            with pytest.raises(kind.package.WatchError):
                await transaction.execute()
        async with client.pubsub() as subscriber:
            await subscriber.subscribe("news")
            assert (await subscriber.get_message(timeout=PATIENCE))["type"] == "subscribe"
            await client.publish("news", "hear")
            assert (await subscriber.get_message(timeout=PATIENCE))["data"] == "hear"
            assert mine.fastpool.stats().leased == 1
        async with kind.client(connection_pool=mine, single_connection_client=True) as single:
            await single.ping()
        await ended(mine)

    on_loop(main())


def test_each_task_has_its_turns(host: Any, on_loop: Run) -> None:
    """Eight tasks on two connections."""

    async def main() -> None:
        mine = host.pools.BlockingConnectionPool.from_url(host.url, max_connections=2)
        client = host.client(connection_pool=mine)
        turns = [0] * 8
        enough = False

        async def work(index: int) -> None:
            while not enough:
                await client.ping()
                turns[index] += 1

        tasks = [asyncio.create_task(work(index)) for index in range(8)]
        await eventually(lambda: min(turns) >= 20)
        enough = True
        await asyncio.gather(*tasks)
        assert mine.fastpool.stats().open <= 2
        await ended(mine)

    on_loop(main())


def test_a_full_pool_refuses_as_the_host_does(host: Any, on_loop: Run) -> None:
    """The exceptions that callers of the host catch."""

    async def main() -> None:
        raising = host.pools.ConnectionPool.from_url(host.url, max_connections=1)
        held = await raising.get_connection("_")
        with pytest.raises(host.package.ConnectionError, match="Too many connections"):
            await raising.get_connection("_")
        assert not raising.can_get_connection()
        await raising.release(held)
        assert raising.can_get_connection()
        waiting = host.pools.BlockingConnectionPool.from_url(
            host.url, max_connections=1, timeout=0.05
        )
        held = await waiting.get_connection("_")
        with pytest.raises(host.package.ConnectionError, match="No connection available"):
            await waiting.get_connection("_")
        await waiting.release(held)
        with pytest.raises(KeyError):
            await waiting.release(held)
        await ended(raising)
        await ended(waiting)

    on_loop(main())


def test_a_raising_pool_never_refuses_while_there_is_capacity(host: Any, on_loop: Run) -> None:
    """As many tasks as connections."""

    async def main() -> None:
        mine = host.pools.ConnectionPool.from_url(host.url, max_connections=4)

        async def work() -> None:
            for _ in range(100):
                connection = await mine.get_connection("_")
                await asyncio.sleep(0)
                await mine.release(connection)

        await asyncio.gather(*(work() for _ in range(4)))
        await ended(mine)

    on_loop(main())


def test_a_cancelled_task_takes_nothing_with_it(kind: Any, on_loop: Run) -> None:
    """Cancelled at any of its suspensions, it leaves every connection in the pool, and no answer in
    a connection for somebody else."""

    async def main() -> None:
        mine = kind.ours.from_url(kind.url, max_connections=8)
        client = kind.client(connection_pool=mine)
        await client.set("mine", "yes")
        for turns in range(40):
            task = asyncio.ensure_future(client.get("mine"))
            for _ in range(turns % 8):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert await client.get("mine") == b"yes"
            assert await client.ping()
        await eventually(lambda: mine.fastpool.stats().leased == 0)
        await ended(mine)

    on_loop(main())


def test_no_dead_connection_is_lent_after_the_server_was_killed(
    kind: Any, killed_redis: killed_servers.Server, on_loop: Run
) -> None:
    """Under load and back: each of those that died is noticed once at most."""

    async def main() -> None:
        mine = kind.ours.from_url(kind.url, max_connections=4)
        client = kind.client(connection_pool=mine)
        over = False
        turns = [0] * 4

        async def work(index: int) -> None:
            while not over:
                try:
                    await client.ping()
                    turns[index] += 1
                except (kind.package.ConnectionError, kind.package.TimeoutError):
                    await asyncio.sleep(0)

        tasks = [asyncio.create_task(work(index)) for index in range(4)]
        await eventually(lambda: min(turns) > 5)
        await asyncio.to_thread(killed_redis.restart)
        turns[:] = [0] * 4
        await eventually(lambda: min(turns) > 5)
        over = True
        await asyncio.gather(*tasks)
        idle = len(mine._available_connections)
        await asyncio.to_thread(killed_redis.restart)
        failures = 0
        for _ in range(idle + 6):  # the loop may hear of the end of a connection only in its use
            try:
                await client.ping()
            except kind.package.ConnectionError:
                failures += 1
        assert failures <= idle, "a dead connection was lent twice"
        assert await client.ping()
        await ended(mine)

    on_loop(main())


def test_one_pool_serves_a_second_loop_and_two_at_once(kind: Any, runner: ThreadRunner) -> None:
    """The hosts' own raise RuntimeError there.  Each loop has connections of its own; the cap is
    that of all."""
    mine = kind.ours.from_url(kind.url, max_connections=4)
    client = kind.client(connection_pool=mine)

    async def some(last: bool = True) -> None:
        for _ in range(20):
            assert all(await asyncio.gather(client.ping(), client.ping()))
        if last:
            await mine.aclose()

    for _ in range(2):
        run_in("asyncio", some())
    barrier = threading.Barrier(2)

    async def beside() -> None:
        await some(False)
        await asyncio.to_thread(barrier.wait, PATIENCE)  # both have what they have
        await some()

    for _ in range(2):
        runner.start(run_in, "asyncio", beside(), 3 * PATIENCE)
    runner.finish()
    assert mine.fastpool.stats().leased == 0


def test_disconnect_is_for_the_loop_that_calls(kind: Any, on_loop: Run) -> None:
    """What is idle here, and with the default what is in use here; a connection that was
    disconnected connects again by itself."""

    async def main() -> None:
        mine = kind.ours.from_url(kind.url, max_connections=3)
        used, idle = await mine.get_connection("_"), await mine.get_connection("_")
        await mine.release(idle)
        assert list(mine._available_connections) == [idle]
        assert set(mine._in_use_connections) == {used}

        async def elsewhere() -> None:
            other = await mine.get_connection("_")
            await mine.release(other)
            await mine.aclose()
            assert not other.is_connected

        await asyncio.to_thread(run_in, "asyncio", elsewhere())
        assert idle.is_connected and used.is_connected
        await mine.disconnect(inuse_connections=False)
        assert used.is_connected and not idle.is_connected
        await mine.disconnect()
        assert not used.is_connected
        await mine.release(used)
        assert await kind.client(connection_pool=mine).ping()
        await ended(mine)

    on_loop(main())


def test_what_is_idle_is_out_of_reach_inside_the_lock(kind: Any, on_loop: Run) -> None:
    """Re-authentication writes to idle connections: nobody may be lent one meanwhile."""

    async def main() -> None:
        mine = kind.ours.from_url(kind.url, max_connections=2)
        first, second = await mine.get_connection("_"), await mine.get_connection("_")
        await mine.release(first)
        await mine.release(second)
        async with mine._lock:
            assert mine.fastpool.qsize() == 0
            assert {*mine._available_connections} == {first, second}
            assert not {*mine._in_use_connections}
        assert mine.fastpool.queue == [first, second]
        policy = object()
        mine.set_retry(policy)
        assert first.retry is policy and second.retry is policy
        await ended(mine)

    on_loop(main())


def test_reset_starts_anew(kind: Any, on_loop: Run) -> None:
    """What was idle is closed; what was in use is closed when it comes back."""

    async def main() -> None:
        mine = kind.ours.from_url(kind.url, max_connections=2)
        used, idle = await mine.get_connection("_"), await mine.get_connection("_")
        await mine.release(idle)
        mine.reset()
        await eventually(lambda: not idle.is_connected)
        assert used.is_connected
        await mine.release(used)
        await eventually(lambda: not used.is_connected)
        assert mine.fastpool.stats().open == 0
        assert await kind.client(connection_pool=mine).ping()
        await ended(mine)

    on_loop(main())


def test_a_dropped_client_leaves_nothing(kind: Any, on_loop: Run) -> None:
    """No connection, no task, and no warning, once its connections are closed."""

    async def main() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(3):
                mine = kind.ours.from_url(kind.url)
                client = kind.client(connection_pool=mine)
                await client.ping()
                await mine.disconnect()
                del client, mine
                gc.collect()
            await eventually(lambda: len(asyncio.all_tasks()) == 1)

    on_loop(main())

"""`fastpool.contrib.psycopg.AsyncConnectionPool` on a real server that is killed at times.

What psycopg_pool's own class does as well is asked of both.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from typing import Any

import pytest

from integration.contrib.test_psycopg_threads import restart
from integration.drivers import killed_servers
from support.helpers import PATIENCE, all_warnings
from support.loops import Run, eventually

pytest.importorskip("psycopg_pool", reason="psycopg_pool is not installed")

import psycopg
import psycopg_pool

import fastpool
from fastpool.contrib.psycopg import AsyncConnectionPool

pytestmark = [pytest.mark.servers, pytest.mark.once]  # an adapter: the pool is tried on each

INTRANS = psycopg.pq.TransactionStatus.INTRANS


@pytest.fixture
def conninfo(killed_postgresql: killed_servers.Server) -> str:
    return f"host=127.0.0.1 port={killed_postgresql.port} user=postgres dbname=postgres"


@pytest.fixture(params=["host", "ours"])
def either(request: pytest.FixtureRequest) -> Any:
    """Our class, or psycopg_pool's."""
    return AsyncConnectionPool if request.param == "ours" else psycopg_pool.AsyncConnectionPool


async def answer(connection: Any, statement: str = "select 1") -> Any:
    return (await (await connection.execute(statement)).fetchone())[0]


# ---- As the host's ---------------------------------------------------------------------------


def test_a_block_commits_or_rolls_back(either: Any, conninfo: str, on_loop: Run) -> None:
    async def main() -> None:
        async with either(conninfo, min_size=1) as mine:
            async with mine.connection() as first:
                await first.execute("create table turns (number int)")
            with pytest.raises(ZeroDivisionError):
                async with mine.connection() as second:
                    await second.execute("insert into turns values (1)")
                    1 / 0  # noqa: B018
            async with mine.connection() as third:
                assert third is second is first and third._pool is mine
                assert await answer(third, "select count(*) from turns") == 0
                await third.execute("drop table turns")
            assert not first.closed and first._pool is None
        assert first.closed

    on_loop(main())


def test_configure_check_and_reset_are_awaited(either: Any, conninfo: str, on_loop: Run) -> None:
    """As is what gives `conninfo` and `kwargs`."""
    seen = []

    async def configure(connection: Any) -> None:
        seen.append("configure")
        await connection.execute("set search_path to elsewhere")
        await connection.commit()

    async def check(connection: Any) -> None:
        seen.append("check")

    async def reset(connection: Any) -> None:
        seen.append("reset")

    async def given() -> Any:
        return conninfo

    async def kwargs() -> dict[str, Any]:
        return {"application_name": "shop"}

    async def main() -> None:
        async with either(
            given, kwargs=kwargs, min_size=1, configure=configure, check=check, reset=reset
        ) as mine:
            async with mine.connection() as connection:
                assert await answer(connection, "show search_path") == "elsewhere"
                assert await answer(connection, "show application_name") == "shop"
            await eventually(lambda: seen == ["configure", "check", "reset"])

    on_loop(main())


def test_the_hosts_except_clauses(either: Any, conninfo: str, on_loop: Run) -> None:
    async def main() -> None:
        mine = either(conninfo, min_size=1, max_waiting=1, open=False)
        with pytest.raises(psycopg_pool.PoolClosed, match="is not open yet"):
            await mine.getconn()
        await mine.open(wait=True)
        held = await mine.getconn()
        waiter = asyncio.create_task(mine.getconn())
        await eventually(lambda: mine.get_stats()["requests_waiting"] == 1)
        with pytest.raises(psycopg_pool.TooManyRequests, match="has already 1 requests waiting"):
            await mine.getconn()
        await mine.close()
        with pytest.raises(psycopg_pool.PoolClosed, match="is closed"):
            await waiter
        with pytest.raises(psycopg.OperationalError, match="is already closed"):
            await mine.getconn()
        await mine.putconn(held)
        assert held.closed
        with pytest.raises(psycopg_pool.PoolClosed, match="cannot be reused"):
            await mine.open()
        async with either(conninfo, min_size=1) as mine:
            held = await mine.getconn()
            with pytest.raises(psycopg_pool.PoolTimeout, match=r"couldn't get .* after 0\.01"):
                await mine.getconn(0.01)
            await mine.putconn(held)
            with pytest.raises(ValueError, match="doesn't come from any pool"):
                await mine.putconn(held)
        with pytest.raises(psycopg_pool.PoolTimeout, match=r"incomplete after 0\.2"):
            async with either(conninfo, min_size=1, kwargs={"port": 1}) as mine:
                await mine.wait(0.2)

    on_loop(main())


def test_opened_by_the_constructor(either: Any, conninfo: str, on_loop: Run) -> None:
    """The host warns of it, and refuses where no loop runs."""
    with pytest.warns(RuntimeWarning, match="is deprecated"):
        with pytest.raises(RuntimeError, match="no running loop"):
            either(conninfo, open=True)

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="is deprecated"):
            mine = either(conninfo, min_size=1, open=True)
        await mine.wait()
        async with mine.connection() as connection:
            assert await answer(connection) == 1
        await mine.close()
        both = either(conninfo)  # closed before it was open
        await both.close()

    on_loop(main())


def test_what_is_made_while_the_pool_opens_is_kept(conninfo: str, on_loop: Run) -> None:
    """Connections that are there before ``open`` has returned."""

    async def main() -> None:
        mine = AsyncConnectionPool(conninfo, min_size=2, open=False)
        await mine.fastpool.aopen()  # as if `open` were held up at its next step
        await eventually(lambda: mine.fastpool.stats().idle == 2)
        await mine.open(wait=True)
        for _ in range(2):
            async with mine.connection() as connection:
                assert await answer(connection) == 1
        await mine.close()

    on_loop(main())


def test_check_drain_and_resize(either: Any, conninfo: str, on_loop: Run) -> None:
    async def main() -> None:
        async with either(conninfo, min_size=2) as mine:
            await mine.wait()
            broken, lent = await mine.getconn(), await mine.getconn()
            await mine.putconn(broken)
            broken.pgconn.finish()
            await mine.check()
            await eventually(lambda: mine.get_stats()["pool_available"] == 1)
            assert mine.get_stats()["connections_lost"] == 1
            await mine.drain()
            assert not lent.closed
            await mine.putconn(lent)
            await eventually(lambda: lent.closed)
            await mine.resize(1, 3)
            held = [await mine.getconn() for _ in range(3)]
            assert mine.get_stats()["pool_max"] == 3
            for each in held:
                assert await answer(each) == 1
                await mine.putconn(each)

    on_loop(main())


# ---- Ours alone ------------------------------------------------------------------------------


def test_a_cancelled_task_takes_nothing_with_it(conninfo: str, on_loop: Run) -> None:
    """Waiting, in the block, or while what it left open is rolled back."""

    async def main() -> None:
        async with AsyncConnectionPool(conninfo, min_size=1) as mine:
            inside, rolling = asyncio.Event(), asyncio.Event()

            async def hold() -> None:
                async with mine.connection() as connection:
                    await connection.execute("select 1")
                    inside.set()
                    await asyncio.sleep(PATIENCE)

            holder = asyncio.create_task(hold())
            await inside.wait()
            waiter = asyncio.create_task(mine.getconn())
            await eventually(lambda: mine.get_stats()["requests_waiting"] == 1)
            for each in (waiter, holder):
                each.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await each

            async def leave_open() -> None:
                connection = await mine.getconn()
                await connection.execute("select 1")

                async def rollback() -> None:
                    rolling.set()
                    await asyncio.sleep(PATIENCE)

                connection.rollback = rollback
                await mine.putconn(connection)

            leaver = asyncio.create_task(leave_open())
            await rolling.wait()
            leaver.cancel()
            with pytest.raises(asyncio.CancelledError):  # the host's goes on
                await leaver
            async with mine.connection(PATIENCE) as connection:
                assert await answer(connection) == 1

    on_loop(main())


def test_given_back_inside_a_block_its_end_leaves_it_alone(conninfo: str, on_loop: Run) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(conninfo, min_size=1, close_returns=True) as mine:
            async with mine.connection() as connection:
                await connection.close()
                other = await mine.getconn()
                assert other is connection
                await other.execute("select 1")
            assert connection.info.transaction_status is INTRANS
            await mine.putconn(other)

    on_loop(main())


def test_a_timeout_says_why(conninfo: str, on_loop: Run) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(conninfo, min_size=1, kwargs={"port": 1}) as mine:
            with pytest.raises(psycopg_pool.PoolTimeout, match="phase: create") as caught:
                await mine.getconn(0.5)
        refused = caught.value.__cause__.__cause__  # type: ignore[union-attr]
        assert isinstance(refused, psycopg.OperationalError) and "port 1 failed" in str(refused)
        async with AsyncConnectionPool(conninfo, min_size=1) as mine:
            async with mine.connection():
                with pytest.raises(psycopg_pool.PoolTimeout) as caught:
                    async with mine.connection():
                        pytest.fail("lent twice")
        assert isinstance(caught.value.__cause__, fastpool.PoolDeadlock)

    on_loop(main())


@pytest.mark.parametrize("awaited", [False, True])
def test_reconnect_failed_is_called(conninfo: str, on_loop: Run, awaited: bool) -> None:
    """A plain function or a coroutine function."""
    told = []

    def failed(pool: Any) -> None:
        told.append(pool)

    async def awaited_failed(pool: Any) -> None:
        await asyncio.sleep(0)
        told.append(pool)

    async def main() -> None:
        async with AsyncConnectionPool(
            conninfo,
            min_size=1,
            kwargs={"port": 1},
            reconnect_timeout=0.0,
            reconnect_failed=awaited_failed if awaited else failed,
        ) as mine:
            await eventually(lambda: told == [mine])

    on_loop(main())


def test_eight_tasks_on_two_connections_all_get_turns(conninfo: str, on_loop: Run) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(conninfo, min_size=2) as mine:
            await mine.wait()
            turns = [0] * 8

            async def work(index: int) -> None:
                while max(turns) < 40:
                    async with mine.connection() as connection:
                        assert await answer(connection) == 1
                    turns[index] += 1

            await asyncio.gather(*(work(index) for index in range(8)))
            assert min(turns) >= 8, turns
            assert mine.fastpool.stats().created == 2

    on_loop(main())


def test_the_server_is_killed_and_back(
    conninfo: str, killed_postgresql: killed_servers.Server, on_loop: Run
) -> None:
    """Under load: no connection that had failed is lent again, and all tasks go on."""
    failed: list[Any] = []
    again: list[Any] = []

    async def main() -> None:
        async with AsyncConnectionPool(conninfo, min_size=4, timeout=PATIENCE) as mine:
            await mine.wait()
            back = asyncio.Event()

            async def work() -> int:
                done = 0
                while done < 5:
                    connection = None
                    try:
                        async with mine.connection() as connection:
                            if any(connection is each for each in failed):
                                again.append(connection)
                            await connection.execute("select 1")
                        done += back.is_set()
                    except psycopg.OperationalError:
                        if connection is not None:
                            failed.append(connection)
                return done

            tasks = [asyncio.create_task(work()) for _ in range(8)]
            await eventually(lambda: mine.fastpool.stats().uses > 100)
            await asyncio.to_thread(restart, killed_postgresql)
            back.set()
            assert await asyncio.gather(*tasks) == [5] * 8
            stats = mine.fastpool.stats()
            assert stats.leased == 0 and stats.open <= 4

    on_loop(main())
    assert not again, "a dead connection was lent twice"


LOOPS = """
import asyncio, sys, threading
from fastpool.contrib.psycopg import AsyncConnectionPool

pool = AsyncConnectionPool(sys.argv[1], min_size=1, max_size=3, open=False)
failed = []

async def borrow():
    for _ in range(6):
        async with pool.connection() as connection:
            assert await (await connection.execute("select 1")).fetchone() == (1,)

async def main():
    await pool.open()
    await asyncio.gather(*(borrow() for _ in range(8)))

def run():
    try:
        asyncio.run(main())
    except BaseException as error:
        failed.append(error)

for _ in range(3):
    run()
threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
stats = pool.fastpool.stats()
assert stats.leased == 0 and stats.open <= 3, stats

async def last():
    await main()
    await pool.close()
    assert pool.fastpool.stats().open == 0

asyncio.run(last())
print(failed)
"""


def test_loops_one_after_the_other_and_at_once(conninfo: str) -> None:
    """The host's pool raises RuntimeError, or waits for ever.  In a process of its own, so that no
    warning goes unseen."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOPS, conninfo],
        capture_output=True, text=True, timeout=5 * PATIENCE,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_dropped_pool_leaves_nothing(conninfo: str, on_loop: Run) -> None:
    """Neither a warning nor a connection, idle or lent, on a loop that runs or one that ended."""
    mark = "dropped"

    async def pool(lent: bool) -> Any:
        mine = AsyncConnectionPool(
            conninfo, min_size=2, kwargs={"application_name": mark}, open=False
        )
        await mine.open(wait=True)
        connection = await mine.getconn()
        if not lent:
            await mine.putconn(connection)
        return mine

    with psycopg.connect(conninfo, autocommit=True) as watcher:
        count = "select count(*) from pg_stat_activity where application_name = %s"

        def left() -> Any:
            gc.collect()
            return watcher.execute(count, [mark]).fetchone()[0]

        async def here(lent: bool) -> None:
            mine = await pool(lent)
            assert left() == 2
            del mine
            await eventually(lambda: left() == 0)

        async def none() -> None:
            await eventually(lambda: left() == 0)

        with all_warnings() as warned:
            for lent in (False, True):
                on_loop(here(lent))
                on_loop(pool(lent))
                on_loop(none())
        assert not warned, [str(each.message) for each in warned]

"""Pools of tasks in a forked child: it has connections of its own, and its parent goes on with its.

For threads each adapter's own file has such a test.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

from support.helpers import PATIENCE

pytestmark = [pytest.mark.servers, pytest.mark.once]  # as the other adapters

#: What each program makes of the address: a coroutine function that says who serves it on which
#: connection, and one that closes the pool.
REDIS = """
import redis.asyncio
from fastpool.contrib.redis.asyncio import BlockingConnectionPool
pool = BlockingConnectionPool.from_url(address, max_connections=2)
client = redis.asyncio.Redis(connection_pool=pool)
ask = client.client_id
end = pool.disconnect
"""
PSYCOPG = """
from fastpool.contrib.psycopg import AsyncConnectionPool
pool = AsyncConnectionPool(address, min_size=0, max_size=2, open=False)
async def ask():
    await pool.open()
    async with pool.connection() as connection:
        return (await (await connection.execute("select pg_backend_pid()")).fetchone())[0]
end = pool.close
"""
SQLALCHEMY = """
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from fastpool.contrib.sqlalchemy import AsyncFastQueuePool
engine = create_async_engine(address, poolclass=AsyncFastQueuePool, pool_size=2, max_overflow=0)
async def ask():
    async with engine.connect() as connection:
        return (await connection.execute(text("select pg_backend_pid()"))).scalar()
end = engine.dispose
"""
PROGRAM = """
async def both():
    return set(await asyncio.gather(ask(), ask()))

async def own():
    numbers = await both()
    await end()
    return numbers

with asyncio.Runner() as runner:
    mine = runner.run(both())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert asyncio.new_event_loop().run_until_complete(own()).isdisjoint(mine)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert runner.run(both()) & mine
    runner.run(end())
print("done")
"""
HOSTS = {
    "redis": ("redis", REDIS, "killed_redis", "redis://127.0.0.1:{}"),
    "psycopg": (
        "psycopg_pool", PSYCOPG, "killed_postgresql",
        "host=127.0.0.1 port={} user=postgres dbname=postgres",
    ),
    "sqlalchemy": (
        "asyncpg", SQLALCHEMY, "killed_postgresql",
        "postgresql+asyncpg://postgres@127.0.0.1:{}/postgres",
    ),
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_a_forked_child_has_connections_of_its_own(
    host: str, request: pytest.FixtureRequest
) -> None:
    """Its parent has an event loop that is not running just then, and connections idle on it."""
    driver, program, server, address = HOSTS[host]
    for needed in (host, driver):
        try:
            importlib.import_module(needed)
        except ImportError:
            pytest.skip(f"{needed} is not installed")
    running: Any = request.getfixturevalue(server)
    head = "import asyncio, os, sys, traceback\naddress = sys.argv[1]\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", head + program + PROGRAM,
         address.format(running.port)],
        capture_output=True, text=True, timeout=4 * PATIENCE,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr

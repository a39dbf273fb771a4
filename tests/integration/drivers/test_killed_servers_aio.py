"""The same for tasks: connections of asynchronous drivers that die under a pool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from bench.measure import NotRun
from fastpool import FastPool
from integration.drivers import killed_drivers as drivers
from integration.drivers import killed_servers as servers
from integration.drivers.killed_drivers import module

pytestmark = [pytest.mark.servers, pytest.mark.once]

ROUND_TRIPS = 30


class Asyncpg(drivers.Psycopg):
    needs = "asyncpg"

    async def aconnect(self) -> Any:
        return await self.module.connect(**self.options, database="postgres")

    async def arun(self, connection: Any, statement: str) -> Any:
        return await connection.fetch(statement)

    async def aclose(self, connection: Any) -> None:
        await connection.close()


class AsyncPsycopg(drivers.Psycopg):
    async def aconnect(self) -> Any:
        return await self.module.AsyncConnection.connect(**self.options, autocommit=True)

    async def arun(self, connection: Any, statement: str) -> Any:
        cursor = await connection.execute(statement)
        return await cursor.fetchall()

    async def aclose(self, connection: Any) -> None:
        await connection.close()


class Aiomysql(drivers.PyMySQL):
    needs = "aiomysql"

    async def aconnect(self) -> Any:
        return await self.module.connect(
            host="127.0.0.1", port=self.at.port, user="root", autocommit=True
        )

    async def arun(self, connection: Any, statement: str) -> Any:
        async with connection.cursor() as cursor:
            await cursor.execute(statement)
            return await cursor.fetchall()

    async def aclose(self, connection: Any) -> None:
        connection.close()


class Asyncmy(Aiomysql):
    needs = "asyncmy"


class AsyncRedis(drivers.Redis):
    async def aconnect(self) -> Any:
        aio = module("redis.asyncio", "redis")
        client = aio.Redis(port=self.at.port, single_connection_client=True, retry=self.never(aio))
        return await client.initialize()

    def never(self, aio: Any) -> Any:
        return aio.retry.Retry(module("redis.backoff", "redis").NoBackoff(), 0)

    async def arun(self, connection: Any, statement: str) -> Any:
        return [[await connection.client_id()]]

    async def aclose(self, connection: Any) -> None:
        await connection.aclose()


EACH = {
    Asyncpg: drivers.Psycopg,
    AsyncPsycopg: drivers.Psycopg,
    Aiomysql: drivers.PyMySQL,
    Asyncmy: drivers.PyMySQL,
    AsyncRedis: drivers.Redis,
}
SLOW = {Asyncpg: "select pg_sleep(30)", AsyncPsycopg: "select pg_sleep(30)"}


@pytest.fixture(scope="module", params=[servers.PostgreSQL, servers.MariaDB, servers.Redis])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(servers.running(request.param))
        except NotRun as reason:
            pytest.skip(str(reason))


@contextlib.asynccontextmanager
async def pool_of(driver: Any, maxsize: int = 1) -> AsyncIterator[Any]:
    async with FastPool(maxsize, factory=driver.aconnect, close=driver.aclose) as pool:
        yield pool


async def name_of(driver: Any, connection: Any) -> Any:
    return (await driver.arun(connection, getattr(driver, "whoami", "")))[0][0]


async def failures(pool: Any, driver: Any) -> list[BaseException]:
    failed: list[BaseException] = []
    for _ in range(ROUND_TRIPS):
        try:
            async with pool.lease() as connection:
                await name_of(driver, connection)
        except Exception as error:
            failed.append(error)
    return failed


def of(server: Any) -> Iterator[tuple[Any, Any]]:
    """The drivers for it, each with one that can kill its connections."""
    found = 0
    for kind, killer in EACH.items():
        if kind.server is type(server):
            with contextlib.suppress(NotRun):
                pair = kind(server), killer(server)
                found += 1
                yield pair
    if not found:
        pytest.skip(f"no asynchronous driver for {type(server).__name__} is installed")


def test_a_dead_connection_fails_one_turn_at_most(server: Any) -> None:
    async def main(driver: Any, killer: Any) -> None:
        async with pool_of(driver) as pool:
            async with pool.lease() as connection:
                name = await name_of(driver, connection)
            await asyncio.to_thread(killer.kill, name)
            failed = await failures(pool, driver)
            assert len(failed) <= 1, failed

    for driver, killer in of(server):
        asyncio.run(main(driver, killer))


def test_one_that_dies_in_use_is_not_lent_again(server: Any) -> None:
    async def main(driver: Any, killer: Any) -> None:
        async with pool_of(driver) as pool:
            with contextlib.suppress(Exception):
                async with pool.lease() as connection:
                    name = await name_of(driver, connection)
                    await asyncio.to_thread(killer.kill, name)
                    await name_of(driver, connection)
            assert await failures(pool, driver) == []

    for driver, killer in of(server):
        asyncio.run(main(driver, killer))


def test_what_a_database_refuses_keeps_the_connection(server: Any) -> None:
    if not isinstance(server, (servers.PostgreSQL, servers.MariaDB)):
        pytest.skip("it is no database of tables")

    async def main(driver: Any) -> None:
        async with pool_of(driver) as pool:
            with pytest.raises(Exception) as caught:
                async with pool.lease() as connection:
                    await driver.arun(connection, "select select")
            async with pool.lease() as again:
                assert again is connection, f"closed for {caught.value!r}"

    for driver, _ in of(server):
        asyncio.run(main(driver))


def test_a_statement_that_is_cancelled_with_its_task_closes(server: Any) -> None:
    """Nobody knows how far it had come."""

    async def main(driver: Any) -> None:
        async with pool_of(driver) as pool:
            begun = asyncio.Event()

            async def turn() -> None:
                async with pool.lease() as connection:
                    begun.set()
                    await driver.arun(connection, SLOW[type(driver)])

            task = asyncio.create_task(turn())
            await begun.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert await failures(pool, driver) == []
            assert pool.stats().created == 2

    for driver, _ in of(server):
        if type(driver) in SLOW:
            asyncio.run(main(driver))

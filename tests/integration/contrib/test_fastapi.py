"""A pool in FastAPI, by a dependency that is a plain generator: FastAPI enters it on one thread of
its executor, runs the view on another, and leaves it on a third."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from fastpool import FastPool, PoolDeadlock
from support.helpers import PATIENCE

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import anyio
import httpx
from fastapi import Depends, FastAPI

pytestmark = pytest.mark.once  # a recipe: the pool is tried on each

CLIENTS = 12  # fewer than FastAPI has threads, or all of them would wait in dependencies
REQUESTS = 20


class Resource:
    pass


@pytest.fixture
def pool() -> Iterator[Any]:
    with FastPool(1, factory=Resource, timeout=2 * PATIENCE) as pool:
        yield pool


def service(pool: Any) -> FastAPI:
    app = FastAPI()

    def connection() -> Iterator[Any]:
        with pool.lease() as resource:
            yield resource

    borrowed = Depends(connection)

    @app.get("/")
    def view(resource: Any = borrowed) -> dict[str, bool]:
        return {"ok": isinstance(resource, Resource)}

    @app.get("/nested")
    def nested(resource: Any = borrowed) -> dict[str, bool]:
        with pool.lease() as second:
            return {"ok": second is resource}

    return app


def ask(app: Any, path: str, clients: int, requests: int) -> Counter[str]:
    """The answers to so many requests of each of so many clients at once."""

    async def one_client(client: httpx.AsyncClient) -> list[str]:
        return [(await client.get(path, timeout=None)).text for _ in range(requests)]

    async def main() -> Counter[str]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = await asyncio.gather(*(one_client(client) for _ in range(clients)))
        return Counter(text for each in answers for text in each)

    return asyncio.run(main())


def test_every_request_is_served(pool: Any) -> None:
    """None is told that it holds all connections, though few threads enter all the blocks."""
    answers = ask(service(pool), "/", CLIENTS, REQUESTS)
    assert answers == {'{"ok":true}': CLIENTS * REQUESTS}


def test_view_that_would_wait_for_itself_is_told(pool: Any) -> None:
    """It holds what its dependency has borrowed, on the one thread that there is, and one more."""
    app = service(pool)

    async def on_one_thread(*args: Any) -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        await app(*args)

    with pytest.raises(PoolDeadlock):
        ask(on_one_thread, "/nested", 1, 1)

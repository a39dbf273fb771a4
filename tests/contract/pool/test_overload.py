"""``max_waiting`` and creations: only one that is still to come lets one more caller wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, PoolOverloaded, SharedPool
from fastpool.pool._creation import Creator
from support.helpers import PATIENCE

SOON = 0.5  # seconds after which a caller gives up who should not have waited at all


@pytest.fixture
def delivery(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Who has called a factory gets no further than the delivery until this is set."""
    over, go_on = threading.Event(), Creator._return_permit

    def held_up(*args: Any) -> None:
        over.wait(PATIENCE)
        go_on(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Creator, "_return_permit", held_up)
        yield over
    over.set()


def _fast() -> Any:
    return FastPool(1, factory=object, max_waiting=0)


def _keyed() -> Any:
    return KeyedPool(lambda key: object(), max_per_key=1, max_waiting=0)


def _shared() -> Any:
    return SharedPool(object, items=(0, 1), slots=1, max_waiting=0)


@pytest.mark.parametrize("make", [_fast, _keyed, _shared])
def test_what_is_lent_already_is_not_waited_for(
    make: Callable[[], Any], delivery: threading.Event
) -> None:
    """Though its creation is not over for the pool: the next caller would wait for nothing."""
    pool = make()
    key = ("key",) if make is _keyed else ()
    with pool.lease(*key), pytest.raises(PoolOverloaded):
        pool.acquire(*key, timeout=SOON)
    pool.acquire(*key, timeout=SOON).release()
    delivery.set()
    pool.close()


@pytest.mark.parametrize("kind", ["plain factory", "async factory"])
def test_nor_by_a_task(kind: str, delivery: threading.Event) -> None:
    async def make() -> object:
        return object()

    async def main() -> None:
        pool = FastPool(1, factory=object if kind == "plain factory" else make, max_waiting=0)
        async with pool.lease():
            with pytest.raises(PoolOverloaded):
                await pool.aacquire(SOON)
        delivery.set()
        await pool.aclose()

    asyncio.run(main())

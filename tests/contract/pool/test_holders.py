"""Who holds what, once nobody does: however a lease ended, it is listed, reported and timed no
more."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, SharedPool
from support.async_factories import AsyncMaker
from support.helpers import eventually
from support.loops import KINDS, run_in

#: How a lease may end.
WAYS = ["block", "kept", "broken", "release", "discard", "put", "pool discard"]
#: And of whose: a thread is not cancelled.
ENDS = [(kind, way) for kind in ("threads", *KINDS) for way in WAYS]
ENDS += [(kind, "cancelled") for kind in KINDS]
ERRORS: dict[str, type[Exception]] = {"kept": ValueError, "broken": ConnectionResetError}


class Thing:
    pass


def use(pool: Any, way: str, *key: str) -> None:
    """One lease, of a thread."""
    if way in ("block", *ERRORS):
        try:
            with pool.lease(*key):
                if way in ERRORS:
                    raise ERRORS[way]
        except tuple(ERRORS.values()):
            pass
    elif way == "release":
        pool.acquire(*key).release()
    elif way == "discard":
        pool.acquire(*key).discard()
    elif way == "put":
        pool.put(pool.get())
    else:
        pool.discard(pool.get())


async def ause(pool: Any, way: str, *key: str) -> None:
    """One lease, of a task."""
    if way in ("block", *ERRORS):
        try:
            async with pool.lease(*key):
                if way in ERRORS:
                    raise ERRORS[way]
        except tuple(ERRORS.values()):
            pass
    elif way == "cancelled":
        entered = asyncio.Event()

        async def block() -> None:
            async with pool.lease(*key):
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(block())
        await entered.wait()
        task.cancel()
        await asyncio.wait({task})
    elif way == "release":
        (await pool.aacquire(*key)).release()
    elif way == "discard":
        (await pool.aacquire(*key)).discard()
    elif way == "put":
        pool.put(await pool.aget())
    else:
        pool.discard(await pool.aget())


def nobody_holds(pool: Any, clock: Any, caplog: pytest.LogCaptureFixture, uses: int) -> None:
    eventually(lambda: pool.stats().leased == 0)
    eventually(lambda: pool.stats().use_time.count == uses)
    assert list(pool.leases()) == [] and pool.stats().uses == uses
    with caplog.at_level(logging.WARNING, logger="fastpool"):
        clock.advance(61)
        clock.advance(61)
    assert "a lease is held" not in caplog.text


@pytest.mark.parametrize("reset", [False, True], ids=["plain", "reset"])
@pytest.mark.parametrize(("kind", "way"), ENDS)
def test_a_lease_that_has_ended_is_held_no_more(
    clock: Any, caplog: pytest.LogCaptureFixture, kind: str, way: str, reset: bool
) -> None:
    """Each of three uses was timed once, and none of them is a leak a minute later."""
    hooks: dict[str, Any] = {"reset": lambda thing: None} if reset else {}
    with FastPool(2, factory=Thing, leak_after=60, clock=clock, **hooks) as pool:

        async def main() -> None:
            for _ in range(3):
                await ause(pool, way)

        if kind == "threads":
            for _ in range(3):
                use(pool, way)
        else:
            run_in(kind, main())
        nobody_holds(pool, clock, caplog, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [*WAYS, "cancelled"])
def test_a_lease_of_an_async_factory_that_has_ended_is_held_no_more(
    clock: Any, caplog: pytest.LogCaptureFixture, kind: str, way: str
) -> None:
    async def main() -> None:
        async with FastPool(2, factory=AsyncMaker(), leak_after=60, clock=clock) as pool:
            for n in range(3):
                await ause(pool, way)
                while pool.stats().leased or pool.stats().use_time.count <= n:
                    await asyncio.sleep(0.001)
            assert pool.leases() == [] and pool.stats().uses == 3
            with caplog.at_level(logging.WARNING, logger="fastpool"):
                for _ in range(2):
                    await asyncio.to_thread(clock.advance, 61)
            assert "a lease is held" not in caplog.text

    run_in(kind, main())


@pytest.mark.parametrize(("kind", "way"), [end for end in ENDS if end[1] != "pool discard"])
def test_a_lease_of_a_shared_resource_that_has_ended_is_held_no_more(
    clock: Any, caplog: pytest.LogCaptureFixture, kind: str, way: str
) -> None:
    with SharedPool(Thing, items=(1, 2), slots=3, leak_after=60, clock=clock) as pool:

        async def main() -> None:
            for _ in range(3):
                await ause(pool, way)

        if kind == "threads":
            for _ in range(3):
                use(pool, way)
        else:
            run_in(kind, main())
        nobody_holds(pool, clock, caplog, 3)


@pytest.mark.parametrize("kind", ["threads", *KINDS])
@pytest.mark.parametrize("way", ["block", "kept", "broken", "release", "discard"])
def test_a_lease_of_a_key_that_has_ended_is_held_no_more(
    clock: Any, caplog: pytest.LogCaptureFixture, kind: str, way: str
) -> None:
    with KeyedPool(lambda key: Thing(), max_total=4, leak_after=60, clock=clock) as pool:

        async def main() -> None:
            for key in "aba":
                await ause(pool, way, key)

        if kind == "threads":
            for key in "aba":
                use(pool, way, key)
        else:
            run_in(kind, main())
        nobody_holds(pool, clock, caplog, 3)


@pytest.mark.parametrize("kind", ["threads", *KINDS])
def test_a_lost_lease_is_held_no_more(
    clock: Any, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Its warning is the only word about it: it is no leak as well."""
    with FastPool(1, factory=Thing, leak_after=60, clock=clock) as pool:

        async def main() -> None:
            await pool.aacquire()

        with pytest.warns(ResourceWarning, match="collected unreleased"):
            if kind == "threads":
                pool.acquire()
            else:
                run_in(kind, main())
            gc.collect()
        eventually(lambda: pool.stats().closed == {"lost": 1})
        nobody_holds(pool, clock, caplog, 1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it was not closed
@pytest.mark.parametrize("kind", ["threads", *KINDS])
def test_a_lease_of_a_key_does_not_keep_its_pool(kind: str) -> None:
    """Which is collected, and its resource closed when it comes back."""
    closed: list[Any] = []

    def taken() -> tuple[Any, weakref.ref[Any]]:
        pool = KeyedPool(lambda key: Thing(), max_total=2, close=closed.append)

        async def main() -> Any:
            return await pool.aacquire("a")

        lease = pool.acquire("a") if kind == "threads" else run_in(kind, main())
        return lease, weakref.ref(pool)

    lease, pool = taken()
    eventually(lambda: gc.collect() >= 0 and pool() is None)
    resource = lease.resource
    lease.release()
    eventually(lambda: closed == [resource])

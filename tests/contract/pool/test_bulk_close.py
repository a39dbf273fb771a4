"""Closing several at once: none of them is lent meanwhile, and all are closed whatever happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, SharedPool
from support import loops
from support.async_factories import AsyncMaker
from support.helpers import PATIENCE, Maker, Resource, ThreadRunner, eventually, states

KEYS = range(4)


class SlowClose:
    """A close hook that takes as long as the test likes."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, resource: Resource) -> None:
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        resource.close()


class Pools:
    """One kind of pool with four resources, and ``close`` as its hook."""

    def __init__(self, pool: Any, acquire: Callable[[int], Any], shrink: Any) -> None:
        self.pool, self.acquire, self.shrink = pool, acquire, shrink
        leases = [acquire(key) for key in KEYS]
        self.resources = {lease.resource for lease in leases}
        for lease in leases:
            lease.release()


def plain(maker: Maker, close: Any) -> Pools:
    pool: Any = FastPool(8, factory=maker, close=close)
    return Pools(pool, lambda key: pool.acquire(timeout=PATIENCE), lambda: pool.resize(1))


def keyed(maker: Maker, close: Any) -> Pools:
    pool: Any = KeyedPool(lambda key: maker(), close=close, max_total=8)
    return Pools(pool, lambda key: pool.acquire(key, timeout=PATIENCE), None)


def shared(maker: Maker, close: Any) -> Pools:
    pool: Any = SharedPool(maker, items=(0, 8), slots=1, close=close)
    return Pools(pool, lambda key: pool.acquire(timeout=PATIENCE), lambda: pool.resize((0, 1)))


KINDS = pytest.mark.parametrize("kind", [plain, keyed, shared])


@pytest.fixture
def maker() -> Maker:
    return Maker()


@KINDS
def test_flush_lends_nothing_that_it_is_about_to_close(
    kind: Any, maker: Maker, runner: ThreadRunner
) -> None:
    """One close hook takes long: what is to be closed after it is out of reach already."""
    close = SlowClose()
    made = kind(maker, close)
    flushing = runner.start(made.pool.flush)
    assert close.begun.wait(PATIENCE)
    leases = [made.acquire(key) for key in KEYS]
    assert not made.resources & {lease.resource for lease in leases}
    close.go_on.set()
    flushing.result()
    assert set(maker.closings) == made.resources
    for lease in leases:
        lease.release()
    assert made.pool.close()


@pytest.mark.parametrize("kind", [plain, shared])
def test_resize_lends_nothing_that_is_surplus(
    kind: Any, maker: Maker, runner: ThreadRunner
) -> None:
    """Those that are to go are chosen, and out of reach, before the first of them is closed."""
    close = SlowClose()
    made = kind(maker, close)
    resizing = runner.start(made.shrink)
    assert close.begun.wait(PATIENCE)
    sizes = made.pool.stats()
    assert sizes.idle == 1 and sizes.checking + sizes.closing == 3
    close.go_on.set()
    resizing.result()
    assert maker.closed == 3 and states(made.pool) == {"idle": 1}
    assert made.pool.close()


@pytest.mark.parametrize(
    ("act", "kind"),
    [(act, kind) for act in ("flush", "close") for kind in (plain, keyed, shared)]
    + [("resize", plain), ("resize", shared)],
)
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_all_are_closed_before_what_a_hook_raised_is_raised(
    kind: Any, act: str, error: type[BaseException], maker: Maker
) -> None:
    """Of several the first; each hook is called once."""

    def close(resource: Resource) -> None:
        resource.close()
        raise error(resource.number)

    made = kind(maker, close)
    run = made.shrink if act == "resize" else getattr(made.pool, act)
    with pytest.raises(error) as caught:
        run()
    closed = maker.closed
    assert closed == (3 if act == "resize" else 4)
    assert caught.value.args == (maker.closings[0].number,)
    eventually(lambda: states(made.pool) == ({"idle": 1} if act == "resize" else {}))
    assert not maker.faults
    with pytest.raises(error) if act == "resize" else nullcontext():
        made.pool.close()
    eventually(lambda: states(made.pool) == {})
    assert maker.closed == maker.made == 4


@pytest.mark.parametrize("act", ["flush", "close", "resize"])
def test_on_a_loop_all_are_closed_too(act: str) -> None:
    """Hooks that are awaited: tasks of the pool's own, which nobody's failure ends."""

    async def main() -> None:
        maker = AsyncMaker()
        closed: list[Any] = []

        async def close(resource: Any) -> None:
            closed.append(resource)
            raise asyncio.CancelledError

        pool: Any = FastPool(8, factory=maker, close=close)
        resources = [await pool.aget() for _ in range(4)]
        for resource in resources:
            pool.put(resource)
        await loops.eventually(lambda: pool.stats().idle == 4)
        {"flush": pool.flush, "close": lambda: pool.close(0), "resize": lambda: pool.resize(1)}[
            act
        ]()
        if act == "flush":
            assert await pool.aget() not in resources
        await loops.eventually(lambda: len(closed) >= (3 if act == "resize" else 4))
        assert len(set(closed)) == len(closed)
        pool.close(0)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


@KINDS
def test_close_waits_for_what_others_will_give_back(
    kind: Any, maker: Maker, runner: ThreadRunner
) -> None:
    """Also if the calling thread has taken it, other than in a block."""
    made = kind(maker, None)
    lease = made.acquire(0)

    def give_back() -> None:
        eventually(lambda: made.pool.closed)
        lease.release()

    giver = runner.start(give_back)
    assert made.pool.close(timeout=PATIENCE) is True
    giver.result()
    assert maker.closed == 4


def test_close_waits_for_what_was_taken_by_get(maker: Maker, runner: ThreadRunner) -> None:
    pool: Any = FastPool(2, factory=maker)
    resource = pool.get()

    def give_back() -> None:
        eventually(lambda: pool.closed)
        pool.put(resource)

    giver = runner.start(give_back)
    assert pool.close(timeout=PATIENCE) is True
    giver.result()


def test_aclose_waits_for_what_was_taken_by_aget(maker: Maker, runner: ThreadRunner) -> None:
    """The same for a task."""

    async def main() -> None:
        pool: Any = FastPool(2, factory=maker)
        resource = await pool.aget()

        def give_back() -> None:
            eventually(lambda: pool.closed)
            pool.put(resource)

        giver = runner.start(give_back)
        assert await pool.aclose(timeout=PATIENCE) is True
        giver.result()

    asyncio.run(main())


@pytest.mark.parametrize("kind", [plain, keyed])
def test_close_waits_not_for_blocks_of_its_own_thread(kind: Any, maker: Maker) -> None:
    """They cannot end meanwhile."""
    made = kind(maker, None)
    with made.acquire(0):
        assert made.pool.close(timeout=None) is False
    eventually(lambda: states(made.pool) == {})
